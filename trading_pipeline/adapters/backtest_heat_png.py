"""A grid's figure as a heat map: the number in each field, the strategy's own settings framed, red below zero and green above.

Drawn by matplotlib's Agg without pyplot; equal input gives equal bytes. matplotlib is imported with the first picture.
"""

import io
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from trading_pipeline.adapters.chart_png import DOWN, GRID, MUTED, UP
from trading_pipeline.adapters.chart_sheet import INK
from trading_pipeline.domain.validation import HeatMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DOTS_PER_INCH = 100
_MOST_NUMBERS: Final = 400
"""Fields; in more of them the numbers would not be legible."""
_DARK: Final = 0.8
"""From this part of the farthest value on, a field is so dark that its number is white."""
_TITLES: Final = {
    "sharpe": "Sharpe ratio", "total_return": "Return", "max_drawdown": "Maximum drawdown", "win_rate": "Win rate",
    "profit_factor": "Profit factor", "trades": "Trades",
}
_MIDDLE: Final = {"profit_factor": 1.0, "win_rate": 0.5}
"""Where neither colour is; elsewhere 0."""
_FRACTIONS: Final = frozenset({"total_return", "max_drawdown", "win_rate"})


def heat_map_png(heat: HeatMap, name: str = "") -> bytes:
    """The picture of a heat map.

    Args:
        name: Whose it is; empty: not said.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
    from matplotlib.figure import Figure

    rows, columns = heat.values.shape
    width, height = min(15.0, max(6.0, 2.2 + 0.75 * columns)), min(14.0, max(3.0, 2.1 + 0.45 * rows))
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((1.35 / width, 0.85 / height, 1 - 1.65 / width, 1 - 1.9 / height))
    middle, known = _MIDDLE.get(heat.figure, 0.0), heat.values[np.isfinite(heat.values)]
    reach = max([abs(float(value) - middle) for value in known.ravel()], default=0.0) or 1.0
    worse, better = (UP, DOWN) if heat.figure == "max_drawdown" else (DOWN, UP)
    colors = LinearSegmentedColormap.from_list("worse to better", [worse, "#ffffff", better])
    axes.set_facecolor(GRID)
    axes.imshow(
        np.ma.masked_invalid(heat.values), cmap=colors, norm=TwoSlopeNorm(middle, middle - reach, middle + reach), aspect="auto",
    )
    _axis(axes, heat)
    if heat.values.size <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(heat.values):
            dark = math.isfinite(value) and abs(value - middle) > _DARK * reach
            axes.text(column, row, _number(heat.figure, value), ha="center", va="center", fontsize=9.5, color="white" if dark else INK)
    if heat.own is not None:
        from matplotlib.patches import Rectangle

        axes.add_patch(Rectangle((heat.own[1] - 0.5, heat.own[0] - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.5))
    told = " ".join(filter(None, ("The frame is the strategy's own setting." if heat.own is not None else "", heat.note)))
    title = f"{_TITLES.get(heat.figure, heat.figure)} by setting"
    figure.text(0.02, 1 - 0.34 / height, _plain(title), fontsize=14, fontweight="bold", color=INK)
    figure.text(0.02, 1 - 0.62 / height, _plain("; ".join(filter(None, (name, told)))), fontsize=9.5, color=MUTED)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _axis(axes: "Axes", heat: HeatMap) -> None:
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(colors=MUTED, labelsize=10, length=0)
    axes.set_xticks(range(len(heat.columns)), [_plain(value) for value in heat.columns], rotation=60 if len(heat.columns) > 16 else 0)
    axes.set_yticks(range(len(heat.rows)), [_plain(value) for value in heat.rows])
    axes.set_xlabel(_plain(heat.column_axis), color=INK, fontsize=11)
    axes.set_ylabel(_plain(heat.row_axis), color=INK, fontsize=11)


def _number(figure: str, value: float) -> str:
    if not math.isfinite(value):
        return "none" if math.isnan(value) else "no loss"
    if figure in _FRACTIONS:
        return f"{value:.1%}"
    return f"{value:,.0f}" if figure == "trades" else f"{value:.2f}"


def _plain(text: str) -> str:
    """Text that is not read as mathematics."""
    return text.replace("$", r"\$")
