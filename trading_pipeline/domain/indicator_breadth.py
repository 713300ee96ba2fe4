"""The breadth of pandas-ta-classic, for what TA-Lib's standard set has not.

A table of data: inputs, parameters in the order they are written, the columns' endings. Only functions with numeric
parameters whose values do not depend on later bars are here; a test computes every row over a series and over its
beginnings. `ichimoku` and `dpo` look ahead by default and are called with that switched off; `tos_stdevall` and `vp`
summarise a whole series, and `amat`, `ttm_trend`, `ht_trendmode`, `cdl_doji` answer
0 in their warm-up: they are left out. A parameter that is not written has the library's own default.

pandas is imported when one of these is first computed and nowhere else in the domain.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.indicator_definition import Definition, Parameter

_UNIT = (0.001, 1.0)
_FACTOR = (0.01, 1000.0)
_REAL = {
    "distribution_offset": _UNIT, "na": _UNIT, "nb": _UNIT, "nc": _UNIT, "nd": _UNIT, "q": _UNIT, "a": _UNIT, "gamma": _UNIT,
    "fastlimit": _UNIT, "slowlimit": _UNIT, "coef": _UNIT,
    "sigma": _FACTOR, "multiplier": _FACTOR, "scalar": _FACTOR, "factor": _FACTOR, "std": _FACTOR, "x": _FACTOR, "vcoef": _FACTOR,
    "bb_std": _FACTOR, "kc_scalar": _FACTOR, "kc_scalar_wide": _FACTOR, "kc_scalar_normal": _FACTOR, "kc_scalar_narrow": _FACTOR,
    "long": _FACTOR, "short": _FACTOR, "base": (1.01, 1000.0),
}
"""Parameters that need not be whole, with their ranges; all others are whole numbers from 1 to 1000."""
_LOOKS_AHEAD = {"ichimoku": {"lookahead": False}, "dpo": {"centered": False}}
"""Functions that show later bars unless told not to, and how they are told."""
_MEMORY = 24
"""Nothing is known of how long these remember their seed: the most cautious factor of the standard set."""


def _function(
    name: str, inputs: Sequence[str], parameters: Sequence[Parameter], count: int,
) -> Callable[[BarTable, Sequence[float]], Sequence[Floats]]:
    def compute(bars: BarTable, values: Sequence[float]) -> Sequence[Floats]:
        if not len(bars):
            return [np.empty(0, np.float64)] * count
        import pandas as pd

        index = pd.DatetimeIndex(bars.start, tz="UTC")
        named = {parameter.name: value for parameter, value in zip(parameters, values, strict=False)}
        columns = {("open_" if name == "open" else name): pd.Series(getattr(bars, name), index) for name in inputs}
        # The library warns of its own deprecations, at import and later, and of 0/0, which is NaN here.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            import pandas_ta_classic

            result: Any = getattr(pandas_ta_classic, name)(**columns, **named, **_LOOKS_AHEAD.get(name, {}), talib=True)
        if isinstance(result, tuple):
            result = result[0]
        if result is None:
            return [np.full(len(bars), np.nan)] * count
        frame = result.to_frame() if isinstance(result, pd.Series) else result
        outputs = (frame.iloc[:, column].to_numpy(np.float64, na_value=np.nan) for column in range(count))
        return [np.where(np.isfinite(column), column, np.nan) for column in outputs]

    return compute


def _row(name: str, inputs: str, parameters: str = "length", outputs: str = "", price: bool = False) -> tuple[str, Definition]:
    named = tuple(
        Parameter(parameter, None, *_REAL.get(parameter, (1, 1000)), whole=parameter not in _REAL)
        for parameter in parameters.split()
    )
    endings = tuple("" if output == "-" else output for output in outputs.split()) or ("",)
    return name, Definition(name, named, endings, _function(name, inputs.split(), named, len(endings)), _MEMORY, price, optional=True)


_HLC = "high low close"
_OHLC = "open high low close"
_HLCV = "high low close volume"

BREADTH: dict[str, Definition] = dict([
    _row("alma", "close", "length sigma distribution_offset", price=True),
    _row("fwma", "close", price=True),
    _row("hilo", _HLC, "high_length low_length", "- long short", price=True),
    _row("hl2", "high low", "", price=True),
    _row("hlc3", _HLC, "", price=True),
    _row("hma", "close", price=True),
    _row("ht_trendline", "close", "", price=True),
    _row("hwma", "close", "na nb nc", price=True),
    _row("ichimoku", _HLC, "tenkan kijun senkou", "span_a span_b tenkan kijun", price=True),
    _row("jma", "close", price=True),
    _row("linregintercept", "close", price=True),
    _row("mama", "close", "fastlimit slowlimit", "- fama", price=True),
    _row("mcgd", "close", price=True),
    _row("midpoint", "close", price=True),
    _row("midprice", "high low", price=True),
    _row("ohlc4", _OHLC, "", price=True),
    _row("pwma", "close", price=True),
    _row("rma", "close", price=True),
    _row("sinwma", "close", price=True),
    _row("ssf", "close", "length poles", price=True),
    _row("supertrend", _HLC, "length multiplier", "- direction long short", price=True),
    _row("swma", "close", price=True),
    _row("t3", "close", "length a", price=True),
    _row("tsf", "close", price=True),
    _row("typprice", _HLC, "", price=True),
    _row("vidya", "close", price=True),
    _row("vwma", "close volume", price=True),
    _row("wcp", _HLC, "", price=True),
    _row("zlma", "close", price=True),
    _row("accbands", _HLC, "length", "lower middle upper", price=True),
    _row("cksp", _HLC, "p x q", "long short", price=True),
    _row("ce", _HLC, "length multiplier", "long short", price=True),
    _row("kc", _HLC, "length scalar", "lower middle upper", price=True),
    _row("pmax", _HLC, "length multiplier", price=True),
    _row("hwc", "close", "na nb nc nd", "middle upper lower", price=True),
    _row("ha", _OHLC, "", "open high low close", price=True),
    _row("aberration", _HLC, "length atr_length", "middle upper lower atr", price=True),
    _row("adxr", _HLC, "length", "- plus minus"),
    _row("chop", _HLC),
    _row("decay", "close", "length"),
    _row("decreasing", "close"),
    _row("increasing", "close"),
    _row("dpo", "close"),
    _row("dx", _HLC),
    _row("dm", "high low", "length", "plus minus"),
    _row("qstick", "open close"),
    _row("vhf", "close"),
    _row("vortex", _HLC, "length", "plus minus"),
    _row("linregangle", "close"),
    _row("entropy", "close", "length base"),
    _row("kurtosis", "close"),
    _row("mad", "close"),
    _row("median", "close", price=True),
    _row("quantile", "close", "length q", price=True),
    _row("skew", "close"),
    _row("stderr", "close"),
    _row("stdev", "close"),
    _row("variance", "close"),
    _row("zscore", "close", "length std"),
    _row("dsp", "close"),
    _row("ebsw", "close", "length bars"),
    _row("ht_dcperiod", "close", ""),
    _row("ht_dcphase", "close", ""),
    _row("ht_phasor", "close", "", "inphase quadrature"),
    _row("ht_sine", "close", "", "- lead"),
    _row("msw", "close", "period", "- lead"),
    _row("drawdown", "close", "", "- fraction log"),
    _row("log_return", "close"),
    _row("percent_return", "close"),
    _row("cvi", "high low"),
    _row("hvol", "close"),
    _row("massi", "high low", "fast slow"),
    _row("pdist", _OHLC, ""),
    _row("rvi", "close high low"),
    _row("thermo", "high low", "length long short", "- ma long short"),
    _row("ui", "close"),
    _row("cmf", _HLCV),
    _row("efi", "close volume"),
    _row("emv", "high low volume", ""),
    _row("eom", _HLCV),
    _row("kvo", _HLCV, "fast slow signal", "- signal"),
    _row("marketfi", "high low volume", ""),
    _row("nvi", "close volume"),
    _row("pvi", "close volume"),
    _row("pvo", "volume", "fast slow signal", "- hist signal"),
    _row("pvol", "close volume", ""),
    _row("pvr", "close volume", ""),
    _row("pvt", "close volume", ""),
    _row("vfi", "close volume", "length coef vcoef"),
    _row("vosc", "volume", "fast slow"),
    _row("wad", _HLC, ""),
    _row("cdl_inside", _OHLC, ""),
    _row("ao", "high low", "fast slow"),
    _row("bias", "close"),
    _row("bop", _OHLC, ""),
    _row("brar", _OHLC, "length", "ar br"),
    _row("cfo", "close"),
    _row("cg", "close"),
    _row("coppock", "close", "length fast slow"),
    _row("cti", "close"),
    _row("er", "close"),
    _row("eri", _HLC, "length", "bull bear"),
    _row("fisher", "high low", "length signal", "- signal"),
    _row("fosc", "close"),
    _row("inertia", "close high low", "length rvi_length"),
    _row("kdj", _HLC, "length signal", "k d j"),
    _row("kst", "close", "roc1 roc2 roc3 roc4 sma1 sma2 sma3 sma4 signal", "- signal"),
    _row("lrsi", "close", "length gamma"),
    _row("pgo", _HLC),
    _row("po", "close"),
    _row("psl", "close open"),
    _row("qqe", "close", "length smooth factor", "- rsi_ma long short band_long band_short direction"),
    _row("rsx", "close"),
    _row("rvgi", _OHLC, "length swma_length", "hist - signal"),
    _row("slope", "close"),
    _row("smi", "close", "fast slow signal", "- signal oscillator"),
    _row("squeeze", _HLC, "bb_length bb_std kc_length kc_scalar mom_length mom_smooth", "- on off none"),
    _row(
        "squeeze_pro", _HLC, "bb_length bb_std kc_length kc_scalar_wide kc_scalar_normal kc_scalar_narrow mom_length mom_smooth",
        "- on_wide on_normal on_narrow off none",
    ),
    _row("stc", "close", "tclength fast slow factor", "- macd stoch"),
    _row("stochrsi", "close", "length rsi_length k d", "k d"),
    _row("tsi", "close", "fast slow signal", "- signal"),
    _row("vwmacd", "close volume", "fast slow signal", "- hist signal"),
])
