"""A simulation's incidents as a `BacktestResult`, equal to what `results.result_of` reads from the ledger of the same run."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import Floats
from trading_pipeline.service.backtests.columnar.ground import Grid
from trading_pipeline.service.backtests.columnar.incidents import Fills, Told
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.units import SCALE, Numbers, cents, price_steps, priced, steps, steps_of, usd

_AVERAGE = Decimal("0.000001")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def result_of(
    plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid, told: Told, days: Sequence[date], assumptions: Sequence[str] = (),
) -> BacktestResult:
    """The result of a simulation that was played through.

    Args:
        days: The plan's sessions, those included of which nobody has a bar.
    """
    days = tuple(days)
    session_of = np.searchsorted(np.array(days, "datetime64[D]"), np.array(grid.days, "datetime64[D]"))[grid.session_of]
    # The newest bar of each session or of one before it; of a daily grid the first belongs to the session before the plan's.
    closes = np.searchsorted(session_of, np.arange(len(days)), side="right") - 1
    fills = told.fills
    value, sessions = fills.shares * fills.price, session_of[fills.bar]
    traded, commissions = _by_session(abs(value), sessions, len(days)), _by_session(fills.commission, sessions, len(days))
    cash = steps(plan.cash) - np.cumsum(_by_session(value + fills.commission, sessions, len(days)))
    invested = np.zeros(len(days), np.int64)
    for number, lane in enumerate(lanes):
        held = np.cumsum(_by_session(np.where(fills.lane == number, fills.shares, 0), sessions, len(days)))
        invested += held * steps_of(lane.prices.close[closes])
    equity = cents(cash + invested)
    return BacktestResult(
        sessions=days, equity=equity / 100, invested=np.round((equity - cents(cash)) / 100, 2), traded=_dollars(traded),
        commissions=_dollars(commissions), trades=_trades(lanes, grid, fills, session_of), cash=float(plan.cash),
        decisions=_decisions(told), denials=_denials(told), assumptions=tuple(assumptions),
    )


def _by_session(amounts: Numbers, places: Numbers, sessions: int) -> Numbers:
    found = np.zeros(sessions, np.int64)
    np.add.at(found, places, amounts)
    return found


def _trades(lanes: Sequence[Lane], grid: Grid, fills: Fills, session_of: Numbers) -> tuple[Trade, ...]:
    """Of each lane from flat to flat; a lane buys once before it sells."""
    closed: list[Trade] = []
    still_open: list[Trade] = []
    for number, lane in enumerate(lanes):
        own = fills.of(number)
        if len(own.lane):
            trades, is_open = _of_lane(lane, own, grid.end.item(-1), session_of)
            (still_open if is_open else closed).append(trades.pop())
            closed += trades
    closed.sort(key=lambda trade: (trade.entry_at, trade.symbol, trade.strategy))
    still_open.sort(key=lambda trade: (trade.strategy, trade.symbol))
    return (*closed, *still_open)


def _of_lane(lane: Lane, fills: Fills, end_at: int, session_of: Numbers) -> tuple[list[Trade], bool]:
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
    at, session, reasons = fills.at[end], session_of[fills.bar[end]], fills.reason[end].tolist()
    left = int(fills.shares.sum())
    if left:
        mark = price_steps(lane.prices.close.item(-1))
        paid[-1] -= left * mark
        exits[-1], at[-1], session[-1], reasons[-1] = priced(mark), end_at, session_of[-1], ExitReason.OPEN
    rows = zip(
        bought.tolist(), _instants(fills.at[begin]), fills.price[begin].tolist(), _instants(at), exits, cents(-paid).tolist(),
        cents(commissions).tolist(), reasons, (session - session_of[fills.bar[begin]] + 1).tolist(), strict=True,
    )
    name, symbol = lane.spec.name, lane.symbol
    found = [
        Trade(name, symbol, shares, entered, usd(paid_a_share), left_at, exit_price, _of_cents(made), _of_cents(charged), reason, sessions)
        for shares, entered, paid_a_share, left_at, exit_price, made, charged, reason, sessions in rows
    ]
    return found, bool(left)


def _instants(at: Numbers) -> list[datetime]:
    return [_EPOCH + since for since in (at // 1_000).astype("timedelta64[us]").tolist()]


def _of_cents(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-2)


def _decisions(told: Told) -> dict[str, int]:
    counts = {"buy": told.buys, "sell": told.sells}
    return dict(sorted(((name, many) for name, many in counts.items() if many), key=lambda each: (-each[1], each[0])))


def _denials(told: Told) -> dict[str, int]:
    counts = Counter(rule for denied in told.denials for rule in denied.reason.split(", "))
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _dollars(amounts: Numbers) -> Floats:
    found: Floats = amounts / SCALE
    return found
