"""`trading run`, for a while: rounds as they fall due, what keeps a replay going meanwhile, and how it ends."""

import signal
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.faces.conftest import Shell
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import PAUSE_SECONDS, Pace, ReplayClock
from trading_pipeline.adapters.home_lock import held
from trading_pipeline.domain.events import EventType
from trading_pipeline.errors import MarketDataError
from trading_pipeline.faces.cli import rounds


def before_the_close(trading: Shell, speed: float) -> None:
    """A replay that stands a quarter of a minute before the close of 2012-10-15."""
    trading("strategy", "create", trading.strategy(mode="autonomous"))
    trading("strategy", "start", "steady")
    path, calendar = trading.home / "clock.json", load_calendar(trading.home / "cache")
    path.unlink()
    start, end = datetime.fromisoformat("2012-10-15T15:59:45-04:00"), datetime.fromisoformat("2013-03-01T16:00:00-05:00")
    ReplayClock.create(path, market="samples", pace=Pace.INTRADAY, start=start, end=end, calendar=calendar, speed=speed, running=False)


def test_rounds_go_on_until_the_time_is_over_and_the_replay_with_them(trading: Shell) -> None:
    before_the_close(trading, speed=20)
    ran = trading("run", "--duration", "3s", "--json").json()
    assert ran["cycles"][0]["cycle"] == "1d@2012-10-12T20:00Z"
    assert [report["session"] for report in ran["sessions_closed"]] == ["2012-10-15"], "the close came after the first round"
    assert (ran["seconds"] >= 3, ran["asked_to_end"]) == (True, False)
    assert [event.payload["session"] for event in trading.events() if event.type is EventType.SESSION_CLOSED] == ["2012-10-15"]
    time.sleep(PAUSE_SECONDS)
    first, second = (trading("status", "--json").json()["now"] for _ in range(2))
    assert first == second > "2012-10-15T20:00", "it stands again, after the close"


def test_a_person_sees_each_cycle_as_it_ends_and_what_is_waited_for(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    said = trading("run", "--duration", "1s", "--mode", "paper")
    assert said.code == 0
    assert "Cycle 1d@2012-10-12 16:00" in said.out
    assert "waiting for your approval: 2 proposals" in said.err
    assert said.out.splitlines()[-1] == "Ended after 1 s: 1 cycle, 0 sessions closed."


def test_ctrl_c_ends_it_cleanly_and_says_what_was_done(trading: Shell) -> None:
    running = trading.process("run", "--duration", "6h")
    assert running.stderr is not None
    for line in running.stderr:
        if "no strategy runs" in line:
            break
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "0 cycles, 0 sessions closed." in out
    assert trading("run").code == 0, "the home is free"


@pytest.mark.parametrize("times", [1, 100])
def test_a_round_that_is_refused_is_told_once_and_tried_again(trading: Shell, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """What is still refused in the last round is what the command comes to."""
    asked = []

    def due(_desk: object) -> Iterator[tuple[str, int, list[object]]]:
        asked.append(1)
        if len(asked) <= times:
            raise MarketDataError("The source does not answer.", rule="a source answers", remedy="wait")
        return iter(())

    monkeypatch.setattr(rounds, "_due", due)
    monkeypatch.setattr(rounds, "_AGAIN_SECONDS", 0.3)
    said = trading("run", "--duration", "1s")
    assert len(asked) > 1
    assert said.err.count("Refused, and tried again") == 1
    assert said.code == (0 if times == 1 else 1)


def test_a_home_that_somebody_runs_is_left_to_them(trading: Shell) -> None:
    with held(trading.home, "trading up"):
        said = trading("run", "--duration", "1s", "--json")
        assert (said.code, said.error()["error"]) == (4, "ServiceError")
        assert trading("run").code == 0, "once is no holding of the home"


@pytest.mark.parametrize("length", ["0s", "90", "1.5h", "h", "-5s", "400d", "3 weeks"])
def test_a_length_that_means_nothing_is_refused_with_those_that_do(trading: Shell, length: str) -> None:
    said = trading("run", f"--duration={length}", "--json")
    assert (said.code, said.error()["value"]) == (2, length)
    assert "90s, 30m or 6h" in said.error()["remedy"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1_800), ("6h", 21_600), ("2d", 172_800)])
def test_lengths_have_units(text: str, seconds: int) -> None:
    assert rounds.seconds_of(text) == seconds


@pytest.mark.parametrize(("mode", "said"), [("live", "no live broker yet"), ("backtest", "History is not run by what is due")])
def test_other_modes_are_refused_with_what_to_do(trading: Shell, mode: str, said: str) -> None:
    before = trading.events()
    refused = trading("run", "--mode", mode, "--json")
    assert refused.code == 2
    assert said in refused.error()["message"]
    assert "`trading backtest" in refused.error()["remedy"] or mode == "live"
    assert trading.events() == before
