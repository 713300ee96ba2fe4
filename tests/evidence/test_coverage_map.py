"""Every rule that applies to what exists has a test that cites it, and the page that says so is the one in the repository."""

from pathlib import Path

import pytest

from tests.evidence.coverage_map import FAMILIES, PAGE, TO_PROVE, by_number, citations, docstrings, page, proofs, reasons, strays
from tests.evidence.report import ROOT
from tests.evidence.waiting_rules import LATER, MISSING, WAITING

PROVEN = by_number(proofs())
EVERY = {f"{family}{number}" for family in TO_PROVE for number in FAMILIES[family]}


@pytest.mark.parametrize(
    ("docstring", "numbers"),
    [
        ("28, fault 21: counted as the account's.", ("28", "fault 21")),
        ("C1-C3, D17.", ("C1", "C2", "C3", "D17")),
        ("46-48, faults 57-59: one winner.", ("46", "47", "48", "fault 57", "fault 58", "fault 59")),
        ("Fault 28: the connection breaks.", ("fault 28",)),
        ("65.", ("65",)),
        ("T10, F5: a row of the product counts for itself.", ("T10", "F5")),
        ("10 at $100 and 10 at $102, and what they cost.", ()),
        ("One look, two days later: at 25 the stop had fired.", ()),
        ("2024-07-03.", ()),
        ("", ()),
    ],
)
def test_what_stands_at_the_head_of_a_docstring_is_cited_and_nothing_else(docstring: str, numbers: tuple[str, ...]) -> None:
    assert citations(docstring) == numbers


@pytest.mark.parametrize(
    "docstring", ["Invariant 5, on memory.", "46, fault 3 and more: twice.", "11, 12; fault 1: in words.", "Faults 3, 57: both."]
)
def test_a_citation_in_another_form_is_seen(docstring: str) -> None:
    assert strays(docstring)


def test_a_test_of_a_contract_is_named_as_pytest_names_it(tmp_path: Path) -> None:
    contract = 'class Contract:\n    def test_it(self) -> None:\n        """12: once."""\n\n\nclass TestOne(Contract):\n    pass\n'
    (tmp_path / "test_contract.py").write_text(contract, encoding="utf-8")
    assert [proof.id for proof in proofs(tmp_path)] == ["test_contract.py::TestOne::test_it"]


def test_every_citation_is_in_the_form_that_the_map_reads() -> None:
    assert [f"{path}::{name}" for path, name, text in docstrings(ROOT / "tests") if strays(text)] == []


def test_no_test_cites_a_number_that_does_not_exist() -> None:
    families = {"C": "C", "D": "D", "T": "T"}
    known = {f"{family}{number}" for family, rules in FAMILIES.items() for number in rules}
    cited = {key for key in PROVEN if key[0].isdigit() or key.startswith("fault ") or key[0] in families}
    assert cited - known == set()


def test_every_rule_has_a_test_or_a_reason() -> None:
    assert sorted(EVERY - PROVEN.keys() - reasons().keys() - MISSING.keys()) == []


def test_a_reason_is_given_once_and_only_where_there_is_no_test() -> None:
    given = [number for waiting in WAITING for number in waiting.numbers] + list(MISSING)
    assert len(given) == len(set(given))
    assert sorted(set(given) & PROVEN.keys()) == []
    assert set(given) <= EVERY
    assert sorted(LATER.keys() - PROVEN.keys()) == []


def test_the_page_in_the_repository_is_the_one_that_the_tests_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(PROVEN), "run `make evidence-map`"
