"""What a strategy is, and the states it goes through.

A strategy is immutable; a revision is a new value with the next `limits_version`. The state machine is
data (INVARIANTS 3.3): whoever wants to know what may follow reads `TRANSITIONS`.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.models import Mask, Provider, Sight
from trading_pipeline.errors import StrategyError

DEFAULT_PRICE_BAND = Decimal("0.01")
"""How far the market may move from a proposal's price before it is void (INVARIANTS 3.1)."""
MOST_PRICE_BAND = Decimal("0.05")
_BELOW_ONE = Decimal("0.99")


class Mode(StrEnum):
    """Who decides on a proposal that the rulebook lets pass."""

    APPROVAL = "approval"
    AUTONOMOUS = "autonomous"


class Lifetime(StrEnum):
    """What the session's close does to a strategy (E6)."""

    SESSION = "session"
    OPEN = "open"


class Entry(StrEnum):
    """When an entry is made: at once, or by a limit at the pullback level (SMA20 or support)."""

    NOW = "now"
    PULLBACK = "pullback"


@dataclass(frozen=True, slots=True)
class RiskSizing:
    """Size by what a stop would cost (F3). Fractions of equity or price.

    The stop is the highest of support (lowest low of `support_bars`), `atr_multiple` x ATR14 below the
    price and `max_stop` below it; targets lie at `targets` times the risk a share, sharing the quantity.
    """

    risk_per_trade: Decimal = Decimal("0.02")
    max_stop: Decimal = Decimal("0.03")
    atr_multiple: Decimal = Decimal(2)
    support_bars: int = 20
    targets: tuple[Decimal, ...] = (Decimal("1.5"), Decimal("2.5"))
    exposure_multiplier: Decimal = Decimal(1)
    entry: Entry = Entry.NOW

    def __post_init__(self) -> None:
        _within("risk_per_trade", self.risk_per_trade, Decimal(1))
        _within("max_stop", self.max_stop, _BELOW_ONE)
        _within("atr_multiple", self.atr_multiple)
        _within("support_bars", Decimal(self.support_bars))
        _within("exposure_multiplier", self.exposure_multiplier)
        for target in self.targets:
            _within("targets", target)
        if list(self.targets) != sorted(set(self.targets)):
            raise _no_sizing("targets", self.targets, "targets rise from the nearest to the farthest")


@dataclass(frozen=True, slots=True)
class FractionSizing:
    """Size as a plain fraction of equity; stop and target distances are optional fractions of the price.

    `atr_stop` in place of `stop`: so many ATR14 below the close that was decided at, to the nearest tick.
    """

    fraction: Decimal = Decimal("0.10")
    stop: Decimal | None = None
    target: Decimal | None = None
    entry: Entry = Entry.NOW
    atr_stop: Decimal | None = None

    def __post_init__(self) -> None:
        _within("fraction", self.fraction, Decimal(1))
        if self.stop is not None:
            _within("stop", self.stop, _BELOW_ONE)
        if self.target is not None:
            _within("target", self.target)
            if self.stop is None and self.atr_stop is None:
                raise _no_sizing("target", self.target, "a target comes with a stop: one cancels the other")
        if self.atr_stop is not None:
            _within("atr_stop", self.atr_stop)
            if self.stop is not None:
                raise _no_sizing("atr_stop", self.atr_stop, "an entry has one stop: a fraction of the price, or a multiple of ATR14")


def _within(name: str, value: Decimal, most: Decimal | None = None) -> None:
    if not (value.is_finite() and value > 0 and (most is None or value <= most)):
        raise _no_sizing(name, value, f"it is above 0{'' if most is None else f' and at most {most}'}")


def _no_sizing(name: str, value: object, rule: str) -> StrategyError:
    return StrategyError(f"{name} = {value} is no sizing.", value=value, rule=rule, remedy=f"change {name} in the strategy's sizing")


Sizing = RiskSizing | FractionSizing


@dataclass(frozen=True, slots=True)
class AnalyzerAgent:
    """The seeds' analyzer score, without a model (PRODUCT D1)."""


@dataclass(frozen=True, slots=True)
class ExpressionAgent:
    """Rules in the expression language; `max_bars` exits a position after so many bars (0: never)."""

    enter_when: str
    exit_when: str = ""
    max_bars: int = 0


@dataclass(frozen=True, slots=True)
class ModelAgent:
    """A model asked with a prompt (D1, D2).

    `trigger` is an expression (D8): a flat symbol is asked about only where it holds; empty: at every bar. `trigger_held` is the same
    for a symbol that is held. A figure the reply cites that is off by more than `citation_abstain` makes it an Abstain (invariant 61);
    None: it is shown and no more.
    """

    provider: Provider
    model: str
    prompt: str
    """`analyst/v1`: a published version of a prompt, never edited."""
    sight: Sight = Sight.NUMBERS
    trigger: str = ""
    trigger_held: str = ""
    max_tokens: int = 1_024
    temperature: Decimal | None = None
    masks: frozenset[Mask] = frozenset()
    citation_abstain: Decimal | None = None


Agent = AnalyzerAgent | ExpressionAgent | ModelAgent


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """Everything a person decides about a strategy. `name` is unique and lower-case with dashes."""

    name: str
    symbols: tuple[str, ...]
    mode: Mode
    interval: Interval
    agent: Agent
    lifetime: Lifetime
    indicators: tuple[IndicatorSpec, ...] = ()
    chart: ChartSpec | None = None
    sizing: Sizing = field(default_factory=RiskSizing)
    limits: StrategyLimits = field(default_factory=StrategyLimits)
    approval_timeout: timedelta = timedelta(minutes=5)
    min_confidence: Decimal = Decimal("0.8")
    price_band: Decimal = DEFAULT_PRICE_BAND
    description: str = ""


class StrategyState(StrEnum):
    """Where a strategy stands. Capitals in INVARIANTS 3.3; terminal: FINISHED, EMERGENCY_STOPPED."""

    DRAFT = "draft"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED_USER = "paused_user"
    PAUSED_RISK = "paused_risk"
    NOT_READY = "not_ready"
    FINISHED = "finished"
    EMERGENCY_STOPPED = "emergency_stopped"


class PauseReason(StrEnum):
    """Why a strategy paused by itself."""

    LOSS = "loss"
    RATE = "rate"
    VOLATILITY = "volatility"
    REJECTS = "rejects"
    DATA = "data"
    BUDGET = "budget"
    MODEL = "model"
    RUN_FAILED = "run_failed"


_S = StrategyState
TRANSITIONS: dict[StrategyState, frozenset[StrategyState]] = {
    _S.DRAFT: frozenset({_S.STARTING, _S.EMERGENCY_STOPPED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.NOT_READY, _S.EMERGENCY_STOPPED}),
    _S.RUNNING: frozenset({_S.PAUSED_USER, _S.PAUSED_RISK, _S.NOT_READY, _S.FINISHED, _S.EMERGENCY_STOPPED}),
    _S.PAUSED_USER: frozenset({_S.RUNNING, _S.FINISHED, _S.EMERGENCY_STOPPED}),
    # What would go on by itself is held by a person, or by something graver that comes meanwhile.
    _S.PAUSED_RISK: frozenset({_S.RUNNING, _S.PAUSED_USER, _S.PAUSED_RISK, _S.FINISHED, _S.EMERGENCY_STOPPED}),
    _S.NOT_READY: frozenset({_S.RUNNING, _S.STARTING, _S.PAUSED_USER, _S.PAUSED_RISK, _S.FINISHED, _S.EMERGENCY_STOPPED}),
    _S.FINISHED: frozenset(),
    _S.EMERGENCY_STOPPED: frozenset(),
}
