"""Facts that nobody has read yet, as columns: every figure that was measured, filled or marked, before it is put into words."""

import hashlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.volatility import calm
from trading_pipeline.service.backtests.columnar.ground import Grid
from trading_pipeline.service.backtests.columnar.incidents import Filled
from trading_pipeline.service.backtests.columnar.units import Numbers
from trading_pipeline.service.backtests.columnar.writing.measures import Gauge, Measures, Reading


class Orders(NamedTuple):
    """What orders were judged by and sent with: columns in order of time, or one row of them. See `Measures`."""

    bar: Any
    """At whose close it was decided."""
    session: Any
    """Its number in the plan."""
    now: Any
    selling: Any
    price: Any
    limit: Any
    shares: Any
    stop: Any
    """-1: it has none."""
    expires: Any
    cash: Any
    equity: Any
    notional: Any
    account_loss: Any
    strategy_loss: Any
    orders: Any
    last_order: Any
    last_action: Any
    volume: Any
    short_history: Any
    volatility: Any
    """NaN: not known."""
    since: Any
    """For how many bars it was held; 0 of an entry."""
    support: Any
    close: Any
    atr: Any
    sma20: Any


class Executions(NamedTuple):
    """What filled, in order of time."""

    order: Any
    """The row of its order; -1: a stop's."""
    bar: Any
    step: Any
    at: Any
    known: Any
    """When it was learnt of."""
    shares: Any
    price: Any
    commission: Any
    as_quoted: Any
    """Whether the price is a bar's own, which is written without zeros at its end."""


class Entered(NamedTuple):
    """An execution of a register."""

    order: int
    known: int
    fill: Filled
    as_quoted: bool


class Inside(NamedTuple):
    """What a register has of one session."""

    orders: range
    """Rows."""
    filled: Sequence[Filled]


class Register(NamedTuple):
    """The facts of one lane from a session on."""

    orders: Orders
    executions: Executions
    read: Sequence[Any]
    """By name, the columns that the rules spoke of: one value an order."""
    names: tuple[str, ...]
    marks: Numbers
    """By session of the grid, the closing price in steps."""

    def digest(self) -> bytes:
        """SHA-256 over all of it."""
        found = hashlib.sha256(repr((self.names, len(self.orders.bar), len(self.executions.bar))).encode())
        for column in (*self.orders, *self.executions, *self.read, self.marks):
            found.update(np.ascontiguousarray(column).data)
        return found.digest()

    def filled(self) -> Iterator[Entered]:
        """Each execution."""
        for order, bar, step, at, known, shares, price, commission, quoted in zip(*map(np.ndarray.tolist, self.executions), strict=True):
            reason = ExitReason.STOP if order < 0 else ExitReason.SIGNAL if shares < 0 else None
            yield Entered(order, known, Filled(0, step, bar, at, shares, price, commission, reason), quoted)

    def of_session(self, grid: Grid, session: int) -> Inside:
        """What is ordered in a session of the grid, and what fills up to the open that follows it."""
        first, last = (int(each) for each in grid.session_of.searchsorted((session, session + 1)))
        rows = range(*self.orders.bar.searchsorted((first, last)).tolist())
        return Inside(rows, [each.fill for each in self.filled() if first <= each.fill.step < last])

    def measures(self, row: int, gauge: Gauge, symbol: str, sessions: Sequence[Session]) -> Measures:
        """One order's."""
        own = Orders(*(column.item(row) for column in self.orders))
        columns = {name: column[row : row + 1] for name, column in zip(self.names, self.read, strict=True)}
        support = Decimal(format(own.support, ".10g"))
        # It trades alone: the strategy's newest order is the account's.
        return Measures(
            own.now, sessions[own.session], own.selling, own.price, own.limit, own.shares,
            () if own.stop < 0 else ((own.shares, own.stop, None),), own.expires, own.cash, own.equity, own.notional, own.account_loss,
            own.strategy_loss, own.orders, own.last_order, own.last_order, own.last_action, (Decimal(own.volume), own.short_history),
            calm(own.volatility), [(symbol, own.price)] if own.selling else [],
            Reading(gauge.reason(own.since or None, columns), own.close, own.atr, own.sma20, support),
        )
