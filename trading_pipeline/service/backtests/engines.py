"""One product, two engines: the stepped one takes every step of the pipeline, the columnar one computes whole columns and is fast.

Which of them ran changes what is written about idle bars, never a decision, verdict, order or fill; a property test holds them together.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult, Replies
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Trouble
from trading_pipeline.domain.money import usd
from trading_pipeline.domain.strategies import Lifetime, Mode, ModelAgent
from trading_pipeline.domain.words import state_words
from trading_pipeline.errors import InputError
from trading_pipeline.ports import Ledger, Reader
from trading_pipeline.service.backtests.bench import Bench, Stepped
from trading_pipeline.service.backtests.stepping import Progress, step
from trading_pipeline.service.reports.outcomes import measure
from trading_pipeline.service.steps import RUNNING


class Engine(StrEnum):
    """How a backtest is computed."""

    AUTO = "auto"
    """Columnar where it can be, stepped otherwise."""
    STEPPED = "stepped"
    COLUMNAR = "columnar"


@dataclass(frozen=True, slots=True)
class Backtest:
    """A backtest that has run: its ledger, how it was computed and why so, and what its result rests on."""

    plan: BacktestPlan
    ledger: Ledger
    engine: Engine
    """Stepped or columnar."""
    why: str
    assumptions: tuple[str, ...]
    counted: Callable[[], BacktestResult] | None = None
    """The result without reading the ledger, where the engine has counted it: the very same, a hundred times as quick."""


def run(
    bench: Bench, plan: BacktestPlan, *, engine: Engine | str = Engine.AUTO, progress: Progress | None = None, ledger: Ledger | None = None,
) -> Backtest:
    """Run a plan on a bench.

    Args:
        progress: Told after each session, when its facts are in the ledger.
        ledger: An empty one of the bench, for who looks at it meanwhile.

    Raises:
        InputError: The columnar engine is asked for and cannot; a strategy, symbol or bar is not there.
    """
    ledger = ledger or bench.ledger(plan)
    chosen, why = choose(bench, plan, engine)
    if chosen is Engine.COLUMNAR:
        from trading_pipeline.service.backtests import columnar

        stopped = columnar.run(bench, plan, ledger, progress)
        counted = partial(columnar.counted, bench, plan)
    else:
        desk = bench.desk(plan, ledger)
        clock = desk.clock
        assert isinstance(clock, Stepped)
        step(desk, clock, plan, progress)
        if asks_models(plan):
            measure(desk)
        stopped, counted = True, None
    # A ledger that was written quickly is better not read before somebody wants to.
    said = (standstills(ledger) if stopped else ()) + (unanswered(ledger) if asks_models(plan) else ())
    return Backtest(plan, ledger, chosen, why, assumptions(bench, plan) + said, counted)


def choose(bench: Bench, plan: BacktestPlan, engine: Engine | str = Engine.AUTO) -> tuple[Engine, str]:
    """Which engine runs a plan, and why; the errors are those of `run`."""
    wanted = Engine(engine)
    if wanted is Engine.STEPPED:
        return Engine.STEPPED, "the stepped engine was asked for"
    from trading_pipeline.service.backtests import columnar

    obstacle = columnar.why_not(bench, plan)
    if not obstacle:
        return Engine.COLUMNAR, "every strategy decides by rules"
    if wanted is Engine.COLUMNAR:
        raise InputError(
            f"The columnar engine cannot run {plan.name}: {obstacle}.", value=plan.name, rule="it computes what rules agents decide",
            remedy="leave the engine out, or ask for the stepped one",
        )
    return Engine.STEPPED, obstacle


def asks_models(plan: BacktestPlan) -> bool:
    """Whether any strategy of a plan asks a model."""
    return any(isinstance(spec.agent, ModelAgent) for spec in plan.strategies)


def assumptions(bench: Bench, plan: BacktestPlan) -> tuple[str, ...]:
    """What a plan's result rests on, in sentences."""
    costs = plan.costs
    commission = f"${costs.commission_per_share:f} a share, at least {usd(costs.commission_minimum)} an order"
    if costs.commission_rate:
        commission += f", and {costs.commission_rate:.4%} of the value"
    said = [
        *bench.assumptions,
        f"A marketable order fills at the open of the bar after the decision, worse by half the spread of {costs.spread:.3%} and"
        f" {costs.slippage:.3%} of slippage; a stop comes before a target within one bar, and a gap fills at the open.",
        f"An order takes at most {costs.volume_share:.0%} of the volume of the bar before it. A fill costs {commission}.",
        "Not modelled: market impact beyond that share of the volume, queues at a limit price, halts, borrowing, taxes, interest on cash.",
    ]
    if any(spec.mode is Mode.APPROVAL for spec in plan.strategies):
        said.append("Every proposal was approved at once, by an actor who is played: no person would have been as quick, or as willing.")
    if any(spec.lifetime is Lifetime.SESSION for spec in plan.strategies):
        said.append("A strategy that lives for one session went on with each next one.")
    if asks_models(plan):
        where = "from recordings alone" if plan.replies is Replies.CASSETTE else "from recordings, and from the models where there was none"
        said.append(f"Replies of models came {where}. A model may know what happened after the sessions it was asked about.")
    return tuple(said)


def unanswered(reader: Reader) -> tuple[str, ...]:
    """How much of a backtest is not its strategies' at all: questions to models that nobody answered."""
    abstained = Counter(event.payload["reason"] for event in reader.events(types=(EventType.LLM_ABSTAINED,)))
    missing = abstained[Trouble.NOT_RECORDED.value]
    if not missing:
        return ()
    return (
        f"Questions to models without a recording: {missing:,}. Each counts as an abstention; what the model would have said is not"
        " known, and `trading backtest --provider record` asks it, which costs money.",
    )


def standstills(reader: Reader) -> tuple[str, ...]:
    """Which strategies did not run to the end: a pause that waits for a person was waited for."""
    rows = reader.find("strategies", order_by="name")
    return tuple(
        f"{row['name']} is {state_words(row['state'])} since {row['state_since']:%Y-%m-%d}, as it would be live until a person resumes it:"
        f" {row['reason']}."
        for row in rows if row["state"] not in RUNNING
    )
