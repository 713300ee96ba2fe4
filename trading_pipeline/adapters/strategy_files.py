"""Strategies as TOML: read, checked field by field, unknown keys refused, and turned into a domain value.

Every refusal names the key, the rule and the remedy. Fractions are fractions: `max_stop = 0.03` is 3 %.
"""

import difflib
import json
import re
import tomllib
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from trading_pipeline.adapters.strategy_agents import MODEL, AgentSection, agent_of
from trading_pipeline.domain import indicators
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.limits import MAX_APPROVAL_TIMEOUT, AccountLimits, StrategyLimits, effective_collar, unless_off
from trading_pipeline.domain.strategies import (
    DEFAULT_PRICE_BAND,
    MOST_PRICE_BAND,
    Entry,
    FractionSizing,
    Lifetime,
    Mode,
    RiskSizing,
    StrategySpec,
)
from trading_pipeline.errors import InputError, StorageError, StrategyError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

NAME = r"^[a-z][a-z0-9-]{1,39}$"
SYMBOL = r"^[A-Z][A-Z0-9.\-]{0,9}$"
_D = StrategyLimits()
Fraction = Annotated[Decimal, Field(gt=0, le=1)]
Minutes = Annotated[int, Field(ge=1, le=390)]
"""Of a session."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    atr_stop: Annotated[Decimal, Field(gt=0, le=20)] | None = None
    target: Annotated[Decimal, Field(gt=0, le=10)] | None = None


class ChartSection(_Section):
    """`[chart]`: the picture; absent: none."""

    bars: int = Field(ChartSpec().bars, ge=20, le=500)
    overlays: tuple[str, ...] = ChartSpec().overlays
    panels: tuple[str, ...] = ChartSpec().panels
    width: int = Field(ChartSpec().width, ge=320, le=2000)
    height: int = Field(ChartSpec().height, ge=240, le=2000)


def _minutes(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(minutes=count)


class LimitsSection(_Section):
    """`[limits]`: what the strategy allows itself, USD and fractions; "off" switches a limit off where it can be."""

    max_order_value: Decimal = _D.max_order_value
    max_position_value: Decimal = _D.max_position_value
    max_day_loss: Decimal = _D.max_day_loss
    max_day_risk: Annotated[Decimal | None, BeforeValidator(unless_off)] = _D.max_day_risk
    max_orders_per_hour: int = _D.max_orders_per_hour
    price_collar: Decimal = Field(_D.price_collar, le=Decimal("0.5"))
    losing_streak: int = Field(_D.losing_streak, ge=1, le=100)
    cool_off_minutes: Annotated[Minutes | None, BeforeValidator(unless_off)] = 30
    recovery_size: Annotated[Fraction | None, BeforeValidator(unless_off)] = _D.recovery_size
    revenge_wait_minutes: Annotated[Minutes | None, BeforeValidator(unless_off)] = 30
    max_day_model_cost: Annotated[Decimal | None, BeforeValidator(unless_off)] = _D.max_day_model_cost

    def limits(self) -> StrategyLimits:
        """As a domain value."""
        values = self.model_dump(exclude={"cool_off_minutes", "revenge_wait_minutes"})
        return StrategyLimits(**values, cool_off=_minutes(self.cool_off_minutes), revenge_wait=_minutes(self.revenge_wait_minutes))


class StrategyFile(_Section):
    """The whole file."""

    name: str = Field(pattern=NAME)
    description: str = Field("", max_length=500)
    symbols: tuple[Annotated[str, Field(pattern=SYMBOL)], ...] = Field(min_length=1, max_length=1000)
    mode: Mode
    interval: Interval
    lifetime: Lifetime | None = None
    indicators: tuple[str, ...] = ()
    approval_timeout_seconds: int = Field(300, ge=5, le=86_400)
    min_confidence: Decimal | None = Field(None, ge=0, le=1)
    price_band: Decimal = Field(DEFAULT_PRICE_BAND, gt=0, le=MOST_PRICE_BAND)
    agent: AgentSection
    sizing: SizingSection = SizingSection()
    limits: LimitsSection = LimitsSection()
    chart: ChartSection | None = None

    @field_validator("symbols")
    @classmethod
    def _unique(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if twice:
            raise StrategyError(
                f"symbols names {', '.join(twice)} more than once.", value=", ".join(twice), rule="each symbol stands once",
                remedy=f"remove the second {twice[0]}",
            )
        return symbols


def read_strategy(path: Path) -> StrategySpec:
    """A strategy from a TOML file.

    Raises:
        StrategyError: There is no such file, it is no TOML, or a key or value is refused.
        StorageError: The file is there and cannot be read.
    """
    rule = "a strategy file is readable UTF-8 text"
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise StrategyError(f"There is no strategy file {path}.", value=str(path), rule=rule, remedy="correct the path") from None
    except UnicodeDecodeError:
        raise StrategyError(f"{path} is no text.", value=str(path), rule=rule, remedy="save it as UTF-8, or correct the path") from None
    except OSError as error:
        raise StorageError(
            f"The strategy file {path} cannot be read: {error.strerror}.", value=str(path), rule=rule, remedy="check its permissions",
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
    agent = agent_of(file.agent, file.mode, pictured=file.chart is not None)
    timeout = timedelta(seconds=file.approval_timeout_seconds)
    if timeout > MAX_APPROVAL_TIMEOUT:
        raise StrategyError(
            f"approval_timeout_seconds = {file.approval_timeout_seconds} is too long.", value=file.approval_timeout_seconds,
            rule=f"a proposal waits at most {MAX_APPROVAL_TIMEOUT.seconds} s (D20)",
            remedy=f"set it to {MAX_APPROVAL_TIMEOUT.seconds} or less",
        )
    collar = effective_collar(AccountLimits(), file.limits.limits(), autonomous=file.mode is Mode.AUTONOMOUS)
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
        limits=file.limits.limits(), approval_timeout=timeout,
        min_confidence=least if file.min_confidence is None else file.min_confidence, price_band=file.price_band,
        description=file.description,
    )


def _sizing(section: SizingSection) -> RiskSizing | FractionSizing:
    given = section.model_fields_set - {"method", "entry"}
    of_fraction = {"fraction", "stop", "atr_stop", "target"}
    wrong = sorted(given - of_fraction if section.method == "fraction" else given & of_fraction)
    if wrong:
        raise StrategyError(
            f"sizing.{wrong[0]} does not belong to method = \"{section.method}\".", value=wrong[0],
            rule="each sizing method has settings of its own", remedy=f"remove {wrong[0]}, or change the method",
        )
    if section.method == "fraction":
        return FractionSizing(section.fraction or FractionSizing().fraction, section.stop, section.target, section.entry, section.atr_stop)
    return RiskSizing(
        section.risk_per_trade, section.max_stop, section.atr_multiple, section.support_bars, section.targets,
        section.exposure_multiplier, section.entry,
    )


def _refused(error: ValidationError, source: str) -> StrategyError:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = _instead(first["loc"])
        return StrategyError(
            f"{source} has the unknown key {path}.", value=path, rule="unknown keys are refused", remedy=f"remove it; {hint}"
        )
    if first["type"] == "missing":
        return StrategyError(f"{source} lacks the key {path}.", value=path, rule="this key must be given", remedy=f"add {path} = ...")
    value = first.get("input")
    rule, remedy = _in_words(first, path)
    return StrategyError(f"{source}: {_indexed(first['loc'])} = {_toml(value)} is refused.", value=value, rule=rule, remedy=remedy)


_SYMBOL_RULE = "a symbol is written in capitals: a letter, then at most nine letters, digits, dots or dashes"
_NAME_RULE = "a name begins with a small letter, then come 1 to 39 small letters, digits or dashes"


def _in_words(error: "ErrorDetails", path: str) -> tuple[str, str]:
    """The rule that a value broke, and the remedy."""
    context, value = error.get("ctx", {}), error.get("input")
    kind = error["type"]
    if kind.startswith(("decimal", "int")) or (isinstance(value, bool) and kind in _COMPARED):
        return _number_wanted(path, whole=kind.startswith("int"), off=value == "off")
    match kind:
        case "string_pattern_mismatch" if path.startswith("symbols"):
            better = str(value).strip().upper()
            return _SYMBOL_RULE, f"write {better}" if re.fullmatch(SYMBOL, better) else "correct the symbol"
        case "string_pattern_mismatch" if path == "agent.prompt":
            return "a prompt is named name/vN, such as analyst/v1", _prompt_in_form(str(value))
        case "string_pattern_mismatch" if path == "agent.model":
            better = "-".join(str(value).split())
            return "a model is named as its provider names it: letters, digits and . _ : / -", (
                f"write {better}" if re.fullmatch(MODEL, better) else "correct the model's name"
            )
        case "string_pattern_mismatch":
            better = re.sub(r"[^a-z0-9-]+", "-", str(value).strip().lower()).strip("-")
            return _NAME_RULE, f"write {better}" if re.fullmatch(NAME, better) else "choose another name"
        case "enum" | "literal_error":
            return f"it is one of {context['expected']}", f"set {_indexed(error['loc'])} to one of them"
        case _ if kind in _COMPARED:
            bound, words = next((context[key], words) for key, words in _BOUNDS.items() if key in context)
            share = _as_share(value, context)
            if share is not None:
                return f"it is a fraction, {words} {bound}", f"set {path} to a value {words} {bound}, such as {share:f} for {value} %"
            return f"it is {words} {bound}", f"set {path} to a value {words} {bound}"
        case "too_short":
            return "there is at least one", f"add one to {path}"
        case "too_long" | "string_too_long":
            return f"it has at most {context['max_length']}", f"shorten {path}"
        case "tuple_type" | "frozen_set_type":
            return "it is a list", f"write {path} = [{_toml(value) if isinstance(value, str) else '...'}]"
        case "string_type":
            return "it is text", f'write {path} in quotes: "..."'
        case _ if kind.startswith("model"):
            return "it is a section of its own", f"write it as [{path}]"
    return error["msg"], f"correct {path}"


def _number_wanted(path: str, *, whole: bool, off: bool) -> tuple[str, str]:
    """The rule and the remedy where something else than a number was given."""
    section, _, key = path.partition(".")
    field = _SECTIONS[section].model_fields.get(key) if section in _SECTIONS else None
    can_be_off = field is not None and any(getattr(each, "func", None) is unless_off for each in field.metadata)
    rule = f"it is a {'whole ' if whole else ''}number" + (', or "off"' if can_be_off else ", and cannot be off" if off else "")
    number = f"set {path} to a number, such as {'10' if whole else '10 or 0.5'}, without quotes"
    return rule, f'{number}, or to "off"' if can_be_off else number


def _prompt_in_form(value: str) -> str:
    """A name without a version is that prompt's first one."""
    return f'write {value}/v1, or the version that is meant' if re.fullmatch(NAME, value) else "`trading prompt list` shows those there are"


def _as_share(value: object, context: dict[str, Any]) -> Decimal | None:
    """What a percentage is as a fraction, where a fraction was asked for and that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not 0 < Decimal(str(context.get("le", 0))) <= 1:
        return None
    share = Decimal(str(value)) / 100
    return share.normalize() if share <= context["le"] else None


_COMPARED = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _toml(value: object) -> str:
    """A value as the file has it, of long ones the beginning."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _indexed(loc: "tuple[int | str, ...]") -> str:
    """`symbols no. 3`, counted from one, as people do."""
    return ".".join(str(part) if isinstance(part, str) else f"#{part + 1}" for part in loc).replace(".#", " no. ")


_SECTIONS: dict[str, type[BaseModel]] = {"agent": AgentSection, "sizing": SizingSection, "limits": LimitsSection, "chart": ChartSection}
_ALIKE = 0.7


def _instead(loc: tuple[int | str, ...]) -> str:
    """The key that was meant, of the whole file, if one is much alike; otherwise the keys of the section."""
    section = str(loc[0]) if len(loc) > 1 else ""
    sections: dict[str, type[BaseModel]] = {"": StrategyFile, **_SECTIONS}
    keys = [(name, key) for name, model in sections.items() for key in model.model_fields]
    # Of equal ones the section's own comes first.
    keys.sort(key=lambda each: each[0] != section)
    written = str(loc[-1])
    likeness = {each: difflib.SequenceMatcher(None, written, each[1]).ratio() for each in keys}
    best = max(keys, key=lambda each: likeness[each])
    if likeness[best] >= _ALIKE:
        return f"did you mean {'.'.join(filter(None, best))}?"
    return f"known keys are {', '.join(sections.get(section, StrategyFile).model_fields)}"
