"""Tables and pictures as Dagster shows them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from trading_pipeline.adapters.chart_png import thumbnail
from trading_pipeline.domain.outside_text import one_line
from trading_pipeline.errors import StorageError
from trading_pipeline.service.desk import Desk

MOST_ROWS = 200
MOST_PICTURES = 10
MOST_CELL = 2_000
"""Characters."""

Cells = Mapping[str, str | int | float | bool]


def table(rows: Sequence[Cells]) -> dg.TableMetadataValue | None:
    """Rows of the same columns, each cell one visible line whoever wrote it; None for no rows."""
    if not rows:
        return None
    kinds = {str: "string", int: "int", float: "float", bool: "bool"}
    columns = [dg.TableColumn(name, kinds[type(value)]) for name, value in rows[0].items()]
    records = [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows[:MOST_ROWS]]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _cell(value: str | int | float | bool) -> str | int | float | bool:
    return one_line(value, MOST_CELL) if isinstance(value, str) else value


def present(**tables: Any) -> dict[str, Any]:
    """Those there are."""
    return {name: value for name, value in tables.items() if value is not None}


def picture_sheet(desk: Desk, pictures: Sequence[tuple[str, str]]) -> dg.MarkdownMetadataValue | None:
    """Pictures under their titles, which are ours, by the digests of the PNGs; None for none."""
    shown = []
    for title, digest in pictures:
        try:
            picture = base64.b64encode(thumbnail(desk.objects.get(digest))).decode()
        except StorageError:
            shown.append(f"{title}: the picture is gone or damaged")
            continue
        shown.append(f"{title}\n\n![{title}](data:image/png;base64,{picture})")
    return dg.MetadataValue.md("\n\n".join(shown)) if shown else None
