"""The plots of the model report as PNG: reliability, hit rate by horizon, results over time; each to be understood at a glance.

Drawn by matplotlib's Agg without pyplot, so that no state is kept between calls; equal input gives equal bytes. A figure that has not
cases enough is said in words where its mark would stand. Names come from files and providers: they are never read as mathematics, and
stand on two lines where one has no room. matplotlib is imported with the first plot.
"""

import io
import textwrap
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from trading_pipeline.adapters.chart_png import DOWN, GRID, LINES, MUTED, UP
from trading_pipeline.adapters.chart_sheet import INK
from trading_pipeline.domain.judgement import FEWEST_IN_BIN, Bin, Calibrated, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 100
_LINE = 80
"""Letters of a name on one line; it has two."""
_MOST_LINES = len(LINES)
_FEW_SESSIONS = 8
"""So many are told one by one below the axis."""
_ROW = 0.22
"""Inches that a line of a legend takes."""


def reliability_png(name: str, curve: Sequence[Bin], steps: Sequence[Calibrated], later: str = "") -> bytes:
    """How often it was right when it was so confident, with the diagonal of perfect calibration and the counts below.

    Args:
        name: Whose it is.
        curve: Bins over 0..1; one without a share has no point.
        steps: The calibration map; empty: not drawn.
        later: The horizon, such as `5 bars later`.
    """
    rows = len(_lines(name))
    figure = _figure(8.0, 6.2 + _ROW * rows, 0.76 + _ROW * rows)
    grid = figure.add_gridspec(2, 1, height_ratios=(4.2, 1), hspace=0.12)
    axes, counts = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (5, 4)))
    axes.annotate("as right as it says", (0.21, 0.21), color=MUTED, fontsize=9.5, rotation=_slope(), ha="center", va="bottom",
                  rotation_mode="anchor", xytext=(0, 4), textcoords="offset points")
    axes.text(0.02, 0.97, "above the line: more often right than it says", color=UP, fontsize=10, va="top")
    axes.text(0.98, 0.03, "below the line: less often right than it says", color=DOWN, fontsize=10, ha="right")
    for step in (each for each in steps if each.n >= FEWEST_IN_BIN):
        axes.plot([step.low, max(step.high, step.low + 0.004)], [step.right] * 2, color=LINES[1], linewidth=5, alpha=0.45,
                  solid_capstyle="round")
    shown = [(each, each.right) for each in curve if each.right is not None]
    for each, share in shown:
        if share.low is not None and share.high is not None:
            axes.plot([each.forecast] * 2, [share.low, share.high], color=LINES[0], linewidth=1.6)
        axes.plot([each.forecast], [share.value], marker="o", markersize=9, color=LINES[0], markeredgecolor="white")
    if not shown:
        axes.text(0.5, 0.5, f"no bin has {FEWEST_IN_BIN} signals yet", color=MUTED, fontsize=15, ha="center", va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 6})
    _dress(axes, "how often it was right")
    axes.set_ylim(0, 1)
    axes.set_xlim(0, 1)
    axes.tick_params(labelbottom=False)
    _per_cent(axes, "y")
    for each in curve:
        color = LINES[0] if each.right is not None else GRID
        counts.bar((each.low + each.high) / 2, each.n, width=(each.high - each.low) * 0.86, color=color)
        if each.n:
            counts.text((each.low + each.high) / 2, each.n, f"{each.n:,}", ha="center", va="bottom", fontsize=9, color=INK)
    _dress(counts, "signals")
    counts.set_xlim(0, 1)
    counts.set_ylim(0, 1.35 * max([each.n for each in curve], default=0) or 1)
    counts.set_yticks([])
    counts.set_xticks([tenth / 10 for tenth in range(11)])
    counts.set_xlabel("how confident it said it was", color=INK, fontsize=11)
    _per_cent(counts, "x")
    said = f"dots: share that was right {later}".rstrip() + ", with its 95 % interval"
    _title(figure, "Does its confidence mean what it says?", name, f"{said}; bands: calibration map" if steps else said)
    return _png(figure)


def horizons_png(rows: Mapping[str, Mapping[str, Estimate | None]]) -> bytes:
    """Hit rate by horizon, side by side for each name, with 95 % intervals and the coin's half.

    Args:
        rows: By name, then by horizon in the order to be drawn; None: too few.
    """
    shown = dict(list(rows.items())[:_MOST_LINES])
    horizons = list(next(iter(shown.values()), {}))
    figure = _figure(8.0, 4.9 + _ROW * _rows_of(rows))
    axes = figure.add_subplot()
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (5, 4)))
    axes.text(-0.012, 0.5, "a coin", color=MUTED, fontsize=9.5, ha="right", va="center", transform=axes.get_yaxis_transform())
    width = 0.84 / max(1, len(shown))
    crowded = len(shown) > 4
    for number, (name, estimates) in enumerate(shown.items()):
        color = LINES[number]
        for place, horizon in enumerate(horizons):
            x = place + (number - (len(shown) - 1) / 2) * width
            found = estimates[horizon]
            if found is None:
                axes.text(x, 0.03, "too few", rotation=90, color=color, fontsize=9, ha="center", va="bottom")
                continue
            if found.low is not None and found.high is not None:
                axes.plot([x, x], [found.low, found.high], color=color, linewidth=2)
            axes.plot([x], [found.value], marker="o", markersize=9, color=color, markeredgecolor="white")
            top = found.value if found.high is None else found.high
            told = f"{100 * found.value:.0f}" if crowded else f"{found.value:.0%}"
            axes.annotate(
                told, (x, top), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=8 if crowded else 10, color=INK,
            )
            axes.text(x, 0.03, f"n {found.n:,}", rotation=90, color=MUTED, fontsize=8.5, ha="center", va="bottom")
        axes.plot([], [], color=color, marker="o", linewidth=2, label=_plain(name))
    _dress(axes, "signals that were right")
    axes.set_xlim(-0.5, len(horizons) - 0.5)
    axes.set_ylim(0, 1)
    axes.set_xticks(range(len(horizons)), [f"{horizon.replace('_', ' ')} later" for horizon in horizons], fontsize=11, color=INK)
    _per_cent(axes, "y")
    _legend(figure, axes, rows)
    _title(figure, "How often is it right?", "", "right: the price moved its way by more than the costs; lines: 95 % intervals")
    return _png(figure)


def timeline_png(lines: Mapping[str, Sequence[tuple[date, float]]], held: str = "") -> bytes:
    """The sum of net results session by session, one line a name.

    Args:
        lines: By name the total after each session, as fractions of the stake on one signal.
        held: The horizon, such as `5 bars`.
    """
    shown = dict(list(lines.items())[:_MOST_LINES])
    sessions = sorted({day for line in shown.values() for day, _ in line})
    figure = _figure(8.0, 4.5 + _ROW * _rows_of(lines))
    axes = figure.add_subplot()
    axes.axhline(0, color=INK, linewidth=1)
    _dress(axes, "sum of results after costs")
    ends = (_one_session if len(sessions) == 1 else _many_sessions)(axes, shown)
    if not sessions:
        axes.set_xticks([])
        axes.text(0.5, 0.6, "no signal has an outcome yet", color=MUTED, fontsize=15, ha="center", va="center", transform=axes.transAxes)
    elif len(sessions) == 1:
        axes.set_xticks([(len(shown) - 1) / 2], [f"{sessions[0]}, the only session so far"])
    elif len(sessions) <= _FEW_SESSIONS:
        axes.set_xticks([_day_number(day) for day in sessions], [f"{day:%m-%d}" for day in sessions])
        axes.set_xlabel(_years(sessions), color=MUTED, fontsize=10, loc="right", labelpad=0)
    else:
        import matplotlib.dates as dates

        scale: Any = dates
        locator = scale.AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(scale.ConciseDateFormatter(locator))
    _per_cent(axes, "y")
    _legend(figure, axes, lines)
    _told_apart(axes, ends)
    told = "; ".join(["the same stake on each", *([f"held for {held}"] if held else []), "after costs", "100 % is one stake"])
    _title(figure, "What would following every signal have made?", "", told)
    return _png(figure)


_End = tuple[float, float, str]
"""Where a line ends, and its colour."""


def _one_session(axes: "Axes", lines: Mapping[str, Sequence[tuple[date, float]]]) -> list[_End]:
    """One total a name, side by side: a line through a single session would be a wall."""
    ends: list[_End] = []
    for number, (name, line) in enumerate(lines.items()):
        axes.plot([], [], color=LINES[number], linewidth=2, label=_plain(name))
        for _, total in line:
            axes.plot([number, number], [0, total], color=LINES[number], linewidth=4, solid_capstyle="butt")
            axes.plot([number], [total], marker="o", markersize=9, color=LINES[number], markeredgecolor="white")
            ends.append((number, total, LINES[number]))
    axes.set_xlim(-0.7, len(lines) - 0.3)
    axes.margins(y=0.15)
    return ends


def _many_sessions(axes: "Axes", lines: Mapping[str, Sequence[tuple[date, float]]]) -> list[_End]:
    """The totals as steps, from nothing on the day before the first."""
    ends: list[_End] = []
    for number, (name, line) in enumerate(lines.items()):
        known = [(line[0][0] - timedelta(days=1), 0.0), *line] if line else []
        at = [_day_number(day) for day, _ in known]
        axes.step(at, [total for _, total in known], where="post", color=LINES[number], linewidth=2, label=_plain(name))
        if known:
            total = known[-1][1]
            axes.plot(at[-1:], [total], marker="o", markersize=6, color=LINES[number])
            ends.append((at[-1], total, LINES[number]))
    axes.margins(x=0.08)
    return ends


def _told_apart(axes: "Axes", ends: Sequence[_End]) -> None:
    """The totals beside the ends of their lines, one above the other where those lie close together."""
    points = 72 / _DOTS_PER_INCH
    placed = [(x, *axes.transData.transform((x, total)), total, color) for x, total, color in ends]
    reached: dict[float, float] = {}
    for x, _, height, total, color in sorted(placed, key=lambda each: each[2]):
        at = max(height, reached.get(x, float("-inf")) + 10 / points * 1.25)
        reached[x] = at
        told = f"{total:+.1%}" if abs(total) < 1 else f"{total:+,.0%}"
        axes.annotate(told, (x, total), (8, (at - height) * points), textcoords="offset points", va="center", fontsize=10, color=color)


def _years(sessions: Sequence[date]) -> str:
    first, last = sessions[0].year, sessions[-1].year
    return str(first) if first == last else f"{first} to {last}"


def _figure(width: float, height: float, head: float = 0.98) -> "Figure":
    """An empty sheet with room for words above, `head` inches of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.1, right=0.965, top=1 - head / height, bottom=0.62 / height)
    return figure


def _day_number(day: date) -> float:
    """A day on matplotlib's axis of dates: days since 1970."""
    return float((day - date(1970, 1, 1)).days)


def _slope() -> float:
    """The diagonal's angle on the page, in degrees: panes are wider than they are high."""
    return 27.5


def _dress(axes: "Axes", label: str) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=10, length=0)
    axes.set_ylabel(label, color=INK, fontsize=11)


def _per_cent(axes: "Axes", which: str) -> None:
    from matplotlib.ticker import PercentFormatter

    (axes.yaxis if which == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1.0))


def _rows_of(names: Collection[str]) -> int:
    """Lines that a legend of these names has."""
    return sum(len(_lines(name)) for name in list(names)[:_MOST_LINES]) + (len(names) > _MOST_LINES)


def _legend(figure: "Figure", axes: "Axes", names: Collection[str]) -> None:
    """The names below the axis, in the room that is made for them; those that have no colour are counted."""
    if not names:
        return
    if len(names) > _MOST_LINES:
        axes.plot([], [], linestyle="none", label=f"and {len(names) - _MOST_LINES} more, in the tables")
    figure.subplots_adjust(bottom=(0.52 + _ROW * _rows_of(names)) / figure.get_figheight())
    below = 0.3 * _DOTS_PER_INCH / axes.get_window_extent().height
    axes.legend(loc="upper left", bbox_to_anchor=(0, -below), frameon=False, fontsize=10, labelcolor=INK, borderaxespad=0)


def _title(figure: "Figure", question: str, name: str, told: str) -> None:
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.32 / height, question, fontsize=15, fontweight="bold", color=INK)
    lines = _lines(name) if name else []
    for number, line in enumerate([*lines, told]):
        ours = number == len(lines)
        at = 1 - (0.58 + (0.24 if ours and lines else _ROW) * number) / height
        figure.text(0.02, at, _escaped(line), fontsize=9.5 if ours and lines else 10.5, color=MUTED if ours else INK)


def _plain(name: str) -> str:
    """A name as it may stand in a legend."""
    text = _escaped("\n".join(_lines(name)))
    # matplotlib leaves names that begin with an underscore out of a legend, and empty ones too.
    return f" {text}" if text[:1] in ("", "_") else text


def _lines(name: str) -> list[str]:
    """A name as it may stand in a picture, on one or two lines: no letter that the font may lack, not too long."""
    kept = "".join(letter if " " <= letter <= "~" or letter in "·–" else "?" for letter in name)
    return textwrap.wrap(kept, _LINE, max_lines=2, placeholder=" ...") or [""]


def _escaped(text: str) -> str:
    """Text that is not read as mathematics."""
    return text.replace("$", r"\$")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
