"""The approval races, small: nobody wins together; and a record that says otherwise is found out."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.conftest import TEMPLATE
from tests.evidence import approval_races
from tests.evidence.approval_races import RUNNERS, run


def test_forty_races_have_one_winner_each(postgres):
    """42, 46-48, 54, faults 57-59: one winner each."""
    tally = run(postgres, TEMPLATE, 40, seed=1)
    assert tally.violations == []
    assert (tally.races, tally.winners.total()) == (40, 40)
    assert {"approval.approved", "approval.voided", "approval.rejected"} <= tally.winners.keys()


# Negative controls: each is a defect that the races must see


def test_an_approval_that_is_only_claimed_is_found_out(postgres, monkeypatch):
    monkeypatch.setitem(RUNNERS, "approve", lambda desk, race: 0)
    assert len(run(postgres, TEMPLATE, 5, seed=2).violations) >= 5


def test_an_approval_after_the_expiry_is_found_out(postgres, monkeypatch):
    """The record of a race against an expiry an hour earlier."""
    original = approval_races.faults
    monkeypatch.setattr(
        approval_races, "faults",
        lambda race, *record: original(replace(race, expires_at=race.expires_at - timedelta(hours=1)), *record),
    )
    monkeypatch.setattr(approval_races, "_field", lambda rng, last: ("approve", "approve_again", "expire", "approve_other"))
    violations = run(postgres, TEMPLATE, 5, seed=3).violations
    assert violations
    assert all(": approved at" in each for each in violations)


@pytest.mark.parametrize(
    ("said", "told"),
    [({"reject": 7}, "rejected, or not"), ({"expire": 1}, "expired for the clock alone"), ({"approve_other": 99}, "was told")],
)
def test_what_a_runner_was_told_is_compared_with_the_record(postgres, monkeypatch, said, told):
    [name] = said
    monkeypatch.setitem(RUNNERS, name, lambda desk, race: said[name])
    monkeypatch.setitem(RUNNERS, "expire" if name != "expire" else "stop", lambda desk, race: 0)
    monkeypatch.setattr(approval_races, "_field", lambda rng, last: ("approve", name, "approve_again", "void"))
    assert any(told in each for each in run(postgres, TEMPLATE, 3, seed=4).violations)
