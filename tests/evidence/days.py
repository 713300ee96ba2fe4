"""`make days N=10000`: seeded random trading days through the real service, all invariants after every event.

    SEED=17 make days                one day again, by the seed that a failing one printed
    JOBS=2 make days                 so many processes; without it one for each core

A day is one session, or two with the night between: bars that gap, halt and are printed badly, a model that is honest, hostile or babbles,
people who decide late, twice or not at all and press stop while another clears one, a broker that loses, delays, repeats, refuses,
restates, ends orders by itself and tells of executions after ends, sleeping machines, processes that die at any touch of ledger,
broker or model. One integer decides all of it, so that a seed that fails fails again: the line that
says so names the command. Ledger and paper book are in memory, time is stepped; the oracle shares no code with what it judges.
"""

import hashlib
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from tests.evidence.daysim.day import Day
from tests.evidence.daysim.plan import Plan, planned
from tests.evidence.report import finish, progress, size
from trading_pipeline.domain.events import Event
from trading_pipeline.oracle.oracle import INVARIANTS

ONE_DAYS_OWN = frozenset({"nonce", "hash", "pressed_at", "verdict_hash", "shown"})
"""What differs when a seed is played again: a nonce is drawn by the system's own generator, hashes follow, a stop says when by the wall."""
NO_FAULTS = ("refused", "by hand", "clock", "stop", "model")
"""What a day may have and be called calm: people, others, sleep and odd replies, but no fault of the line and no dead process."""
TOLD = 20
PART = 10
"""So many days one process plays before it is asked for more."""


@dataclass
class Tally:
    """What came of the days; two add up."""

    days: int = 0
    calm: int = 0
    """Days whose line and processes held."""
    sessions: int = 0
    events: int = 0
    looks: int = 0
    orders: int = 0
    fills: int = 0
    violations: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    """Faults by kind, how often each happened."""
    looked: Counter[int] = field(default_factory=Counter)
    """Invariants, how often each was looked at."""

    def __iadd__(self, other: "Tally") -> "Tally":
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self

    def add(self, day: Day) -> None:
        """Count a day that was played."""
        watch = day.watch
        self.days += 1
        self.sessions += len(day.plan.sessions)
        self.calm += all(kind.startswith(NO_FAULTS) for kind in day.struck)
        self.events += watch.oracle.events
        self.looks += watch.looks
        self.orders += watch.types["order.submitted"]
        self.fills += watch.types["order.filled"] + watch.types["order.partially_filled"] + watch.types["external.filled"]
        self.struck.update(day.struck)
        self.looked.update(watch.oracle.looked)
        self.violations += [f"SEED={day.plan.seed}: {each}" for each in watch.violations]


def played(plan: Plan) -> Day:
    """One day, to its end."""
    with tempfile.TemporaryDirectory() as folder:
        day = Day(plan, Path(folder))
        day.play()
    return day


def run(seeds: Iterable[int]) -> Tally:
    """Days of these seeds, one after the other."""
    tally = Tally()
    for seed in seeds:
        known = len(tally.violations)
        tally.add(played(planned(seed)))
        if len(tally.violations) > known:
            progress(f"{tally.violations[known]}\n  again: SEED={seed} python -m tests.evidence.days")
    return tally


def run_many(count: int, jobs: int) -> Tally:
    """Days of the seeds from 1 on, in so many processes; violations in the order of their seeds."""
    tally, parts = Tally(), [range(first, min(first + PART, count + 1)) for first in range(1, count + 1, PART)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for part in pool.imap(run, parts):
            tally += part
            if tally.days % 100 == 0:
                progress(f"{tally.days:,} days, {tally.events:,} events, {len(tally.violations)} violations")
    return tally


def fingerprint(events: Iterable[Event]) -> str:
    """A hash over types and payloads, without what a second playing has of its own."""
    told = hashlib.sha256()
    for event in events:
        plain = [event.type.value, event.at.isoformat(), event.actor, _plain(event.payload)]
        told.update(json.dumps(plain, sort_keys=True).encode())
    return told.hexdigest()


def _plain(value: object) -> object:
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items() if key not in ONE_DAYS_OWN}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value


def main() -> int:
    """Play and report."""
    one = os.environ.get("SEED")
    count, jobs = 1 if one else size(100), max(1, size(os.cpu_count() or 1, "JOBS"))
    begun = time.monotonic()
    tally = run([int(one)]) if one else run_many(count, jobs)
    seconds = time.monotonic() - begun
    for each in tally.violations[:TOLD]:
        progress(each)
    unseen = [row.number for row in INVARIANTS if not tally.looked[row.number]]
    kinds = "\n".join(f"| {kind} | {many:,} |" for kind, many in sorted(tally.struck.items()))
    finish(
        "days", "Seeded random trading days",
        {
            "days": tally.days, "violations": len(tally.violations), "sessions": tally.sessions, "events": tally.events,
            "invariants": len({row.number for row in INVARIANTS}), "invariant_checks": tally.looked.total(),
            "looks_at_the_account": tally.looks, "orders": tally.orders, "fills": tally.fills, "faults": tally.struck.total(),
            "calm_days": tally.calm, "seconds": round(seconds, 1),
        },
        {"violations": tally.days},
        (
            "Each day is played through the real service with its ledger and paper account in memory and time stepped from one instant to "
            "the next. After every step each new event is judged by the oracle, which shares no code with the system, and the account "
            "behind the broker's line is held against the ledger: no order twice, none that the ledger never sent, none working that it "
            "believes over, nothing oversold. After the day's end, when all that was late has come, shares, cash, executions and orders "
            "are the same on both sides, chain and tables verify, nothing is open but protective orders, and no position that had a stop "
            "lies without one unless an alarm says so.",
            f"Invariants that no event concerned: {', '.join(map(str, unseen)) or 'none'}. A day is one session, or two with the night "
            "between. Seeds run from 1; one alone is played by `SEED=17 python -m tests.evidence.days`. What happened, and how often:",
            f"| what | times |\n|---|---|\n{kinds}",
        ),
        command=f"JOBS={jobs} make days N={count}",
    )
    return 1 if tally.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
