"""`make tamper N=10000`: single mutations of a real record, every one of which verification must find, and point at.

The record is a real run: the packaged strategies over real daily bars on an embedded PostgreSQL. Most mutations are made on a copy of
its rows in memory and verified by the code that verifies the database; a sample is made in the database itself, as a superuser who
has switched the triggers off, and taken back again.
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from tests.conftest import execute, stop_at_once
from tests.evidence.mutations import MUTATIONS, Mutation, Rows, Tampered
from tests.evidence.report import finish, progress, size
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, prepare_database
from trading_pipeline.adapters.ledger.tables import EVENTS, HEAD, PROJECTIONS
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.homes import packaged_strategies
from trading_pipeline.ports import Ledger
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.cycle import run_cycle, run_follow_up
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record.verification import Anchored, verify
from trading_pipeline.service.submitter.closing import close_session
from trading_pipeline.service.timetable import newest_cycle
from trading_pipeline.settings import Settings

FIRST = datetime(2012, 10, 15, 13, 30, tzinfo=UTC)
ANCHORED_EVERY = 90
UNANCHORED = 7
"""Events behind the newest anchor, as there are within its minute."""


@dataclass
class Tally:
    """What came of the mutations."""

    events: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    in_database: int = 0
    missed: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)

    def judge(self, seed: str, tampered: Tampered, ledger: Ledger | Rows, anchors: Sequence[Anchored]) -> None:
        """Verify what was tampered with."""
        self.tried[tampered.kind] += 1
        report = verify(ledger, anchors)  # type: ignore[arg-type]
        if report.difference is None:
            self.missed.append(f"{seed}: {tampered.kind} {tampered.what} was not found")
        elif not tampered.pointed_at(report.difference):
            self.misplaced.append(f"{seed}: {tampered.kind} {tampered.what} was found as {report.difference}")


def trade(desk: Desk, clock: SteppedClock, sessions: int) -> None:
    """Sessions of the packaged strategies, with a person who approves all but each third proposal."""
    for spec in packaged_strategies():
        controls.create(desk, spec, actor="user:anna")
        controls.start(desk, spec.name, actor="user:anna")
    asked = 0
    for _ in range(sessions):
        session = desk.calendar.session(desk.today())
        cycle = newest_cycle(desk, Interval.DAY1)
        assert cycle is not None
        run_cycle(desk, cycle)
        for row in desk.ledger.find("approvals", state="pending", order_by="requested_seq"):
            asked += 1
            (approvals.reject if asked % 3 == 0 else approvals.approve)(desk, row["action_id"], actor="user:anna")
        while (instant := approvals.next_instant(desk)) is not None and instant < session.close:
            clock.advance_to(instant)
            due = approvals.due(desk)
            approvals.expire(desk, due.overdue)
            run_follow_up(desk, follow_up(due.released, session.day, instant, "release"))
        clock.advance_to(session.close)
        close_session(desk, session)
        clock.advance_to(desk.calendar.next(session.day).open)


def draw(chance: random.Random) -> Mutation:
    """A kind of mutation."""
    return chance.choices(list(MUTATIONS), list(MUTATIONS.values()))[0]


def anchored(rows: Rows) -> list[Anchored]:
    """Heads as they were written down on the way, the newest a little before the end."""
    newest = len(rows.events) - UNANCHORED
    seqs = sorted({*range(ANCHORED_EVERY, newest, ANCHORED_EVERY), newest})
    return [(seq, rows.events[seq - 1]["hash"]) for seq in seqs]


def run(ledger: Ledger, superuser: sa.URL, count: int, in_database: int, seed: int) -> Tally:
    """Try mutations of one ledger; it is as it was afterwards.

    Args:
        superuser: The ledger's database, for one who may switch triggers off.
        in_database: How many of them in the database itself.
    """
    rows = Rows.of(ledger)
    anchors = anchored(rows)
    seqs = [seq for seq, _ in anchors]
    tally = Tally(events=len(rows.events))
    assert verify(ledger, anchors).ok and verify(rows, anchors).ok  # type: ignore[arg-type]
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")
        tampered = draw(chance)(chance, rows, seqs)
        if number < in_database:
            with stored(superuser, rows, tampered.rows):
                tally.judge(f"{seed}/{number}, in the database", tampered, ledger, anchors)
            tally.in_database += 1
        else:
            tally.judge(f"{seed}/{number}", tampered, tampered.rows, anchors)
        if number % 1_000 == 999:
            progress(f"{number + 1:,} of {count:,} mutations: {len(tally.missed)} missed, {len(tally.misplaced)} misplaced")
    assert verify(ledger, anchors).ok
    return tally


@contextmanager
def stored(superuser: sa.URL, before: Rows, after: Rows) -> Iterator[None]:
    """The database as another state of its rows, until leaving."""
    engine = sa.create_engine(superuser.set(drivername="postgresql+psycopg2"))
    try:
        _store(engine, before, after)
        yield
        _store(engine, after, before)
    finally:
        engine.dispose()


def _store(engine: sa.Engine, have: Rows, want: Rows) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        kept = {row["seq"]: row for row in want.events}
        gone = [row["seq"] for row in have.events if kept.get(row["seq"]) != row]
        there = {row["seq"]: row for row in have.events}
        new = [row for row in want.events if there.get(row["seq"]) != row]
        if gone:
            connection.execute(sa.delete(EVENTS).where(EVENTS.c.seq.in_(gone)))
        if new:
            connection.execute(sa.insert(EVENTS), new)
        connection.execute(sa.update(HEAD).values(seq=want.newest[0], hash=want.newest[1]))
        for name in TABLES:
            if have.tables[name] != want.tables[name]:
                connection.execute(sa.delete(PROJECTIONS[name]))
                if want.tables[name]:
                    connection.execute(sa.insert(PROJECTIONS[name]), list(want.tables[name]))


def events_a_second(ledger: Ledger) -> float:
    """How many events of the ledger are verified in a second of CPU, the tables they make included; the median of five times."""
    times = []
    for _ in range(5):
        begun = time.process_time()
        events = verify(ledger).events
        times.append((time.process_time() - begun) / events)
    return 1 / sorted(times)[2]


def main() -> int:
    """Start a server, trade, tamper, report."""
    count, seed, sessions = size(10_000), size(1, "SEED"), size(8, "SESSIONS")
    folder = Path(tempfile.mkdtemp(prefix="tp-"))
    server = EmbeddedPostgres.start(folder / "postgres")
    try:
        execute(server.superuser_url(), "ALTER SYSTEM SET fsync = off")
        execute(server.superuser_url(), "SELECT pg_reload_conf()")
        server.ensure_database("tamper")
        prepare_database(server.owner_url("tamper"))
        settings = Settings(
            home=folder / "home", environment="demo", database_url=server.app_url("tamper").render_as_string(hide_password=False),
            owner_database_url=server.owner_url("tamper").render_as_string(hide_password=False),
            market={"clock": "replay", "source": "samples"},
        )
        clock = SteppedClock(FIRST)
        with open_desk(settings, clock) as desk:
            trade(desk, clock, sessions)
        ledger = PostgresLedger.open(server.app_url("tamper"), "demo")
        progress(f"a ledger of {ledger.head()[0]:,} events from {sessions} sessions")
        tally = run(ledger, server.superuser_url("tamper"), count, min(200, count // 20), seed)
        speed = events_a_second(ledger)
        ledger.close()
    finally:
        stop_at_once(server)
        shutil.rmtree(folder, ignore_errors=True)
    for each in [*tally.missed[:10], *tally.misplaced[:10]]:
        progress(each)
    tried = sum(tally.tried.values())
    finish(
        "tamper", "Tampering with the record",
        {
            "mutations": tried, "found_fraction": 1 - len(tally.missed) / tried, "verify_per_s": round(speed), "missed": len(tally.missed),
            "misplaced": len(tally.misplaced), "in_the_database": tally.in_database, "events": tally.events,
        }
        | dict(tally.tried.most_common()),
        {"missed": tried, "misplaced": tried},
        (
            f"Each mutation is a single one, of a record of {tally.events:,} events that {sessions} sessions of the packaged strategies "
            f"wrote to an embedded PostgreSQL: any column of an event but `recorded_at`, which is no part of the chain; an event deleted; "
            "one forged with a right hash; two that trade places; a tail cut off from before the newest anchor, head and tables to fit; "
            "the chain hashed anew from some event on, head and tables to fit; a row of a table; the row of the head. "
            f"`misplaced` counts those that were found and pointed at another event, or another row, than was touched. "
            f"{tally.in_database} were made in the database, by a superuser with its triggers off, the others on a copy of the rows "
            f"that the same code verifies. Seed {seed}.",
            "Of a chain written anew with everything to fit, no database can tell: the first anchor behind the change does. What happens "
            "behind the newest anchor is therefore as safe as the next one is near, a minute at most. `verify_per_s` is events a second "
            "of CPU, tables compared.",
        ),
        command=f"make tamper N={count}",
    )
    return 1 if tally.missed or tally.misplaced else 0


if __name__ == "__main__":
    raise SystemExit(main())
