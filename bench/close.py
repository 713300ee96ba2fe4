"""`make bench-close`: from the close of a one-minute bar, and from an approval, to the order's acceptance by the paper broker.

`trading up` runs as users have it, in a home over a synthetic market replayed at speed 1, so that minutes end with the wall clock's.
One strategy trades alone at every close, one asks a person at every close, one looks at five symbols with charts and never trades.
A person here is `trading approve ID --yes`, started as soon as the proposal is seen; its time counts from before the command starts.
An order counts from its bar's close to the commit of `order.accepted`. `N=closes`, 30 by default: so many minutes of real time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from bench.live_home import free_port
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import ReplayClock
from trading_pipeline.adapters.replay_file import Pace
from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.events import EventType
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Desk
from trading_pipeline.settings import Settings

SESSION = date(2012, 6, 1)
SETTINGS = f"""\
environment = "demo"

[market]
clock = "replay"
source = "synthetic"
interval = "1min"
symbols = ["S000", "S001", "S002", "S003", "S004"]
first = "2012-05-30"
last = "{SESSION}"
"""
STRATEGY = """\
name = "{name}"
symbols = {symbols}
mode = "{mode}"
interval = "1min"
lifetime = "session"
min_confidence = {confidence}

[agent]
{agent}

[limits]
max_order_value = 2000
max_position_value = 2000
max_orders_per_hour = 500
cool_off_minutes = "off"
recovery_size = "off"
revenge_wait_minutes = "off"
"""
NEVER = 'form = "expression"\nenter_when = "close < 0"\nexit_when = "close < 0"'
ALWAYS = 'form = "expression"\nenter_when = "close > 0"\nexit_when = "close > 0"'
CHART = '\n[chart]\nbars = 120\noverlays = ["sma_20", "sma_50"]\npanels = ["rsi_14", "macd"]\n'
ALL = '["S000", "S001", "S002", "S003", "S004"]'
STRATEGIES = (
    STRATEGY.format(name="alone", symbols='["S000"]', mode="autonomous", confidence=0, agent=ALWAYS),
    STRATEGY.format(name="asks", symbols='["S001"]', mode="approval", confidence=0, agent=ALWAYS),
    STRATEGY.format(name="looks", symbols=ALL, mode="autonomous", confidence=0, agent=NEVER) + CHART,
)
TRADING = Path(sys.executable).with_name("trading")
WARM_UP = 2
"""Closes before the first that counts."""


class Watch:
    """Reads the ledger as it grows."""

    def __init__(self, desk: Desk) -> None:
        """From here on."""
        self._desk = desk
        self._seen = desk.ledger.head()[0]
        self._closed: dict[str, datetime] = {}
        self._approved: dict[str, float] = {}
        self.closes: list[float] = []
        self.approvals: list[float] = []
        self.missed = 0

    def look(self) -> list[str]:
        """Note what has come; the actions that a person is asked about."""
        asked: list[str] = []
        for event in self._desk.ledger.events(after=self._seen):
            self._seen = event.seq
            data: Any = event.payload
            if event.type is EventType.LLM_ACTION_GENERATED:
                self._closed[data["action_id"]] = datetime.fromisoformat(data["bar_end"])
            elif event.type is EventType.APPROVAL_REQUESTED:
                asked.append(data["action_id"])
            elif event.type is EventType.CYCLE_MISSED:
                self.missed += 1
            elif event.type is EventType.ORDER_ACCEPTED:
                self._accepted(data["client_id"], event.recorded_at)
        return asked

    def approve(self, home: Path, action: str) -> "subprocess.Popen[bytes]":
        """Let a person approve."""
        self._approved[action] = time.time()
        command = [str(TRADING), "--home", str(home), "--quiet", "approve", action, "--yes"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def _accepted(self, client_id: str, recorded_at: datetime) -> None:
        order = self._desk.ledger.get("orders", client_id)
        assert order is not None
        if order["parent"] is not None:
            return
        if order["strategy"] == "asks":
            self.approvals.append(recorded_at.timestamp() - self._approved[order["action_id"]])
        else:
            market_ahead = self._desk.now().timestamp() - time.time()
            self.closes.append(recorded_at.timestamp() + market_ahead - self._closed[order["action_id"]].timestamp())


@contextmanager
def _up(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [str(TRADING), "--home", str(home), "up", "--port", str(free_port())]
    with (home / "up.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def measure(home: Path, closes: int) -> dict[str, Any]:
    """Prepare the home, run it for so many closes, and tell."""
    (home / "trading.toml").write_text(SETTINGS, "utf-8")
    calendar = load_calendar(home / "cache")
    session = calendar.session(SESSION)
    ReplayClock.create(
        home / "clock.json", market="synthetic", pace=Pace.INTRADAY, start=session.open, end=session.close, calendar=calendar, speed=1.0,
        running=False,
    )
    with open_desk(Settings.load(home)) as desk:
        for text in STRATEGIES:
            spec = parse_strategy(text)
            controls.create(desk, spec, actor="demo:person")
            controls.start(desk, spec.name, actor="demo:person")
        watch = Watch(desk)
        begun = time.monotonic()
        with _up(home) as up:
            people: list[subprocess.Popen[bytes]] = []
            while min(len(watch.closes), len(watch.approvals)) < closes + WARM_UP:
                assert up.poll() is None, (home / "up.log").read_text("utf-8")
                people += [watch.approve(home, action) for action in watch.look()]
                if time.monotonic() - begun > 60 * (closes + WARM_UP) * 1.5 + 180:
                    break
                time.sleep(0.1)
            for person in people:
                person.wait(60)
    counted = {"close_to_order": watch.closes[WARM_UP:], "approve": watch.approvals[WARM_UP:]}
    for name, times in counted.items():
        print(f"{name}: {', '.join(f'{each:.2f}' for each in times)}", file=sys.stderr)
    figures: dict[str, Any] = {}
    for name, times in counted.items():
        figures |= {f"{name}_p50_s": round(statistics.median(times), 2), f"{name}_p95_s": round(statistics.quantiles(times, n=20)[-1], 2)}
    return figures | {"closes": len(counted["close_to_order"]), "approvals": len(counted["approve"]), "missed": watch.missed}


def main(closes: int) -> int:
    """Measure and print the figures."""
    with tempfile.TemporaryDirectory(prefix="trading-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        os.environ["TRADING_HOME"] = str(home)
        print(f"{closes} closes of one-minute bars at speed 1, from {datetime.now(UTC):%H:%M} UTC", file=sys.stderr)
        figures = measure(home, closes)
    print("RESULT " + json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(os.environ.get("N") or 30)))
