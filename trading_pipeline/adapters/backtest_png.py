"""The plots of a backtest as PNG: equity, drawdown, and the trades of one symbol on its prices.

Drawn by matplotlib's Agg without pyplot, so that no state is kept between calls; equal input gives equal bytes. Two inks: dark on light and
light on dark, for a page that follows the reader's setting. What colour says, a shape or a word says too. matplotlib is imported with the
first plot.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from trading_pipeline.adapters.chart_layout import date_ticks
from trading_pipeline.domain.backtests import ExitReason, Trade
from trading_pipeline.domain.bars import instant_ns
from trading_pipeline.domain.performance import underwater
from trading_pipeline.domain.performance.report import Line, PriceChart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
COLOURS = 96
"""A palette of so many makes a fifth of the bytes, and nobody sees it."""
_MANY_TRADES = 150
"""From so many on, marks are smaller and trades are not joined by a line."""


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours on a ground. Source of the hues: Okabe and Ito, Color Universal Design, lightened for the dark ground."""

    ground: str
    text: str
    muted: str
    grid: str
    lines: tuple[str, ...]
    gain: str
    loss: str


LIGHT = Ink("#ffffff", "#16202a", "#55616d", "#e6e9ed", ("#0072b2", "#b07800", "#8e44ad"), "#00936b", "#d1480f")
DARK = Ink("#12171d", "#e6edf3", "#9aa7b4", "#2a323b", ("#4db3f0", "#e6a521", "#c792ea"), "#2fc49a", "#ff7d4d")
_STYLES: tuple[Any, ...] = ("-", "-", (0, (4, 1.5)))


def equity_png(lines: Sequence[Line], ink: Ink = LIGHT) -> bytes:
    """What each account was worth at each close, as gain or loss on the cash it began with."""
    figure, axes = _figure(9.6, 4.4, ink)
    ends = []
    for number, line in enumerate(lines):
        gain = np.concatenate(([0.0], line.equity / line.cash - 1))
        at = np.arange(len(gain))
        axes.plot(at, gain, color=ink.lines[number % 3], linestyle=_STYLES[number % 3], linewidth=2.6 if number == 0 else 1.4,
                  zorder=5 - number, solid_joinstyle="round")
        ends.append((float(gain[-1]), f"{line.name}\n{gain[-1]:+.1%}", ink.lines[number % 3]))
    axes.axhline(0, color=ink.muted, linewidth=1)
    _dates(axes, lines[0].sessions)
    _per_cent(axes)
    _ends(axes, ends, len(lines[0].equity))
    _title(figure, "What was it worth?", "gain on the cash at the start, at each close, after costs", ink)
    return _png(figure)


def drawdown_png(lines: Sequence[Line], ink: Ink = LIGHT) -> bytes:
    """How far each account lay below its highest close so far; the first one as an area."""
    figure, axes = _figure(9.6, 3.4, ink)
    ends = []
    for number, line in enumerate(lines):
        below, color = np.concatenate(([0.0], underwater(line.equity, line.cash))), ink.lines[number % 3]
        at = np.arange(len(below))
        if number == 0:
            axes.fill_between(at, below, 0, color=color, alpha=0.22, linewidth=0)
        axes.plot(at, below, color=color, linestyle=_STYLES[number % 3], linewidth=2.0 if number == 0 else 1.2, zorder=5 - number)
        worst = float(below.min())
        ends.append((float(below[-1]), f"{line.name}\nworst {worst:.1%}", color))
    axes.axhline(0, color=ink.muted, linewidth=1)
    _dates(axes, lines[0].sessions)
    _per_cent(axes)
    axes.set_ylim(top=0.0)
    _ends(axes, ends, len(lines[0].equity))
    _title(figure, "How far did it fall?", "below the highest close so far", ink)
    return _png(figure)


def trades_png(chart: PriceChart, ink: Ink = LIGHT) -> bytes:
    """Closes of one symbol with its trades: where each began, and where and why it ended."""
    figure, axes = _figure(9.6, 4.0, ink)
    bars, trades = chart.bars, chart.trades
    axes.plot(np.arange(len(bars)), bars.close, color=ink.muted, linewidth=1.1, zorder=2)
    small = len(trades) > _MANY_TRADES
    size = 16 if small else 46
    starts = bars.start
    placed = [(trade, _place(trade.entry_at, starts), _place(trade.exit_at, starts)) for trade in trades]
    for trade, first, last in () if small else placed:
        axes.plot([first, last], [float(trade.entry_price), float(trade.exit_price)], color=_colour(trade, ink), linewidth=2.2, alpha=0.75,
                  zorder=3, solid_capstyle="round")
    if placed:
        axes.scatter([first for _, first, _ in placed], [float(trade.entry_price) for trade, _, _ in placed], marker="^", s=size,
                     color=ink.lines[0], edgecolors=ink.ground, linewidths=0.8, zorder=5, label="bought")
    for reason, marker, name in _EXITS:
        own = [(trade, last) for trade, _, last in placed if trade.exit_reason is reason]
        for gained in (True, False):
            some = [(trade, last) for trade, last in own if (trade.result > 0) is gained]
            if some:
                axes.scatter([last for _, last in some], [float(trade.exit_price) for trade, _ in some], marker=marker, s=size,
                             color=ink.gain if gained else ink.loss, edgecolors=ink.ground, linewidths=0.8, zorder=6)
        if own:
            axes.scatter([], [], marker=marker, s=46, color=ink.text, edgecolors=ink.ground, label=name)
    if not trades:
        axes.text(0.5, 0.9, "never traded", transform=axes.transAxes, ha="center", color=ink.muted, fontsize=12)
    ticks = date_ticks(bars, 13) if len(bars) > 1 else []
    axes.set_xticks([index for index, _ in ticks], [label for _, label in ticks])
    axes.set_xlim(-1, len(bars) + 0.02 * len(bars))
    _dollars(axes)
    axes.margins(y=0.08)
    if placed:
        for name, color in (("made money", ink.gain), ("lost money", ink.loss)):
            axes.plot([], [], color=color, linewidth=5, alpha=0.8, label=name)
        figure.legend(loc="upper right", bbox_to_anchor=(0.985, 0.99), ncols=8, frameon=False, fontsize=9, labelcolor=ink.text,
                      handletextpad=0.4, handlelength=1.3, columnspacing=1.1)
    figure.subplots_adjust(right=0.975)
    made = float(sum(trade.result for trade in trades))
    told = f"{len(trades):,} {'trade' if len(trades) == 1 else 'trades'}, {'-' if made < 0 else '+'}${abs(made):,.0f}" if trades else ""
    _title(figure, bars.symbol, told, ink)
    return _png(figure)


_EXITS = (
    (ExitReason.SIGNAL, "o", "sold on a signal"), (ExitReason.STOP, "X", "stopped"), (ExitReason.TARGET, "D", "target"),
    (ExitReason.OTHER, "s", "other"), (ExitReason.OPEN, ">", "still open"),
)


def _colour(trade: Trade, ink: Ink) -> str:
    return ink.gain if trade.result > 0 else ink.loss


def _place(at: Any, starts: "np.ndarray[Any, Any]") -> float:
    """The bar that an instant lies in, as a place on the axis."""
    return max(0.0, float(np.searchsorted(starts, instant_ns(at), side="right")) - 1)


def _figure(width: float, height: float, ink: Ink) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=ink.ground)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.072, right=0.86, top=1 - 0.72 / height, bottom=0.36 / height)
    axes = figure.add_subplot(facecolor=ink.ground)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(ink.muted)
    axes.grid(axis="y", color=ink.grid, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=ink.muted, labelsize=9.5, length=0)
    return figure, axes


def _dates(axes: "Axes", sessions: Sequence[date]) -> None:
    """Ticks where a month begins, or a year where there are too many of them; place 0 is the start, before the first session."""
    months = [place for place in range(1, len(sessions)) if sessions[place].month != sessions[place - 1].month]
    years = [place for place in months if sessions[place].year != sessions[place - 1].year]
    if len(months) < 3:
        step = max(1, len(sessions) // 8)
        ticks = [(place, f"{sessions[place]:%b} {sessions[place].day}") for place in range(0, len(sessions), step)]
    elif len(months) <= 36:
        every = 1 if len(months) <= 13 else 3
        kept = [place for place in months if (sessions[place].month - 1) % every == 0]
        ticks = [(place, sessions[place].strftime("%b %Y" if sessions[place].month == 1 else "%b")) for place in kept]
    else:
        ticks = [(place, str(sessions[place].year)) for place in years[:: max(1, len(years) // 12)]]
    axes.set_xticks([place + 1 for place, _ in ticks], [label for _, label in ticks])
    axes.set_xlim(0, len(sessions))


def _per_cent(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _dollars(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rf"\${value:,g}"))


def _ends(axes: "Axes", ends: Sequence[tuple[float, str, str]], last: float) -> None:
    """Names at the ends of the lines, moved apart where they would lie on each other."""
    low, high = axes.get_ylim()
    height = axes.get_window_extent().height
    room = 0.46 * DOTS_PER_INCH * (high - low) / height
    placed: list[float] = []
    for value, _, _ in (ordered := sorted(ends, reverse=True)):
        placed.append(min(value, placed[-1] - room) if placed else value)
    short = low + room / 2 - placed[-1]
    if short > 0:
        placed = [place + short for place in placed]
    for (_, words, color), place in zip(ordered, placed, strict=True):
        axes.annotate(words, (last, place), (8, 0), textcoords="offset points", va="center", fontsize=9.5, color=color, linespacing=1.25,
                      annotation_clip=False)
    axes.set_ylim(low, high)


def _title(figure: "Figure", question: str, told: str, ink: Ink) -> None:
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.26 / height, question.replace("$", r"\$"), fontsize=13.5, fontweight="bold", color=ink.text)
    figure.text(0.012, 1 - 0.5 / height, told.replace("$", r"\$"), fontsize=9.5, color=ink.muted)


def _png(figure: "Figure") -> bytes:
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with Image.open(buffer) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG")
    return small.getvalue()
