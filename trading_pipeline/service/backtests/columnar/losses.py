"""The day's loss limits (D12): a strategy that a loss stops waits for a person, which in a backtest nobody is.

Live looks at every bar's close, before it decides. Here the whole run is played as if no limit were reached; then every close is
looked at in one pass over columns. Where a limit was reached the strategy decides nothing from there on, and the run is played
again: what came before is the same.
"""

from collections.abc import Sequence

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.service.backtests.columnar.incidents import Account
from trading_pipeline.service.backtests.columnar.lanes import Flags, Grid, Lane, Numbers
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.units import CENT, SCALE, steps

_NEVER_REACHED = 100
"""A limit of so many times the account's cash is none."""


def play(plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid) -> tuple[Account, dict[str, int]]:
    """Play a plan through; the account, and from which bar on which strategy a loss has stopped.

    Raises:
        Unfit: The stepped engine has to play it.
    """
    stopped: dict[str, int] = {}
    while True:
        account = Simulation(plan, lanes, grid, stopped).run()
        found = _first_loss(plan, lanes, grid, account, stopped)
        if not found:
            return account, stopped
        stopped |= found


def _first_loss(
    plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid, account: Account, stopped: dict[str, int],
) -> dict[str, int]:
    """The strategies that the first loss beyond a limit stops, with its bar; none when there is no such loss any more."""
    names = [name for name in dict.fromkeys(lane.spec.name for lane in lanes) if name not in stopped]
    limits = {lane.spec.name: lane.spec.limits.max_day_loss for lane in lanes}
    if not names or min(plan.limits.max_day_loss, *limits.values()) >= _NEVER_REACHED * plan.cash:
        return {}
    reached: list[tuple[int, Sequence[str]]] = []
    own: Sequence[int] = range(len(lanes))
    place = _first(_lost(lanes, grid, account, own, steps(plan.cash)) >= steps(plan.limits.max_day_loss), grid.decides)
    if place is not None:
        reached.append((place, names))
    for name in names:
        own = [number for number, lane in enumerate(lanes) if lane.spec.name == name]
        place = _first(_lost(lanes, grid, account, own, 0) >= steps(limits[name]), grid.decides)
        if place is not None:
            reached.append((place, (name,)))
    first = min((place for place, _ in reached), default=-1)
    return {name: first for place, whom in reached if place == first for name in whom}


def _first(reached: Flags, decides: Flags) -> int | None:
    found = np.flatnonzero(reached & decides)
    return int(found[0]) if len(found) else None


def _lost(lanes: Sequence[Lane], grid: Grid, account: Account, own: Sequence[int], cash: int) -> Numbers:
    """The day's loss of some lanes as each close was looked at, in steps.

    At the next open's prices, with what was booked at the closes before; against the closing figure of the session before, to the cent.
    """
    size = len(grid)
    looked, closed = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for number in own:
        fills = [fill for fill in account.fills if fill.lane == number]
        paid = np.array([fill.shares * fill.price + fill.commission for fill in fills], np.int64)
        shares = np.array([fill.shares for fill in fills], np.int64)
        prices = lanes[number].prices
        opens = np.append(prices.open[1:], prices.close[-1:])
        for places, price, worth in (
            # Looked at before anything of this close is booked, but for what a daily bar's range filled: that was booked at its session's
            # close. Closed with all that the session's bars have filled.
            (np.array([fill.step + (not grid.daily or fill.bar > fill.step) for fill in fills], np.int64), opens, looked),
            (np.array([fill.bar for fill in fills], np.int64), prices.close, closed),
        ):
            inside = places < size
            flow, held = np.zeros(size, np.int64), np.zeros(size, np.int64)
            np.subtract.at(flow, places[inside], paid[inside])
            np.add.at(held, places[inside], shares[inside])
            worth += np.cumsum(flow) + np.cumsum(held) * np.rint(price * SCALE).astype(np.int64)
    closing = closed[grid.last_of]
    base = np.append(0, _to_cents(closing + cash)[:-1] - cash)
    runs_in = np.append(grid.session_of[1:], grid.session_of[-1:])
    found: Numbers = base[runs_in] - looked
    return found


def _to_cents(amounts: Numbers) -> Numbers:
    cents, rest = np.divmod(amounts, CENT)
    found: Numbers = (cents + ((2 * rest > CENT) | ((2 * rest == CENT) & (cents & 1 == 1)))) * CENT
    return found
