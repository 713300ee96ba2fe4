"""The day's loss limits (D12): a strategy that a loss stops waits for a person, which in a backtest nobody is.

Live looks at every bar's close, before it decides. Here the whole run is played as if no limit were reached; then every close is
looked at in one pass over columns. Where a limit was reached the strategy decides nothing from there on, and the run is played
again: what came before is the same.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan, ExitReason
from trading_pipeline.domain.bars import Floats
from trading_pipeline.service.backtests.columnar.ground import Grid, Prices, Unfit
from trading_pipeline.service.backtests.columnar.incidents import Account, Filled
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.units import CENT, Flags, Numbers, cents, steps, steps_of
from trading_pipeline.service.backtests.columnar.waits import check_marks, goes_on, learnt_at, waiting

NEVER_REACHED = 100
"""A limit of so many times the account's cash is none."""


_Mark = Callable[[Prices], Floats]


def _next_open(prices: Prices) -> Floats:
    return np.append(prices.open[1:], prices.close[-1:])


def _own_close(prices: Prices) -> Floats:
    return prices.close


def _close_before(prices: Prices) -> Floats:
    return np.append(prices.close[:1], prices.close[:-1])


_MARKS: tuple[_Mark, ...] = _next_open, _own_close, _close_before
"""The prices at which a close may be looked at: the next open; where there is none, the newest close that was received."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What loses together, and whom a loss beyond the limit stops. Money in steps."""

    limit: int
    lanes: Sequence[int]
    stops: Sequence[str]
    cash: int
    """What profits are added to before they are rounded to the cent: the account's cash, or none."""


def play(plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid) -> tuple[Account, dict[str, int]]:
    """Play a plan through; the account, and from which bar on which strategy a loss has stopped.

    Raises:
        Unfit: The stepped engine has to play it.
    """
    stopped: dict[str, int] = {}
    while True:
        simulation = Simulation(plan, lanes, grid, stopped)
        account = simulation.run()
        found = _first_loss(simulation, stopped)
        if not found:
            check_marks(simulation, stopped)
            return account, stopped
        stopped |= found


def _first_loss(simulation: Simulation, stopped: Collection[str]) -> dict[str, int]:
    """The strategies that the first loss beyond a limit stops, with its bar; none when there is no such loss any more."""
    grid = simulation.grid
    running = [name for name in simulation.tracks if name not in stopped]
    waits = {name: waiting(simulation, name) for name in running}
    early = _learnt_early(simulation, waits)
    scopes = _scopes(simulation, running)
    if all(scope.limit >= NEVER_REACHED * steps(simulation.plan.cash) for scope in scopes):
        return {}
    first = len(grid)
    found: dict[str, int] = {}
    for scope in scopes:
        bar = _first(grid.decides & (_lost(simulation, scope) >= scope.limit))
        if bar < first:
            found.clear()
            first = bar
        if bar == first < len(grid):
            found |= dict.fromkeys(scope.stops, bar)
    if grid.gapped.any():
        _check_gaps(simulation, scopes, found, waits)
    if early is not None and any((early & (_lost(simulation, scope, early) >= scope.limit))[: first + 1].any() for scope in scopes):
        raise Unfit("a loss is seen with a stop that is learnt of earlier, because a strategy goes on")
    for name in found:
        # At a session's first close it is let go on before the loss is known.
        if first and waits[name][first - 1] and grid.session_of[first - 1] == grid.session_of[first]:
            raise Unfit(f"a loss is reached while {name} waits for its next orders within the hour")
    return found


def _check_gaps(simulation: Simulation, scopes: Sequence[_Scope], found: Collection[str], waits: Mapping[str, Flags]) -> None:
    """Minutes without a bar are looked at as well, at the newest price there is, which columns do not have.

    Raises:
        Unfit: Somebody waits or is stopped on such bars, or a loss might be seen in a gap.
    """
    waited = sorted({*found, *(name for name, at in waits.items() if at.any())})
    if waited:
        raise Unfit(f"bars are missing, and {waited[0]} waits because of a loss or of its orders within the hour")
    gapped = simulation.grid.gapped
    for scope, early, mark in product(scopes, (None, gapped), _MARKS):
        if (gapped & (_lost(simulation, scope, early, mark) >= scope.limit)).any():
            raise Unfit("bars are missing, and a loss might be seen between them")


def _scopes(simulation: Simulation, running: Sequence[str]) -> list[_Scope]:
    """The account, and each strategy that runs; none when none does."""
    plan, lanes = simulation.plan, simulation.lanes
    if not running:
        return []
    limits = {lane.spec.name: lane.spec.limits.max_day_loss for lane in lanes}
    own = {name: [number for number, lane in enumerate(lanes) if lane.spec.name == name] for name in running}
    account = _Scope(steps(plan.limits.max_day_loss), range(len(lanes)), running, steps(plan.cash))
    return [account, *(_Scope(steps(limits[name]), own[name], (name,), 0) for name in running)]


def _first(flags: Flags) -> int:
    """The first bar where it is so, or how many there are."""
    return int(flags.argmax()) if flags.any() else len(flags)


def _learnt_early(simulation: Simulation, waits: Mapping[str, Flags]) -> Flags | None:
    """Closes at which a strategy goes on and a stop or target is learnt of: all is settled before it may, so the loss is seen after that.

    Raises:
        Unfit: It is a session's first close: then it is settled before the session is opened.
    """
    grid = simulation.grid
    free = [goes_on(grid, at) for at in waits.values() if at.any()]
    if not free:
        return None
    learnt = np.zeros(len(grid), np.bool_)
    learnt[[learnt_at(grid, fill) for fill in simulation.account.fills if fill.reason in _BRACKETS]] = True
    found: Flags = learnt & np.logical_or.reduce(free)
    if (found[1:] & (grid.session_of[1:] > grid.session_of[:-1])).any():
        raise Unfit("a stop is learnt of before its session is opened, because a strategy goes on")
    return found


_BRACKETS = (ExitReason.STOP, ExitReason.TARGET)


def _lost(simulation: Simulation, scope: _Scope, early: Flags | None = None, mark: _Mark = _next_open) -> Numbers:
    """The day's loss as each close was looked at, in steps.

    At the next open's prices, with what was booked at the closes before, against the closing figure of the session before, to the cent.

    Args:
        early: Closes at which it is looked at after what was learnt there was booked.
        mark: At which prices, where these are not the next opens.
    """
    grid, size = simulation.grid, len(simulation.grid)
    looked, closed = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for number in scope.lanes:
        fills = [fill for fill in simulation.account.fills if fill.lane == number]
        paid = np.array([fill.shares * fill.price + fill.commission for fill in fills], np.int64)
        shares = np.array([fill.shares for fill in fills], np.int64)
        prices = simulation.lanes[number].prices
        for places, price, worth in (
            (np.array([_first_look_after(grid, fill, early) for fill in fills], np.int64), mark(prices), looked),
            # Closed with all that the session's bars have filled.
            (np.array([fill.bar for fill in fills], np.int64), prices.close, closed),
        ):
            inside = places < size
            flow, held = np.zeros(size, np.int64), np.zeros(size, np.int64)
            np.subtract.at(flow, places[inside], paid[inside])
            np.add.at(held, places[inside], shares[inside])
            worth += np.cumsum(flow) + np.cumsum(held) * steps_of(price)
    closing = closed[grid.last_of]
    base = np.append(0, CENT * cents(closing + scope.cash)[:-1] - scope.cash)
    runs_in = np.append(grid.session_of[1:], grid.session_of[-1:])
    found: Numbers = base[runs_in] - looked
    return found


def _first_look_after(grid: Grid, fill: Filled, early: Flags | None) -> int:
    """The first bar at whose close an execution is booked already: a loss is looked at before anything of a close is booked."""
    if grid.daily:
        # What a bar's range filled was booked at its session's close.
        return fill.step + (fill.bar > fill.step)
    learnt = learnt_at(grid, fill)
    return learnt if early is not None and early[learnt] and fill.reason in _BRACKETS else learnt + 1
