"""12, 22, 32, fault 25, fault 26: two submitters of one account, the first asleep past its lease and past its permit."""

import json
import subprocess
import sys

import pytest

from tests.evidence.report import ROOT
from tests.faults.sleeping_submitters import PLACES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def told():
    """What came of a submitter that was stopped at each place."""
    argv = [sys.executable, "-m", "tests.faults.sleeping_submitters"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {scenario["place"]: scenario for scenario in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("place", PLACES)
def test_no_order_is_doubled_lost_or_orphaned_whenever_the_first_wakes(told, place):
    """12, 22, fault 25, fault 26, T20."""
    assert told[place]["stopped"]
    assert told[place]["found"] == {}
    assert told[place]["orders"] > 5, "both have traded"


def test_the_one_that_wakes_before_its_submission_is_fenced(told):
    """22: the token is verified inside the transaction of the submission."""
    assert told["after commit order.intent"]["fenced"]


def test_the_one_that_wakes_after_its_submission_does_not_send_on_an_old_permit(told):
    """32: a permit is good for seconds of real time."""
    assert told["after commit order.submitted"]["unsent"] >= 1


def test_each_sleeper_learns_that_the_lease_is_gone(told):
    """22."""
    for scenario in told.values():
        assert scenario["fenced"] or scenario["ends"], scenario
