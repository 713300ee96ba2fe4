"""Strategies as TOML: read, checked field by field, unknown keys refused, and turned into a domain value.

Every refusal names the key, the rule and the remedy. Fractions are fractions: `max_stop = 0.03` is 3 %.
"""

import difflib
import tomllib
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trading_pipeline.domain import expressions, indicators
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.limits import MAX_APPROVAL_TIMEOUT, AccountLimits, StrategyLimits, effective_collar
from trading_pipeline.domain.strategies import (
    AnalyzerAgent,
    Entry,
    ExpressionAgent,
    FractionSizing,
    Lifetime,
    Mode,
    RiskSizing,
    StrategySpec,
)
from trading_pipeline.errors import InputError, StorageError, StrategyError

_D = StrategyLimits()
Fraction = Annotated[Decimal, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AgentSection(_Section):
    """`[agent]`: who decides. Providers other than `rules` do not exist yet."""

    provider: Literal["rules"] = "rules"
    form: Literal["analyzer", "expression"]
    enter_when: str = ""
    exit_when: str = ""
    max_bars: int = Field(0, ge=0, le=100_000)


class SizingSection(_Section):
    """`[sizing]`: how many shares."""

    method: Literal["risk", "fraction"] = "risk"
    entry: Entry = Entry.NOW
    risk_per_trade: Fraction = RiskSizing().risk_per_trade
    max_stop: Fraction = RiskSizing().max_stop
    atr_multiple: Annotated[Decimal, Field(gt=0, le=20)] = RiskSizing().atr_multiple
    support_bars: int = Field(RiskSizing().support_bars, ge=2, le=500)
    targets: tuple[Annotated[Decimal, Field(gt=0, le=50)], ...] = RiskSizing().targets
    exposure_multiplier: Annotated[Decimal, Field(gt=0, le=1)] = RiskSizing().exposure_multiplier
    fraction: Fraction | None = None
    stop: Fraction | None = None
    target: Annotated[Decimal, Field(gt=0, le=10)] | None = None


class ChartSection(_Section):
    """`[chart]`: the picture; absent: none."""

    bars: int = Field(ChartSpec().bars, ge=20, le=500)
    overlays: tuple[str, ...] = ChartSpec().overlays
    panels: tuple[str, ...] = ChartSpec().panels
    width: int = Field(ChartSpec().width, ge=320, le=2000)
    height: int = Field(ChartSpec().height, ge=240, le=2000)


class LimitsSection(_Section):
    """`[limits]`: what the strategy allows itself, USD and fractions."""

    max_order_value: Decimal = _D.max_order_value
    max_position_value: Decimal = _D.max_position_value
    max_day_loss: Decimal = _D.max_day_loss
    max_orders_per_hour: int = _D.max_orders_per_hour
    price_collar: Decimal = Field(_D.price_collar, le=Decimal("0.5"))


class StrategyFile(_Section):
    """The whole file."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,39}$")
    description: str = Field("", max_length=500)
    symbols: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9.\-]{0,9}$")], ...] = Field(min_length=1, max_length=1000)
    mode: Mode
    interval: Interval
    lifetime: Lifetime | None = None
    indicators: tuple[str, ...] = ()
    approval_timeout_seconds: int = Field(300, ge=5, le=86_400)
    min_confidence: Decimal | None = Field(None, ge=0, le=1)
    price_band: Decimal = Field(Decimal("0.01"), gt=0, le=Decimal("0.05"))
    agent: AgentSection
    sizing: SizingSection = SizingSection()
    limits: LimitsSection = LimitsSection()
    chart: ChartSection | None = None

    @field_validator("symbols")
    @classmethod
    def _unique(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(symbols)) != len(symbols):
            raise ValueError("a symbol stands twice")
        return symbols


def read_strategy(path: Path) -> StrategySpec:
    """A strategy from a TOML file.

    Raises:
        StrategyError: The file is no TOML, or a key or value is refused.
        StorageError: The file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"The strategy file {path.name} cannot be read: {error}.", value=path.name, rule="a strategy file is readable UTF-8 text",
            remedy="check the path and its permissions",
        ) from error
    return parse_strategy(text, path.name)


def parse_strategy(text: str, source: str = "the text") -> StrategySpec:
    """A strategy from TOML text; the errors are those of `read_strategy`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StrategyError(
            f"{source} is no TOML: {error}.", value=source, rule="strategies are written as TOML", remedy="correct the line it names"
        ) from None
    try:
        return _spec(StrategyFile.model_validate(data))
    except ValidationError as error:
        raise _refused(error, source) from None
    except InputError as error:
        if isinstance(error, StrategyError):
            raise
        raise type(error)(f"{source}: {error.message}", value=error.value, rule=error.rule, remedy=error.remedy) from None


def _spec(file: StrategyFile) -> StrategySpec:
    said = file.agent
    agent = AnalyzerAgent() if said.form == "analyzer" else ExpressionAgent(said.enter_when, said.exit_when, said.max_bars)
    _check_agent(file)
    timeout = timedelta(seconds=file.approval_timeout_seconds)
    if timeout > MAX_APPROVAL_TIMEOUT:
        raise StrategyError(
            f"approval_timeout_seconds = {file.approval_timeout_seconds} is too long.", value=file.approval_timeout_seconds,
            rule=f"a proposal waits at most {MAX_APPROVAL_TIMEOUT.seconds} s (D20)",
            remedy=f"set it to {MAX_APPROVAL_TIMEOUT.seconds} or less",
        )
    collar = effective_collar(AccountLimits(), StrategyLimits(**file.limits.model_dump()), autonomous=file.mode is Mode.AUTONOMOUS)
    if file.price_band >= collar:
        raise StrategyError(
            f"price_band = {file.price_band} leaves an order no room.", value=file.price_band,
            rule=f"the price band lies inside the price collar, here {collar}", remedy=f"set price_band below {collar}",
        )
    least = Decimal("0.8") if file.mode is Mode.AUTONOMOUS else Decimal(0)
    chart = None
    if file.chart is not None:
        for text in (*file.chart.overlays, *file.chart.panels):
            indicators.indicator(text)
        chart = ChartSpec(**file.chart.model_dump())
    return StrategySpec(
        name=file.name, symbols=file.symbols, mode=file.mode, interval=file.interval, agent=agent,
        lifetime=file.lifetime or (Lifetime.OPEN if file.interval.daily else Lifetime.SESSION),
        indicators=tuple(sorted({indicators.indicator(text) for text in file.indicators})), chart=chart, sizing=_sizing(file.sizing),
        limits=StrategyLimits(**file.limits.model_dump()), approval_timeout=timeout,
        min_confidence=least if file.min_confidence is None else file.min_confidence, price_band=file.price_band,
        description=file.description,
    )




def _check_agent(file: StrategyFile) -> None:
    agent = file.agent
    if agent.form == "analyzer" and (agent.enter_when or agent.exit_when or agent.max_bars):
        raise StrategyError(
            "The analyzer takes no expressions.", value=agent.enter_when or agent.exit_when or agent.max_bars,
            rule="enter_when, exit_when and max_bars belong to form = \"expression\"", remedy="remove them, or set form = \"expression\"",
        )
    if agent.form == "expression":
        if not agent.enter_when:
            raise StrategyError(
                "The expression agent has no enter_when.", value="", rule="an expression agent says when it enters",
                remedy='add enter_when = "rsi_14 < 30"',
            )
        for text in filter(None, (agent.enter_when, agent.exit_when)):
            expressions.indicators_of(expressions.parse(text))


def _sizing(section: SizingSection) -> RiskSizing | FractionSizing:
    given = section.model_fields_set - {"method", "entry"}
    of_fraction = {"fraction", "stop", "target"}
    wrong = sorted(given - of_fraction if section.method == "fraction" else given & of_fraction)
    if wrong:
        raise StrategyError(
            f"sizing.{wrong[0]} does not belong to method = \"{section.method}\".", value=wrong[0],
            rule="each sizing method has settings of its own", remedy=f"remove {wrong[0]}, or change the method",
        )
    if section.method == "fraction":
        return FractionSizing(section.fraction or FractionSizing().fraction, section.stop, section.target, section.entry)
    return RiskSizing(
        section.risk_per_trade, section.max_stop, section.atr_multiple, section.support_bars, section.targets,
        section.exposure_multiplier, section.entry,
    )


def _refused(error: ValidationError, source: str) -> StrategyError:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = _section_of(first["loc"])
        near = difflib.get_close_matches(str(first["loc"][-1]), list(section.model_fields), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys are {', '.join(section.model_fields)}"
        return StrategyError(
            f"{source} has the unknown key {path}.", value=path, rule="unknown keys are refused", remedy=f"remove it; {hint}"
        )
    if first["type"] == "missing":
        return StrategyError(f"{source} lacks the key {path}.", value=path, rule="this key must be given", remedy=f"add {path} = ...")
    return StrategyError(
        f"{source}: {path} = {str(first.get('input'))[:100]!r} is refused.", value=first.get("input"), rule=first["msg"],
        remedy=f"correct {path}"
    )


def _section_of(loc: tuple[int | str, ...]) -> type[BaseModel]:
    sections: dict[str, type[BaseModel]] = {
        "agent": AgentSection, "sizing": SizingSection, "chart": ChartSection, "limits": LimitsSection,
    }
    return sections.get(str(loc[0]), StrategyFile) if len(loc) > 1 else StrategyFile
