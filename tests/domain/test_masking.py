"""Masks: what is told betrays neither symbol nor price level, indicators follow from the bars told, a reply comes back in our terms."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from tests.domain.market_tables import table, wandering
from trading_pipeline.domain.bars import COLUMNS
from trading_pipeline.domain.citations import misquotes
from trading_pipeline.domain.indicators import compute, indicator, names
from trading_pipeline.domain.masking import Disguise
from trading_pipeline.domain.models import Mask
from trading_pipeline.domain.signals import Action, Figure, Hints, Signal
from trading_pipeline.errors import InputError

ALL = frozenset(Mask)
SPECS = tuple(indicator(name) for name in ("rsi_14", "macd", "atr_14", "sma_20", "volume_sma_20", "bbands_20"))


def scaled(bars, price, volume):
    changes = {name: getattr(bars, name) * price for name in ("open", "high", "low", "close")}
    return replace(bars, symbol="OTHER", volume=bars.volume * volume, **changes)


def test_without_a_mask_nothing_is_changed():
    bars = wandering(100)
    disguise = Disguise.over(frozenset(), bars)
    columns = compute(SPECS, bars)
    assert disguise.told() == bars
    assert disguise.columns(SPECS, columns) is columns
    assert (disguise.symbol, disguise.dated, disguise.scaled) == ("TEST", True, False)
    signal = Signal("TEST", Action.BUY, Decimal("0.7"), "up", figures=(Figure("close", Decimal("1.5")),), hints=Hints(stop=Decimal(1)))
    assert disguise.unmasked(signal) == signal


def test_behind_a_mask_of_prices_the_newest_close_is_100_and_volume_averages_a_million():
    told = Disguise.over(frozenset({Mask.PRICES}), wandering(100)).told()
    assert told.close[-1] == pytest.approx(100)
    assert told.volume.mean() == pytest.approx(1_000_000)
    bars = wandering(100)
    assert told.high / told.low == pytest.approx(bars.high / bars.low)
    assert told.symbol == "TEST"


def test_a_masked_symbol_is_called_asset():
    assert Disguise.over(frozenset({Mask.SYMBOL}), wandering(5)).told().symbol == "ASSET"


def test_two_stocks_that_differ_in_name_and_level_alone_are_told_alike():
    bars = wandering(300)
    # By powers of two, so that nothing is lost in rounding.
    one, other = (Disguise.over(ALL, each) for each in (bars, scaled(bars, 8.0, 0.25)))
    for name in COLUMNS:
        assert np.array_equal(getattr(one.told(), name), getattr(other.told(), name))
    for name, values in one.columns(SPECS, {}).items():
        assert np.array_equal(values, other.columns(SPECS, {})[name], equal_nan=True)


def test_indicators_are_those_of_the_bars_shown():
    bars = wandering(300)
    disguise = Disguise.over(ALL, bars)
    told, ours = disguise.columns(SPECS, {}), compute(SPECS, bars)
    assert told["rsi_14"][-1] == pytest.approx(ours["rsi_14"][-1])
    for name in ("atr_14", "macd_hist", "sma_20", "bbands_20_upper"):
        assert told[name][-1] == pytest.approx(ours[name][-1] * 100 / bars.close[-1])
    assert told["volume_sma_20"][-1] == pytest.approx(ours["volume_sma_20"][-1] * 1_000_000 / bars.volume.mean())


def test_no_indicator_of_the_library_betrays_the_price_level():
    bars = wandering(400)
    one, other = (Disguise.over(ALL, each) for each in (bars, scaled(bars, 8.0, 0.25)))
    betraying = []
    for name in names():
        try:
            spec = indicator(name)
        except InputError:
            spec = indicator(f"{name}_20")
        left, right = one.columns((spec,), {}), other.columns((spec,), {})
        betraying += [column for column in left if not np.array_equal(left[column], right[column], equal_nan=True)]
    assert betraying == []


def test_a_reply_comes_back_in_our_terms():
    bars = wandering(300)
    disguise = Disguise.over(ALL, bars)
    told, ours = disguise.columns(SPECS, {}), compute(SPECS, bars)
    figures = [("close", 100.0), *((name, told[name][-1]) for name in ("rsi_14", "atr_14", "macd_hist", "volume_sma_20"))]
    signal = Signal(
        "ASSET", Action.BUY, Decimal("0.7"), "up", figures=(*(Figure(name, Decimal(f"{said:.5g}")) for name, said in figures),
                                                             Figure("pe_ratio", Decimal(12))),
        hints=Hints(limit=Decimal(101), stop=Decimal(95), targets=(Decimal(110), Decimal(120))),
    )
    back = disguise.unmasked(signal)
    close = bars.close[-1]
    assert back.symbol == "TEST"
    assert float(back.hints.limit) == pytest.approx(1.01 * close, rel=1e-5)
    assert [float(target) for target in back.hints.targets] == pytest.approx([1.1 * close, 1.2 * close], rel=1e-5)
    assert back.hints.stop < back.hints.limit < back.hints.targets[0]
    for figure in back.figures[:-1]:
        expected = bars.close[-1] if figure.name == "close" else ours[figure.name][-1]
        assert float(figure.value) == pytest.approx(float(expected), rel=1e-4)
    assert back.figures[-1] == Figure("pe_ratio", Decimal(12))
    assert misquotes(back.figures[:-1], bars, ours).words == ()


def test_a_wrong_figure_stays_wrong_by_as_much():
    bars = wandering(300)
    disguise = Disguise.over(ALL, bars)
    back = disguise.unmasked(Signal("ASSET", Action.HOLD, Decimal(0), "x", figures=(Figure("close", Decimal(110)),)))
    assert float(misquotes(back.figures, bars, {}).worst) == pytest.approx(0.10, abs=1e-4)


def test_absent_hints_stay_absent_and_a_figure_that_is_zero_stays_zero():
    bars = table(np.full(60, 50.0))
    disguise = Disguise.over(ALL, bars)
    back = disguise.unmasked(Signal("ASSET", Action.HOLD, Decimal(0), "x", figures=(Figure("macd_hist", Decimal(0)),)))
    assert (back.hints, back.figures[0].value) == (Hints(), 0)


def test_bars_without_volume_can_be_masked():
    told = Disguise.over(ALL, table([50.0, 51.0], volume=[0, 0])).told()
    assert told.volume.tolist() == [0, 0]
