"""`make bench-model`: what a decision costs besides the model's own time; the last line is `RESULT {json}`.

Real parts: a home on the embedded PostgreSQL with durable commits, prompts, charts, budget, call log and cassette as `trading up` has
them, the provider's own SDK, and a server on loopback, a process of its own, that speaks its API. The model's time is that of the
provider's adapter, measured around it, one call at a time so that nothing overlaps. The first cycle, which archives the history and
imports the SDK, is left out. CPU stands beside wall time because machines are noisy.

`replay_per_s` is lookup and parsing of 10,000 decisions; `replay_identical` holds two more homes, which have the recordings and nobody to
ask, against what was decided when they were made, payload by payload, and two readings of the 10,000 against each other.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import SecretStr

from bench.strategies import CHART, start_strategies, symbol_names
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.adapters.llm.call_log import CallLog
from trading_pipeline.adapters.llm.cassette import Cassette
from trading_pipeline.adapters.llm.cassette_exchange import export_recordings, import_recordings
from trading_pipeline.adapters.llm.cassette_store import CassetteStore
from trading_pipeline.adapters.llm.recordings import Recording
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import EventType, canonical_payload
from trading_pipeline.domain.models import (
    Abilities,
    CassetteMode,
    Ending,
    ModelFailure,
    ModelReply,
    ModelRequest,
    Provider,
    Usage,
)
from trading_pipeline.domain.replies import parse_reply
from trading_pipeline.domain.signals import Abstain
from trading_pipeline.ports import LLM, Home
from trading_pipeline.service.cycle import STEPS, run_cycle
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.timetable import newest_cycle, running_intervals
from trading_pipeline.settings import Settings

FIRST, START, LAST = date(2010, 1, 4), date(2012, 10, 15), date(2012, 12, 31)
MODEL = "claude-sonnet-5-5"
AGENT = f'provider = "anthropic"\nmodel = "{MODEL}"\nprompt = "analyst/v1"\nsight = "both"\n'
SYMBOLS = 20
CYCLES = 10
REPLAYED = 10_000
_DECIDED = (EventType.LLM_ACTION_GENERATED, EventType.LLM_ABSTAINED)


@dataclass
class Timed:
    """An LLM, the seconds and CPU seconds that were spent in it, and what was asked of it last."""

    llm: LLM
    seconds: float = 0.0
    cpu: float = 0.0
    calls: int = 0
    last: ModelRequest | None = None
    lock: Lock = field(default_factory=Lock)

    @property
    def provider(self) -> Provider:
        return self.llm.provider

    def abilities(self, model: str) -> Abilities:
        return self.llm.abilities(model)

    def recorded(self, request: ModelRequest) -> bool:
        return self.llm.recorded(request)

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        begin, cpu = time.perf_counter(), time.thread_time()
        came = self.llm.ask(request, timeout)
        with self.lock:
            self.seconds += time.perf_counter() - begin
            self.cpu += time.thread_time() - cpu
            self.calls += 1
            self.last = request
        return came

    def close(self) -> None:
        self.llm.close()


@dataclass
class Stand:
    """A desk whose market is moved a session at a time."""

    desk: Desk
    clock: SteppedClock
    store: CassetteStore
    timed: Timed | None
    day: date = START

    def next_cycle(self) -> Cycle:
        """The cycle of the next session, due now."""
        session = self.desk.calendar.session(self.day)
        self.clock.advance_to(session.open + timedelta(seconds=5))
        self.day = self.desk.calendar.next(self.day).day
        cycle = newest_cycle(self.desk, running_intervals(self.desk)[0])
        assert cycle is not None
        return cycle

    def decisions(self) -> list[str]:
        """What was decided, in order, as the ledger has it."""
        return [canonical_payload(event.payload) for event in self.desk.ledger.events(types=_DECIDED)]


@contextmanager
def served(delay: float = 0.0) -> Iterator[str]:
    """A server that answers so many seconds after each question: its base URL."""
    command = [sys.executable, "-m", "tests.model_servers.anthropic_server", "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline().partition("=")[2])
        finally:
            process.terminate()


@contextmanager
def home(symbols: int, concurrency: int, server: str | None, tape: Path | None = None) -> Iterator[Stand]:
    """A home over a synthetic market with one strategy that asks the model about every symbol; everything is gone afterwards.

    Args:
        symbols: How many.
        concurrency: How many are asked about at once.
        server: The base URL of who is asked and recorded; None: nobody is, and what is not on the tape fails.
        tape: An export, imported before anything is asked.
    """
    with tempfile.TemporaryDirectory(prefix="trading-bench-", ignore_cleanup_errors=True) as folder:
        place = Home(Path(folder) / "home")
        place.root.mkdir()
        store = CassetteStore(place.cassette)
        if tape is not None:
            import_recordings(store, tape)
        settings = Settings.load(
            place.root, environment="demo",
            model={"budget_per_day": 10_000, "calls_per_hour": 100_000, "concurrency": concurrency, "cassette": "replay-or-fail"},
            market={"clock": "replay", "source": "synthetic", "symbols": symbol_names(symbols), "first": FIRST, "last": LAST},
        )
        postgres = EmbeddedPostgres.start(place.database)
        clock = SteppedClock(load_calendar(place.root / "cache").session(START).open)
        try:
            with open_desk(settings, clock) as desk:
                timed = None
                if server is not None:
                    assert desk.models is not None
                    timed = Timed(AnthropicLLM(SecretStr("sk-of-nobody"), server))
                    claude = Cassette(store, CassetteMode.RECORD, CallLog(timed, place.calls))
                    desk = replace(desk, models=replace(desk.models, llms={Provider.ANTHROPIC: claude}))
                start_strategies(desk, symbols, (("approval", AGENT + CHART),))
                yield Stand(desk, clock, store, timed)
                if server is not None:
                    claude.close()
        finally:
            postgres.stop()


def overhead_ms(symbols: int) -> tuple[float, float]:
    """Milliseconds of the signals step for a decision, besides the provider's adapter: of the median cycle, and of CPU."""
    with served() as server, home(symbols, 1, server) as stand:
        timed = stand.timed
        assert timed is not None
        walls, cpus = [], []
        for _ in range(CYCLES + 1):
            cycle = stand.next_cycle()
            for name, step in STEPS.items():
                asked, model, model_cpu, wall, cpu = timed.calls, timed.seconds, timed.cpu, time.perf_counter(), time.process_time()
                step(stand.desk, cycle)
                if name == "signals":
                    walls.append((time.perf_counter() - wall - (timed.seconds - model)) / symbols)
                    cpus.append((time.process_time() - cpu - (timed.cpu - model_cpu)) / symbols)
                    assert timed.calls - asked == symbols, f"{timed.calls - asked} calls for {symbols} symbols"
    return 1_000 * statistics.median(walls[1:]), 1_000 * statistics.median(cpus[1:])


def fan_out_s(tape: Path) -> tuple[float, float, list[str], ModelRequest]:
    """Seconds of a cycle of 20 symbols, and of its signals step, with a server that answers in 1 s; what was decided, and a request."""
    with served(1.0) as server, home(SYMBOLS, SYMBOLS, server) as stand:
        walls, signals = [], []
        for _ in range(CYCLES):
            cycle, begin = stand.next_cycle(), time.perf_counter()
            for name, step in STEPS.items():
                step_begin = time.perf_counter()
                step(stand.desk, cycle)
                if name == "signals":
                    signals.append(time.perf_counter() - step_begin)
            walls.append(time.perf_counter() - begin)
        export_recordings(stand.store, tape)
        assert stand.timed is not None and stand.timed.last is not None
        return statistics.median(walls[1:]), statistics.median(signals[1:]), stand.decisions(), stand.timed.last


def replayed(tape: Path) -> list[str]:
    """What the same sessions decide in a fresh home that has the recordings and nobody to ask."""
    with home(SYMBOLS, SYMBOLS, None, tape) as stand:
        for _ in range(CYCLES):
            run_cycle(stand.desk, stand.next_cycle())
        return stand.decisions()


def replay(like: ModelRequest, many: int = REPLAYED) -> tuple[float, float, bool]:
    """Decisions a second and a CPU second, looked up and parsed, of requests like one that was really made; whether two runs are alike."""
    symbol = json.loads(like.schema)["properties"]["symbol"]["enum"][0]
    requests = [replace(like, text=f"{like.text}\n{number}") for number in range(many)]
    with tempfile.TemporaryDirectory(prefix="trading-bench-") as folder:
        path = Path(folder) / "cassette" / "replies.sqlite3"
        store = CassetteStore(path)
        at = datetime.now(UTC)
        for begin in range(0, many, 500):
            store.keep(*(Recording(request, _reply(symbol, request.digest), at) for request in requests[begin : begin + 500]))
        store.close()
        runs = [_read(CassetteStore(path), requests, symbol) for _ in range(2)]
    (rate, cpu_rate), (other, cpu_other) = runs[0][:2], runs[1][:2]
    return (rate + other) / 2, (cpu_rate + cpu_other) / 2, runs[0][2] == runs[1][2]


def _read(store: CassetteStore, requests: Sequence[ModelRequest], symbol: str) -> tuple[float, float, str]:
    """Decisions a second and a CPU second, and the digest of all of them."""
    cassette = Cassette(store, CassetteMode.REPLAY_OR_FAIL, provider=Provider.ANTHROPIC)
    decisions, begin, cpu = [], time.perf_counter(), time.process_time()
    for request in requests:
        assert cassette.recorded(request)
        came = cassette.ask(request, 0)
        assert isinstance(came, ModelReply)
        decisions.append(parse_reply(came.text, symbol, (symbol,)))
    rate, cpu_rate = len(decisions) / (time.perf_counter() - begin), len(decisions) / (time.process_time() - cpu)
    cassette.close()
    assert not any(isinstance(decision, Abstain) for decision in decisions)
    return rate, cpu_rate, hashlib.sha256("".join(canonical_payload(encode(each)) for each in decisions).encode()).hexdigest()


def _reply(symbol: str, digest: str) -> ModelReply:
    """A reply that differs from request to request."""
    number = int(digest[:8], 16)
    text = json.dumps({
        "action": ("BUY", "SELL", "HOLD")[number % 3], "symbol": symbol, "confidence": round(number % 1_000 / 999, 3),
        "rationale": f"The closes of the last bars and what they make of the averages say so, as of {number}. " * 4,
        "figures": [{"name": "close", "value": number / 1e7}, {"name": "rsi_14", "value": number % 100}],
        "limit": None, "stop": None, "targets": [],
    })
    return ModelReply(text, Ending.COMPLETE, MODEL, Usage(3_000, 200), f"req_{number}", "", 4.2)


def main() -> int:
    """Measure everything and print the figures."""
    figures: dict[str, Any] = {}

    def say(**more: Any) -> None:
        figures.update(more)
        print(figures, file=sys.stderr)

    wall, cpu = overhead_ms(SYMBOLS)
    say(overhead_ms=round(wall, 1), overhead_cpu_ms=round(cpu, 1))
    wall, cpu = overhead_ms(1)
    say(overhead_alone_ms=round(wall, 1), overhead_alone_cpu_ms=round(cpu, 1))
    with tempfile.TemporaryDirectory(prefix="trading-bench-") as folder:
        tape = Path(folder) / "tape.jsonl"
        seconds, of_signals, decided, like = fan_out_s(tape)
        say(fan_out_20_s=round(seconds, 2), fan_out_signals_s=round(of_signals, 2), decisions=len(decided))
        again = [replayed(tape) for _ in range(2)]
    rate, cpu_rate, same = replay(like)
    say(replay_per_s=round(rate), replay_per_cpu_s=round(cpu_rate), replay_identical=same and bool(decided) and again == [decided, decided])
    print("RESULT " + json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
