"""Buy and hold: the same cash, symbols, sessions and costs, without any decision.

Each symbol gets an equal share of the cash at its first open, in whole shares, and is held; nothing is ever sold, so what it is worth at
the end is what it is worth, as with a strategy's open trades. Nothing is rebalanced. It knows no limit of the rulebook.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import BarTable, Floats, instant_of
from trading_pipeline.domain.money import ZERO, price_of, to_cents
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.shadow import FillCosts

NAME = "buy-and-hold"


@dataclass(frozen=True, slots=True)
class _Bought:
    shares: int
    price: Decimal
    commission: Decimal
    first: int
    """The session it was bought in."""


def buy_and_hold(tables: Mapping[str, BarTable], sessions: Sequence[date], cash: Decimal, costs: FillCosts) -> BacktestResult:
    """What equal parts of the cash in each symbol would have made.

    Args:
        tables: Bars by symbol, each on one share scale, such as `on_scale_of` the first session; those of other sessions are ignored.
        sessions: In order, not empty.
    """
    count = len(sessions)
    equity, invested, traded, commissions = (np.zeros(count) for _ in range(4))
    left, trades, absent = cash, [], []
    for symbol, table in sorted(tables.items()):
        days = table.session_days
        inside = table.where((days >= np.datetime64(sessions[0])) & (days <= np.datetime64(sessions[-1])))
        bought = _buy(inside, sessions, cash / len(tables), costs)
        if bought is None:
            absent.append(symbol)
            continue
        paid = bought.shares * bought.price
        left -= paid + bought.commission
        value = bought.shares * _closes(inside, sessions)
        # Before it was bought its money is cash, which `left` is without already.
        equity += np.where(np.arange(count) >= bought.first, value, float(paid + bought.commission))
        invested += np.where(np.arange(count) >= bought.first, value, 0.0)
        traded[bought.first] += float(paid)
        commissions[bought.first] += float(bought.commission)
        last = price_of(float(inside.close[-1]))
        trades.append(
            Trade(
                strategy=NAME, symbol=symbol, shares=bought.shares, entry_at=instant_of(inside.start[0]), entry_price=bought.price,
                exit_at=instant_of(inside.end[-1]), exit_price=last, result=to_cents(bought.shares * last - paid - bought.commission),
                commissions=bought.commission, exit_reason=ExitReason.OPEN, sessions=count - bought.first,
            )
        )
    said = ["Buy and hold: an equal part of the cash in each symbol at its first open, in whole shares and at the same costs, held."]
    if absent:
        said.append(f"Buy and hold leaves as cash the part of {', '.join(absent)}: no bar, or too little for one share.")
    return BacktestResult(
        sessions=tuple(sessions), equity=equity + float(left), invested=invested, traded=traded, commissions=commissions,
        trades=tuple(sorted(trades, key=lambda trade: (trade.entry_at, trade.symbol))), cash=float(cash), assumptions=tuple(said),
    )


def _buy(table: BarTable, sessions: Sequence[date], budget: Decimal, costs: FillCosts) -> _Bought | None:
    if not len(table):
        return None
    price = costs.taken(Side.BUY, price_of(float(table.open[0])))
    shares = int(budget // price)
    while shares > 0 and shares * price + costs.commission(shares, price) > budget:
        shares -= 1
    if shares == 0:
        return None
    first = int(np.searchsorted(np.array(sessions, "datetime64[D]"), table.session_days[0]))
    return _Bought(shares, price, costs.commission(shares, price) + ZERO, first)


def _closes(table: BarTable, sessions: Sequence[date]) -> Floats:
    """The newest close by the end of each session; before the first bar, that bar's."""
    last = np.searchsorted(table.session_days, np.array(sessions, "datetime64[D]"), side="right") - 1
    return np.asarray(table.close[np.maximum(last, 0)], np.float64)
