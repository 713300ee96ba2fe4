"""A figure over the settings of a grid, as a report draws it."""

from dataclasses import dataclass

from trading_pipeline.domain.bars import Floats


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One figure over two axes of a grid, or one: rows and columns are values as they were written; NaN: there is none."""

    figure: str
    row_axis: str
    """Empty with one axis."""
    column_axis: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats
    """(rows, columns)."""
    own: tuple[int, int] | None
    """Where the strategy's own settings stand."""
    note: str
