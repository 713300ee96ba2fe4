"""What a chart shows. The picture itself is made by `adapters.chart_png`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A chart of the newest `bars` bars: candles, volume, overlays on the price, panels below.

    Overlays and panels name indicator columns' families: `sma_20`, `bbands_20`; `rsi_14`, `macd`.
    Width and height are pixels.
    """

    bars: int = 120
    overlays: tuple[str, ...] = ("sma_20", "sma_50")
    panels: tuple[str, ...] = ("rsi_14", "macd")
    width: int = 1000
    height: int = 700
