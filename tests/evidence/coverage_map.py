"""Which test proves which numbered rule, read from the tests' own docstrings and written to docs/evidence/invariants.md.

A docstring begins with what it proves: comma-separated numbers up to the first colon or full stop, such as `28, fault 21: counted as ...`
or `C1-C8.`; docs/evidence/README.md tells the forms. The tests are read, not run or imported, so the map is made in a second and cannot
disagree with them. What a sentence mentions further on counts for nothing: a citation is a claim, and stands at the head.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.evidence.numbered_rules import CRASH_POINTS, DECISIONS, FAULTS, INVARIANTS, THREATS
from tests.evidence.report import ROOT
from tests.evidence.waiting_rules import LATER, MISSING, WAITING

PAGE = ROOT / "docs" / "evidence" / "invariants.md"
FAMILIES: dict[str, Mapping[int, str]] = {"": INVARIANTS, "fault ": FAULTS, "C": CRASH_POINTS, "D": DECISIONS, "T": THREATS}
"""How a number of each family begins, and what it says; invariants are bare numbers."""
TO_PROVE = ("", "fault ", "C")
"""The families of which every number needs a test or a reason; of the others the map shows what is cited."""

_ONE = re.compile(r"([Ff]ault |[A-Z])?(\d{1,2})")
_RANGE = re.compile(r"([Ff]aults |[A-Z])?(\d{1,2})-\1?(\d{1,2})")
_MENTION = re.compile(r"\b(invariants?|faults?) \d", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Proof:
    """A test, class or file that cites numbers."""

    path: str
    """From the folder `tests`."""
    name: str
    """`test_x`, `TestClass::test_x`, `TestClass`, or empty for the whole file."""
    numbers: tuple[str, ...]

    @property
    def id(self) -> str:
        """What pytest calls it, from the folder `tests`."""
        return f"{self.path}::{self.name}" if self.name else self.path


def citations(docstring: str) -> tuple[str, ...]:
    """The numbers at the head of a docstring, ranges spelled out; empty when it begins with anything else."""
    head = re.split(r"[:.](?:\s|$)", docstring.strip(), maxsplit=1)[0]
    found: list[str] = []
    for token in head.split(","):
        numbers = _numbers(token.strip())
        if not numbers:
            return ()
        found += numbers
    return tuple(found)


def _numbers(token: str) -> list[str]:
    if one := _ONE.fullmatch(token):
        return [f"{_family(one[1])}{int(one[2])}"]
    if several := _RANGE.fullmatch(token):
        return [f"{_family(several[1])}{number}" for number in range(int(several[2]), int(several[3]) + 1)]
    return []


def _family(prefix: str | None) -> str:
    return "fault " if prefix and len(prefix) > 1 else prefix or ""


def strays(docstring: str) -> bool:
    """Whether the first sentence means to cite and does so in another form, so that the map does not see it."""
    first = re.split(r"[:.](?:\s|$)", docstring.strip(), maxsplit=1)[0]
    tokens = [bool(_numbers(token.strip())) for token in first.split(",")]
    return not all(tokens) and (any(tokens) or _MENTION.search(first) is not None)


def docstrings(tests: Path) -> Iterator[tuple[str, str, str]]:
    """(path, name, docstring) of every test file, test class and test function that has one."""
    for path in sorted(tests.rglob("test_*.py")):
        where = path.relative_to(tests).as_posix()
        module = ast.parse(path.read_text(encoding="utf-8"))
        yield where, "", ast.get_docstring(module) or ""
        for node in module.body:
            match node:
                case ast.FunctionDef(name=name) if name.startswith("test_"):
                    yield where, name, ast.get_docstring(node) or ""
                case ast.ClassDef():
                    for owner in _collected(module, node):
                        yield where, owner, ast.get_docstring(node) or ""
                        for method in node.body:
                            if isinstance(method, ast.FunctionDef) and method.name.startswith("test_"):
                                yield where, f"{owner}::{method.name}", ast.get_docstring(method) or ""


def _collected(module: ast.Module, node: ast.ClassDef) -> list[str]:
    """Under which names pytest runs a class's tests: its own, or those of the adapters that inherit a contract."""
    if node.name.startswith("Test"):
        return [node.name]
    heirs = [other for other in module.body if isinstance(other, ast.ClassDef)]
    return [other.name for other in heirs if any(isinstance(base, ast.Name) and base.id == node.name for base in other.bases)]


def proofs(tests: Path = ROOT / "tests") -> list[Proof]:
    """Everything that cites a number, in order of path and place."""
    return [Proof(path, name, found) for path, name, text in docstrings(tests) if (found := citations(text))]


def by_number(found: list[Proof]) -> dict[str, list[Proof]]:
    """The proofs of each number."""
    table: dict[str, list[Proof]] = defaultdict(list)
    for proof in found:
        for number in dict.fromkeys(proof.numbers):
            table[number].append(proof)
    return dict(table)


def reasons() -> dict[str, str]:
    """Why a number has no test yet: it waits for a later part, or it is missing."""
    return {number: waiting.reason for waiting in WAITING for number in waiting.numbers}


def page(proven: Mapping[str, list[Proof]]) -> str:
    """The Markdown of docs/evidence/invariants.md."""
    why = reasons()
    lines = [
        "# Rules and the tests that prove them", "",
        "Made by `make evidence-map` from the tests' docstrings and held up to date by `tests/evidence/test_coverage_map.py`: a rule that",
        "applies to what exists and has no test fails the suite. What the numbers mean stands in [README.md](README.md).", "",
        _summary(proven, why), "",
    ]
    for title, family, every in (
        ("Invariants", "", True), ("Faults", "fault ", True), ("Crash points of an order", "C", True),
        ("Decisions", "D", False), ("Threats", "T", False),
    ):
        lines += [f"## {title}", ""]
        if not every:
            lines += ["Those that tests cite.", ""]
        lines += ["| no. | rule | proved by |", "|---|---|---|"]
        for number, sentence in FAMILIES[family].items():
            key = f"{family}{number}"
            if every or key in proven:
                label = key.removeprefix("fault ")
                lines.append(f"| {label} | {sentence}{_later(key)} | {_shown(proven.get(key, []), why.get(key), key)} |")
        lines.append("")
    lines += ["## What waits for a later part", "", "| waits | for | reason |", "|---|---|---|"]
    lines += [f"| {', '.join(waiting.numbers)} | {waiting.part} | {waiting.reason} |" for waiting in WAITING]
    return "\n".join(lines) + "\n"


def _summary(proven: Mapping[str, list[Proof]], why: Mapping[str, str]) -> str:
    """One sentence of counts."""
    parts = []
    for family, words in (("", "invariants"), ("fault ", "faults"), ("C", "crash points")):
        keys = [f"{family}{number}" for number in FAMILIES[family]]
        tested, waiting = sum(key in proven for key in keys), sum(key in why for key in keys)
        parts.append(f"{tested} of {len(keys)} {words} have tests" + (f" ({waiting} wait)" if waiting else ""))
    return "; ".join(parts) + "."


def _later(key: str) -> str:
    return f" *Later: {LATER[key]}.*" if key in LATER else ""


def _shown(found: list[Proof], reason: str | None, key: str) -> str:
    if found:
        return "<br>".join(f"[{proof.id}](../../tests/{proof.path})" for proof in found)
    if key in MISSING:
        return f"**missing**: {MISSING[key]}"
    return f"waits: {reason}" if reason else "**nothing**"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(by_number(proofs())), encoding="utf-8")
