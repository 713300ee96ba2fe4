"""The rules agent: what the analyzer score or an expression decides about one symbol, and why.

Pure and deterministic. Confidence: score / 100 for a BUY, (100 - score) / 100 for a SELL of the analyzer; 1 for an
expression, which has no degrees. A value that is missing is an `Abstain` that names it: "warm_up" when the symbol is
too young, "undefined" when the bars are there and the value is not (an RSI of a price that never moved).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, assert_never

import numpy as np

from trading_pipeline.domain import analyzer
from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.events import instant_text
from trading_pipeline.domain.expressions import Expression, evaluate_at, indicators_of, names, parse
from trading_pipeline.domain.indicators import IndicatorSpec, column, indicator, price_columns, text_of, warm_up
from trading_pipeline.domain.signals import Abstain, Action, Decision, Signal
from trading_pipeline.domain.strategies import Agent, AnalyzerAgent, ExpressionAgent, ModelAgent
from trading_pipeline.errors import InputError

CERTAIN = Decimal(1)
MODEL_INDICATORS = ("rsi_14", "macd", "atr_14", "sma_20", "sma_50", "bbands_20", "volume_sma_20")
"""What a model is told of every symbol, beside what its strategy lists."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision with what it was derived from, in JSON values: inputs, points, the expression."""

    decision: Decision
    record: Mapping[str, Any]


def required_indicators(agent: Agent) -> tuple[IndicatorSpec, ...]:
    """What must be computed before the agent can be asked, each once; ExpressionError if an expression is wrong."""
    match agent:
        case AnalyzerAgent():
            return analyzer.INDICATORS
        case ExpressionAgent(enter_when=enter_when, exit_when=exit_when):
            texts = [text for text in (enter_when, exit_when) if text.strip()]
            return tuple(dict.fromkeys(spec for text in texts for spec in indicators_of(parse(text))))
        case ModelAgent(trigger=trigger, trigger_held=trigger_held):
            triggers = [text for text in (trigger, trigger_held) if text.strip()]
            asked = [spec for text in triggers for spec in indicators_of(parse(text))]
            return tuple(dict.fromkeys([*asked, *(indicator(text) for text in MODEL_INDICATORS)]))
        case _:
            assert_never(agent)


def rule(agent: Agent, bars: BarTable, columns: Mapping[str, Floats], bars_held: int | None) -> Ruling:
    """Decide on the newest bar. Whatever is missing or wrong is an Abstain; nothing is raised for it.

    Args:
        agent: The rules.
        bars: Closed bars of one symbol, split-adjusted.
        columns: Indicator columns aligned with them, at least those of `required_indicators(agent)`.
        bars_held: Closed bars since the position was opened; None when flat.
    """
    if not len(bars):
        return _abstain(bars.symbol, "no_bars", f"There is no closed bar of {bars.symbol}.")
    table = {**columns, **price_columns(bars)}
    match agent:
        case AnalyzerAgent():
            return _analyze(bars, table, bars_held is not None)
        case ExpressionAgent():
            return _express(agent, bars, table, bars_held)
        case ModelAgent():
            raise TypeError("the rules agent answers for no model")
        case _:
            assert_never(agent)


def _analyze(bars: BarTable, columns: Mapping[str, Floats], held: bool) -> Ruling:
    lacking = _lacking(bars, columns, analyzer.COLUMNS)
    if lacking is not None:
        return lacking
    score = analyzer.score_at(columns, -1)
    assert score is not None
    action, confidence = analyzer.decision(score, held)
    signal = Signal(bars.symbol, action, confidence, score.words, score.total, score.label.value)
    points = [{"question": point.question, "points": point.points, "words": point.words} for point in score.points]
    return Ruling(signal, _record("analyzer", signal, bars, columns, analyzer.COLUMNS) | {"held": held, "points": points})


def _express(agent: ExpressionAgent, bars: BarTable, columns: Mapping[str, Floats], bars_held: int | None) -> Ruling:
    if bars_held is not None and agent.max_bars and bars_held >= agent.max_bars:
        words = held_long_enough(agent, bars_held)
        return _expressed(Action.SELL, words, "max_bars", str(agent.max_bars), bars, columns, bars_held)
    which, text = ("enter_when", agent.enter_when) if bars_held is None else ("exit_when", agent.exit_when)
    if not text.strip():
        return _expressed(Action.HOLD, f"there is no {which}", which, text, bars, columns, bars_held)
    try:
        expression = parse(text)
    except InputError as error:
        return _abstain(bars.symbol, "bad_expression", str(error))
    lacking = _lacking(bars, columns, names(expression))
    if lacking is not None:
        return lacking
    holds = evaluate_at(expression, columns, -1)
    action = Action.HOLD if not holds else Action.BUY if bars_held is None else Action.SELL
    words = spoken(which, holds, expression, columns)
    return _expressed(action, words, which, text, bars, columns, bars_held, names(expression))


def held_long_enough(agent: ExpressionAgent, bars_held: int) -> str:
    """Why a position is sold for its age."""
    return f"held for {bars_held} bars, the most is {agent.max_bars}"


def spoken(which: str, holds: bool, expression: Expression, columns: Mapping[str, Floats]) -> str:
    """What an expression says of the newest bar, with the values that it reads."""
    figures = ", ".join(f"{name} {columns[name][-1]:,.6g}" for name in names(expression))
    return f"{which} {'holds' if holds else 'does not hold'}: {expression.text} ({figures})"


def _expressed(
    action: Action, words: str, which: str, text: str, bars: BarTable, columns: Mapping[str, Floats], bars_held: int | None,
    read: Sequence[str] = (),
) -> Ruling:
    signal = Signal(bars.symbol, action, CERTAIN, words)
    return Ruling(signal, _record("expression", signal, bars, columns, read) | {"bars_held": bars_held, "rule": which, "text": text})


def _lacking(bars: BarTable, columns: Mapping[str, Floats], needed: Sequence[str]) -> Ruling | None:
    """The Abstain for columns without a value at the newest bar, or None when all have one."""
    absent = [name for name in needed if name not in columns]
    if absent:
        return _abstain(bars.symbol, "not_computed", f"{', '.join(absent)} of {bars.symbol} was not computed.")
    empty = [name for name in needed if not np.isfinite(columns[name][-1])]
    if not empty:
        return None
    specs = dict.fromkeys(spec for spec in (column(name)[1] for name in empty) if spec is not None)
    young = [f"{_spoken(spec)} needs {warm_up(spec)} bars" for spec in specs if warm_up(spec) > len(bars)]
    if young:
        return _abstain(bars.symbol, "warm_up", f"{', '.join(young)}; {bars.symbol} has {len(bars)}.", empty)
    return _abstain(bars.symbol, "undefined", f"{', '.join(empty)} of {bars.symbol} has no value at the newest bar.", empty)


def _abstain(symbol: str, reason: str, detail: str, missing: Sequence[str] = ()) -> Ruling:
    record = {"symbol": symbol, "abstain": reason, "detail": detail, "missing": list(missing)}
    return Ruling(Abstain(symbol, reason, detail), record)


def _record(agent: str, signal: Signal, bars: BarTable, columns: Mapping[str, Floats], read: Sequence[str]) -> dict[str, Any]:
    return {
        "agent": agent, "symbol": signal.symbol, "action": signal.action.value, "confidence": str(signal.confidence),
        "score": signal.score, "label": signal.label, "rationale": signal.rationale, "bar_end": instant_text(bars.last_end),
        "inputs": {name: repr(float(columns[name][-1])) for name in read},
    }


def _spoken(spec: IndicatorSpec) -> str:
    """As traders write it: SMA200, MACD, RSI14."""
    head, _, tail = text_of(spec).upper().rpartition("_")
    return f"{head}{tail}" if head and tail.replace(".", "").isdigit() and "_" not in head else text_of(spec).upper()
