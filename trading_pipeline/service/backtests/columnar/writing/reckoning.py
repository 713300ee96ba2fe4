"""What was measured at each order of a lane that is alone, computed column by column: there all of it follows from the trades before."""

from collections.abc import Sequence

import numpy as np

from trading_pipeline.domain.bars import Floats, instant_ns
from trading_pipeline.domain.expressions import names, parse
from trading_pipeline.domain.indicators import IndicatorSpec, column
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.service.backtests.columnar.alone import OPEN, SIGNAL, STOP, RoundTrips, in_turn
from trading_pipeline.service.backtests.columnar.holdings import NEVER
from trading_pipeline.service.backtests.columnar.judging import HOUR
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.sizes import LEAST_PRICE, SUPPORT_BARS
from trading_pipeline.service.backtests.columnar.units import CENT, Flags, Numbers, cents, steps_of
from trading_pipeline.service.backtests.columnar.witness import Witness
from trading_pipeline.service.backtests.columnar.writing.measures import Gauge, tenths
from trading_pipeline.service.backtests.columnar.writing.register import Executions, Orders, Register

_LEAST_SESSIONS = 3
"""Opened, closed and opened again: then the forms of a session are known."""
_LEAST_OF_A_KIND = 2
"""Of each kind of fact so many are written before: one is learnt of, and one held to the rulebook."""
_MOST_PRODUCT = 1 << 62
_WILDER = ("atr", "natr", "rsi")
_LEFT = 1e-16
"""The weight that is left of where the reading of bars began, so that a column over all bars agrees with live's."""
_SPOKEN, _SIZED = 6, 10
"""Digits that are told of what rules speak of, and of what sizing reads."""
_AGREE = 1e-12
"""To such a part of each other: a hundred times what was seen to differ in a year of minutes."""
_SMALL = 0.02
"""Smaller parts of a column's largest value may differ by more: sums are carried along in its digits."""


def first_session(trades: RoundTrips, sim: Simulation) -> int | None:
    """The session of the grid from which on trades may be entered; None where it is not worth it.

    Before it every kind of fact is written that comes after it, and nothing is held when it begins.
    """
    grid, kinds = sim.grid, trades.kind
    if grid.daily or trades.twice.any() or not len(kinds):
        return None
    last = len(grid.days)
    bought, sold = grid.session_of[trades.decided], np.where(kinds == OPEN, last, grid.session_of[trades.sold_in])
    if (trades.stop[bought < sold] < 0).any():
        return None
    written = [bought, *(sold[kinds == kind] for kind in (SIGNAL, STOP) if (kinds == kind).any())]
    earliest = max(_LEAST_SESSIONS, *(each.item(min(_LEAST_OF_A_KIND, len(each)) - 1) + 1 for each in written))
    held = np.zeros(last + 2, np.int64)
    np.add.at(held, bought + 1, 1)
    np.add.at(held, sold + 1, -1)
    flat = np.flatnonzero(np.cumsum(held)[earliest:last] == 0)
    return earliest + int(flat[0]) if len(flat) and earliest + flat[0] <= last // 2 else None


class Reckoning:
    """What follows from the trades of one simulation.

    Args:
        sim: Before its first trade.
        sessions: The plan's, those included of which nobody has a bar.
    """

    def __init__(self, sim: Simulation, trades: RoundTrips, gauge: Gauge, sessions: Sequence[Session]) -> None:
        self._sim, self._trades, self._gauge, self._sessions = sim, trades, gauge, sessions
        self._grid, self._lane, self._prices = sim.grid, sim.lanes[0], sim.lanes[0].prices
        self._marks = steps_of(self._prices.close[sim.grid.last_of])
        # A purchase and a sale of each trade, in order of time; the last one may not have come.
        many = 2 * len(trades.kind) - int(trades.kind[-1] == OPEN)
        none = np.zeros_like(trades.kind)
        self._sale = in_turn(none, none + 1)[:many] == 1
        self._ordered = in_turn(none + SIGNAL, trades.kind)[:many] == SIGNAL
        self._bar = in_turn(trades.decided + 1, trades.sold_in)[:many]
        self._shares = np.repeat(trades.shares, 2)[:many]
        self._price, self._fee = in_turn(trades.bought, trades.sold)[:many], in_turn(trades.fee, trades.sold_fee)[:many]
        self._change = np.where(self._sale, 1, -1) * self._shares * self._price - self._fee
        self._begins = sim.cash
        self._after = sim.cash + np.cumsum(self._change)
        """Cash after each."""

    def register(self, first: int) -> Register | None:
        """The facts from a session of the grid on; None where an order is not plain."""
        places = np.flatnonzero(self._ordered)
        mine = int(np.searchsorted(self._grid.session_of[self._bar[places] - 1], first))
        orders = self._orders(places, mine)
        if orders is None:
            return None
        read = self._read(orders.bar, orders.now)
        orders = orders._replace(atr=read["atr_14"], sma20=read["sma_20"])
        if not (np.isfinite(orders.atr) & np.isfinite(orders.sma20)).all() or tenths(orders.close, orders.atr)[orders.stop >= 0].any():
            return None
        return Register(orders, self._executions(places, mine, first), tuple(read.values()), tuple(read), self._marks)

    def proving_session(self, first: int) -> int | None:
        """The last session of the grid, from one on, that begins with nothing held, and in which orders of each kind were sent."""
        before = self._grid.session_of[self._bar].searchsorted(np.arange(len(self._grid.days) + 1))
        sold = np.append(0, np.cumsum(self._ordered & self._sale))[before]
        wanted = (before[:-1] % 2 == 0) & (np.diff(before) > 0) & ((np.diff(sold) > 0) | (sold[-1] == sold[first]))
        found = np.flatnonzero(wanted[first:])
        return first + int(found[-1]) if len(found) else None

    def simulation_at(self, session: int, witness: Witness) -> Simulation:
        """A simulation that stands at the beginning of a session, at which nothing is held."""
        sim, first = self._sim, int(self._grid.session_of.searchsorted(session))
        found = Simulation(sim.plan, sim.lanes, sim.grid, witness=witness, first=first)
        [track] = found.tracks.values()
        filled = int(self._grid.session_of[self._bar].searchsorted(session))
        sent = np.flatnonzero(self._ordered[:filled])
        found.cash = int(np.append(self._begins, self._after)[filled])
        track.flow = found.cash - self._begins
        track.last_trade = found.last_order = int(self._grid.end[self._bar[sent[-1]] - 1])
        for sale in (True, False):
            own = sent[self._sale[sent] == sale]
            if len(own):
                track.last_actions[self._lane.symbol, sale] = int(self._grid.end[self._bar[own[-1]] - 1])
        return found

    def _orders(self, places: Numbers, mine: int) -> Orders | None:
        """Those from one of them on, but for what indicators say."""
        grid, prices, sale = self._grid, self._prices, self._sale[places]
        bar = self._bar[places] - 1
        session, now, quoted = grid.session_of[bar], grid.end[bar], np.asarray(prices.opens)[bar + 1]
        shares, cash = self._shares[places], (self._after - self._change)[places]
        worth = np.where(sale, shares * quoted, 0)
        baseline, opening = self._measured_from(session)
        closes = np.array([instant_ns(each.close) for each in self._sessions], np.int64)
        days = np.array([each.day for each in self._sessions], "datetime64[D]")
        of_plan = days.searchsorted(np.array(grid.days, "datetime64[D]"))[session]
        last_action = np.full(len(now), NEVER)
        for own in (np.flatnonzero(sale), np.flatnonzero(~sale)):
            last_action[own[1:]] = now[own[:-1]]
        sent = np.minimum(now.searchsorted(now - HOUR, side="right"), now.searchsorted(now - now % HOUR))
        limit = self._limits(places, quoted)
        volume, short_history = prices.average_volumes(bar[mine:])
        row = prices.first + bar[mine:]
        if limit is None or not volume.all() or (np.minimum(limit, quoted) < LEAST_PRICE).any() or (row < SUPPORT_BARS).any():
            return None
        value = shares * np.maximum(quoted, limit)
        before = np.cumsum(value) - value
        lows = np.lib.stride_tricks.sliding_window_view(prices.table.low, SUPPORT_BARS)[row - SUPPORT_BARS + 1]
        columns = (
            bar, of_plan, now, sale, quoted, limit, shares, np.where(sale, -1, np.repeat(self._trades.stop, 2)[places]),
            np.minimum(now + self._gauge.fresh, closes[of_plan]), cash, cash + worth, before - before[session.searchsorted(session)],
            baseline - cash - worth, opening + self._begins - cash - worth, np.arange(len(now)) - sent, np.append(NEVER, now[:-1]),
            last_action,
        )
        since = np.where(sale, bar - np.repeat(self._trades.decided, 2)[places], 0)
        mine_alone = volume, short_history, prices.foreseen(bar[mine:]), since[mine:], lows.min(axis=1), prices.close[bar[mine:]]
        return Orders._make([*(each[mine:] for each in columns), *mine_alone, None, None])

    def _measured_from(self, session: Numbers) -> tuple[Numbers, Numbers]:
        """What the account was worth before each of these sessions, and what its strategy had made."""
        filled = self._grid.session_of[self._bar].searchsorted(session)
        cash = np.append(self._begins, self._after)[filled]
        held = np.where(filled % 2 == 1, self._shares[filled - 1], 0)
        worth = cash + held * self._marks[session - 1]
        later = session > 0
        return (
            np.where(later, cents(worth) * CENT, self._begins), np.where(later, cents(worth - self._begins) * CENT, 0),
        )

    def _limits(self, places: Numbers, quoted: Numbers) -> Numbers | None:
        reach, reach_by = self._gauge.reach
        if not self._gauge.reaches or int(quoted.max()) * max(reach, reach_by) >= _MOST_PRODUCT:
            return None
        sold_for = self._gauge.exit_limit(quoted)
        return np.where(self._sale[places], sold_for, np.repeat(self._trades.limit, 2)[places])

    def _executions(self, places: Numbers, mine: int, first: int) -> Executions:
        grid, trades = self._grid, self._trades
        rows = np.full(len(self._bar), -1)
        rows[places] = np.arange(len(places)) - mine
        at = in_turn(grid.end[trades.decided], trades.sold_at)[: len(self._bar)]
        in_range = ~self._ordered & (at != grid.start[self._bar])
        step = np.where(in_range, self._bar, self._bar - 1)
        over_night = ~self._ordered & (grid.session_of[step] < grid.session_of[self._bar])
        known = grid.end[np.where(over_night, self._bar, step)]
        at_the_low = in_range & (self._price == np.asarray(self._prices.lows)[self._bar])
        moved = np.where(self._sale, -1, 1) * self._shares
        columns = rows, self._bar, step, at, known, moved, self._price, self._fee, at_the_low
        begin = int(grid.session_of[self._bar].searchsorted(first))
        return Executions(*(each[begin:] for each in columns))

    def _read(self, bar: Numbers, now: Numbers) -> dict[str, Floats]:
        """What sizing and the rules' words read of each of these bars, to the last digit as live has it."""
        agent, prices = self._lane.spec.agent, self._prices
        assert isinstance(agent, ExpressionAgent)
        spoken = [name for text in (agent.enter_when, agent.exit_when) if text.strip() for name in names(parse(text))]
        found, unsure = {}, np.zeros(len(now), np.bool_)
        for name, digits in [*((name, _SPOKEN) for name in spoken), ("atr_14", _SIZED), ("sma_20", _SIZED)]:
            _, spec = column(name)
            whole = prices.priced[name] if spec is None else prices.columns((spec,))[name]
            found[name] = whole[prices.first + bar]
            if spec is not None:
                unsure |= _near_an_edge(found[name], digits, whole) if _settled(spec, self._gauge.window) else True
        for place in np.flatnonzero(unsure).tolist():
            told = self._gauge.columns(bar.item(place))
            for name, values in found.items():
                values[place] = told[name][-1]
        return found


def _settled(spec: IndicatorSpec, window: int) -> bool:
    """Whether it forgets within so many bars where their reading began."""
    length = dict(spec.parameters).get("length", window)
    match spec.name:
        case "sma":
            return True
        case "ema":
            newest = 2 / (length + 1)
        case name if name in _WILDER:
            newest = 1 / length
        case _:
            return False
    left: float = (1 - newest) ** (window - length)
    return left < _LEFT


def _near_an_edge(values: Floats, digits: int, whole: Floats) -> Flags:
    """Where another one that agrees to `_AGREE` might be rounded to other digits, or where these may agree to less; none is negative."""
    size = np.abs(values)
    scaled = size * 10.0 ** (digits - 1 - np.floor(np.log10(np.where(size > 0, size, 1))))
    near: Flags = np.abs(scaled % 1 - 0.5) <= scaled * _AGREE + 1e-6
    near |= ~np.isfinite(values) | (size <= _SMALL * np.fmax.reduce(whole, initial=0))
    return near
