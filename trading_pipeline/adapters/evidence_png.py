"""The plots of the model report as PNG: reliability, hit rate by horizon, results over time; each to be understood at a glance.

Drawn by matplotlib's Agg without pyplot, so that no state is kept between calls; equal input gives equal bytes. A figure that has not
cases enough is said in words where its mark would stand. Names come from files and providers: they are never read as mathematics.
matplotlib is imported with the first plot.
"""

import io
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from trading_pipeline.adapters.chart_png import DOWN, GRID, LINES, MUTED, UP
from trading_pipeline.adapters.chart_sheet import INK
from trading_pipeline.domain.judgement import FEWEST_IN_BIN, Bin, Calibrated, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 100
_LONGEST_NAME = 60
_MOST_LINES = len(LINES)


def reliability_png(name: str, curve: Sequence[Bin], steps: Sequence[Calibrated], later: str = "") -> bytes:
    """How often it was right when it was so confident, with the diagonal of perfect calibration and the counts below.

    Args:
        name: Whose it is.
        curve: Bins over 0..1; one without a share has no point.
        steps: The calibration map; empty: not drawn.
        later: The horizon, such as `5 bars later`.
    """
    figure = _figure(8.0, 6.4)
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
    figure = _figure(8.0, 4.9 + 0.22 * len(shown))
    axes = figure.add_subplot()
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (5, 4)))
    axes.text(-0.49, 0.505, "a coin", color=MUTED, fontsize=9.5, va="bottom")
    width = 0.66 / max(1, len(shown))
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
            axes.annotate(f"{found.value:.0%}", (x, top), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=10, color=INK)
            axes.text(x, 0.03, f"n {found.n:,}", rotation=90, color=MUTED, fontsize=8.5, ha="center", va="bottom")
        axes.plot([], [], color=color, marker="o", linewidth=2, label=_plain(name))
    _dress(axes, "signals that were right")
    axes.set_xlim(-0.5, len(horizons) - 0.5)
    axes.set_ylim(0, 1)
    axes.set_xticks(range(len(horizons)), [f"{horizon.replace('_', ' ')} later" for horizon in horizons], fontsize=11, color=INK)
    _per_cent(axes, "y")
    _legend(figure, axes, len(shown))
    _title(figure, "How often is it right?", "", "right: the price moved its way by more than the costs; lines: 95 % intervals")
    return _png(figure)


def timeline_png(lines: Mapping[str, Sequence[tuple[date, float]]], held: str = "") -> bytes:
    """The sum of net results session by session, one line a name.

    Args:
        lines: By name the total after each session, as fractions of the stake on one signal.
        held: The horizon, such as `5 bars`.
    """
    shown = dict(list(lines.items())[:_MOST_LINES])
    figure = _figure(8.0, 4.5 + 0.22 * len(shown))
    axes = figure.add_subplot()
    axes.axhline(0, color=INK, linewidth=1)
    for number, (name, line) in enumerate(shown.items()):
        color = LINES[number]
        known = [(line[0][0] - timedelta(days=1), 0.0), *line] if line else []
        at = [_day_number(day) for day, _ in known]
        axes.step(at, [total for _, total in known], where="post", color=color, linewidth=2, label=_plain(name))
        if known:
            total = known[-1][1]
            axes.plot(at[-1:], [total], marker="o", markersize=6, color=color)
            told = f"{total:+.1%}" if abs(total) < 1 else f"{total:+,.0%}"
            axes.annotate(told, (at[-1], total), (7, 0), textcoords="offset points", va="center", fontsize=10, color=color)
    _dress(axes, "sum of results after costs")
    if any(shown.values()):
        import matplotlib.dates as dates

        axes.xaxis_date()
        scale: Any = dates
        locator = scale.AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(scale.ConciseDateFormatter(locator))
        axes.margins(x=0.08)
    else:
        axes.text(0.5, 0.5, "no signal has an outcome yet", color=MUTED, fontsize=15, ha="center", va="center", transform=axes.transAxes)
    _per_cent(axes, "y")
    _legend(figure, axes, len(shown))
    told = "; ".join(["the same stake on each", *([f"held for {held}"] if held else []), "after costs", "100 % is one stake"])
    _title(figure, "What would following every signal have made?", "", told)
    return _png(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 0.98 / height
    figure.subplots_adjust(left=0.1, right=0.965, top=top, bottom=0.62 / height)
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


def _legend(figure: "Figure", axes: "Axes", rows: int) -> None:
    """The names below the axis, one a row, in the room that is made for them."""
    if rows:
        figure.subplots_adjust(bottom=(0.52 + 0.22 * rows) / figure.get_figheight())
        below = 0.3 * _DOTS_PER_INCH / axes.get_window_extent().height
        axes.legend(loc="upper left", bbox_to_anchor=(0, -below), frameon=False, fontsize=10, labelcolor=INK, borderaxespad=0)


def _title(figure: "Figure", question: str, name: str, told: str) -> None:
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.32 / height, question, fontsize=15, fontweight="bold", color=INK)
    figure.text(0.02, 1 - 0.58 / height, _plain(name) if name else told, fontsize=10.5, color=INK if name else MUTED)
    if name:
        figure.text(0.02, 1 - 0.82 / height, told, fontsize=9.5, color=MUTED)


def _plain(name: str) -> str:
    """A name as it may stand in a picture: no mathematics, no letter that the font may lack, not too long."""
    kept = "".join(letter if " " <= letter <= "~" or letter in "·–" else "?" for letter in name)
    kept = kept if len(kept) <= _LONGEST_NAME else f"{kept[: _LONGEST_NAME - 3]}..."
    # matplotlib leaves names that begin with an underscore out of a legend, and empty ones too.
    return f" {kept}".replace("$", r"\$") if kept[:1] in ("", "_") else kept.replace("$", r"\$")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
