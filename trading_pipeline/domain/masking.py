"""What a model is not told, so that it cannot remember what came next (D7): symbol, dates, price level.

A `Disguise` is made from the bars of one question, tells everything in the model's terms, and turns a signal back into ours. Prices are
multiplied by one number, so that the newest close is 100; volumes by another, so that they average a million; indicators are computed
anew from those bars, whatever their units are. Dates are not changed here: whoever writes or draws leaves them out (`dated`).
Words of a rationale stay as they were said.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Final

from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.indicators import IndicatorSpec, column, compute
from trading_pipeline.domain.models import Mask
from trading_pipeline.domain.signals import Figure, Hints, Signal
from trading_pipeline.errors import InputError

NEUTRAL: Final = "ASSET"
"""What a masked symbol is called."""
CLOSE: Final = 100.0
"""What the newest close is behind a mask of prices."""
VOLUME: Final = 1_000_000.0
"""What volume is on average behind it."""
_PRICES = ("open", "high", "low", "close")
_EXACT = Context(prec=6)


@dataclass(frozen=True, slots=True)
class Disguise:
    """How one question is told: what the symbol is called, and what prices and volumes are multiplied by."""

    masks: frozenset[Mask]
    bars: BarTable
    """As they are."""
    price: float = 1.0
    volume: float = 1.0

    @classmethod
    def over(cls, masks: frozenset[Mask], bars: BarTable) -> "Disguise":
        """The disguise of a question about these bars.

        Args:
            bars: At least one, the newest last.
        """
        if Mask.PRICES not in masks:
            return cls(masks, bars)
        traded = float(bars.volume.mean())
        return cls(masks, bars, CLOSE / float(bars.close[-1]), VOLUME / traded if traded > 0 else 1.0)

    @property
    def symbol(self) -> str:
        """The symbol as the model is told it."""
        return NEUTRAL if Mask.SYMBOL in self.masks else self.bars.symbol

    @property
    def dated(self) -> bool:
        """Whether the model is told dates and times."""
        return Mask.DATES not in self.masks

    @property
    def scaled(self) -> bool:
        """Whether prices and volumes are told on another scale."""
        return Mask.PRICES in self.masks

    def told(self) -> BarTable:
        """The bars in the model's terms; their instants are the true ones, for what is computed by session."""
        scaled = {name: getattr(self.bars, name) * self.price for name in _PRICES} if self.scaled else {}
        if self.scaled:
            scaled["volume"] = self.bars.volume * self.volume
        return replace(self.bars, symbol=self.symbol, **scaled)

    def columns(self, specs: tuple[IndicatorSpec, ...], ours: Mapping[str, Floats]) -> Mapping[str, Floats]:
        """Indicator columns in the model's terms: computed anew where prices are scaled, ours otherwise."""
        return compute(specs, self.told()) if self.scaled else ours

    def price_told(self, price: Decimal) -> float:
        """A price, USD a share, in the model's terms."""
        return float(price) * self.price

    def unmasked(self, signal: Signal) -> Signal:
        """A signal about what was told, in our terms: symbol, hints, and the figures it cites, to six digits."""
        if not self.scaled:
            return replace(signal, symbol=self.bars.symbol)
        hints = Hints(
            _price(signal.hints.limit, self.price), _price(signal.hints.stop, self.price),
            tuple(price for target in signal.hints.targets if (price := _price(target, self.price)) is not None),
        )
        figures = tuple(Figure(figure.name, self._ours(figure)) for figure in signal.figures)
        return replace(signal, symbol=self.bars.symbol, hints=hints, figures=figures)

    def _ours(self, figure: Figure) -> Decimal:
        """A cited figure by as much as its own column differs between what was told and what is; an unknown name's stays."""
        try:
            name, spec = column(figure.name)
        except InputError:
            return figure.value
        if spec is None:
            factor = self.volume if name == "volume" else self.price
        else:
            told, ours = float(compute((spec,), self.told())[name][-1]), float(compute((spec,), self.bars)[name][-1])
            factor = told / ours if ours else math.nan
        if not math.isfinite(factor) or factor == 0:
            return figure.value
        return _EXACT.divide(figure.value, Decimal(factor))


def _price(told: Decimal | None, factor: float) -> Decimal | None:
    return None if told is None else _EXACT.divide(told, Decimal(factor))

