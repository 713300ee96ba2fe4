"""What the parent does before it forks, so that no child does it again; and how it sees that this has become old.

Everything that a run of the chain imports is imported here, and what is slow the first time is done once: a test
runs the chain in a child and compares. Nothing here may start a thread or open a connection.
"""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import dagster as dg
import numpy as np

OURS = ("trading_pipeline.adapters", "trading_pipeline.domain", "trading_pipeline.service")
IMPORTED_LATE = (
    "dagster._core.instance.factory", "dagster._core.secrets.loader", "dagster._core.storage.root", "dagster_postgres", "dateutil.parser",
    "fsspec.implementations.local", "numpy.random", "psycopg2.extras", "pyarrow.compute", "pyarrow.pandas_compat", "pyarrow.parquet",
    "resources.launcher.worker", "resources.storage", "upath.implementations.local",
)
"""By Dagster, pyarrow and pandas, in the middle of a run."""


def warm_up(module: str) -> None:
    """Import everything, resolve the definitions, draw a chart."""
    import_module("trading_pipeline.bootstrap")
    for package in OURS:
        for found in walk_packages(import_module(package).__path__, f"{package}."):
            if ".migrations" not in found.name:
                import_module(found.name)
    for name in IMPORTED_LATE:
        import_module(name)
    definitions = getattr(import_module(module), "defs", None)
    if isinstance(definitions, dg.Definitions):
        for job in definitions.get_repository_def().get_all_jobs():
            job.get_subset()
    _draw()


def _draw() -> None:
    """One chart with every kind of mark: fonts, renderer and TA-Lib are set up by their first use."""
    from trading_pipeline.adapters.chart_png import PngCharts, thumbnail
    from trading_pipeline.domain.bars import BarTable, Interval
    from trading_pipeline.domain.charts import ChartSpec
    from trading_pipeline.domain.indicators import compute

    count = 250
    start = np.arange(count, dtype=np.int64) * 86_400_000_000_000
    close = 100 + 5 * np.sin(np.arange(count) / 9.0)
    bars = BarTable("WARM", Interval.DAY1, start, start + 1, close, close + 1, close - 1, close, np.full(count, 1e6))
    spec = ChartSpec(overlays=("sma_20", "bbands_20", "volume_sma_20"))
    columns = compute((*spec.overlay_indicators, *spec.panel_indicators), bars)
    thumbnail(PngCharts().render(spec, bars, columns))


def fingerprint() -> dict[str, float]:
    """When our own modules, and the home's settings and market, were last changed, by file."""
    from trading_pipeline.settings import Settings

    home = Settings.load().home
    files = [*_own_modules(), Path(".env"), home / "trading.toml", *(home / "market").rglob("*")]
    return {str(path): path.stat().st_mtime for path in files if path.is_file()}


def _own_modules() -> Iterator[Path]:
    installed = (sys.prefix + os.sep, sys.base_prefix + os.sep)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and not file.startswith(installed):
            yield Path(file)
