"""One round of the crash sweep: a seed to its end. Begin, be killed, be killed again while recovering, settle, compare.

Which kills come is a function of the seed, and so are market, broker and strategies; where a kill at random lands is not, and a
round that fails may need more than one try to fail again. A round is played by processes that are forked for it; this one only
kills and compares.
"""

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from tests.conftest import connect, execute, stop_at_once
from tests.evidence.crashing import oracle
from tests.evidence.crashing.controls import SEQUENCE, Control
from tests.evidence.crashing.house import PROFILES, House, ask_the_desk, begin, broken_rules, keep, play, settle_to_quiet, unverified
from tests.evidence.crashing.oracle import Books, Findings
from tests.evidence.crashing.points import POINTS, RECOVERY, Trap
from tests.evidence.crashing.processes import Child, Ended, run
from trading_pipeline.adapters.brokers.paper_postgres import prepare_paper_schema
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.embedded_passwords import APP
from trading_pipeline.adapters.ledger.postgres import prepare_database

TEMPLATE = "sweep"
RANDOM, POSTMASTER, RECOVERING, RESTORED = "random", "postmaster", "C13", "C14"
DECK = (*POINTS, POSTMASTER, *([RANDOM] * 6), POSTMASTER)
"""What kills come in turn, a second one during recovery on top of every other. At least a twentieth of all are the postmaster's."""
KILLS_A_ROUND = 5
ATTENDED_EVERY = 7
"""Every so many rounds the desk's process places the orders, and is what is killed."""
GAPS = (0.2, 2, 8, 25, 45, 130)
"""Seconds of market time that a dead process stays dead: within every time to live, and beyond each."""
BROKEN, UNSETTLED, UNVERIFIED, RULES = "broken", "unsettled", "unverified", "invariants"


@dataclass
class Sweep:
    """What came of all rounds."""

    kills: int = 0
    desks: int = 0
    """Of them, those of the desk's process."""
    rounds: int = 0
    points: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Traps that no process came by."""
    profiles: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Sweep") -> None:
        """Count other rounds."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Round:
    """One seed."""

    house: House
    sweep: Sweep
    chance: random.Random
    attended: bool = False
    """Orders go through the desk's process, and that is what is killed."""
    found: Findings = field(default_factory=Findings)
    life: int = 0

    def kill(self, point: str) -> bool:
        """Start a process that dies at the point; whether it did. One that never comes by it ends by itself."""
        self.life += 1
        if point == POSTMASTER:
            killed = self._kill_server()
        elif self.attended:
            killed = self._kill_desk(point)
        else:
            ended = self._kill_at_random() if point == RANDOM else self._kill_at(point)
            self._judge(ended)
            killed = ended.killed
        if killed and self.house.control is None:
            self.sweep.kills += 1
            self.sweep.desks += self.attended and point != POSTMASTER
            self.sweep.points[point] += 1
            self.sweep.profiles[self.house.profile] += 1
        elif not killed:
            self.sweep.missed[point] += 1
        self.house.clock.advance(self.chance.choice(GAPS))
        return killed

    def ask(self, work: Callable[[], list[str] | None], box: str = BROKEN) -> None:
        """Work in a process that nobody kills; what it finds wrong goes into the box."""
        ended = run(work)
        self._judge(ended)
        for sentence in ended.result or []:
            self.found.say(box, sentence)

    def _trap(self, point: str) -> Trap:
        recovering = point == RECOVERING
        place = self.chance.choice(RECOVERY if recovering else POINTS[point])
        return Trap(place, self.chance.choice((1, 1, 1, 2, 3) if recovering else (1, 1, 2)))

    def _kill_at(self, point: str) -> Ended:
        trap = self._trap(point)
        return run(lambda: play(self.house, trap, self.life, 1 if point == RECOVERING else 5))

    def _kill_desk(self, point: str) -> bool:
        """Kill the desk's process while a run waits for it; the run goes on without it, or fails if somebody else is quicker."""
        trap, delay = Trap() if point == RANDOM else self._trap(point), self.chance.random()
        keeper = Child(lambda: keep(self.house, trap))
        asker = Child(lambda: ask_the_desk(self.house, keeper, self.life, 2))
        if point == RANDOM:
            time.sleep(delay)
            keeper.kill()
        self._judge(asker.wait(), may_fail=True)
        ended = keeper.ended()
        if ended is None:
            keeper.kill()
            self._judge(keeper.wait())
            return False
        self._judge(ended)
        return ended.killed

    def _kill_at_random(self) -> Ended:
        delay = self.chance.random() * 0.8
        child = Child(lambda: play(self.house, Trap(), self.life, 4))
        time.sleep(delay)
        child.kill()
        return child.wait()

    def _kill_server(self) -> bool:
        """Kill the postmaster under a process that trades; the process itself may go on, or fail as a run does."""
        delay = self.chance.random() * 0.5
        child = Child(lambda: play(self.house, Trap(), self.life, 3))
        time.sleep(delay)
        os.kill(int((self.house.server.data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        self._judge(child.wait(), may_fail=True)
        self.house.revive()
        return True

    def _judge(self, ended: Ended, *, may_fail: bool = False) -> None:
        if ended.fenced:
            self.found.say(BROKEN, "it was fenced, and nobody else had the lease")
        if ended.broken:
            self.found.say(BROKEN, ended.broken)
        if ended.unavailable and not may_fail:
            self.found.say(BROKEN, f"nobody had killed the server, and it was not to be had: {ended.unavailable}")


def play_round(server: EmbeddedPostgres, folder: Path, seed: int, sweep: Sweep, control: Control | None = None) -> Findings:
    """One seed to its end: begin, be killed, settle, compare."""
    points = [DECK[(seed * KILLS_A_ROUND + turn) % len(DECK)] for turn in range(KILLS_A_ROUND)]
    if control is not None:
        points = [control.points[turn % len(control.points)] for turn in range(KILLS_A_ROUND)]
    with begun(server, folder, seed, sweep, control) as turn:
        for point in points:
            killed = turn.kill(point)
            if killed and control is None and turn.chance.random() < 0.5:
                turn.kill(RECOVERING)
        compared(turn)
    return turn.found


def play_restored_round(server: EmbeddedPostgres, folder: Path, seed: int, sweep: Sweep) -> Findings:
    """C14: the ledger is put back to what it was some kills ago, and the broker goes on from where it is."""
    with begun(server, folder, seed, sweep, None) as turn:
        name, house = turn.house.database, turn.house
        turn.kill("C7")
        backup(server, name)
        before = placed(server, name)
        for point in (turn.chance.choice(("C5", "C7", "C8")), RANDOM, turn.chance.choice(("C6", "C9", "C11"))):
            turn.kill(point)
        restore(server, name)
        sweep.points[RESTORED] += 1
        known = placed(server, name)
        turn.life += 1
        turn.ask(lambda: play(house, Trap(), turn.life, 2))
        books = compared(turn, restored=True)
        if known - before:
            if not books.latched:
                turn.found.say(RESTORED, f"{len(known - before)} orders are younger than the ledger, and the account is not latched")
            for client_id in sorted(placed(server, name) - known):
                turn.found.say(RESTORED, f"{client_id} was sent though the ledger does not know all that was")
    return turn.found


@contextmanager
def begun(server: EmbeddedPostgres, folder: Path, seed: int, sweep: Sweep, control: Control | None) -> Iterator[Round]:
    """A round whose strategies run, in a database and a folder of its own, gone afterwards."""
    profile = control.profile if control else PROFILES[seed % len(PROFILES)]
    name = f"round_{seed}"
    server.ensure_database(name, template=TEMPLATE)
    house = House(server, name, folder / name, seed, profile, control)
    turn = Round(house, sweep, random.Random(f"{seed}/kills"), attended=control is None and seed % ATTENDED_EVERY == ATTENDED_EVERY - 1)
    try:
        turn.ask(lambda: begin(house))
        yield turn
    finally:
        execute(server.superuser_url(), f"DROP DATABASE {name} WITH (FORCE)")
        shutil.rmtree(house.folder, ignore_errors=True)


def compared(turn: Round, *, restored: bool = False) -> Books:
    """Let everything settle, then hold the broker against the ledger, and the ledger against its own events and the invariants."""
    house, name = turn.house, turn.house.database
    turn.ask(lambda: settle_to_quiet(house), UNSETTLED)
    turn.ask(lambda: unverified(house), UNVERIFIED)
    if house.control is None:
        turn.ask(lambda: broken_rules(house), RULES)
    books = oracle.read(house.server.superuser_url(name))
    turn.sweep.orders.update(row["state"] for row in books.orders.values())
    for box, sentences in oracle.compare(books, restored=restored).boxes.items():
        turn.found.boxes[box].extend(sentences)
    return books


def placed(server: EmbeddedPostgres, name: str) -> set[str]:
    """The client ids that the broker has."""
    return {each["client_id"] for each in oracle.read(server.superuser_url(name)).placed}


def backup(server: EmbeddedPostgres, name: str) -> None:
    """Copy the ledger's tables aside, as a dump of that instant has them; the broker's are not among them."""
    tables = " ".join(f"CREATE TABLE backup.{table} AS TABLE public.{table};" for table in ledger_tables(server, name))
    execute(server.superuser_url(name), f"CREATE SCHEMA backup; {tables}")


def restore(server: EmbeddedPostgres, name: str) -> None:
    """Put the ledger back to the copy, as an operator's restore does: past triggers and rights."""
    tables = ledger_tables(server, name)
    puts = " ".join(f"DELETE FROM public.{table}; INSERT INTO public.{table} SELECT * FROM backup.{table};" for table in tables)
    execute(server.superuser_url(name), f"SET session_replication_role = replica; {puts}")


def ledger_tables(server: EmbeddedPostgres, name: str) -> list[str]:
    """Every table of the ledger's schema."""
    with closing(connect(server.superuser_url(name))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [table for (table,) in cursor.fetchall()]


@contextmanager
def server() -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A PostgreSQL of the sweep's own, with a prepared template."""
    home = Path(tempfile.mkdtemp(prefix="tp-"))
    running = EmbeddedPostgres.start(home / "postgres")
    try:
        running.ensure_database(TEMPLATE)
        prepare_database(running.owner_url(TEMPLATE))
        engine = sa.create_engine(running.owner_url(TEMPLATE))
        prepare_paper_schema(engine, APP)
        engine.dispose()
        execute(running.superuser_url(TEMPLATE), f"CREATE SEQUENCE {SEQUENCE}")
        yield running, home
    finally:
        stop_at_once(running)
        shutil.rmtree(home, ignore_errors=True)
