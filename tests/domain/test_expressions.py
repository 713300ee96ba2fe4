"""The expression language: what it means, bar by bar and over columns, and how it says what is wrong."""

import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain.market_tables import wandering
from trading_pipeline.domain.expressions import MAX_LENGTH, evaluate, evaluate_at, indicators_of, names, parse
from trading_pipeline.domain.indicators import columns_of, compute, indicator, price_columns
from trading_pipeline.errors import ExpressionError

NAN = math.nan


def columns(**values):
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


# Meaning


@pytest.mark.parametrize(("text", "holds"), [
    ("close > 10", [False, False, True, False]),
    ("close >= 10", [False, True, True, False]),
    ("close == 10 or close < 9", [False, True, False, True]),
    ("close != 10", [True, False, True, True]),
    ("9 <= close < 11", [True, True, False, False]),
    ("not close > 10", [True, True, False, True]),
    ("not close > 10 and open > 1", [False, True, False, True]),
    ("close > 10 or open > 3 and close > 100", [False, False, True, False]),
    ("(close > 10 or open > 3) and open < 4", [False, False, True, False]),
    ("close - open - 1 > 6", [True, True, True, False]),
    ("close - (open - 1) > 8", [True, True, True, False]),
    ("2 + open * 2 == 6", [False, True, False, False]),
    ("-open < -2", [False, False, True, True]),
    ("12 / open / 2 == 3", [False, True, False, False]),
    ("CLOSE > 1e1", [False, False, True, False]),
    ("open>.5 AND\n close>10", [False, False, True, False]),
])
def test_expressions_mean_what_they_say(text, holds):
    table = columns(close=[9, 10, 12, 8], open=[1, 2, 3, 4])
    assert evaluate(parse(text), table).tolist() == holds


def test_a_crossing_is_at_or_below_before_and_above_now():
    table = columns(close=[1, 2, 3, 2, 2, 3, 1], open=[2, 2, 2, 2, 2, 2, 2])
    above = [False, False, True, False, False, True, False]
    below = [False, False, False, False, False, False, True]
    assert evaluate(parse("close crossed_above open"), table).tolist() == above
    assert evaluate(parse("crossed_above(close, open)"), table).tolist() == above
    assert evaluate(parse("crossed_below(close, open)"), table).tolist() == below
    assert evaluate(parse("open crossed_above close"), table).tolist() == below
    assert evaluate(parse("close crossed_above 2"), table).tolist() == above


@pytest.mark.parametrize(("text", "holds"), [
    ("rsi_14 > 50", [False, True]),
    ("not rsi_14 > 50", [False, False]),
    ("not rsi_14 <= 50", [False, True]),
    ("rsi_14 != rsi_14", [False, False]),
    ("rsi_14 > 50 or close > 0", [True, True]),
    ("rsi_14 > 50 and close > 0", [False, True]),
    ("not (rsi_14 > 50 and close < 0)", [True, True]),
    ("not (rsi_14 > 50 or close < 0)", [False, False]),
    ("close / (close - close) > 1", [False, False]),
    ("not close / (close - close) > 1", [False, False]),
    ("1 / (1 / (close - close)) == 0", [False, False]),
])
def test_what_is_undefined_never_holds_whichever_way_it_is_written(text, holds):
    assert evaluate(parse(text), columns(close=[10, 10], rsi_14=[NAN, 60])).tolist() == holds


def test_a_crossing_out_of_warm_up_is_no_crossing():
    table = columns(close=[5, 5, 5], sma_20=[NAN, 4, 4])
    assert evaluate(parse("close crossed_above sma_20"), table).tolist() == [False, False, False]


def test_indicators_need_not_be_listed():
    expression = parse("macd crossed_above macd_signal and close > BBANDS_20_2.5_lower and rsi < 70 and volume > 1.5 * volume_sma_20")
    assert names(expression) == ("macd", "macd_signal", "close", "bbands_20_2.5_lower", "rsi_14", "volume", "volume_sma_20")
    assert indicators_of(expression) == tuple(indicator(text) for text in ("macd", "bbands_20_2.5", "rsi_14", "volume_sma_20"))
    computed = compute(indicators_of(expression), wandering(60))
    assert set(names(expression)) <= computed.keys() | {"close", "volume"}


def test_a_column_that_was_not_computed_is_an_error():
    with pytest.raises(ExpressionError, match="sma_20 was not computed"):
        evaluate(parse("close > sma_20"), columns(close=[1.0]))


def test_a_bar_that_is_not_there_is_an_error():
    with pytest.raises(IndexError):
        evaluate_at(parse("close > 1"), columns(close=[1.0]), 1)


# Errors


@pytest.mark.parametrize(("text", "at", "says"), [
    ("", 1, "is empty"),
    ("   ", 1, "is empty"),
    ("close", 1, "a number, not a condition"),
    ("close >", 8, "found the end"),
    ("close > sma_20 andd open > 1", 16, "did you mean `and`"),
    ("close > smaa_20", 9, "did you mean 'sma'"),
    ("rsi14 < 30", 1, "did you mean 'rsi_14'"),
    ("close > Bbands20_upper", 9, "did you mean 'bbands_20_upper'"),
    ("close > ma50", 9, "did you mean 'wma' or 'sma'"),
    ("rsi(14) < 30", 4, "write rsi_14"),
    ("close > 5 and rsi (7) < 30", 19, "write rsi_7"),
    ("close(sma) > 3", 6, "take the brackets out"),
    ("close > 5 and clsoe > 3", 15, "did you mean 'close'"),
    ("close > bbands_20", 9, "bbands_20_upper"),
    ("close > sma_20_5", 9, "does not take 2 parameters"),
    ("close = 3", 7, "compare with =="),
    ("close > 1 && open > 1", 11, "write and"),
    ("close > 3)", 10, "found `)`"),
    ("(close > 3", 11, "Expected `)`"),
    ("(close > 3) > 2", 1, "a condition, not a number"),
    ("close + (close > 3) > 2", 9, "a condition, not a number"),
    ("close > 3 and open", 15, "a number, not a condition"),
    ("close and open > 1", 1, "a number, not a condition"),
    ("not close", 5, "a number, not a condition"),
    ("crossed_above(close)", 20, "Expected `,`"),
    ("crossed_above(close > 1, open)", 21, "Expected `,`"),
    ("close > 1e999", 9, "too large"),
    ("close > 5 close", 11, "found `close`"),
    ("__import__('os')", 1, "means nothing here"),
    ("close.__class__ > 1", 6, "means nothing here"),
    ("close[-1] > 1", 6, "only the current bar"),
])
def test_an_error_shows_where_and_what(text, at, says):
    with pytest.raises(ExpressionError, match=f"at position {at}:") as error:
        parse(text)
    assert says in str(error.value)
    shown, caret = error.value.message.splitlines()[1:3]
    assert text.strip() == "" or shown[caret.index("^"):][:1] in (text[at - 1 : at], "")


@pytest.mark.parametrize("text", [
    "close > 1 and " * 500 + "close > 1",
    "(" * 400 + "close > 1" + ")" * 400,
    "not " * 400 + "close > 1",
    "close > " + "-" * 900 + "1",
    "close > " + "+".join(["open"] * 300),
    "close > " + "(open+" * 300 + "1" + ")" * 300,
])
def test_an_expression_has_bounds(text):
    with pytest.raises(ExpressionError, match=f"at most ({MAX_LENGTH} characters|30 levels|100 of)"):
        parse(text)


def test_the_longest_chain_of_conditions_is_fine():
    assert evaluate(parse(" and ".join(["close > 1"] * 140)), columns(close=[2.0])).tolist() == [True]


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="closemad_ ()<>=!+-*/.0123456789,andortcrossed_above", max_size=80)))
def test_any_text_parses_or_is_an_expression_error(text):
    try:
        expression = parse(text)
    except ExpressionError:
        return
    table = {name: np.array([1.0, 2.0]) for name in (*names(expression), "close")}
    assert len(evaluate(expression, table)) == 2


# Both evaluations agree, with each other and with Python's own reading

VALUES = st.one_of(st.floats(-100, 100).map(lambda value: round(value, 1)), st.sampled_from([NAN, 0.0, 1.0, 50.0, math.inf]))
NUMBERS = st.one_of(
    st.sampled_from(["open", "high", "low", "close", "volume", "sma_20", "rsi_14", "macd_hist"]),
    st.integers(0, 100).map(str), st.floats(0, 50).map(lambda value: f"{value:.2f}"),
)
NUMERIC = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda part: f"({part[0]} {part[1]} {part[2]})"),
        inner.map(lambda part: f"(-{part})"),
    ),
    max_leaves=4,
)
CONDITION = st.recursive(
    st.one_of(
        st.tuples(NUMERIC, st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "crossed_above", "crossed_below"]), NUMERIC).map(" ".join),
        st.tuples(NUMERIC, NUMERIC).map(lambda pair: f"crossed_above({pair[0]}, {pair[1]})"),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda part: f"({part[0]} {part[1]} {part[2]})"),
        inner.map(lambda part: f"(not {part})"),
    ),
    max_leaves=5,
)
COLUMNS = st.integers(1, 12).flatmap(
    lambda length: st.fixed_dictionaries({
        name: st.lists(VALUES, min_size=length, max_size=length).map(lambda values: np.array(values, np.float64))
        for name in ("open", "high", "low", "close", "volume", "sma_20", "rsi_14", "macd_hist")
    }),
)


@settings(max_examples=150, deadline=None)
@given(CONDITION, COLUMNS)
def test_bar_by_bar_and_over_columns_are_the_same(text, table):
    expression = parse(text)
    over = evaluate(expression, table)
    assert over.dtype == np.bool_
    assert [evaluate_at(expression, table, index) for index in range(len(over))] == over.tolist()
    assert evaluate_at(expression, table, -1) == over[-1]


COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


@settings(max_examples=150, deadline=None)
@given(CONDITION.filter(lambda text: "crossed" not in text), COLUMNS)
def test_where_every_name_has_a_value_it_is_what_python_reads(text, table):
    over = evaluate(parse(text), table)
    for index, holds in enumerate(over.tolist()):
        row = {name: float(values[index]) for name, values in table.items()}
        if all(math.isfinite(value) for value in row.values()):
            try:
                expected = eval(text, {"__builtins__": {}}, row)
            except ZeroDivisionError:
                continue
            assert holds == expected


@settings(max_examples=100, deadline=None)
@given(CONDITION, COLUMNS, st.integers(1, 11))
def test_later_bars_never_change_an_earlier_answer(text, table, cut):
    expression = parse(text)
    part = {name: values[:cut] for name, values in table.items()}
    assert evaluate(expression, part).tolist() == evaluate(expression, table)[:cut].tolist()


def test_a_rule_over_a_real_length_of_bars_agrees_at_every_bar():
    bars = wandering(400)
    expression = parse("macd crossed_above macd_signal and close > sma_50 or rsi_14 < 30 and not close < bbands_20_lower")
    table = {**compute(indicators_of(expression), bars), **price_columns(bars)}
    over = evaluate(expression, table)
    assert 0 < over.sum() < 400
    assert [evaluate_at(expression, table, index) for index in range(400)] == over.tolist()
    assert columns_of(indicator("macd")) == ("macd", "macd_signal", "macd_hist")
