"""Figures of the ledger on PostgreSQL: appends with real fsync, verification and rebuild of 100,000 events.

Events are like those of a trading day: signals, verdicts, orders and fills that move the tables. CPU is that of this
process; what the server burns is reported beside it. Run: `python -m bench.ledger`.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path

import psutil

from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.service.record.verification import verify

START = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
E = EventType


def trading_events(prefix: str = "") -> Iterator[NewEvent]:
    """An endless valid history: an account, a strategy, then action after action that is judged, ordered and filled."""
    at = START
    yield NewEvent(E.ACCOUNT_FUNDED, "account", f"{prefix}funded", {"account": "PAPER", "amount": Decimal(100000)}, at, "system")
    strategy, stream = f"{prefix}bench", f"strategy:{prefix}bench"
    spec = {"name": strategy, "symbols": list(SYMBOLS)}
    yield NewEvent(E.STRATEGY_CREATED, stream, f"{prefix}created", {"strategy": strategy, "spec": spec}, at, "user:bench")
    number = 0
    while True:
        number += 1
        at += timedelta(seconds=61)
        name, symbol, side = f"{prefix}{number}", SYMBOLS[number % 5], "buy" if (number // 5) % 2 == 0 else "sell"
        client, session = f"C{name}", at.date().isoformat()
        action = {"action_id": f"A{name}", "strategy": strategy, "symbol": symbol}
        order = {"client_id": client, "strategy": strategy, "symbol": symbol, "account": "PAPER", "side": side, "quantity": 10}

        def event(type_: EventType, payload: Mapping[str, object], name: str = name, at: datetime = at) -> NewEvent:
            return NewEvent(type_, stream, f"{type_.value}:{name}", payload, at, "cycle")

        yield event(E.LLM_REQUESTED, action | {"prompt": "0" * 64, "model": "rules", "bars": 200})
        yield event(E.LLM_RESPONDED, action | {"raw": "close > SMA20; RSI14 55.2; volume 1.4 x mean", "cost": Decimal(0)})
        generated = {"action": side, "confidence": "0.8", "cycle": session, "bar_end": "2024-08-28T13:30:00.000000Z", "session": session}
        yield event(E.LLM_ACTION_GENERATED, action | generated)
        verdicts = [{"rule": f"rule_{index}", "measured": "1", "limit": "2", "allowed": True} for index in range(8)]
        judged = {"stage": "proposal", "passed": True, "order_class": "entry", "reason": "", "verdicts": verdicts}
        yield event(E.RISK_EVALUATED, action | judged)
        yield event(E.ACTION_READY, action | {"expires_at": "2024-08-28T20:00:00.000000Z"})
        intent = {
            "action_id": f"A{name}", "part": "entry", "order_class": "entry", "order_type": "limit", "time_in_force": "day",
            "reference": "101.5", "limit_price": "102", "session": session,
        }
        yield event(E.ORDER_INTENT, order | intent)
        yield event(E.ORDER_SUBMITTED, order)
        yield event(E.ORDER_ACCEPTED, order | {"broker_order_id": f"B{name}"})
        fill = {
            "execution_id": f"E{name}", "price": "101.75", "commission": "1", "session": session,
            "filled_at": "2024-08-28T14:00:00.000000Z",
        }
        yield event(E.ORDER_FILLED, order | fill)
        if number % 5 == 0:
            money = dict.fromkeys(("equity", "cash", "market_value", "realised", "unrealised", "day_pnl"), "100000")
            yield event(E.PORTFOLIO_SNAPSHOTTED, {"account": "PAPER", "session": session, "positions": [], **money})


@contextmanager
def ledger_home() -> Iterator[tuple[PostgresLedger, EmbeddedPostgres]]:
    """A ledger on an embedded server of its own in a temporary folder, removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="trading-bench-"))
    server = EmbeddedPostgres.start(home / "postgres")
    try:
        ledger = PostgresLedger.for_home(home, "backtest")
        yield ledger, server
        ledger.close()
    finally:
        server.stop()
        shutil.rmtree(home)


def append_per_s(ledger: PostgresLedger, count: int = 2000) -> float:
    """Events a second, one event a transaction, each committed to disk."""
    events = list(islice(trading_events("one-"), count))
    begun = time.perf_counter()
    for event in events:
        with ledger.transaction() as transaction:
            transaction.append(event)
    return count / (time.perf_counter() - begun)


def append_batch_per_s(ledger: PostgresLedger, count: int = 10_000, batch: int = 100, prefix: str = "many-") -> float:
    """Events a second, `batch` events a transaction."""
    events = list(islice(trading_events(prefix), count))
    begun = time.perf_counter()
    for first in range(0, count, batch):
        with ledger.transaction() as transaction:
            transaction.append(*events[first : first + batch])
    return count / (time.perf_counter() - begun)


def fill_up_to(ledger: PostgresLedger, count: int) -> None:
    """Append until the ledger has `count` events."""
    missing = count - ledger.head()[0]
    if missing > 0:
        append_batch_per_s(ledger, missing, 1000, "fill-")


def verify_cpu_s(ledger: PostgresLedger) -> float:
    """CPU seconds of this process for chain and tables of all events."""
    begun = time.process_time()
    report = verify(ledger)
    spent = time.process_time() - begun
    assert report.ok, str(report.difference)
    return spent


def rebuild_cpu_s(ledger: PostgresLedger) -> float:
    """CPU seconds of this process for writing all tables anew."""
    begun = time.process_time()
    ledger.rebuild()
    return time.process_time() - begun


def server_cpu_s(server: EmbeddedPostgres) -> float:
    """CPU seconds so far of the server's living processes."""
    pid = int((server.data_dir / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:2]) for process in (postmaster, *postmaster.children()))


def figures() -> dict[str, float]:
    """All figures by name."""
    with ledger_home() as (ledger, server):
        found = {"append_per_s": append_per_s(ledger), "append_batch_per_s": append_batch_per_s(ledger)}
        fill_up_to(ledger, 100_000)
        before = server_cpu_s(server)
        found["verify_100k_cpu_s"] = verify_cpu_s(ledger)
        between = server_cpu_s(server)
        found["rebuild_100k_cpu_s"] = rebuild_cpu_s(ledger)
        found["verify_100k_server_cpu_s"] = between - before
        found["rebuild_100k_server_cpu_s"] = server_cpu_s(server) - between
    return {name: round(value, 2) for name, value in found.items()}


if __name__ == "__main__":
    print(f"RESULT {json.dumps(figures())}")
