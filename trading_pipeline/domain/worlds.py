"""What each world must supply to the rulebook, as data (D30).

REQUIRED comes from outside and its absence denies; DERIVED is computed and says how; NOT_APPLICABLE cannot
exist there and is shown as such in the verdict, never silently passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from trading_pipeline.domain.risk import World

ENVIRONMENTS: Final = frozenset({"live", "paper", "backtest", "demo"})
"""The closed set of D31."""


class Supply(StrEnum):
    """How an input comes about in a world."""

    REQUIRED = "required"
    DERIVED = "derived"
    NOT_APPLICABLE = "not_applicable"


class Input(StrEnum):
    """An input that not every world can supply."""

    QUOTE = "quote"
    SPREAD = "spread"
    AVERAGE_VOLUME = "average_volume"
    SECTOR = "sector"
    HALTS = "halts"
    CLOCK_OFFSET = "clock_offset"
    CONTRACT = "contract"
    VOLATILITY = "volatility"


@dataclass(frozen=True, slots=True)
class Source:
    """One cell of the table; `how` completes the sentence a person reads in the verdict."""

    supply: Supply
    how: str


_PAPER_QUOTE = Source(Supply.DERIVED, "quote derived from the open of the bar that contains now, stamped with the market clock")
_PAPER_SPREAD = Source(Supply.DERIVED, "spread derived from the paper broker's setting")
_VOLUME = Source(Supply.DERIVED, "volume derived from the archive: up to 20 prior sessions")
_SECTOR = Source(Supply.NOT_APPLICABLE, "no source of sectors; judged when a sector is known")
_NO_HALTS = Source(Supply.NOT_APPLICABLE, "recorded bars carry no halts or price bands")
_OWN_CLOCK = Source(Supply.NOT_APPLICABLE, "the market clock is our own")
_SHORT_HISTORY = Source(Supply.NOT_APPLICABLE, "the archive holds too few bars to tell what is usual; judged when it holds enough")
_BY_SYMBOL = Source(Supply.NOT_APPLICABLE, "the archive and the paper broker know symbols, not contracts")

SOURCES: Final[Mapping[Input, Mapping[World, Source]]] = MappingProxyType(
    {
        Input.QUOTE: {
            World.LIVE: Source(Supply.REQUIRED, "quote from the market data source"),
            World.REPLAY: _PAPER_QUOTE, World.BACKTEST: _PAPER_QUOTE,
        },
        Input.SPREAD: {
            World.LIVE: Source(Supply.REQUIRED, "spread from the market data source"),
            World.REPLAY: _PAPER_SPREAD, World.BACKTEST: _PAPER_SPREAD,
        },
        Input.AVERAGE_VOLUME: {World.LIVE: _VOLUME, World.REPLAY: _VOLUME, World.BACKTEST: _VOLUME},
        Input.SECTOR: {World.LIVE: _SECTOR, World.REPLAY: _SECTOR, World.BACKTEST: _SECTOR},
        Input.HALTS: {
            World.LIVE: Source(Supply.REQUIRED, "halts and price bands from the market data source"),
            World.REPLAY: _NO_HALTS, World.BACKTEST: _NO_HALTS,
        },
        Input.CLOCK_OFFSET: {
            World.LIVE: Source(Supply.REQUIRED, "offset measured against the broker or NTP"),
            World.REPLAY: _OWN_CLOCK, World.BACKTEST: _OWN_CLOCK,
        },
        Input.CONTRACT: {
            World.LIVE: Source(Supply.REQUIRED, "contract id from the broker"),
            World.REPLAY: _BY_SYMBOL, World.BACKTEST: _BY_SYMBOL,
        },
        Input.VOLATILITY: {
            World.LIVE: Source(Supply.REQUIRED, "volatility from the archive: 12 sessions before this one, or 65 daily bars"),
            World.REPLAY: _SHORT_HISTORY, World.BACKTEST: _SHORT_HISTORY,
        },
    }
)


def how_supplied(what: Input, world: World) -> str:
    """The words for a verdict when the input is derived; empty when it comes as it is."""
    source = SOURCES[what][world]
    return source.how if source.supply is Supply.DERIVED else ""


def not_supplied(what: Input, world: World) -> str | None:
    """Why the world cannot have this input, or None when it must."""
    source = SOURCES[what][world]
    return source.how if source.supply is Supply.NOT_APPLICABLE else None
