"""A sheet of pixels: marks by matplotlib's Agg, words by Pillow in matplotlib's own font, written as a PNG of 256 colours.

Coordinates are pixels from the lower left. Words come last, over every mark.
"""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from trading_pipeline.adapters.chart_layout import Pane
from trading_pipeline.domain.bars import Floats

INK, PAPER = "#16202a", "#ffffff"


@lru_cache(maxsize=64)
def _font(size: float, bold: bool) -> Any:
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size, layout_engine=ImageFont.Layout.BASIC)


class Sheet:
    """A sheet of pixels to draw on; one point is one pixel."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.transforms import IdentityTransform

        self._figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        canvas: Any = FigureCanvasAgg(self._figure)
        self._renderer = canvas.get_renderer()
        self._as_is = IdentityTransform()
        self._words: list[tuple[float, float, str, Any, str, str]] = []
        self.boxes(np.array([0.0]), np.array([float(width)]), np.array([0.0]), np.array([float(height)]), PAPER)

    def png(self) -> bytes:
        """The sheet with its words, 256 colours, as a file."""
        from PIL import Image, ImageDraw

        picture = Image.fromarray(np.ascontiguousarray(np.asarray(self._renderer.buffer_rgba())[:, :, :3]))
        pen = ImageDraw.Draw(picture)
        for x, y, words, font, color, anchor in self._words:
            pen.text((x, picture.height - y), words, font=font, fill=color, anchor=anchor)
        buffer = io.BytesIO()
        picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def line(self, x: Floats, y: Floats, color: str, width: float, clip: Pane | None = None, dashes: Sequence[float] | None = None) -> None:
        """A line through the points; NaN interrupts it."""
        from matplotlib.lines import Line2D

        style: Any = (0, tuple(dashes)) if dashes else "-"
        self._add(Line2D(x, y, color=color, linewidth=width, linestyle=style, solid_joinstyle="round", solid_capstyle="round"), clip)

    def dots(self, x: Floats, y: Floats, color: str, clip: Pane) -> None:
        """A dot at each point."""
        from matplotlib.lines import Line2D

        self._add(Line2D(x, y, color=color, linestyle="none", marker="o", markersize=3, markeredgewidth=0), clip)

    def strokes(self, x: Floats, low: Floats, high: Floats, color: str, clip: Pane | None = None) -> None:
        """Upright strokes one pixel wide."""
        from matplotlib.collections import LineCollection

        ends = np.stack([np.column_stack([x, low]), np.column_stack([x, high])], axis=1)
        self._add(LineCollection(list(ends), colors=color, linewidths=1, antialiaseds=False), clip)

    def boxes(
        self, left: Floats, right: Floats, low: Floats, high: Floats, color: str, clip: Pane | None = None, alpha: float | None = None,
    ) -> None:
        """Filled boxes without edges, crisp at pixel borders."""
        from matplotlib.collections import PolyCollection

        corners = np.stack([
            np.column_stack([left, low]), np.column_stack([left, high]), np.column_stack([right, high]), np.column_stack([right, low]),
        ], axis=1)
        self._add(PolyCollection(list(corners), facecolors=color, edgecolors="none", linewidths=0, antialiaseds=False, alpha=alpha), clip)

    def between(self, x: Floats, low: Floats, high: Floats, color: str, clip: Pane) -> None:
        """A pale band between two lines, where both have values."""
        from matplotlib.collections import PolyCollection

        known = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else []
        shapes = [
            np.concatenate([np.column_stack([x[run], low[run]]), np.column_stack([x[run], high[run]])[::-1]])
            for run in runs if len(run) > 1
        ]
        if shapes:
            self._add(PolyCollection(shapes, facecolors=color, edgecolors="none", alpha=0.10), clip)

    def text(self, x: float, y: float, words: str, size: float, color: str = INK, *, bold: bool = False, anchor: str = "ls") -> None:
        """One line of text over everything drawn; `anchor` as in Pillow: l, m, r and s (baseline) or m (middle)."""
        self._words.append((x, y, words, _font(size, bold), color, anchor))

    def width(self, words: str, size: float, *, bold: bool = False) -> float:
        """How wide the text will be."""
        return float(_font(size, bold).getlength(words))

    def _add(self, artist: Any, clip: Pane | None) -> None:
        artist.set_figure(self._figure)
        artist.set_transform(self._as_is)
        if clip is not None:
            from matplotlib.transforms import Bbox

            artist.set_clip_box(Bbox.from_extents(clip.left, clip.bottom, clip.right, clip.top))
        artist.draw(self._renderer)
