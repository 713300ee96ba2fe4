"""Sessions derived again, small."""

import pytest

from tests.evidence.replay_sessions import run


@pytest.mark.slow
def test_random_sessions_are_derived_again_and_each_forgery_is_named():
    """8: not one difference, not one connection, and the forged event is the first that is named."""
    tally = run(3, seed=1)
    assert (tally.differences, tally.missed, tally.calls, tally.underivable) == ([], [], 0, 0)
    assert tally.sessions == tally.hashes == tally.forged == 3
    assert tally.derived["verdicts"] > 20
