"""Tables and pictures as Dagster shows them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from trading_pipeline.adapters.chart_png import thumbnail
from trading_pipeline.service.desk import Desk

MOST_ROWS = 200
MOST_PICTURES = 10

Cells = Mapping[str, str | int | float | bool]


def table(rows: Sequence[Cells]) -> dg.TableMetadataValue | None:
    """Rows of the same columns; None for no rows."""
    if not rows:
        return None
    kinds = {str: "string", int: "int", float: "float", bool: "bool"}
    columns = [dg.TableColumn(name, kinds[type(value)]) for name, value in rows[0].items()]
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows[:MOST_ROWS]], dg.TableSchema(columns))


def present(**tables: Any) -> dict[str, Any]:
    """Those there are."""
    return {name: value for name, value in tables.items() if value is not None}


def picture_sheet(desk: Desk, pictures: Sequence[tuple[str, str]]) -> dg.MarkdownMetadataValue | None:
    """Pictures under their titles, which are ours, by the digests of the PNGs; None for none."""
    shown = []
    for title, digest in pictures:
        picture = base64.b64encode(thumbnail(desk.objects.get(digest))).decode()
        shown.append(f"{title}\n\n![{title}](data:image/png;base64,{picture})")
    return dg.MetadataValue.md("\n\n".join(shown)) if shown else None
