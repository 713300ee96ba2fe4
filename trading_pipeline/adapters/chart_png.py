"""Charts as PNG: candles, volume, overlays on the price, panels below, legible for a model, a console and a phone.

matplotlib's Agg draws straight into pixels: panes, scales and ticks are our own (`chart_layout`), each kind of mark is one
collection, and no Axes exist; Pillow sets the words, in matplotlib's own font, and writes the file in 256 colours. That
takes a tenth of the time of a figure with axes and keeps no state between charts: calls may come from any thread.
Equal input gives equal bytes, without time, name or version in them, because charts are stored by their digest.

Bars stand side by side, so nights, weekends and holidays leave no gap. matplotlib is imported with the first chart.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trading_pipeline.adapters.chart_layout import (
    Pane,
    count_ticks,
    date_ticks,
    price_text,
    round_ticks,
    short_text,
    spread,
    stacked,
    value_text,
)
from trading_pipeline.adapters.chart_sheet import INK, PAPER, Sheet
from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.indicators import IndicatorSpec, columns_of, text_of
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.errors import InputError

UP, DOWN = "#00936b", "#d1480f"
"""Bluish green and vermilion: told apart with any colour vision. Source: Okabe and Ito, Color Universal Design."""
LINES = ("#0072b2", "#e69f00", "#8e44ad", "#56b4e9", "#7f4f24", "#3d3d3d", "#c2185b", "#5b8c00")
MUTED, GRID, FRAME = "#55616d", "#e6e9ed", "#aab3bc"

_BOUNDS = {
    "rsi": (0.0, 100.0, (30.0, 70.0)), "mfi": (0.0, 100.0, (20.0, 80.0)), "stoch": (0.0, 100.0, (20.0, 80.0)),
    "stochf": (0.0, 100.0, (20.0, 80.0)), "stochrsi": (0.0, 100.0, (20.0, 80.0)), "ultosc": (0.0, 100.0, (30.0, 70.0)),
    "willr": (-100.0, 0.0, (-80.0, -20.0)), "aroon": (0.0, 100.0, (30.0, 70.0)), "adx": (0.0, 60.0, (20.0,)),
}
"""Oscillators with a fixed scale, and the levels that traders watch."""
_NO_PRICE = ("_direction", "_atr")
_FEWEST_SLOTS = 24


class PngCharts:
    """The chart renderer; needs no settings."""

    def render(self, spec: ChartSpec, bars: BarTable, columns: Mapping[str, Floats], *, dated: bool = True) -> bytes:
        """A PNG of the newest `spec.bars` bars.

        Args:
            spec: What to show, and the size in pixels.
            bars: Closed bars, two or more.
            columns: The overlays' and panels' columns, aligned with `bars`; NaN leaves a gap.
            dated: Whether the chart says when; otherwise it counts the bars back from the newest.

        Raises:
            InputError: Fewer than two bars, or a column that is absent or not aligned.
        """
        if len(bars) < 2:
            raise InputError(
                f"{bars.symbol} has {len(bars)} bar(s) to draw.", value=len(bars), rule="a chart shows at least 2 bars",
                remedy="import more bars, or wait for the next one to close",
            )
        shown = min(spec.bars, len(bars))
        cut: dict[str, Floats] = {}
        for item in (*spec.overlay_indicators, *spec.panel_indicators):
            for name in columns_of(item):
                if name not in columns or len(columns[name]) != len(bars):
                    raise InputError(
                        f"The chart of {bars.symbol} needs the column {name}, one value a bar.", value=name,
                        rule="a chart's overlays and panels are computed before it", remedy="compute them over the same bars",
                    )
                cut[name] = columns[name][-shown:]
        return _draw(spec, bars.tail(shown), cut, dated).png()


def thumbnail(png: bytes, width: int = 500, limit: int = 40_000) -> bytes:
    """The picture about `width` pixels wide, a whole fraction of it, as a PNG of at most `limit` bytes where 16 colours allow it."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB").reduce(max(1, round(picture.width / width)))
    content = b""
    for colours in (128, 64, 32, 16):
        buffer = io.BytesIO()
        small.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG", compress_level=6)
        content = buffer.getvalue()
        if len(content) <= limit:
            break
    return content


def _draw(spec: ChartSpec, bars: BarTable, columns: Mapping[str, Floats], dated: bool) -> Sheet:
    scale = min(spec.width / 1000, spec.height / 700)
    sheet = Sheet(spec.width, spec.height)
    small = 19 * scale
    pad = 12 * scale
    over_price = [item for item in spec.overlay_indicators if not item.name.startswith("volume_")]
    over_volume = [item for item in spec.overlay_indicators if item.name.startswith("volume_")]
    top = _title(sheet, spec, bars, scale, dated)
    top = _legend(sheet, over_price, columns, top, pad, spec.width - pad, small)
    highest = price_text(float(bars.high.max()))
    right = spec.width - max(sheet.width(highest, small, bold=True) + small * 0.9, 84 * scale)
    price, volume, *panels = stacked(
        pad, right, 34 * scale, top, [5.0, 1.3, *(1.55 for _ in spec.panel_indicators)], round(8 * scale)
    )
    slots = max(len(bars), _FEWEST_SLOTS)
    x: Floats = pad + (np.arange(len(bars), dtype=np.float64) + 0.5) * ((right - pad) / slots)
    most = max(2, int((x[-1] - pad) / (100 * scale)))
    ticks = date_ticks(bars, most) if dated else count_ticks(len(bars), most)
    for pane in (price, volume, *panels):
        _frame(sheet, pane, x[[index for index, _ in ticks]])
    free = 0.0
    for index, label in ticks:
        half = sheet.width(label, small) / 2
        middle = min(max(float(x[index]), pad + half), right - half)
        if middle - half >= free:
            sheet.text(middle, 10 * scale, label, small, MUTED, anchor="ms")
            free = middle + half + small
    body = max(1, round((right - pad) / slots * 0.68)) | 1
    _price(sheet, price, x, bars, body, over_price, columns, small)
    _volume(sheet, volume, x, bars, body, over_volume, columns, small)
    for pane, item in zip(panels, spec.panel_indicators, strict=True):
        _panel(sheet, pane, x, body, item, columns, small)
    return sheet


def _title(sheet: Sheet, spec: ChartSpec, bars: BarTable, scale: float, dated: bool) -> float:
    """Symbol, interval, newest price and its change on the left, when the newest bar closed on the right."""
    base, left = spec.height - 34 * scale, 12 * scale
    last, before = float(bars.close[-1]), float(bars.close[-2])
    change = last / before - 1
    sign, color_of_change = ("▲", UP) if change > 0 else ("▼", DOWN) if change < 0 else ("=", MUTED)
    for words, size, color, bold in (
        (bars.symbol, 30 * scale, INK, True),
        (bars.interval.value, 22 * scale, MUTED, False),
        (f"${price_text(last)}", 28 * scale, INK, True),
        (f"{sign} {abs(change):.2%}", 22 * scale, color_of_change, True),
    ):
        sheet.text(left, base, words, size, color, bold=bold)
        left += sheet.width(words, size, bold=bold) + 16 * scale
    if dated:
        closed = f"{bars.last_end.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York"
        sheet.text(spec.width - 12 * scale, base, closed, 20 * scale, MUTED, anchor="rs")
    return base - 12 * scale


def _legend(
    sheet: Sheet, items: Sequence[IndicatorSpec], columns: Mapping[str, Floats], top: float, left: float, right: float, size: float,
) -> float:
    """A row, or rows, of overlay names in their colours with their newest values; returns where the panes may begin."""
    if not items:
        return top
    x, y = left, top - size
    for number, item in enumerate(items):
        words = f"{_title_of(item)} {_newest(item, columns)}"
        width = size * 1.2 + sheet.width(words, size)
        if x > left and x + width > right:
            x, y = left, y - size * 1.35
        middle = y + size * 0.36
        sheet.line(np.array([x, x + size * 0.9]), np.array([middle, middle]), LINES[number % len(LINES)], size * 0.2)
        sheet.text(x + size * 1.2, y, words, size, INK)
        x += width + size * 1.2
    return y - size * 0.6


def _frame(sheet: Sheet, pane: Pane, upright: Floats) -> None:
    sheet.strokes(np.floor(upright) + 0.5, np.full(len(upright), pane.bottom), np.full(len(upright), pane.top), GRID)
    for height in (pane.bottom, pane.top):
        sheet.boxes(np.array([pane.left]), np.array([pane.right]), np.array([height - 1]), np.array([height]), FRAME)


def _levels(
    sheet: Sheet, pane: Pane, ticks: Sequence[float], labels: Sequence[str], size: float, avoid: float | None = None, *,
    lines: bool = True,
) -> None:
    """Grid lines across the pane and labels to its right; a label too near `avoid` (a height) is left out."""
    heights = pane.y(np.asarray(ticks, np.float64))
    for height, label in zip(heights.tolist(), labels, strict=True):
        if not pane.bottom + 1 < height < pane.top - 1:
            continue
        level = np.array([np.floor(height)])
        if lines:
            sheet.boxes(np.array([pane.left]), np.array([pane.right]), level, level + 1, GRID)
        if (avoid is None or abs(height - avoid) > size * 1.15) and pane.bottom + size * 0.35 < height < pane.top - size * 0.35:
            sheet.text(pane.right + size * 0.4, height, label, size, MUTED, anchor="lm")


def _price(
    sheet: Sheet, pane: Pane, x: Floats, bars: BarTable, body: int, overlays: Sequence[IndicatorSpec], columns: Mapping[str, Floats],
    size: float,
) -> None:
    drawn = {item: [name for name in columns_of(item) if not name.endswith(_NO_PRICE)] for item in overlays}
    low, high = float(bars.low.min()), float(bars.high.max())
    reach = (high - low) * 0.2
    values = [columns[name][np.isfinite(columns[name])] for group in drawn.values() for name in group]
    seen = np.concatenate(values) if values else np.empty(0)
    if len(seen):
        # A far-away average may widen the scale by a fifth, not flatten the candles; beyond it leaves the pane.
        low, high = max(low - reach, min(low, float(seen.min()))), min(high + reach, max(high, float(seen.max())))
    low, high = spread(low, high, 0.04)
    pane = replace(pane, low=low, high=high)
    last = float(pane.y(bars.close[-1:])[0])
    ticks, decimals = round_ticks(low, high, max(2, int(pane.height / (size * 2.6))))
    _levels(sheet, pane, ticks, [f"{tick:,.{decimals}f}" for tick in ticks], size, last)
    for number, group in enumerate(drawn.values()):
        color = LINES[number % len(LINES)]
        ends = {name.rpartition("_")[2]: name for name in group}
        if "upper" in ends and "lower" in ends:
            sheet.between(x, pane.y(columns[ends["lower"]]), pane.y(columns[ends["upper"]]), color, pane)
    _candles(sheet, pane, x, bars, body)
    for number, (item, group) in enumerate(drawn.items()):
        color = LINES[number % len(LINES)]
        for name in group:
            y = pane.y(columns[name])
            if item.name == "sar":
                sheet.dots(x, y, color, pane)
            else:
                banded = name.endswith(("_upper", "_lower", "_middle"))
                sheet.line(x, y, color, size * (0.08 if banded else 0.12), pane, (4, 3) if name.endswith("_middle") else None)
    _tag(sheet, pane, last, price_text(float(bars.close[-1])), UP if bars.close[-1] >= bars.open[-1] else DOWN, size)


def _candles(sheet: Sheet, pane: Pane, x: Floats, bars: BarTable, body: int) -> None:
    center = np.floor(x) + 0.5
    risen = bars.close >= bars.open
    low, high = np.round(pane.y(bars.low)), np.round(pane.y(bars.high))
    under, over = np.round(pane.y(np.minimum(bars.open, bars.close))), np.round(pane.y(np.maximum(bars.open, bars.close)))
    for which, color in ((risen, UP), (~risen, DOWN)):
        if which.any():
            sheet.boxes(center[which] - 0.5, center[which] + 0.5, low[which], np.maximum(high, low + 1)[which], color, pane)
            sheet.boxes(center[which] - body / 2, center[which] + body / 2, under[which], np.maximum(over, under + 1)[which], color, pane)


def _volume(
    sheet: Sheet, pane: Pane, x: Floats, bars: BarTable, body: int, overlays: Sequence[IndicatorSpec], columns: Mapping[str, Floats],
    size: float,
) -> None:
    names = [name for item in overlays for name in columns_of(item)]
    averages = np.concatenate([columns[name][np.isfinite(columns[name])] for name in names]) if names else np.empty(0)
    top = max(float(bars.volume.max()), float(averages.max(initial=0.0)))
    pane = replace(pane, low=0.0, high=top * 1.45 or 1.0)
    if top:
        ticks, _ = round_ticks(0.0, top * 1.2, max(2, int(pane.height / (size * 2.2))))
        _levels(sheet, pane, ticks, [short_text(tick) for tick in ticks], size)
    center, risen = np.floor(x) + 0.5, bars.close >= bars.open
    heights = np.round(pane.y(bars.volume))
    for which, color in ((risen, UP), (~risen, DOWN)):
        if which.any():
            floor = np.full(int(which.sum()), pane.bottom)
            sheet.boxes(center[which] - body / 2, center[which] + body / 2, floor, heights[which], color, pane, alpha=0.55)
    words = [(f"Volume {short_text(float(bars.volume[-1]))}", INK)]
    for number, item in enumerate(overlays):
        color = LINES[number % len(LINES)]
        for name in columns_of(item):
            sheet.line(x, pane.y(columns[name]), color, size * 0.1, pane)
        words.append((f"{_title_of(item).removeprefix('VOLUME ')} {short_text(float(columns[columns_of(item)[0]][-1]))}", color))
    _caption(sheet, pane, words, size)


def _panel(
    sheet: Sheet, pane: Pane, x: Floats, body: int, item: IndicatorSpec, columns: Mapping[str, Floats], size: float,
) -> None:
    """One indicator in a pane of its own: histogram outputs as bars, the others as lines, watched levels dashed."""
    names = columns_of(item)
    bounds = _BOUNDS.get(item.name)
    known = np.concatenate([columns[name][np.isfinite(columns[name])] for name in names])
    bars = [name for name in names if name.endswith("_hist")]
    crossing_zero = bool(bars) or (len(known) > 0 and known.min() < 0 < known.max())
    if bounds is not None:
        low, high, watched = bounds
    else:
        low, high = spread(float(known.min()), float(known.max()), 0.12) if len(known) else (0.0, 1.0)
        watched = (0.0,) if crossing_zero else ()
    # Room above for the caption.
    pane = replace(pane, low=low, high=high + (high - low) * (size * (0.7 if bounds else 1.3)) / pane.height)
    ticks: list[float] = []
    labels: list[str] = []
    if bounds is not None:
        ticks, labels = list(watched), [f"{level:g}" for level in watched]
    elif len(known):
        ticks, decimals = round_ticks(low, high, max(2, int(pane.height / (size * 2.2))))
        big = max(abs(low), abs(high)) >= 10_000
        labels = [short_text(tick) if big else f"{tick:,.{decimals}f}" for tick in ticks]
    _levels(sheet, pane, ticks, labels, size)
    for level in watched:
        height = np.floor(pane.y(np.array([level, level]))) + 0.5
        sheet.line(np.array([pane.left, pane.right]), height, FRAME if level == 0 else MUTED, 1, pane, None if level == 0 else (5, 4))
    for name in bars:
        values = columns[name]
        zero = round(float(pane.y(np.array([0.0]))[0]))
        center, heights = np.floor(x) + 0.5, np.round(pane.y(values))
        for which, color in ((values >= 0, UP), (values < 0, DOWN)):
            if which.any():
                lower = np.minimum(heights[which], zero)
                upper = np.maximum(np.maximum(heights[which], zero), lower + 1)
                sheet.boxes(center[which] - body / 2, center[which] + body / 2, lower, upper, color, pane, 0.6)
    words = []
    for number, name in enumerate(names):
        color = INK if name in bars else LINES[number % len(LINES)]
        if name not in bars:
            sheet.line(x, pane.y(columns[name]), color, size * 0.11, pane)
        ending = name.removeprefix(text_of(item)).strip("_")
        label = f"{_title_of(item)} {ending}".strip() if number == 0 else ending
        words.append((f"{label} {value_text(float(columns[name][-1]))}", color))
    _caption(sheet, pane, words, size)


def _caption(sheet: Sheet, pane: Pane, words: Sequence[tuple[str, str]], size: float) -> None:
    x, y = pane.left + size * 0.3, pane.top - size * 1.05
    width = sum(sheet.width(text, size) + size for text, _ in words)
    edge = np.array([pane.left])
    sheet.boxes(edge, edge + width, np.array([y - size * 0.3]), np.array([pane.top - 1]), PAPER, alpha=0.75)
    for text, color in words:
        sheet.text(x, y, text, size, color)
        x += sheet.width(text, size) + size


def _tag(sheet: Sheet, pane: Pane, height: float, words: str, color: str, size: float) -> None:
    """The newest price on the axis."""
    left = np.array([pane.right + 1])
    width = sheet.width(words, size, bold=True) + size * 0.6
    sheet.boxes(left, left + width, np.array([np.floor(height - size * 0.65)]), np.array([np.ceil(height + size * 0.65)]), color)
    sheet.text(pane.right + 1 + size * 0.3, height, words, size, PAPER, bold=True, anchor="lm")


def _title_of(item: IndicatorSpec) -> str:
    return text_of(item).replace("_", " ").upper()


def _newest(item: IndicatorSpec, columns: Mapping[str, Floats]) -> str:
    shown = [name for name in columns_of(item) if not name.endswith(("_middle", *_NO_PRICE))]
    return " / ".join(value_text(float(columns[name][-1])) for name in shown[:2])


