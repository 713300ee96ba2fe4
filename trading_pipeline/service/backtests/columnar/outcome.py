"""A simulation's incidents as a `BacktestResult`, equal to what `results.result_of` reads from the ledger of the same run."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import Floats, instant_of
from trading_pipeline.domain.money import price_of, to_cents
from trading_pipeline.service.backtests.columnar.incidents import Account, Filled
from trading_pipeline.service.backtests.columnar.lanes import Grid, Lane, Numbers
from trading_pipeline.service.backtests.columnar.units import SCALE, price_steps, steps, usd

_AVERAGE = Decimal("0.000001")


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
    closes = np.searchsorted(grid.start.astype("datetime64[ns]").astype("datetime64[D]"), np.array(days, "datetime64[D]"), side="right") - 1
    flow, traded, commissions = (np.zeros(len(days), np.int64) for _ in range(3))
    held = [np.zeros(len(days), np.int64) for _ in lanes]
    for fill in account.fills:
        at = int(session_of[fill.bar])
        value = fill.shares * fill.price
        flow[at] -= value + fill.commission
        traded[at] += abs(value)
        commissions[at] += fill.commission
        held[fill.lane][at] += fill.shares
    cash = steps(plan.cash) + np.cumsum(flow)
    invested = np.zeros(len(days), np.int64)
    for lane, each in zip(lanes, held, strict=True):
        shares = np.cumsum(each)
        for session in np.flatnonzero(shares).tolist():
            invested[session] += int(shares[session]) * price_steps(lane.prices.close.item(int(closes[session])))
    equity = _cents(cash + invested)
    trades = _trades(lanes, grid, session_of, account)
    return BacktestResult(
        sessions=days, equity=equity, invested=np.round(equity - _cents(cash), 2), traded=_dollars(traded),
        commissions=_dollars(commissions), trades=tuple(trades), cash=float(plan.cash), decisions=_decisions(account),
        denials=_denials(account), assumptions=tuple(assumptions),
    )


def _trades(lanes: Sequence[Lane], grid: Grid, session_of: Numbers, account: Account) -> list[Trade]:
    closed, still_open = [], []
    for number, lane in enumerate(lanes):
        own: list[Filled] = []
        for fill in (each for each in account.fills if each.lane == number):
            own.append(fill)
            if not sum(each.shares for each in own):
                closed.append(_trade(lane, session_of, own))
                own = []
        if own:
            still_open.append(_open_trade(lane, grid, session_of, own))
    closed.sort(key=lambda trade: (trade.entry_at, trade.symbol, trade.strategy))
    still_open.sort(key=lambda trade: (trade.strategy, trade.symbol))
    return closed + still_open


def _trade(lane: Lane, session_of: Numbers, fills: Sequence[Filled]) -> Trade:
    sold = [fill for fill in fills if fill.shares < 0]
    result = -sum(fill.shares * fill.price + fill.commission for fill in fills)
    received = -sum(fill.shares * fill.price for fill in sold)
    last, reason = fills[-1], sold[-1].reason
    return _told(lane, session_of, fills, last.at, last.bar, _average(received, -sum(fill.shares for fill in sold)), result, reason)


def _open_trade(lane: Lane, grid: Grid, session_of: Numbers, fills: Sequence[Filled]) -> Trade:
    bar = len(grid) - 1
    mark = price_of(float(lane.prices.close[bar]))
    left = sum(fill.shares for fill in fills)
    result = left * steps(mark) - sum(fill.shares * fill.price + fill.commission for fill in fills)
    return _told(lane, session_of, fills, int(grid.end[bar]), bar, mark, result, ExitReason.OPEN)


def _told(
    lane: Lane, session_of: Numbers, fills: Sequence[Filled], at: int, bar: int, price: Decimal, result: int, reason: ExitReason | None,
) -> Trade:
    entry, commissions = fills[0], sum(fill.commission for fill in fills)
    return Trade(
        strategy=lane.spec.name, symbol=lane.symbol, shares=entry.shares, entry_at=instant_of(entry.at), entry_price=usd(entry.price),
        exit_at=instant_of(at), exit_price=price, result=to_cents(usd(result)), commissions=to_cents(usd(commissions)),
        exit_reason=reason or ExitReason.OTHER, sessions=int(session_of[bar] - session_of[entry.bar]) + 1,
    )


def _average(money: int, shares: int) -> Decimal:
    price, rest = divmod(money, shares)
    return usd(price) if not rest else (usd(money) / shares).quantize(_AVERAGE)


def _decisions(account: Account) -> dict[str, int]:
    counts = Counter("sell" if sale else "buy" for _, _, sale in account.decisions)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _denials(account: Account) -> dict[str, int]:
    counts = Counter(rule for denied in account.denials for rule in denied.reason.split(", "))
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _cents(amounts: Numbers) -> Floats:
    """To the cent, half to even, in USD."""
    cents, rest = np.divmod(amounts, SCALE // 100)
    cents += (rest > 50) | ((rest == 50) & (cents & 1 == 1))
    found: Floats = cents / 100
    return found


def _dollars(amounts: Numbers) -> Floats:
    found: Floats = amounts / SCALE
    return found
