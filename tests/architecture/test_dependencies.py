"""81: what is installed is what was locked; nothing is fetched once the program runs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("trading_pipeline", "assets", "sensors", "resources") for path in (ROOT / folder).rglob("*.py"))


def test_every_locked_dependency_has_one_version_and_the_hashes_of_its_files() -> None:
    locked = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text(encoding="utf-8").strip())
    assert len(locked) > 50
    for entry in locked:
        assert re.match(r"[A-Za-z0-9._\[\]-]+==[^\s;]+", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {canonicalize_name(each.name): each for each in map(Requirement, project["dependencies"])}


def test_what_the_product_imports_is_declared_and_not_somebody_elses_dependency() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    foreign = {name.partition(".")[0] for name in named} - sys.stdlib_module_names - {path.name for path in ROOT.iterdir()}
    owners = packages_distributions()
    assert len(foreign) > 25
    assert {name for name in foreign if not {canonicalize_name(owner) for owner in owners[name]} & declared().keys()} == set()


def test_what_is_declared_is_locked_within_its_bounds() -> None:
    locked = {}
    for entry in re.findall(r"^(\S+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE):
        locked.setdefault(canonicalize_name(entry[0].partition("[")[0]), []).append(entry[1])
    for name, requirement in declared().items():
        assert locked.get(name), f"{name} has no line in requirements.lock"
        assert all(version in requirement.specifier for version in locked[name]), requirement


def test_both_installers_check_the_hashes() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "requirements.lock &&" in line]
    assert len(installs) == 2
    for line in installs:
        assert "pip sync" in line or "pip install" in line
        assert "--require-hashes" in line


def test_nothing_installs_while_it_runs() -> None:
    installers = {"pip", "pip3", "uv", "ensurepip", "easy_install", "conda"}
    for path in SOURCES:
        words = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        assert not words & installers, path
