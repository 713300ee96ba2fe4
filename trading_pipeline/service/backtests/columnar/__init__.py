"""The columnar engine: rules over whole columns, Python only where something can happen.

`ground` holds the bars, `lanes` evaluates the rules on them, `simulation` plays the account from candidate to candidate, `sizes` and
`judging` say how much and whether, `losses` where a day's loss ended it; `alone` walks the simplest plans. Of that `outcome` makes a
result, for grids of many plans, and `writing` the ledger, verdict by verdict. What columns cannot tell is said by `why_not`; then the
stepped engine plays the plan. Property tests hold every fact, trade and dollar of this engine to the stepped one's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from types import MappingProxyType

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, ExitReason
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.derivation import collector_paused
from trading_pipeline.ports import Ledger
from trading_pipeline.service.backtests.bench import Bench, sessions_of
from trading_pipeline.service.backtests.columnar.alone import RoundTrips, played_alone
from trading_pipeline.service.backtests.columnar.alone import told as told_of
from trading_pipeline.service.backtests.columnar.asking import Agency
from trading_pipeline.service.backtests.columnar.ground import Grid, Ground, Unfit, ground_of
from trading_pipeline.service.backtests.columnar.incidents import Told
from trading_pipeline.service.backtests.columnar.lanes import Lane, lanes_of
from trading_pipeline.service.backtests.columnar.losses import play
from trading_pipeline.service.backtests.columnar.outcome import result_of
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.writing.copyist import Copyist
from trading_pipeline.service.backtests.columnar.writing.letters import Quick
from trading_pipeline.service.backtests.columnar.writing.registrar import Registrar
from trading_pipeline.service.backtests.columnar.writing.scribe import Scribe
from trading_pipeline.service.backtests.stepping import Progress

_DECIDED = (None, ExitReason.SIGNAL)
"""Of a fill: a purchase, or a sale that the rules decided."""
__all__ = ["Unfit", "counted", "results", "run", "why_not"]


def why_not(bench: Bench, plan: BacktestPlan) -> str:
    """Why a plan is not one for columns; empty when it is."""
    try:
        _played(_Same(bench), plan)
    except Unfit as unfit:
        return str(unfit)
    return ""


def results(
    bench: Bench, plan: BacktestPlan, assumptions: Sequence[str] = (), agents: Mapping[str, Agency] = MappingProxyType({}),
) -> BacktestResult:
    """What comes of a plan, without a ledger: the same decisions, trades and equity.

    Args:
        agents: By strategy, who makes the function that decides on a symbol, in the place of its own agent. See `asking`.

    Raises:
        Unfit: The stepped engine has to play it; with functions, nobody can.
    """
    with collector_paused():
        lanes, grid = _lanes(bench, plan, agents)
        sim = Simulation(plan, lanes, grid)
        trades = played_alone(sim)
        told = play(plan, lanes, grid)[0].told() if trades is None else told_of(sim, trades)
        days = [session.day for session in sessions_of(bench.calendar, plan)]
        return result_of(plan, lanes, grid, told, days, assumptions)


def run(bench: Bench, plan: BacktestPlan, ledger: Ledger, progress: Progress | None = None) -> bool:
    """Play a plan and write down what happens, on an empty ledger; whether a loss stopped a strategy.

    Raises:
        Unfit: The stepped engine has to play it.
    """
    played = _played(_Same(bench), plan)
    desk, sessions = bench.desk(plan, ledger), sessions_of(bench.calendar, plan)
    about = desk, plan, played.lanes, played.grid, sessions, played.stopped, progress
    writer: Scribe
    if not isinstance(ledger, Quick):
        writer = Scribe(*about)
    elif played.trades is None:
        writer = Copyist(*about)
    else:
        writer = Registrar(*about, played.trades)
    with collector_paused():
        for lane, bars in zip(played.lanes, played.decided, strict=True):
            lane.prices.foresee(bars, plan.limits)
        writer.play(Simulation(plan, played.lanes, played.grid, played.stopped, writer))
    return bool(played.stopped)


def counted(bench: Bench, plan: BacktestPlan) -> BacktestResult:
    """The result of a plan that was run."""
    played = _played(_Same(bench), plan)
    days = [session.day for session in sessions_of(bench.calendar, plan)]
    return result_of(plan, played.lanes, played.grid, played.told, days)


@dataclass(frozen=True, slots=True)
class _Played:
    """A plan played through by columns."""

    lanes: Sequence[Lane]
    grid: Grid
    told: Told
    decided: Sequence[Sequence[int]]
    """By lane, bars at whose close it decided to trade, in order; a few may be missing."""
    stopped: Mapping[str, int]
    """From which bar on a loss has stopped which strategy."""
    trades: RoundTrips | None = None
    """Of a lane that is alone."""


class _Same:
    """A bench as a key: by its identity."""

    def __init__(self, bench: Bench) -> None:
        self.it = bench

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it


@lru_cache(maxsize=1)
def _played(bench: _Same, plan: BacktestPlan) -> _Played:
    """Asked whether it can, then told to: played once."""
    lanes, grid = _lanes(bench.it, plan)
    sim = Simulation(plan, lanes, grid)
    trades = played_alone(sim)
    if trades is not None:
        told = told_of(sim, trades)
        filled = {bar - 1 for bar, reason in zip(told.fills.bar.tolist(), told.fills.reason, strict=True) if reason in _DECIDED}
        return _Played(lanes, grid, told, [sorted(filled)], {}, trades)
    account, stopped = play(plan, lanes, grid)
    decided = [sorted({bar for own, bar, _ in account.decisions if own == number}) for number in range(len(lanes))]
    return _Played(lanes, grid, account.told(), decided, stopped)


@lru_cache(maxsize=1)
def _ground(bench: "_Same", symbols: tuple[str, ...], interval: Interval, first: date, last: date) -> Ground:
    """Laid once for all the plans that are played on it."""
    tables = {symbol: bench.it.tables[symbol, interval] for symbol in symbols}
    return ground_of(tables, bench.it.splits, bench.it.calendar, first, last)


def _lanes(bench: Bench, plan: BacktestPlan, agents: Mapping[str, Agency] = MappingProxyType({})) -> tuple[Sequence[Lane], Grid]:
    if len({spec.interval for spec in plan.strategies}) > 1:
        raise Unfit("its strategies decide on different intervals")
    ground = _ground(_Same(bench), plan.symbols, plan.interval, plan.first, plan.last)
    return lanes_of(plan, ground, agents), ground.grid
