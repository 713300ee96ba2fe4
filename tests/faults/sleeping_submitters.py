"""Two submitters: one is stopped in the middle of sending, past its lease and past its permit, and goes on after another has taken over.

    python -m tests.faults.sleeping_submitters

Faults 25 and 26 with real processes, SIGSTOP and SIGCONT on a real PostgreSQL. A scenario of its own because it forks, which a test
process with threads must not. The last line says, for each place, whether the sleeper was stopped there, whether it was fenced, and
what the oracle found.
"""

import json
import signal
import sys
import time
from pathlib import Path

from tests.desks import calendar
from tests.evidence.crashing import oracle
from tests.evidence.crashing.house import House, play
from tests.evidence.crashing.points import Trap
from tests.evidence.crashing.processes import Child, run
from tests.evidence.crashing.rounds import Sweep, begun, compared, server
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.service.orders import gate

LEASE_SECONDS = PERMIT_SECONDS = 0.6
"""Real seconds, instead of 30 and 5."""
SLEPT = 45.0
"""Seconds of market time: an intent is stale after 30."""
PLACES = {"after commit order.intent": 2, "after commit order.submitted": 0, "submit: before the call": 2, "submit: after the reply": 2}
"""Where the first one stops, and how many minutes the second trades before it wakes: with 0 the order is in doubt still, not given up."""


def sleeper(house: House, trap: Trap) -> None:
    """A process that stops in the middle of sending."""
    gate.PERMIT_SECONDS = PERMIT_SECONDS
    play(house, trap, 1, 3)


def scenario(running: EmbeddedPostgres, folder: Path, number: int, place: str) -> dict[str, object]:
    """Stop one there, let another trade on, wake the first."""
    with begun(running, folder, number, Sweep(), None) as turn:
        house = turn.house
        house.lease_seconds = LEASE_SECONDS
        first = Child(lambda: sleeper(house, Trap(place, 1, signal.SIGSTOP)))
        stopped = first.until_stopped()
        house.clock.advance(SLEPT)
        time.sleep(max(LEASE_SECONDS, PERMIT_SECONDS) + 0.1)
        second = run(lambda: play(house, Trap(), 2, PLACES[place]))
        first.go_on()
        woken = first.wait()
        compared(turn)
        books = oracle.read(running.superuser_url(house.database))
        ends = [end for end in (second.broken, second.unavailable, woken.broken, woken.unavailable) if end]
        return {
            "place": place, "profile": house.profile, "stopped": stopped, "fenced": woken.fenced, "ends": ends,
            "unsent": sum("permit" in row["reason"] for row in books.orders.values()), "orders": len(books.placed),
            "found": dict(turn.found.boxes),
        }


def main() -> int:
    """Every place, the brokers in turn."""
    calendar()
    with server() as (running, folder):
        told = [scenario(running, folder, number, place) for number, place in enumerate(PLACES)]
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
