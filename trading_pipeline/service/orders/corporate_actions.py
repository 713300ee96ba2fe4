"""Splits of what is held: a fact in the ledger, once per symbol and session, at its place among the executions.

The table of splits and the calendar say when; the broker says what it made of the resting orders. Until the fact can be
written (the broker is not ready), prices are taken on the book's own scale, so that no split ever looks like a loss. A change
of quantity that no table explains is not touched here: it is a mismatch, and blocks the symbol (invariant 31).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import prod

from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.money import ZERO, price_of
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.portfolio import EXTERNAL, Fill
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.split_holdings import effective_at, shared_out
from trading_pipeline.errors import MarketDataError
from trading_pipeline.ports import BrokerOrder, Reader, Transaction
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.order_facts import denied
from trading_pipeline.service.orders.voiding import void_open

LOOK_BACK = timedelta(days=14)
"""A position was opened at a price no older than this: how far before it the last close is looked for."""


@dataclass(frozen=True, slots=True, order=True)
class DueSplit:
    """A split that has become effective; `at` is the open from which it counts."""

    at: datetime
    symbol: str
    ratio: Decimal
    key: str


def pending(desk: Desk, reader: Reader) -> list[DueSplit]:
    """Splits of what the book holds that have become effective and are no facts yet, in order of time."""
    if not desk.splits:
        return []
    return _effective(desk, reader, _opened(reader))


def possible(desk: Desk, reader: Reader, fills: Iterable[Fill]) -> list[DueSplit]:
    """The same, and those of what would be held once these executions are booked."""
    if not desk.splits:
        return []
    since = _opened(reader)
    for fill in fills:
        since[fill.symbol] = min(fill.at, since.get(fill.symbol, fill.at))
    return _effective(desk, reader, since)


def unbooked_ratio(splits: Sequence[DueSplit], symbol: str) -> Decimal:
    """New shares that a booked share stands for while splits are pending."""
    return prod((split.ratio for split in splits if split.symbol == symbol), start=Decimal(1))


def record(desk: Desk, tx: Transaction, split: DueSplit, stated: Mapping[str, BrokerOrder]) -> list[Event]:
    """Write a split down, if it is new and concerns a position opened before it.

    Open actions in the symbol are void (INVARIANTS 3.1), and an intent that was never sent is denied: its price is that of the old shares.

    Args:
        stated: The symbol's orders as the broker has them now, by client id.
    """
    rows = [row for row in _held(tx).get(split.symbol, []) if row["opened_at"] < split.at]
    if not rows or tx.event_by_key(split.key) is not None:
        return []
    # The broker's own figure where it has one: a bar that was published since would pay the fractions otherwise.
    close = desk.broker.paid_in_lieu_at(split.symbol, split.at) or _close_of(desk, tx, split, rows)
    shares = shared_out({row["strategy"]: row["quantity"] for row in rows}, split.ratio, close)
    payload = {
        "symbol": split.symbol, "ratio": split.ratio, "effective_at": split.at, "close": close, "account": desk.broker.account_id,
        "in_lieu": sum((paid for _, paid in shares.values()), ZERO),
        "positions": [
            {"strategy": row["strategy"], "before": row["quantity"], "quantity": shares[row["strategy"]][0],
             "in_lieu": shares[row["strategy"]][1]}
            for row in rows
        ],
        "orders": [
            {"client_id": name, "quantity": ticket.quantity, "limit_price": ticket.limit_price, "stop_price": ticket.stop_price}
            for name, order in sorted(stated.items())
            if (ticket := order.ticket).symbol == split.symbol and _differs(tx.get("orders", name), order)
        ],
    }
    events = tx.append(NewEvent(EventType.CORPORATE_ACTION_SPLIT, "account", split.key, payload, desk.now(), "calendar"))
    reason = f"{split.symbol} was split {split.ratio.normalize():f} for 1"
    unsent = tx.find("orders", state=OrderState.INTENT.value, symbol=split.symbol)
    events += tx.append(*denied(unsent, f"{reason} before it was sent", desk.now(), "rulebook"))
    return events + void_open(tx, reason, desk.now(), "rulebook", symbol=split.symbol, cause=events[0].seq)


def _held(reader: Reader) -> dict[str, list[Row]]:
    held: dict[str, list[Row]] = {}
    for row in reader.find("positions"):
        if row["quantity"] and row["opened_at"] is not None:
            held.setdefault(row["symbol"], []).append(row)
    return held


def _opened(reader: Reader) -> dict[str, datetime]:
    return {symbol: min(row["opened_at"] for row in rows) for symbol, rows in _held(reader).items()}


def _effective(desk: Desk, reader: Reader, since: Mapping[str, datetime]) -> list[DueSplit]:
    now = desk.now()
    found = [
        DueSplit(at, symbol, split.ratio, f"{EventType.CORPORATE_ACTION_SPLIT.value}:{symbol}:{split.session}")
        for symbol, opened in since.items()
        for split in desk.splits.get(symbol, ())
        if (at := effective_at(split, desk.calendar)) is not None and opened < at <= now
    ]
    return sorted(split for split in found if reader.event_by_key(split.key) is None)


def _close_of(desk: Desk, tx: Transaction, split: DueSplit, rows: Sequence[Row]) -> Decimal:
    """What nobody but others holds need not be of a market that we follow: it is valued at its last execution then."""
    try:
        return _close_before(desk, split, min(row["opened_at"] for row in rows))
    except MarketDataError:
        if any(row["strategy"] != EXTERNAL for row in rows):
            raise
        newest = tx.find("fills", strategy=EXTERNAL, symbol=split.symbol, order_by="seq", descending=True, limit=1)
        last: Decimal = newest[0]["price"]
        return last


def _close_before(desk: Desk, split: DueSplit, opened_at: datetime) -> Decimal:
    """The last close before the split, in the finest interval that has it: what the broker pays fractions at."""
    newest: tuple[datetime, Decimal] | None = None
    for interval in desk.market.intervals(split.symbol):
        table = desk.market.closed_bars([split.symbol], interval, opened_at - LOOK_BACK, split.at).get(split.symbol)
        if table is not None and len(table) and (newest is None or table.last_end > newest[0]):
            newest = table.last_end, price_of(table.close[-1])
    if newest is None:
        raise MarketDataError(
            f"{split.symbol} is held and has no price before its split.", value=split.symbol, rule="a fraction is paid at the last close",
            remedy="check the source of its bars",
        )
    return newest[1]


def _differs(row: Row | None, order: BrokerOrder) -> bool:
    ticket = order.ticket
    return row is not None and (row["quantity"], row["limit_price"], row["stop_price"]) != (
        ticket.quantity, ticket.limit_price, ticket.stop_price,
    )
