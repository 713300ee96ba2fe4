"""What `make mutation` makes of mutmut's outcomes; mutmut itself is not needed here."""

from tests.evidence import mutation
from tests.evidence.mutating.groups import CALLED_AT_IMPORT, GROUPS
from tests.evidence.mutation import Outcome, asked, score, survivors, table

DIFF = """\
--- trading_pipeline/domain/sizing.py
+++ trading_pipeline/domain/sizing.py
@@ -1,2 +1,2 @@
 def _shares(money: Decimal, each: Decimal) -> int:
-    return max(0, int(money // each))
+    return max(1, int(money // each))
"""


def outcome(status, number=1, diff=""):
    return Outcome("trading_pipeline/domain/sizing.py", f"trading_pipeline.domain.sizing.x__shares__mutmut_{number}", status, diff)


def test_a_mutant_is_told_by_its_function_and_the_changed_line():
    assert outcome("survived", diff=DIFF).change == "_shares: return max(0, int(money // each)) => return max(1, int(money // each))"


def test_a_survivor_is_explained_by_its_changed_line_and_a_gap_otherwise(monkeypatch):
    monkeypatch.setattr(mutation, "KNOWN", (("equivalent", "domain/sizing.py", r"^_shares: .*max\(1"),))
    assert outcome("survived", diff=DIFF).kind == "equivalent"
    assert outcome("survived", diff=DIFF.replace("max(1", "max(2")).kind is None


def test_an_explained_survivor_counts_as_one(monkeypatch):
    monkeypatch.setattr(mutation, "KNOWN", (("equivalent", "domain/sizing.py", "."),))
    found = [outcome("killed"), outcome("killed", 2), outcome("timeout", 3), outcome("survived", 4, DIFF)]
    assert score(found) == 0.75
    assert "| `domain/sizing.py` | 4 | 2 | 1 | 1 | 1 | 75.0% |" in table(found)
    assert "max(1, int(money // each))" in survivors(found)


def test_every_group_names_what_exists():
    for group in GROUPS:
        assert group.files(mutation.ROOT), group.name
        assert all((mutation.ROOT / "tests" / name).exists() for name in (*group.tests, *group.wider)), group.name
    assert {name for group in GROUPS for name in group.only} == CALLED_AT_IMPORT


def test_modules_are_chosen_by_the_end_of_their_path():
    [(group, files)] = asked(GROUPS, ["domain/sizing.py"])
    assert (group.name, [str(path) for path in files]) == ("sizing", ["trading_pipeline/domain/sizing.py"])
