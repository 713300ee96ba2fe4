"""Rounds one after the other in this process, or side by side: workers with a PostgreSQL of their own, each with its seeds in turn.

Worker k of n takes the seeds k, k + n, k + 2n, ..., and what has been played already is left out. A worker is a fresh interpreter,
so that its forks have neither a thread nor a connection of anybody else. Enough is asked before a round is begun and never in one:
a round that takes long because it goes wrong is counted like the others.
"""

import gc
import signal
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.desks import calendar
from tests.evidence.crashing.processes import end_all
from tests.evidence.crashing.rounds import Sweep, play_restored_round, play_round, server
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres

RESTORED_EVERY = 16
"""Every so many rounds the ledger is put back to an older copy while the broker goes on (C14): with each kind of broker in turn."""
SHOWN = 5
"""Sentences of each box that a failing round is remembered by."""


@dataclass(frozen=True)
class Played:
    """One seed, what came of it, and what was found wrong in words."""

    seed: int
    tally: Sweep
    wrong: list[str] = field(default_factory=list)


def play(running: EmbeddedPostgres, folder: Path, seed: int) -> Played:
    """One round."""
    tally = Sweep(rounds=1)
    play_one = play_restored_round if seed % RESTORED_EVERY == RESTORED_EVERY - 1 else play_round
    found = play_one(running, folder, seed, tally)
    tally.found.update(found.summary())
    return Played(seed, tally, [f"{box}: {sentence}" for box, sentences in found.boxes.items() for sentence in sentences[:SHOWN]])


def rounds(jobs: int, known: Collection[int], enough: Callable[[], bool], first: int = 0) -> Generator[Played, None, None]:
    """Rounds of the seeds from the first on that are not known yet, as they end, until there are enough."""
    seeds = [(seed for seed in count(first + turn, jobs) if seed not in known) for turn in range(jobs)]
    return _alone(seeds[0], enough) if jobs == 1 else _side_by_side(seeds, enough)


@contextmanager
def ground() -> Iterator[tuple[EmbeddedPostgres, Path]]:
    """A server to play on. Who leaves in the middle of a round leaves no process behind."""
    calendar()
    with server() as (running, folder):
        # What a fork shares with this process it would copy, page by page, where its collector looks at it.
        gc.collect()
        gc.freeze()
        try:
            yield running, folder
        finally:
            end_all()


def leave_on_sigterm() -> None:
    """End with everything put away, once: a second signal does not interrupt that."""

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(1)

    signal.signal(signal.SIGTERM, leave)


def _alone(seeds: Iterator[int], enough: Callable[[], bool]) -> Generator[Played, None, None]:
    if enough():
        return
    with ground() as (running, folder):
        while not enough():
            yield play(running, folder, next(seeds))


def _side_by_side(seeds: Sequence[Iterator[int]], enough: Callable[[], bool]) -> Generator[Played, None, None]:
    busy: dict[Connection, Iterator[int]] = {}
    context, workers = get_context("spawn"), []
    try:
        for turns in seeds if not enough() else []:
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs,))
            worker.start()
            theirs.close()
            workers.append((worker, ours))
            ours.send(next(turns))
            busy[ours] = turns
        while busy:
            for line in wait(list(busy)):
                assert isinstance(line, Connection)
                played = line.recv()
                turns = busy.pop(line)
                yield played
                if not enough():
                    line.send(next(turns))
                    busy[line] = turns
    finally:
        for worker, line in workers:
            # Without a line an idle one ends by itself; one in a round is told to.
            if line in busy:
                worker.terminate()
            line.close()
        for worker, _ in workers:
            worker.join()


def _work(line: Connection) -> None:
    """A worker's whole life: a seed comes, what came of it goes back."""
    leave_on_sigterm()
    # Ctrl-C reaches the whole group; who handed out the seeds says what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ground() as (running, folder):
        while True:
            try:
                seed = line.recv()
            except EOFError:
                return
            line.send(play(running, folder, seed))
