"""`make approval-races N=10000`: whoever may decide on a proposal does so at the same moment, and exactly one of them has decided.

Each race is one pending proposal of a strategy of its own, and four threads with a connection each on a real PostgreSQL: people who
approve (twice, as when an answer was lost; or two of them), reject, the clock that expires it, voiding, a pause, a revision, tighter
account limits, an emergency stop, and the order path that sends what is approved. The market clock runs in real time through the
instant of expiry while they race. Proposals are copies of one that the service made, appended as events in batches.
"""

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa

from tests.conftest import execute, stop_at_once
from tests.desks import OPEN, PERSON, bars, floor, market, strategy
from tests.evidence.approval_records import APPROVERS, DECISIONS, WITHDRAWING, Race, faults
from tests.evidence.report import finish, progress, size
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, prepare_database
from trading_pipeline.domain.approvals import proposal_hash
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType, NewEvent, instant_text
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import Conflict, StrategyError
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.account_limits import in_force
from trading_pipeline.service.accounting import compare_with_broker
from trading_pipeline.service.cycle import run_cycle, run_follow_up
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.voiding import void
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.timetable import newest_cycle

E = EventType
THREADS = 4
BATCH = 25
HOUSE = 200
"""Races a database: every approval reads all strategies, so they are kept few."""
HANDICAP_SECONDS = 0.015
APART = timedelta(seconds=3)
TOLD = (*DECISIONS, E.ACTION_EXPIRED, E.ORDER_INTENT, E.ORDER_SUBMITTED, *WITHDRAWING)


class RunningClock:
    """Market time that runs with real time, and can be moved on to where it gets interesting; never back."""

    def __init__(self, start: datetime) -> None:
        self._lock = threading.Lock()
        self._base, self._from = start, time.monotonic()

    def now(self) -> datetime:
        """Real time since the last jump, from where it led."""
        with self._lock:
            return self._base + timedelta(seconds=time.monotonic() - self._from)

    def jump_to(self, instant: datetime) -> None:
        """Go on from there, unless that is past."""
        with self._lock:
            now = self._base + timedelta(seconds=time.monotonic() - self._from)
            self._base, self._from = max(now, instant), time.monotonic()


@dataclass
class Tally:
    """What came of the races."""

    races: int = 0
    violations: list[str] = field(default_factory=list)
    winners: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    submitted: int = 0
    repeated: int = 0


# Who runs. Each says what it holds to be done: the seq of its event, a count, or nothing when somebody was faster.


def _approve(desk: Desk, race: Race, actor: str = PERSON) -> int:
    return approvals.approve(desk, race.action_id, actor=actor, shown_hash=race.hash).seq


def _reject(desk: Desk, race: Race) -> int:
    return approvals.reject(desk, race.action_id, actor="user:carl", reason="no").seq


def _expire(desk: Desk, race: Race) -> int:
    for _ in range(40):
        if approvals.expire(desk, (race.action_id,)):
            return 1
        if desk.now() > race.expires_at:
            break
    return 0


def _void(desk: Desk, race: Race) -> int:
    row = desk.ledger.get("actions", race.action_id)
    assert row is not None
    with desk.ledger.transaction() as tx:
        return len(void(tx, row, "the price moved", desk.now(), "rulebook"))


def _pause(desk: Desk, race: Race) -> int:
    controls.pause(desk, race.name, actor=PERSON)
    return 1


def _revise(desk: Desk, race: Race) -> int:
    return controls.revise(desk, race.spec, actor=PERSON).seq


def _stop(desk: Desk, race: Race) -> int:
    emergency.stop(desk, strategy=race.name, reason="a person pressed it", actor=PERSON)
    return 1


def _tighten(desk: Desk, race: Race) -> int:
    """Voids whatever is open: only the last race of a batch has it."""
    tighter = replace(desk.limits, max_day_notional=Decimal(900_000 - race.number))
    with desk.ledger.transaction() as tx:
        return in_force(replace(desk, limits=tighter), tx)


def _release(desk: Desk, race: Race) -> int:
    """The order path, as soon as there is something approved, and a second time as if its run came again."""
    sent = 0
    for _ in range(30):
        row = desk.ledger.get("actions", race.action_id)
        if row is None or row["state"] != "pending":
            break
        time.sleep(0.002)
    for turn in range(2):
        steps = run_follow_up(desk, follow_up((race.action_id,), desk.today(), desk.now(), f"race-{race.number}-{turn}"))
        sent += steps[0].counts.get("submitted", 0)
    return sent


RUNNERS: dict[str, Callable[[Desk, Race], int]] = {
    "approve": _approve, "approve_again": _approve, "approve_other": lambda desk, race: _approve(desk, race, "user:bert"),
    "reject": _reject, "expire": _expire, "void": _void, "pause": _pause, "revise": _revise, "stop": _stop, "release": _release,
    "tighten": _tighten,
}
_OTHERS = ("approve_again", "approve_other", "reject", "expire", "expire", "void", "pause", "revise", "stop", "stop", "release", "release")


def _field(rng: Random, last: bool) -> tuple[str, ...]:
    """Who is in a race: somebody who approves, and three others."""
    others = list(dict.fromkeys(rng.sample(_OTHERS, len(_OTHERS))))
    runners = ["approve", *(["tighten"] if last else []), *others][:THREADS]
    rng.shuffle(runners)
    return tuple(runners)


class House:
    """A database with desks on it, one a thread, and proposals to race for."""

    def __init__(self, folder: Path, url: sa.URL, rng: Random, doors: ExitStack) -> None:
        self.rng, self.clock = rng, RunningClock(OPEN)
        base = strategy("base", mode=Mode.APPROVAL)
        stage = floor(folder, market(bars()), OPEN)
        broker = replace(stage, clock=self.clock).broker  # type: ignore[arg-type]
        self.desks: list[Desk] = []
        for _ in range(THREADS):
            ledger = PostgresLedger.open(url, "demo", opened_at=OPEN)
            doors.callback(ledger.close)
            self.desks.append(replace(stage.desk, ledger=ledger, clock=self.clock, broker=broker))
        desk = self.desks[0]
        controls.create(desk, base, actor=PERSON)
        controls.start(desk, base.name, actor=PERSON)
        cycle = newest_cycle(desk, Interval.DAY1)
        assert cycle is not None
        run_cycle(desk, cycle)
        self.base = base
        self.model = {event.type: event for event in desk.ledger.events(stream="strategy:base")}
        self.free = desk.now() + timedelta(seconds=20)

    def prepared(self, numbers: range) -> list[Race]:
        """Strategies that run, each with one proposal waiting."""
        races, events, desk = [], [], self.desks[0]
        with desk.ledger.transaction() as tx:
            version = in_force(desk, tx)
        for number in numbers:
            name, action_id = f"race-{number}", f"R{number:011d}"
            spec = replace(self.base, name=name)
            self.free += APART
            race = Race(number, name, action_id, "", self.free, spec, _field(self.rng, number == numbers[-1]))
            made, hash_ = self._proposal(race, version, desk.now())
            events += made
            races.append(replace(race, hash=hash_))
        with desk.ledger.transaction() as tx:
            tx.append(*events)
        return races

    def _proposal(self, race: Race, version: int, now: datetime) -> tuple[list[NewEvent], str]:
        """The facts from the strategy's creation to the question, as the service wrote them once for `base`, for one share."""
        common = {"strategy": race.name, "action_id": race.action_id}
        intent = self.model[E.RISK_EVALUATED].payload["intent"] | common | {"quantity": 1, "brackets": []}
        asked = self.model[E.APPROVAL_REQUESTED].payload
        shown = asked["shown"] | {
            "strategy": race.name, "quantity": 1, "expires_at": instant_text(race.expires_at), "nonce": race.action_id,
            "account_limits_version": version,
        }
        hash_ = proposal_hash(shown)
        payloads: dict[EventType, dict[str, Any]] = {
            E.STRATEGY_CREATED: {"spec": encode(race.spec)}, E.STRATEGY_STARTING: {}, E.STRATEGY_STARTED: {}, E.LLM_ACTION_GENERATED: {},
            E.RISK_EVALUATED: {"intent": intent},
            E.APPROVAL_REQUESTED: {
                "shown": shown, "hash": hash_, "nonce": race.action_id, "expires_at": race.expires_at,
                "price_low": asked["price_low"], "price_high": asked["price_high"],
            },
        }
        events = []
        for type_, changes in payloads.items():
            model = self.model[type_]
            payload = {**model.payload, **common, **changes}
            events.append(NewEvent(type_, f"strategy:{race.name}", f"{type_.value}:{race.action_id}", payload, now, model.actor))
        return events, hash_

    def run(self, race: Race, pool: ThreadPoolExecutor, tally: Tally) -> None:
        """One race, and then its record."""
        edge = timedelta(milliseconds=self.rng.uniform(-1, 25)) if "expire" in race.runners else timedelta(seconds=2)
        barrier = threading.Barrier(THREADS)
        # Approving takes longer than voiding: without a handicap it would hardly ever be first.
        handicaps = {runner: max(0.0, self.rng.uniform(-0.5, 1) * HANDICAP_SECONDS) for runner in race.runners}
        handicaps |= dict.fromkeys(APPROVERS, 0.0)

        def runs(desk: Desk, runner: str) -> int | BaseException:
            barrier.wait(30)
            time.sleep(handicaps[runner])
            try:
                return RUNNERS[runner](desk, race)
            except (Conflict, StrategyError) as faster:
                return faster

        self.clock.jump_to(race.expires_at - edge)
        waiting = {runner: pool.submit(runs, desk, runner) for desk, runner in zip(self.desks, race.runners, strict=True)}
        said: dict[str, Any] = {}
        for runner, future in waiting.items():
            try:
                said[runner] = future.result()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a violation, and the races go on
                tally.violations.append(f"race {race.number} of {race.runners}: {runner} raised {error!r}")
                said[runner] = error
        self.clock.jump_to(race.expires_at + timedelta(milliseconds=1))
        undecided = approvals.expire(self.desks[0], (race.action_id,))
        tally.races += 1
        self._check(race, said, bool(undecided), tally)

    def _check(self, race: Race, said: dict[str, Any], undecided: bool, tally: Tally) -> None:
        desk = self.desks[0]
        events = desk.ledger.events(stream=f"strategy:{race.name}", types=TOLD)
        approval, action = desk.ledger.get("approvals", race.action_id), desk.ledger.get("actions", race.action_id)
        orders = desk.ledger.find("orders", action_id=race.action_id)
        assert approval is not None
        assert action is not None
        wrong = list(faults(race, said, events, approval, action, orders))
        tally.violations += [f"race {race.number} of {race.runners}: {each}; said {said}" for each in wrong]
        first = next((event for event in events if event.type in DECISIONS), None)
        tally.winners["nobody, then the clock" if undecided else first.type.value if first else "nobody"] += 1
        tally.orders += len(orders)
        tally.submitted += any(event.type is E.ORDER_SUBMITTED for event in events)
        tally.repeated += isinstance(said.get("approve"), int) and isinstance(said.get("approve_again"), int)


@contextmanager
def database(server: EmbeddedPostgres, template: str, name: str) -> Iterator[sa.URL]:
    """A fresh ledger's database, gone afterwards."""
    server.ensure_database(name, template=template)
    yield server.app_url(name)
    execute(server.superuser_url(), f'DROP DATABASE "{name}" WITH (FORCE)')


def run(server: EmbeddedPostgres, template: str, count: int, seed: int) -> Tally:
    """That many races, in as many databases as it takes."""
    tally, rng = Tally(), Random(seed)
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, count, HOUSE):
            most = min(count, first + HOUSE)
            with database(server, template, f"races_{first}") as url, tempfile.TemporaryDirectory() as folder, ExitStack() as doors:
                house = House(Path(folder), url, rng, doors)
                for begin in range(first, most, BATCH):
                    for race in house.prepared(range(begin, min(most, begin + BATCH))):
                        house.run(race, pool, tally)
                tally.violations += _afterwards(house.desks[0])
            if count > 1_000:
                progress(f"{most:,} of {count:,} races: {len(tally.violations)} violations")
    return tally


def _afterwards(desk: Desk) -> list[str]:
    """The whole record, once more as one: the chain, the tables, the broker's book."""
    report = verify(desk.ledger)
    wrong = [] if report.ok else [f"the ledger does not verify: {report.difference}"]
    wrong += [f"book and broker: {each}" for each in compare_with_broker(desk)]
    approved = {json.loads(row["shown"])["strategy"] for row in desk.ledger.find("approvals", state="consumed")}
    sent = {row["strategy"] for row in desk.ledger.find("orders")}
    return wrong + ([f"orders without a consumed approval: {sent - approved}"] if sent - approved else [])


def main() -> int:
    """Start a server, race, report."""
    count, seed = size(10_000), size(1, "SEED")
    home = Path(tempfile.mkdtemp(prefix="tp-"))
    server = EmbeddedPostgres.start(home / "postgres")
    try:
        execute(server.superuser_url(), "ALTER SYSTEM SET fsync = off")
        execute(server.superuser_url(), "SELECT pg_reload_conf()")
        server.ensure_database("races_template")
        prepare_database(server.owner_url("races_template"))
        tally = run(server, "races_template", count, seed)
    finally:
        stop_at_once(server)
    for each in tally.violations[:10]:
        progress(each)
    finish(
        "approval-races", "Deciding on one proposal at the same moment",
        {"races": tally.races, "violations": len(tally.violations), "orders": tally.orders,
            "submitted": tally.submitted, "repeated_approvals": tally.repeated}
        | {f"won: {name}": many for name, many in tally.winners.most_common()},
        {"violations": tally.races},
        (
            f"Four threads a race with a connection each on one PostgreSQL (fsync off: nothing here is about power), seed {seed}: one "
            "approves, the others are drawn from approving again, another person, rejecting, expiring, voiding, pausing, revising, "
            "stopping, tightening the account's limits, and sending what is approved. Checked against the events: one first decision; "
            "whoever was told that it decided did; strictly before or not before the expiry; tables as the events; no approval, intent "
            "or submission after a stop, a pause or a revision; an order only for an approval that was consumed. Each database's chain, "
            "tables and broker's book are verified at its end.",
        ),
        command=f"make approval-races N={count}",
    )
    return 1 if tally.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
