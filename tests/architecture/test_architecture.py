"""The house rules that no reviewer should have to look for."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("trading_pipeline", "assets", "sensors", "resources")
MODULES = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))
MOST_LINES = 400
DECISION_PATH = [
    *sorted((ROOT / "trading_pipeline/domain/rules").glob("*.py")),
    *(ROOT / f"trading_pipeline/domain/{name}.py" for name in ("risk", "rulebook", "sizing", "orders", "portfolio", "limits", "approvals")),
    *(ROOT / f"trading_pipeline/service/{name}.py" for name in ("execution", "trading", "accounting")),
    *(ROOT / f"trading_pipeline/service/{name}.py" for name in ("judging/book", "judging/pacing", "orders/settlement")),
]
FLOATS_AT_THE_DOOR = {
    "_newest": "an indicator's float64 column becomes Decimal here",
    "_support": "a price column becomes Decimal here",
    "marks": "a close in the archive becomes Decimal here",
}
"""Functions that may say `float`: each turns a column's value into Decimal and lets no float further."""


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def test_imports_go_downward_only():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_but_the_dagster_facing_code_imports_without_dagster():
    """Each module in turn, in an interpreter in which importing Dagster fails."""
    dagster_facing = ("trading_pipeline.definitions", "trading_pipeline.demo", "assets", "sensors", "resources")
    names = [named(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in MODULES]
    wanted = [name for name in names if not name.startswith(dagster_facing) and "migrations" not in name]
    program = (
        "import sys, importlib\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0].startswith('dagster'):\n"
        "            raise ImportError(f'{name} is not to be had')\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"for name in {wanted!r}:\n"
        "    importlib.import_module(name)\n"
        "assert not any(name.split('.')[0] == 'dagster' for name in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(wanted) > 90


def test_the_desk_starts_without_what_it_does_not_need():
    """`trading --help` and the desk's process would pay seconds for some of these; the rest is what others need."""
    left_out = (
        "anthropic", "boto3", "dagster", "exchange_calendars", "matplotlib", "openai", "pandas", "psutil", "pyarrow", "yfinance",
        *(f"trading_pipeline.adapters.llm.{name}" for name in ("anthropic_api", "claude_code", "openai_api")), "trading_pipeline.oracle",
    )
    program = (
        "import sys\n"
        "import trading_pipeline.faces.cli.main, trading_pipeline.service.submitter.desk_process, trading_pipeline.bootstrap\n"
        f"print([name for name in {left_out!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_there_is_exactly_one_call_of_the_brokers_submit():
    """23."""
    found = [
        f"{named(path)}:{node.lineno}"
        for path in MODULES
        if "adapters/brokers" not in named(path)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "submit"
        and "broker" in ast.unparse(node.func.value)
    ]
    assert len(found) == 1
    assert found[0].startswith("trading_pipeline/service/orders/gate.py")


def test_a_permit_is_made_at_the_gate_alone():
    """23: nobody else can build the leave to submit."""
    found = [
        named(path) for path in MODULES for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Permit"
    ]
    assert found == ["trading_pipeline/service/orders/gate.py"]


def test_money_is_decimal_on_the_decision_path():
    """29: no float literal and no float() but where a column's value enters, and there it leaves as Decimal."""
    found = []
    for path in DECISION_PATH:
        for function, node in _with_function(tree(path)):
            literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
            call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
            if (literal or call) and function not in FLOATS_AT_THE_DOOR:
                found.append(f"{named(path)}:{node.lineno} in {function}: {ast.unparse(node)}")
    assert found == []


def _with_function(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every expression with the name of the function around it."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr]]:
        for child in ast.iter_child_nodes(node):
            inside = child.name if isinstance(child, ast.FunctionDef) else function
            if isinstance(child, ast.expr):
                yield inside, child
            yield from walk(child, inside)

    return walk(module, "the module")


def test_the_domain_reads_no_clock_no_chance_and_no_environment():
    forbidden = {"now", "today", "utcnow", "getenv", "urandom", "token_hex", "uuid4"}
    found = [
        f"{named(path)}:{node.lineno} {node.func.attr}"
        for path in sorted((ROOT / "trading_pipeline/domain").rglob("*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in forbidden
    ]
    assert found == []


IN_REAL_TIME = frozenset({
    "anchoring", "asking", "conversations", "desk_process", "emergency", "handover", "journal", "purse", "real_time", "recovery",
    "stop_orders", "stop_review",
})
"""Waiting for other processes and for models, keeping anchors, and stopping with everything else down: no decision is taken by these
instants. What may be spent on models goes by real days and hours (docs/decisions/0013)."""


def test_no_decision_reads_another_clock_than_the_desks():
    """D28: services say desk.now(), never the machine's time."""
    found = [
        f"{named(path)}:{node.lineno}"
        for path in sorted((ROOT / "trading_pipeline/service").rglob("*.py"))
        if path.stem not in IN_REAL_TIME
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) in {"datetime.now", "date.today", "time.time", "datetime.utcnow", "time.sleep"}
    ]
    assert found == []


def test_nothing_on_the_path_asks_which_mode_it_is_in():
    """HOUSE 1: worlds differ in what is handed in; only approvals know the demo, for its person (D17)."""
    found = [
        named(path)
        for path in sorted((ROOT / "trading_pipeline/service").rglob("*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Compare) and "environment" in ast.unparse(node)
    ]
    assert set(found) <= {"trading_pipeline/service/approvals.py", "trading_pipeline/service/record/verification.py"}


def test_a_file_is_one_subject():
    long = {named(path): count for path in MODULES if (count := len(path.read_text("utf-8").splitlines())) > MOST_LINES}
    assert not long


def test_every_module_and_every_public_name_says_what_it_is():
    silent = []
    for path in MODULES:
        module = tree(path)
        if path.read_text("utf-8").strip() and path.name != "env.py" and ast.get_docstring(module) is None:
            silent.append(named(path))
        silent.extend(f"{named(path)}: {name}" for name in _undocumented(module))
    assert silent == []


def _undocumented(node: ast.Module | ast.ClassDef, inside: str = "") -> Iterator[str]:
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        overloads = any(ast.unparse(each) == "overload" for each in child.decorator_list)
        if ast.get_docstring(child) is None and not overloads:
            yield inside + child.name
        if isinstance(child, ast.ClassDef):
            yield from _undocumented(child, f"{inside}{child.name}.")


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[-2] in ("assets", "sensors", "resources")], ids=named)
def test_dagster_can_read_the_annotations(path):
    """#28342: postponed annotations break assets and sensors."""
    assert not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree(path).body)


def test_no_text_tells_of_the_workshop():
    """Home folders of a machine and addresses of package indexes have no place in the product."""
    telling = re.compile(r"/(?:home|root|Users)/\w|--(?:extra-)?index-url [a-z]+:|/simple/")
    texts = [*MODULES, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "requirements.lock"]
    assert [named(path) for path in texts if telling.search(path.read_text("utf-8"))] == []
