"""What tests of the importer share: the calendar, and a file written and read."""

import csv
from collections.abc import Callable, Iterable

import pytest

from tests.adapters.market_data.bars_files import HEADER, Row
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.market_data.cleaning import ImportReport
from trading_pipeline.adapters.market_data.files import ImportOptions, import_file
from trading_pipeline.domain.bars import BarTable


@pytest.fixture(scope="module")
def calendar():
    return load_calendar()


@pytest.fixture
def read(tmp_path, calendar) -> Callable[..., tuple[BarTable | None, ImportReport]]:
    """Write rows as a CSV file and import it."""

    def write_and_read(
        rows: Iterable[Row], header: Iterable[str] = HEADER, name: str = "AAA.csv", **options: object
    ) -> tuple[BarTable | None, ImportReport]:
        file = tmp_path / name
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([list(header), *rows])
        return import_file(file, calendar, ImportOptions(**options))  # type: ignore[arg-type]

    return write_and_read
