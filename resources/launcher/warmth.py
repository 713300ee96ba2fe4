"""What the parent does before it forks, so that no child does it again; and how it sees that this has become old.

Everything that a run of the chain imports is imported here, and what is slow the first time is done once: a test
runs the chain in a child and compares. Nothing here may start a thread or open a connection.
"""

import json
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import dagster as dg
import numpy as np

from resources.home_state import home_state, stamps

OURS = ("trading_pipeline.adapters", "trading_pipeline.domain", "trading_pipeline.service")
IMPORTED_LATE = (
    "dagster._core.execution.plan.active", "dagster._core.executor.in_process", "dagster._core.instance.factory",
    "dagster._core.secrets.env_file", "dagster._core.storage.local_compute_log_manager", "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage", "dagster._core.system_config.composite_descent", "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery", "dagster._utils.test.definitions", "dagster_postgres", "dateutil.parser",
    "fsspec.implementations.local", "numpy.random", "psycopg2.extras", "pyarrow.compute", "pyarrow.pandas_compat", "pyarrow.parquet",
    "pyarrow.vendored.version", "resources.launcher.run_coordinator", "resources.launcher.run_launcher", "resources.launcher.worker",
    "resources.storage", "upath.implementations.local", "watchdog.observers.polling",
)
"""By Dagster, pyarrow and pandas, in the middle of a run."""
MOVING = frozenset({"boot_id", "anchor_ns", "elapsed_ns", "kept_until_ns", "gate", "lingered_gate", "lingered_ns"})
"""Keys of clock.json that change while a replay runs; the others tell one replay from another."""


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
    _ask()


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


def _ask() -> None:
    """Whoever models are asked of in this home: an SDK's first call costs one to two seconds, which no run should pay again."""
    from trading_pipeline.adapters.llm.providers import rehearse
    from trading_pipeline.errors import TradingError
    from trading_pipeline.settings import Settings

    # Settings that are wrong are said by whoever uses them.
    with suppress(TradingError):
        rehearse(Settings.load())


State = Mapping[str, Any]


def watch() -> Callable[[], State]:
    """What tells the state of all that a run is made of: code as imported now, the home's settings, its market, its replay."""
    from trading_pipeline.current_home import current_home

    home, code = current_home(), tuple(_own_modules())

    def state() -> State:
        watched = stamps((*code, home / "dagster" / "dagster.yaml"))
        return {"replay": _replay(home / "clock.json"), **watched, **home_state(home)}

    return state


def _replay(path: Path) -> dict[str, Any]:
    try:
        return {key: value for key, value in json.loads(path.read_bytes()).items() if key not in MOVING}
    except (OSError, ValueError, AttributeError):
        return {}


def _own_modules() -> Iterator[Path]:
    """Our own modules wherever they are installed, and whatever else was not installed by a package manager."""
    ours = {name.partition(".")[0] for name in (*OURS, __name__)} | {"assets", "sensors"}
    installed = tuple(path + os.sep for path in {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix})
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and (name.partition(".")[0] in ours or not file.startswith(installed)):
            yield Path(file)
