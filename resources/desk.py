"""The desk as a Dagster resource: one per process and home, opened when first asked for."""

import threading
from contextlib import ExitStack

import dagster as dg

from trading_pipeline.bootstrap import open_desk
from trading_pipeline.service.desk import Desk
from trading_pipeline.settings import Settings

_lock = threading.Lock()
_open: dict[str, Desk] = {}
_stack = ExitStack()


def process_desk() -> Desk:
    """The desk of the home that the environment names; sensors of one process share it."""
    settings = Settings.load()
    name = str(settings.home.resolve())
    with _lock:
        if name not in _open:
            _open[name] = _stack.enter_context(open_desk(settings))
        return _open[name]


@dg.resource(description="Every port of the trading desk: clock, calendar, ledger, archive, market, broker.")
def desk_resource(_context: dg.InitResourceContext) -> Desk:
    """Hand the process's desk to an asset or sensor."""
    return process_desk()
