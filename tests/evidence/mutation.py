"""Mutation testing: mutmut changes the code that decides about orders, one place at a time; some test has to fail.

Each group of modules (`mutating.groups`) runs in a copy of the tree, so that nothing here is ever changed, and a mutant is judged by
the tests that reach its function. A survivor is a question: `mutating.survivors` has the answers, by the changed line, and whatever
is not answered there is listed as a gap. Needs the environment that `make mutation` makes.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.evidence.mutating.groups import CALLED_AT_IMPORT, GROUPS, Group
from tests.evidence.mutating.survivors import KINDS, KNOWN
from tests.evidence.report import ROOT, finish, progress, size

SCRATCH = ROOT / ".mutation"
WORKER = Path("tests/evidence/mutating/worker.py")
NOTICED = ("killed", "timeout", "segfault")
"""A test failed, never came to its end, or took the interpreter with it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutant."""

    module: str
    mutant: str
    status: str
    diff: str

    @property
    def noticed(self) -> bool:
        """Whether the tests told it from the code."""
        return self.status in NOTICED

    @property
    def change(self) -> str:
        """`function: removed => added`, the changed lines without their indentation."""
        function = re.sub(r"^x_|^xǁ", "", self.mutant.rpartition("__mutmut_")[0].rpartition(".")[2]).replace("ǁ", ".")
        removed, added = (
            " ".join(line[1:].strip() for line in self.diff.splitlines() if line[:1] == sign and line[:3] != 3 * sign) for sign in "-+"
        )
        return f"{function}: {removed} => {added}"

    @property
    def kind(self) -> str | None:
        """What is known of a survivor; None when it is a gap."""
        for kind, module, pattern in KNOWN:
            if self.module.endswith(module) and re.search(pattern, self.change):
                return kind
        return None


def asked(groups: Iterable[Group], modules: Sequence[str]) -> list[tuple[Group, list[Path]]]:
    """The groups with those of their files that `MODULES` names, all when it names none."""
    found = [(group, [path for path in group.files(ROOT) if not modules or any(str(path).endswith(name) for name in modules)])
             for group in groups]
    return [(group, files) for group, files in found if files]


def copy_tree(folder: Path) -> None:
    """What git knows or would, without what it ignores."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def mutate(group: Group, files: Sequence[Path], seed: int, again: bool) -> list[Outcome]:
    """What becomes of a group's mutants, judged by its tests, and of survivors by the wider ones.

    Args:
        again: Of the mutants of a file that is as an earlier run found it, only those that no test failed for, with the tests of now.

    Raises:
        CalledProcessError: mutmut stopped: its output stands in `.mutation/GROUP.log`. Most often a test fails without any mutant.
    """
    kept = SCRATCH / f"{group.name}.json"
    code = {str(path): f"{seed} {group.sample} {hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}" for path in files}
    earlier = json.loads(kept.read_text(encoding="utf-8")) if again and kept.exists() else {"code": {}, "outcomes": []}
    same = {path for path, digest in code.items() if earlier["code"].get(path) == digest}
    found = {each["mutant"]: Outcome(**each) for each in earlier["outcomes"] if each["module"] in same}
    fresh = [f"{path.removesuffix('.py').replace('/', '.')}.x*" for path in code.keys() - same]
    for tests in (group.tests, group.wider):
        left = [each.mutant for each in found.values() if each.status != "killed"]
        if tests and (left or fresh):
            tried = run(group, files, tests, left + fresh, seed)
            found |= {each.mutant: each for each in tried if each.mutant in left or (fresh and each.module not in same)}
            kept.write_text(json.dumps({"code": code, "outcomes": [dataclasses.asdict(each) for each in found.values()]}))
        fresh = []
    return list(found.values())


def run(group: Group, files: Sequence[Path], tests: Sequence[str], mutants: Sequence[str], seed: int) -> list[Outcome]:
    """One run of mutmut in a copy of the tree: of these mutants, or those that a pattern fits.

    Named, as mutmut then first runs their tests by name without any mutant: a name that pytest cannot find would be a kill later.
    """
    folder = SCRATCH / group.name
    copy_tree(folder)
    wanted = dataclasses.asdict(group) | {
        "files": [str(path) for path in files], "called_at_import": sorted(CALLED_AT_IMPORT), "tests": tests, "mutants": mutants,
    }
    command = [sys.executable, str(WORKER), json.dumps(wanted), str(seed), "outcomes.json"]
    with (SCRATCH / f"{group.name}.log").open("w") as log, left_behind() as temporary:
        subprocess.run(command, cwd=folder, stdout=log, stderr=log, env=os.environ | {"TMPDIR": temporary}, check=True)
    return [Outcome(**each) for each in json.loads((folder / "outcomes.json").read_text(encoding="utf-8"))]


@contextmanager
def left_behind() -> Iterator[str]:
    """A folder for what tests leave behind when their mutant is cut off, and an end to the servers that still run in it."""
    with tempfile.TemporaryDirectory(prefix="tp-", ignore_cleanup_errors=True) as folder:
        yield folder
        for running in Path(folder).glob("**/postmaster.pid"):
            with suppress(FileNotFoundError, psutil.Error):
                server = psutil.Process(int(running.read_text().split()[0]))
                server.send_signal(signal.SIGQUIT)
                server.wait(10)


def table(outcomes: Sequence[Outcome]) -> str:
    """Per module: mutants, what became of them, and the share that was noticed."""
    lines = ["| module | mutants | killed | timeout | survived | of them explained | score |", "|---|---|---|---|---|---|---|"]
    for module in dict.fromkeys(each.module for each in outcomes):
        own = [each for each in outcomes if each.module == module]
        tally = Counter(each.status for each in own)
        left = [each for each in own if not each.noticed]
        cells = (
            f"`{module.removeprefix('trading_pipeline/')}`", len(own), tally["killed"], len(own) - len(left) - tally["killed"], len(left),
            sum(each.kind is not None for each in left), f"{score(own):.1%}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def score(outcomes: Sequence[Outcome]) -> float:
    """The share of mutants that were noticed; explained survivors count as survivors."""
    return sum(each.noticed for each in outcomes) / len(outcomes) if outcomes else 1.0


def survivors(outcomes: Sequence[Outcome]) -> str:
    """Every survivor with its changed line, by what is known of it."""
    lines = ["## Survivors"]
    for kind, meaning in {**KINDS, None: "Gaps: no test tells these from the code."}.items():
        own = [each for each in outcomes if not each.noticed and each.kind == kind]
        if own:
            lines += ["", f"**{meaning}** ({len(own)})", ""]
            lines += [f"- `{each.module.removeprefix('trading_pipeline/')}` `` {each.change} ``" for each in own]
    return "\n".join(lines)


def main() -> int:
    """Mutate, and report."""
    modules, seed, again = (os.environ.get("MODULES") or "").split(), size(1, "SEED"), os.environ.get("AGAIN") == "1"
    command = "make mutation" + (f' MODULES="{" ".join(modules)}"' if modules else "")
    SCRATCH.mkdir(exist_ok=True)
    outcomes: list[Outcome] = []
    for group, files in asked(GROUPS, modules):
        started = time.monotonic()
        own = mutate(group, files, seed, again)
        outcomes += own
        progress(f"{group.name}: {len(own)} mutants, {score(own):.1%} noticed, {time.monotonic() - started:.0f} s")
    outcomes.sort(key=lambda each: each.module)
    tally = Counter(each.status for each in outcomes)
    left = [each for each in outcomes if not each.noticed]
    kinds = Counter(each.kind or "gap" for each in left)
    for each in left:
        if each.kind is None:
            progress(f"{each.module} {each.change}")
    worth = len(outcomes) - kinds["equivalent"]
    finish(
        "mutation", "Mutants of what decides about orders",
        {
            "tool": f"mutmut {version('mutmut')}", "mutants": len(outcomes), "killed": tally["killed"], "timeout": tally["timeout"],
            "survived": len(left), "score": round(score(outcomes), 4),
            "score_without_equivalent": round(sum(each.noticed for each in outcomes) / worth, 4) if worth else 1.0,
        }
        | {f"survived_{kind}": kinds[kind] for kind in (*KINDS, "gap")},
        notes=(
            "mutmut changes one place of a function at a time: a comparison, a sign, a constant, a condition, a branch of a match, a value "
            "or an argument that becomes None. Wording is left alone (strings, what is raised), and so is what stands outside of "
            "functions: the transitions of orders and actions, the class matrix and the hard limits are tables, and tests hold them cell "
            "by cell to tables of their own (`tests/domain/test_state_machines.py`, `test_rulebook.py`, `test_hard_limits.py`). Of a "
            f"module with more mutants than its group tries, so many are drawn by seed {seed}.",
            "A mutant is judged by the tests of its group that reach its function (`tests/evidence/mutating/groups.py`), without "
            "PostgreSQL but for the two modules that speak to it; what the rest of the suite would notice is not counted. "
            "A survivor that is explained still counts as one; `score_without_equivalent` leaves out those that no test can notice."
            + (" Mutants that a test had failed for in an earlier run of the same code were not tried again." if again else ""),
            table(outcomes), survivors(outcomes),
        ),
        command=f"{command}, then {command} AGAIN=1" if again else command,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
