"""A report on a result as data: what every face shows, in the order in which it is told, and in the same words.

The verdict comes first, then what the founding documents aimed at. A figure that does not exist is a dash with the reason beside it. How it
is drawn is up to the adapters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from trading_pipeline.domain.backtests import Trade
from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.performance.definitions import Definition, Unit

DASH = "–"


class Validation(Protocol):
    """What a report needs of a validation: whether the result may be luck."""

    @property
    def headline(self) -> str:
        """One sentence that begins with the verdict and says why."""

    @property
    def passed(self) -> bool:
        """Whether it is validated."""

    @property
    def sections(self) -> Sequence[tuple[str, str, bytes | None]]:
        """Title, Markdown and a PNG, in order."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in words; `note` stands small beside it, `gain` says which way a signed amount goes."""

    text: str
    note: str = ""
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class ReportTable:
    """`name` for metadata, `title` and `note` for people."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that the founding documents name, what they aim at, and what was reached; `met` is None where there is none."""

    title: str
    aim: str
    reached: Cell
    met: bool | None


@dataclass(frozen=True, slots=True)
class Line:
    """One account over the sessions."""

    name: str
    sessions: tuple[date, ...]
    equity: Floats
    cash: float


@dataclass(frozen=True, slots=True)
class PriceChart:
    """The bars of one symbol, and the trades in it on the same share scale."""

    bars: BarTable
    trades: tuple[Trade, ...]


@dataclass(frozen=True, slots=True)
class YearOfMonths:
    """A calendar year; a month without a session is None."""

    year: int
    months: tuple[float | None, ...]
    """Twelve fractions."""
    total: float


@dataclass(frozen=True, slots=True)
class Section:
    """Part of a validation."""

    title: str
    markdown: str
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class BacktestReport:
    """Everything that is told of one result."""

    title: str
    about: str
    """Period, bars, account: one line."""
    headline: str
    """NOT VALIDATED and why, or the validation's verdict."""
    passed: bool
    targets: tuple[Target, ...]
    figures: tuple[ReportTable, ...]
    """By subject; one column an account: the strategy, buy and hold, the rules agent."""
    tiles: tuple[tuple[str, Cell, str], ...]
    """The few that everybody asks for first: title, value, and what the other accounts came to."""
    lines: tuple[Line, ...]
    """The strategy first."""
    months: tuple[YearOfMonths, ...]
    validation: tuple[Section, ...]
    groups: tuple[ReportTable, ...]
    """By symbol, exit reason, strategy and month."""
    charts: tuple[PriceChart, ...]
    trades: ReportTable
    record: tuple[ReportTable, ...]
    """Costs, decisions, denials."""
    definitions: ReportTable
    assumptions: tuple[str, ...]
    command: str
    provenance: tuple[tuple[str, str], ...]
    """What made it: (name, value)."""


def written(definition: Definition, value: float | None) -> Cell:
    """A figure in words; a dash and the reason where there is none."""
    if value is None:
        return Cell(DASH, definition.undefined)
    match definition.unit:
        case Unit.FRACTION:
            text = fraction(value, signed=definition.signed)
        case Unit.USD:
            text = dollars(value, signed=definition.signed)
        case Unit.RATIO:
            text = f"{value:.2f}"
        case Unit.COUNT:
            text = f"{value:,.0f}"
        case Unit.SESSIONS:
            text = sessions(value)
        case Unit.TIMES:
            text = f"{value:.2f} x"
        case Unit.BASIS_POINTS:
            text = f"{10_000 * value:.2f} bp"
    return Cell(text, gain=value if definition.signed else 0.0)


def sessions(value: float) -> str:
    """`1 session`, `252 sessions`, and a mean as `8.3 sessions`."""
    return f"{value:,.0f} session{'' if value == 1 else 's'}" if value == int(value) else f"{value:,.1f} sessions"


def fraction(value: float, *, signed: bool = False) -> str:
    """`12.34 %`, and `+12.34 %` where signed."""
    shown = round(100 * value, 2) + 0.0
    return f"{shown:{'+' if signed and shown else ''}.2f} %"


def dollars(value: float, *, signed: bool = False) -> str:
    """`$1,234.50`, `-$3.00`, and `+$3.00` where signed."""
    cents = round(value, 2)
    return f"{'-' if cents < 0 else '+' if signed and cents > 0 else ''}${abs(cents):,.2f}"
