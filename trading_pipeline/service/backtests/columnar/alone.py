"""A lane that is alone in its account, under limits that cannot bind between its trades: round trips as columns.

What ends a trade does not depend on its size. So for each bar at which the rules buy, the bar and the price that end the trade are
found over columns first; then the trades are walked through with the account's cash. It makes what the simulation makes in a third of
the time, and makes nothing at all where anything is not plain. `writing.registrar` makes a ledger of them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.domain.limits import MAX_ORDER_VALUE
from trading_pipeline.service.backtests.columnar.asking import NOWHERE
from trading_pipeline.service.backtests.columnar.incidents import Denied, Fills, Told
from trading_pipeline.service.backtests.columnar.judging import MOST_EXIT, PLAIN_PRICE
from trading_pipeline.service.backtests.columnar.losses import NEVER_REACHED
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.units import Flags, Numbers

_MINUTE = 60_000_000_000
_WINDOW = 64
"""Bars after an entry that are looked through for its stop."""
_RARE = 8
"""Rules that buy at more than one bar of so many are left to the simulation: most of what was looked up for them would not be used."""
OPEN, STOP, SIGNAL = range(3)
_REASONS = np.array([None, ExitReason.STOP, ExitReason.SIGNAL], np.object_)


@dataclass(frozen=True, slots=True)
class _Ends:
    """How the trades end that may be entered, one row each."""

    bars: Numbers
    """Whose close is decided at."""
    stops: Numbers
    plain: Flags
    kind: Numbers
    bar: Numbers
    """Where it is sold, and from which on the lane is flat."""
    at: Numbers
    taken: Numbers
    """The price that the sale takes, before costs."""
    least: Numbers
    """What it fetches at least."""
    twice: Flags
    """Whether the rules would sell at the very open that reached the stop: that order is denied, nothing is held any more."""
    following: Numbers
    """The row of the next bar at which the rules buy once it is sold."""


class RoundTrips(NamedTuple):
    """Trades in order, one row each: money and prices in steps, instants in nanoseconds UTC."""

    decided: Numbers
    """The bar at whose close it was decided to buy."""
    stop: Numbers
    """-1: it has none."""
    shares: Numbers
    limit: Numbers
    bought: Numbers
    fee: Numbers
    kind: Numbers
    """`OPEN`: still held; `STOP`; `SIGNAL`: the rules sold."""
    sold_in: Numbers
    """The bar, and when, at what price and for which commission."""
    sold_at: Numbers
    sold: Numbers
    sold_fee: Numbers
    twice: Flags
    """The rules would have sold at the very open that reached the stop."""


def played_alone(sim: Simulation) -> RoundTrips | None:
    """The trades of a simulation that was not run yet; None where it has to be run."""
    if not _free(sim):
        return None
    lane, size = sim.lanes[0], len(sim.grid)
    bars = np.flatnonzero(np.asarray(lane.enter)[:size] == np.arange(size))
    return None if len(bars) * _RARE > size else _walked(sim, _ends(sim, bars))


def _free(sim: Simulation) -> bool:
    """Whether the plan has one lane, sized by a plain fraction, and no limit that depends on what was traded before."""
    if len(sim.lanes) > 1 or sim.lanes[0].asked is not None or not sim.sizers[0].quick:
        return False
    spec, limits, plain = sim.lanes[0].spec, sim.plan.limits, sim.judge.plain[0]
    minutes, bars = spec.interval.minutes, int(np.bincount(sim.grid.session_of).max())
    return (
        plain is not None and plain.sure and not plain.disciplined and plain.calm_until is None
        and min(limits.max_day_loss, spec.limits.max_day_loss) >= NEVER_REACHED * sim.plan.cash
        and limits.max_day_notional >= MAX_ORDER_VALUE * (bars + 1)
        and spec.limits.max_orders_per_hour > 60 // minutes + 1
        and sim.gap <= minutes * _MINUTE
    )


def _ends(sim: Simulation, bars: Numbers) -> _Ends:
    """The end of the trade that each of these bars would enter."""
    grid, lane, last_bar = sim.grid, sim.lanes[0], len(sim.grid) - 1
    opens, lows = np.asarray(lane.prices.opens), np.asarray(lane.prices.lows)
    stops, plain = sim.sizers[0].stops(sim, bars)
    entered = bars + 1
    leave = np.asarray(lane.leave)[entered]
    if lane.max_bars:
        leave = np.minimum(leave, np.asarray(lane.decides)[np.minimum(entered + lane.max_bars - 1, last_bar + 1)])
    last = np.minimum(leave + 1, last_bar)
    places = entered[:, None] + np.arange(_WINDOW)
    hits = (lows[np.minimum(places, last_bar)] <= stops[:, None]) & (places <= last[:, None])
    reached = entered + hits.argmax(axis=1)
    by_open = (reached > entered) & (opens[np.minimum(reached, last_bar)] <= stops)
    stopped = hits.any(axis=1) & (reached - by_open <= leave)
    by_open &= stopped
    # Otherwise the window did not show it.
    plain &= stopped | (stops < 0) | (last < entered + _WINDOW)
    # Learnt of before the bar that it fills in has begun.
    plain &= ~(by_open & grid.gapped[reached - 1])
    kind = np.where(stopped, STOP, np.where(leave < NOWHERE, SIGNAL, OPEN))
    bar = np.minimum(np.where(stopped, reached, leave + 1), last_bar)
    in_range = stopped & ~by_open
    decided_at = grid.start[bar] if grid.daily else grid.end[bar - 1]
    at = np.where(in_range, grid.end[bar], np.where(stopped, grid.start[bar], decided_at))
    plain &= (kind != SIGNAL) | (opens[bar] >= PLAIN_PRICE)
    return _Ends(
        bars, stops, plain & (opens[entered] >= PLAIN_PRICE), kind, bar, at, np.where(in_range, stops, opens[bar]),
        np.where(in_range, lows[bar], 0), by_open & (reached - 1 == leave), bars.searchsorted(bar),
    )


def _walked(sim: Simulation, ends: _Ends) -> RoundTrips | None:
    """Trade after trade with the cash that the one before left; None where one is not plain."""
    judged, sizer, charges, capacity, cash = sim.judge.plain[0], sim.sizers[0], sim.charges, sim.capacity[0], sim.cash
    assert judged is not None
    opens, most, (share, share_by) = sim.lanes[0].prices.opens, judged.most, sim.plan.limits.max_concentration.as_integer_ratio()
    bars, plain, kinds, sold_in, taken, least, following = (
        column.tolist() for column in (ends.bars, ends.plain, ends.kind, ends.bar, ends.taken, ends.least, ends.following)
    )
    trades: list[tuple[int, int, int, int, int, int, int]] = []
    place = 0
    while place < len(bars):
        bar, kind = bars[place], kinds[place]
        reference = opens[bar + 1]
        sized = sizer.shares(bar, reference, cash, cash) if plain[place] else None
        if sized is None:
            return None
        shares, limit, worst = sized
        value, price = shares * worst, charges.taken_buy(reference)
        if not (
            0 < value <= most and value * share_by <= share * cash and price <= limit and shares <= capacity(bar + 1)
            and shares * limit + charges.commission(shares, limit) <= cash
        ):
            return None
        fee = charges.commission(shares, price)
        cash -= shares * price + fee
        if kind == OPEN:
            trades.append((place, shares, limit, price, fee, 0, 0))
            break
        got = max(least[place], charges.taken_sell(taken[place]))
        if shares > capacity(sold_in[place]) or (kind == SIGNAL and shares * taken[place] > MOST_EXIT):
            return None
        sold_fee = charges.commission(shares, got)
        cash += shares * got - sold_fee
        trades.append((place, shares, limit, price, fee, got, sold_fee))
        place = following[place]
    place_of, shares_of, limits, prices, fees, fetched, sold_fees = np.array(trades, np.int64).reshape(-1, 7).T
    return RoundTrips(
        ends.bars[place_of], ends.stops[place_of], shares_of, limits, prices, fees, ends.kind[place_of], ends.bar[place_of],
        ends.at[place_of], fetched, sold_fees, ends.twice[place_of],
    )


def told(sim: Simulation, trades: RoundTrips) -> Told:
    """Trades as fills: each bought, and sold unless the last one is open."""
    bars, kind = trades.decided, trades.kind
    bought_at = sim.grid.start[bars + 1] if sim.grid.daily else sim.grid.end[bars]
    fills = Fills(
        np.zeros(2 * len(bars), np.int64), in_turn(bars + 1, trades.sold_in), in_turn(bought_at, trades.sold_at),
        in_turn(trades.shares, -trades.shares), in_turn(trades.bought, trades.sold), in_turn(trades.fee, trades.sold_fee),
        _REASONS[in_turn(np.zeros_like(kind), kind)],
    )
    if len(kind) and kind[-1] == OPEN:
        fills = Fills(*(column[:-1] for column in fills))
    denied = [Denied(0, bar, True, sim.judge.asked(0, bar, None, ())) for bar in (trades.sold_in[trades.twice] - 1).tolist()]
    return Told(fills, len(bars), int((kind == SIGNAL).sum()) + len(denied), denied)


def in_turn(one: Numbers, other: Numbers) -> Numbers:
    """The first of each, the second of each."""
    return np.column_stack((one, other)).ravel()
