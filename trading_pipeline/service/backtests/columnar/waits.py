"""Strategies that wait: for their next orders within the hour (D15), or for a person because of a loss.

Whether one decides is settled where its candidates are. What else depends on who waits is told here for a whole run: which losses stop
nobody, when stops are learnt of earlier, and prices that are not believed. All of it is rare, and then the stepped engine plays the plan.
"""

from collections.abc import Mapping

import numpy as np

from trading_pipeline.domain.bars import instant_ns, instant_of
from trading_pipeline.service.accounting import RECENT
from trading_pipeline.service.backtests.columnar.ground import Grid, Unfit
from trading_pipeline.service.backtests.columnar.incidents import Filled
from trading_pipeline.service.backtests.columnar.judging import HOUR
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.units import Flags


def waiting(simulation: Simulation, strategy: str) -> Flags:
    """At which bars' closes a strategy waits because of its orders within the sliding hour or the clock hour, as the run was played."""
    grid = simulation.grid
    looked_at = grid.start[1:] if grid.daily else grid.end[:-1]
    most, submitted = simulation.judge.most_orders[strategy], simulation.tracks[strategy].submitted
    found = np.zeros(len(grid), np.bool_)
    if len(submitted) >= most:
        sent = np.array(submitted)
        by_then = sent.searchsorted(looked_at)
        counted_from = np.minimum(looked_at - HOUR + 1, looked_at - looked_at % HOUR)
        found[:-1] = (by_then >= most) & (sent[by_then - most] >= counted_from) & grid.decides[:-1]
    return found


def goes_on(grid: Grid, waits: Flags) -> Flags:
    """At which closes one that waited at the close looked at before decides again."""
    looks = np.flatnonzero(grid.decides)
    found = np.zeros(len(grid), np.bool_)
    found[looks[1:]] = waits[looks[:-1]] & ~waits[looks[1:]]
    return found


def learnt_at(grid: Grid, fill: Filled) -> int:
    """The intraday bar at whose close it is learnt that its range or the next one's open has reached a stop or target.

    What an open reaches is learnt of with the close that it follows; after a night, with the day's first close.
    """
    return fill.bar if grid.session_of.item(fill.bar) > grid.session_of.item(fill.step) else fill.step


def check_marks(simulation: Simulation, stopped: Mapping[str, int]) -> None:
    """While a strategy waits nobody receives its bars: a price far from the newest one received is then a bad print for a while.

    Raises:
        Unfit: There may be such a price.
    """
    grid, gap = simulation.grid, float(simulation.plan.limits.max_bar_gap) * (1 - 1e-9)
    for number, lane in enumerate(simulation.lanes):
        name, prices = lane.spec.name, lane.prices
        bar = stopped.get(name, -1)
        held = sum(fill.shares for fill in simulation.account.fills if fill.lane == number and fill.bar <= bar)
        if held:
            # Whether this bar was received depends on when the loss was seen.
            known = prices.close[max(0, bar - 1) : bar + 1]
            later = slice(bar, int(grid.start.searchsorted(instant_ns(instant_of(grid.end[bar]) + RECENT))))
            if max(prices.high[later].max() / known.min(), known.max() / prices.low[later].min()) - 1 >= gap:
                raise Unfit(f"a price of {lane.symbol} lies far from the last one before a loss stopped {name}")
        if waiting(simulation, name).any() and prices.widest_swing >= gap:
            raise Unfit(f"prices of {lane.symbol} lie far apart, and {name} waits for its next orders within the hour")
