"""A simulation's incidents as a `BacktestResult`, equal to what `results.result_of` reads from the ledger of the same run."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import Floats
from trading_pipeline.service.backtests.columnar.incidents import Account
from trading_pipeline.service.backtests.columnar.lanes import Grid, Lane
from trading_pipeline.service.backtests.columnar.units import SCALE, Numbers, cents, price_steps, priced, steps, steps_of, usd

_AVERAGE = Decimal("0.000001")


class _Fills(NamedTuple):
    """An account's fills as columns, in order; money in steps."""

    lane: Numbers
    at: Numbers
    shares: Numbers
    price: Numbers
    commission: Numbers
    session: Numbers
    """Place of its session in the result's."""
    reason: npt.NDArray[Any]
    """Reasons of sales."""

    def of(self, lane: int) -> "_Fills":
        """Those of one lane."""
        own = np.flatnonzero(self.lane == lane)
        return _Fills(
            self.lane[own], self.at[own], self.shares[own], self.price[own], self.commission[own], self.session[own], self.reason[own],
        )


def result_of(
    plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid, account: Account, days: Sequence[date], assumptions: Sequence[str] = (),
) -> BacktestResult:
    """The result of a simulation that was played through.

    Args:
        days: The plan's sessions, those included of which nobody has a bar.
    """
    days = tuple(days)
    session_of = np.searchsorted(np.array(days, "datetime64[D]"), np.array(grid.days, "datetime64[D]"))[grid.session_of]
    # The newest bar of each session or of one before it; of a daily grid the first belongs to the session before the plan's.
    closes = np.searchsorted(session_of, np.arange(len(days)), side="right") - 1
    fills = _fills_of(account, session_of)
    value = fills.shares * fills.price
    traded, commissions = _by_session(abs(value), fills, len(days)), _by_session(fills.commission, fills, len(days))
    cash = steps(plan.cash) - np.cumsum(_by_session(value + fills.commission, fills, len(days)))
    invested = np.zeros(len(days), np.int64)
    for number, lane in enumerate(lanes):
        held = np.cumsum(_by_session(np.where(fills.lane == number, fills.shares, 0), fills, len(days)))
        invested += held * steps_of(lane.prices.close[closes])
    equity = cents(cash + invested)
    return BacktestResult(
        sessions=days, equity=equity / 100, invested=np.round((equity - cents(cash)) / 100, 2), traded=_dollars(traded),
        commissions=_dollars(commissions), trades=_trades(lanes, grid, fills, session_of.item(-1)), cash=float(plan.cash),
        decisions=_decisions(account), denials=_denials(account), assumptions=tuple(assumptions),
    )


def _fills_of(account: Account, session_of: Numbers) -> _Fills:
    lane, _, bar, at, shares, price, commission, reason = zip(*account.fills, strict=True) if account.fills else ((),) * 8
    return _Fills(
        np.array(lane, np.int64), np.array(at, np.int64), np.array(shares, np.int64), np.array(price, np.int64),
        np.array(commission, np.int64), session_of[np.array(bar, np.int64)], np.array(reason, np.object_),
    )


def _by_session(amounts: Numbers, fills: _Fills, sessions: int) -> Numbers:
    found = np.zeros(sessions, np.int64)
    np.add.at(found, fills.session, amounts)
    return found


def _trades(lanes: Sequence[Lane], grid: Grid, fills: _Fills, last: int) -> tuple[Trade, ...]:
    """Of each lane from flat to flat; a lane buys once before it sells."""
    closed: list[Trade] = []
    still_open: list[Trade] = []
    for number, lane in enumerate(lanes):
        own = fills.of(number)
        if len(own.lane):
            trades, is_open = _of_lane(lane, own, grid.end.item(-1), last)
            (still_open if is_open else closed).append(trades.pop())
            closed += trades
    closed.sort(key=lambda trade: (trade.entry_at, trade.symbol, trade.strategy))
    still_open.sort(key=lambda trade: (trade.strategy, trade.symbol))
    return (*closed, *still_open)


def _of_lane(lane: Lane, fills: _Fills, end_at: int, last: int) -> tuple[list[Trade], bool]:
    """A lane's trades, and whether the last one is open: valued at the end of the last session."""
    begin = np.flatnonzero(fills.shares > 0)
    end = np.append(begin[1:], len(fills.shares)) - 1
    bought, value = fills.shares[begin], fills.shares * fills.price
    paid, commissions = np.add.reduceat(value + fills.commission, begin), np.add.reduceat(fills.commission, begin)
    received = value[begin] - np.add.reduceat(value, begin)
    price, rest = np.divmod(received, bought)
    exits = [usd(each) for each in price.tolist()]
    for place in np.flatnonzero(rest).tolist():
        exits[place] = (usd(received.item(place)) / bought.item(place)).quantize(_AVERAGE)
    at, session, reasons = fills.at[end], fills.session[end], fills.reason[end].tolist()
    left = int(fills.shares.sum())
    if left:
        mark = price_steps(lane.prices.close.item(-1))
        paid[-1] -= left * mark
        exits[-1], at[-1], session[-1], reasons[-1] = priced(mark), end_at, last, ExitReason.OPEN
    rows = zip(
        bought.tolist(), _instants(fills.at[begin]), fills.price[begin].tolist(), _instants(at), exits, cents(-paid).tolist(),
        cents(commissions).tolist(), reasons, (session - fills.session[begin] + 1).tolist(), strict=True,
    )
    found = [
        Trade(
            strategy=lane.spec.name, symbol=lane.symbol, shares=shares, entry_at=entered, entry_price=usd(paid_a_share), exit_at=left_at,
            exit_price=got_a_share, result=_of_cents(made), commissions=_of_cents(charged), exit_reason=reason, sessions=sessions,
        )
        for shares, entered, paid_a_share, left_at, got_a_share, made, charged, reason, sessions in rows
    ]
    return found, bool(left)


def _instants(at: Numbers) -> list[datetime]:
    return [each.replace(tzinfo=UTC) for each in at.astype("datetime64[ns]").astype("datetime64[us]").tolist()]


def _of_cents(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-2)


def _decisions(account: Account) -> dict[str, int]:
    counts = Counter("sell" if sale else "buy" for _, _, sale in account.decisions)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _denials(account: Account) -> dict[str, int]:
    counts = Counter(rule for denied in account.denials for rule in denied.reason.split(", "))
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _dollars(amounts: Numbers) -> Floats:
    found: Floats = amounts / SCALE
    return found
