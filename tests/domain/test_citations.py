"""61: figures cited against ours: right as they were rounded, wrong with the difference, unknown and never right."""

from decimal import Decimal

import numpy as np
import pytest

from tests.domain.market_tables import table
from trading_pipeline.domain.citations import TOLERANCE, misquotes
from trading_pipeline.domain.signals import Figure

BARS = table([10.0, 65.1025], open_=[1, 64.5], high=[1, 66.0], low=[1, 64.0], volume=[1, 15_234_567])
COLUMNS = {"rsi_14": np.array([50.0, 28.37]), "macd_hist": np.array([0.1, -0.01234]), "sma_200": np.array([np.nan, np.nan]),
           "obv": np.array([0.0, 0.0])}


def cited(name, said):
    [citation] = misquotes([Figure(name, Decimal(said))], BARS, COLUMNS).citations
    return citation


@pytest.mark.parametrize(("name", "said"), [
    ("close", "65.1025"), ("close", "65.10"), ("close", "65.1"), ("close", "65"), ("open", "64.5"), ("rsi_14", "28"), ("rsi_14", "28.4"),
    ("rsi_14", "28.37"), ("macd_hist", "-0.012"), ("macd_hist", "-0.01"), ("volume", "15234567"), ("volume", "15.23E+6"),
    ("volume", "15200000"), ("obv", "0"), ("obv", "0.0"),
])
def test_a_figure_that_ours_rounds_to_is_right(name, said):
    assert cited(name, said).right


def test_a_figure_within_half_a_per_cent_is_right_and_beyond_it_is_not():
    # 65.1025 x 1.005 = 65.4280125
    assert Decimal("0.005") == TOLERANCE
    assert cited("close", "65.4280").right
    assert not cited("close", "65.4281").right


@pytest.mark.parametrize(("name", "said", "difference"), [
    ("close", "60.00", "0.0784"), ("rsi_14", "35.2", "0.2407"), ("macd_hist", "0.0123", "1.9968"), ("volume", "1000000", "0.9344"),
    ("close", "64", "0.0169"), ("obv", "5", "1.0000"),
])
def test_a_wrong_figure_has_its_difference_as_a_fraction_of_ours(name, said, difference):
    citation = cited(name, said)
    assert not citation.right
    assert citation.difference.quantize(Decimal("0.0001")) == Decimal(difference)


def test_the_value_of_an_earlier_bar_is_wrong():
    assert not cited("rsi_14", "50").right
    assert not cited("close", "10").right


@pytest.mark.parametrize("name", ["pe_ratio", "support", "sma_200", "rsi_9", "close_", "bbands_20", "sma", "last"])
def test_a_name_without_a_value_of_ours_is_unknown_and_never_right(name):
    citation = cited(name, "28.37")
    assert (citation.right, citation.ours, citation.difference) == (False, None, None)
    assert "none of our figures" in citation.words


def test_another_way_to_write_an_indicator_is_known():
    assert cited("rsi", "28.37").right
    assert cited("macd_12_26_9_hist", "-0.0123").right


def test_what_is_wrong_is_said_in_words_and_what_is_right_is_not():
    found = misquotes([Figure("close", Decimal("65.10")), Figure("rsi_14", Decimal("35.2")), Figure("pe", Decimal(3))], BARS, COLUMNS)
    assert found.words == ("rsi_14 35.2 is 28.37 (24.1% off)", "pe 3 is none of our figures at this bar")


def test_the_worst_is_the_largest_difference_of_a_wrong_figure():
    said = [Figure("close", Decimal("65.1")), Figure("rsi_14", Decimal("35.2")), Figure("volume", Decimal(15_500_000))]
    assert misquotes(said, BARS, COLUMNS).worst.quantize(Decimal("0.001")) == Decimal("0.241")
    assert misquotes([*said, Figure("pe", Decimal(3))], BARS, COLUMNS).worst < 1
    assert misquotes(said[:1], BARS, COLUMNS).worst is None
    assert misquotes([], BARS, COLUMNS).words == ()
