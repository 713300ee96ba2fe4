"""The desk as a Dagster resource: one per process and home, opened when first asked for, and anew when the home has changed.

A process that watches the market for days must not trade by the settings and the split table of the day it began.
"""

import threading
from contextlib import ExitStack
from dataclasses import dataclass

import dagster as dg

from resources.home_state import Stamps, home_state
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.current_home import current_home
from trading_pipeline.service.desk import Desk
from trading_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class _Opened:
    """A desk with the state that its home had just before it was opened."""

    desk: Desk
    state: Stamps
    stack: ExitStack


_lock = threading.Lock()
_open: dict[str, _Opened] = {}


def process_desk() -> Desk:
    """The desk of the home that the environment names, by its settings, market and splits as they are now; shared within the process."""
    home = current_home()
    name = str(home.resolve())
    with _lock:
        state, held = home_state(home), _open.get(name)
        if held is not None and held.state == state:
            return held.desk
        stack = ExitStack()
        desk = stack.enter_context(open_desk(Settings.load(), leaving=False))
        _open[name] = _Opened(desk, state, stack)
        if held is not None:
            # A sensor that is still at work on it gets its connections anew.
            held.stack.close()
        return desk


@dg.resource(description="Every port of the trading desk: clock, calendar, ledger, archive, market, broker.")
def desk_resource(_context: dg.InitResourceContext) -> Desk:
    """Hand the process's desk to an asset or sensor."""
    return process_desk()
