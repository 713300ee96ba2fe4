"""What a chart shows. The picture itself is made by `adapters.chart_png`."""

from dataclasses import dataclass

from trading_pipeline.domain.indicators import IndicatorSpec, indicator, on_price_axis
from trading_pipeline.errors import InputError

MAX_OVERLAYS = 8
MAX_PANELS = 4


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A chart of the newest `bars` bars: candles, volume, overlays on the price, panels below.

    Overlays and panels name indicators: `sma_20`, `bbands_20`; `rsi_14`, `macd`. An overlay's values are prices, or
    volumes (`volume_sma_20`, drawn over the volume); a panel has a scale of its own. Width and height are pixels.

    Raises:
        UnknownName: No such indicator.
        InputError: An indicator in the wrong place, too many of them, or a size out of range.
    """

    bars: int = 120
    overlays: tuple[str, ...] = ("sma_20", "sma_50")
    panels: tuple[str, ...] = ("rsi_14", "macd")
    width: int = 1000
    height: int = 700

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("bars", self.bars, 2, 1000), ("width", self.width, 320, 4000), ("height", self.height, 240, 4000),
            ("number of overlays", len(self.overlays), 0, MAX_OVERLAYS), ("number of panels", len(self.panels), 0, MAX_PANELS),
        ):
            if not low <= value <= high:
                raise InputError(
                    f"The chart's {name} cannot be {value}.", value=value, rule=f"it is from {low} to {high}",
                    remedy="choose a value in that range",
                )
        for text, spec in zip(self.overlays, self.overlay_indicators, strict=True):
            if not on_price_axis(spec) and not spec.name.startswith("volume_"):
                raise InputError(
                    f"{text} is no price and cannot lie over the candles.", value=text, rule="overlays share the scale of price or volume",
                    remedy="list it under panels",
                )
        for text, spec in zip(self.panels, self.panel_indicators, strict=True):
            if on_price_axis(spec) or spec.name.startswith("volume_"):
                raise InputError(
                    f"{text} has the scale of price or volume and needs no panel.", value=text, rule="a panel has a scale of its own",
                    remedy="list it under overlays",
                )

    @property
    def overlay_indicators(self) -> tuple[IndicatorSpec, ...]:
        """The overlays, parsed."""
        return tuple(indicator(text) for text in self.overlays)

    @property
    def panel_indicators(self) -> tuple[IndicatorSpec, ...]:
        """The panels, parsed."""
        return tuple(indicator(text) for text in self.panels)
