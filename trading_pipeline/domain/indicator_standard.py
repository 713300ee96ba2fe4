"""The standard indicators, straight from TA-Lib, and the session VWAP, which is ours.

TA-Lib answers 0 where a value is 0/0: the RSI of a price that has not moved, the Williams %R of a window without
range. Zero reads as "oversold" or "overbought", so those values are NaN here. Otherwise the values are TA-Lib's:
EMAs are seeded with the mean of the first bars, Wilder averages with the mean of the first changes, Bollinger bands
use the population deviation, and both EMAs of the MACD begin at the same bar.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.bars import BarTable, Floats, instant_of
from trading_pipeline.domain.indicator_definition import Definition, Parameter
from trading_pipeline.domain.sessions import NEW_YORK

Values = Sequence[float]
Flags = npt.NDArray[np.bool_]

EXPONENTIAL = 12
"""Warm-ups after which an EMA's seed weighs less than 1e-10: (1 - 2/(n+1))^(12 n) < e^-23."""
WILDER = 24
"""The same for Wilder's average: (1 - 1/n)^(24 n) < e^-23."""


@cache
def _ta() -> Any:
    import talib

    return talib


def _length(default: int | None = None, low: int = 2) -> Parameter:
    return Parameter("length", default, low)


def _whole(name: str, default: int, low: int = 2) -> Parameter:
    return Parameter(name, default, low)


def _real(name: str, default: float, low: float = 0.001, high: float = 100.0) -> Parameter:
    return Parameter(name, default, low, high, whole=False)


def _direct(function: str, inputs: str) -> Callable[[BarTable, Values], Sequence[Floats]]:
    """TA-Lib's function over these columns, its parameters being ours in order."""
    columns = inputs.split()

    def compute(bars: BarTable, values: Values) -> Sequence[Floats]:
        result = getattr(_ta(), function)(*(getattr(bars, name) for name in columns), *values)
        return result if isinstance(result, tuple) else (result,)

    return compute


def _blank(values: Floats, undefined: Flags) -> Floats:
    return np.where(undefined, np.nan, values) if undefined.any() else values


def _within(flags: Flags, length: int) -> Flags:
    """Whether any of the newest `length` flags is set, bar by bar."""
    if not flags.any():
        return flags
    marks = np.concatenate((np.zeros(1), np.cumsum(flags, dtype=np.float64)))
    index = np.arange(1, len(flags) + 1)
    found: Flags = marks[index] > marks[np.maximum(index - length, 0)]
    return found


def _still(values: Floats, length: int) -> Flags:
    """Whether the newest `length` values are all the same, bar by bar; True while there are fewer."""
    moved = np.zeros(len(values), np.bool_)
    moved[1:] = np.diff(values) != 0
    still: Flags = ~_within(moved, length - 1)
    return still


def _no_range(bars: BarTable, length: int) -> Flags:
    """Whether highest high and lowest low of the newest `length` bars are one."""
    flat: Flags = _still(bars.high, length) & _still(bars.low, length) & (bars.high == bars.low)
    return flat


def _rsi(bars: BarTable, values: Values) -> Sequence[Floats]:
    if len(bars) > 1 and bars.close[0] != bars.close[1]:
        return (_ta().RSI(bars.close, values[0]),)
    never_moved = np.cumsum(np.concatenate((np.zeros(min(1, len(bars))), np.diff(bars.close) != 0))) == 0
    return (_blank(_ta().RSI(bars.close, values[0]), never_moved),)


def _stoch(bars: BarTable, values: Values) -> Sequence[Floats]:
    length, smooth, signal = (int(value) for value in values)
    slow_k, slow_d = _ta().STOCH(bars.high, bars.low, bars.close, length, smooth, 0, signal, 0)
    flat = _no_range(bars, length)
    return _blank(slow_k, _within(flat, smooth)), _blank(slow_d, _within(flat, smooth + signal - 1))


def _stochf(bars: BarTable, values: Values) -> Sequence[Floats]:
    length, signal = (int(value) for value in values)
    fast_k, fast_d = _ta().STOCHF(bars.high, bars.low, bars.close, length, signal, 0)
    flat = _no_range(bars, length)
    return _blank(fast_k, flat), _blank(fast_d, _within(flat, signal))


def _willr(bars: BarTable, values: Values) -> Sequence[Floats]:
    return (_blank(_ta().WILLR(bars.high, bars.low, bars.close, values[0]), _no_range(bars, int(values[0]))),)


def _cci(bars: BarTable, values: Values) -> Sequence[Floats]:
    typical = (bars.high + bars.low + bars.close) / 3
    return (_blank(_ta().CCI(bars.high, bars.low, bars.close, values[0]), _still(typical, int(values[0]))),)


def _mfi(bars: BarTable, values: Values) -> Sequence[Floats]:
    length = int(values[0])
    typical = (bars.high + bars.low + bars.close) / 3
    flows = np.zeros(len(bars), np.bool_)
    flows[1:] = (np.diff(typical) != 0) & (bars.volume[1:] > 0)
    result = _ta().MFI(bars.high, bars.low, bars.close, bars.volume, length)
    return (_blank(result, ~_within(flows, length)),)


def _bbands(bars: BarTable, values: Values) -> Sequence[Floats]:
    upper, middle, lower = _ta().BBANDS(bars.close, values[0], float(values[1]), float(values[1]), 0)
    return upper, middle, lower


def _donchian(bars: BarTable, values: Values) -> Sequence[Floats]:
    upper, lower = _ta().MAX(bars.high, values[0]), _ta().MIN(bars.low, values[0])
    return upper, (upper + lower) / 2, lower


def _ppo(bars: BarTable, values: Values) -> Sequence[Floats]:
    return (_ta().PPO(bars.close, values[0], values[1], 1),)


def _apo(bars: BarTable, values: Values) -> Sequence[Floats]:
    return (_ta().APO(bars.close, values[0], values[1], 1),)


def _stddev(bars: BarTable, values: Values) -> Sequence[Floats]:
    return (_ta().STDDEV(bars.close, values[0], 1.0),)


def _vwap(bars: BarTable, _: Values) -> Sequence[Floats]:
    """Volume-weighted mean of (high + low + close) / 3 since the first bar of the New York day.

    NaN while nothing has traded, and in a first session of the table that begins after 09:30 (the reading began in
    the middle of it). Five hours are taken off UTC to find the New York day: right for any bar from 01:00 to 23:00.
    """
    result = np.full(len(bars), np.nan)
    if not len(bars):
        return (result,)
    day = (bars.start - 5 * 3_600_000_000_000) // 86_400_000_000_000
    edges = [0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), len(bars)]
    first = instant_of(bars.start[0]).astimezone(NEW_YORK)
    whole_from = 0 if (first.hour, first.minute) <= (9, 30) else 1
    typical = (bars.high + bars.low + bars.close) / 3
    for begin, end in list(pairwise(edges))[whole_from:]:
        volume = np.cumsum(bars.volume[begin:end])
        turnover = np.cumsum(typical[begin:end] * bars.volume[begin:end])
        np.divide(turnover, volume, out=result[begin:end], where=volume > 0)
    return (result,)


def _define(
    name: str, compute: Callable[[BarTable, Values], Sequence[Floats]], *parameters: Parameter, outputs: str = "", memory: int = 1,
    price: bool = False,
) -> tuple[str, Definition]:
    named = tuple("" if output == "-" else output for output in outputs.split()) or ("",)
    return name, Definition(name, parameters, named, compute, memory, price)


STANDARD: dict[str, Definition] = dict([
    _define("sma", _direct("SMA", "close"), _length(), price=True),
    _define("ema", _direct("EMA", "close"), _length(), memory=EXPONENTIAL, price=True),
    _define("wma", _direct("WMA", "close"), _length(), price=True),
    _define("dema", _direct("DEMA", "close"), _length(), memory=EXPONENTIAL, price=True),
    _define("tema", _direct("TEMA", "close"), _length(), memory=EXPONENTIAL, price=True),
    _define("trima", _direct("TRIMA", "close"), _length(), price=True),
    _define("kama", _direct("KAMA", "close"), _length(10), memory=WILDER, price=True),
    _define("bbands", _bbands, _length(20), _real("deviations", 2.0), outputs="upper middle lower", price=True),
    _define("donchian", _donchian, _length(20), outputs="upper middle lower", price=True),
    _define("highest", _direct("MAX", "high"), _length(), price=True),
    _define("lowest", _direct("MIN", "low"), _length(), price=True),
    _define(
        "sar", _direct("SAR", "high low"), _real("step", 0.02, high=1.0), _real("maximum", 0.2, high=1.0), memory=EXPONENTIAL, price=True,
    ),
    _define("vwap", _vwap, price=True),
    _define("rsi", _rsi, _length(14), memory=WILDER),
    _define(
        "macd", _direct("MACD", "close"), _whole("fast", 12), _whole("slow", 26), _whole("signal", 9), outputs="- signal hist",
        memory=EXPONENTIAL,
    ),
    _define("ppo", _ppo, _whole("fast", 12), _whole("slow", 26), memory=EXPONENTIAL),
    _define("apo", _apo, _whole("fast", 12), _whole("slow", 26), memory=EXPONENTIAL),
    _define("stoch", _stoch, _length(14), _whole("smooth", 3, 1), _whole("signal", 3, 1), outputs="k d"),
    _define("stochf", _stochf, _length(14), _whole("signal", 3, 1), outputs="k d"),
    _define("willr", _willr, _length(14)),
    _define("cci", _cci, _length(20)),
    _define("mfi", _mfi, _length(14)),
    _define("cmo", _direct("CMO", "close"), _length(14), memory=WILDER),
    _define("mom", _direct("MOM", "close"), _length(10, 1)),
    _define("roc", _direct("ROC", "close"), _length(10, 1)),
    _define("trix", _direct("TRIX", "close"), _length(30), memory=EXPONENTIAL),
    _define("ultosc", _direct("ULTOSC", "high low close"), _whole("fast", 7, 1), _whole("middle", 14, 1), _whole("slow", 28, 1)),
    _define("adx", _direct("ADX", "high low close"), _length(14), memory=WILDER),
    _define("plus_di", _direct("PLUS_DI", "high low close"), _length(14), memory=WILDER),
    _define("minus_di", _direct("MINUS_DI", "high low close"), _length(14), memory=WILDER),
    _define("aroon", _direct("AROON", "high low"), _length(14), outputs="down up"),
    _define("aroonosc", _direct("AROONOSC", "high low"), _length(14)),
    _define("true_range", _direct("TRANGE", "high low close")),
    _define("atr", _direct("ATR", "high low close"), _length(14), memory=WILDER),
    _define("natr", _direct("NATR", "high low close"), _length(14), memory=WILDER),
    _define("stddev", _stddev, _length(20)),
    _define("linreg", _direct("LINEARREG", "close"), _length(14), price=True),
    _define("linreg_slope", _direct("LINEARREG_SLOPE", "close"), _length(14)),
    _define("obv", _direct("OBV", "close volume")),
    _define("ad", _direct("AD", "high low close volume")),
    _define("adosc", _direct("ADOSC", "high low close volume"), _whole("fast", 3), _whole("slow", 10), memory=EXPONENTIAL),
    _define("volume_sma", _direct("SMA", "volume"), _length()),
    _define("volume_ema", _direct("EMA", "volume"), _length(), memory=EXPONENTIAL),
])
