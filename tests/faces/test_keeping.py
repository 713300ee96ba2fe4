"""What a replay waits for at its gates, on real seconds that the test turns; the clock and the ledger are real."""

import errno
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.desks import CLOSE, DAY, OPEN, PERSON, Floor, bars, calendar, floor, market, strategy
from trading_pipeline.adapters import clocks
from trading_pipeline.adapters.clocks import Pace, ReplayClock, Ticks
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import LedgerUnavailable
from trading_pipeline.faces.cli.keeping import WORK_SECONDS, Keeper, speed_warning, time_to_decide
from trading_pipeline.faces.cli.replay import RUN_SECONDS
from trading_pipeline.service import approvals
from trading_pipeline.service.submitter.closing import close_session
from trading_pipeline.settings import Launcher

SLOT = 30.0


class Replay:
    """A floor under a replay, of sessions unless it has a speed, and its keeper."""

    def __init__(self, folder: Path, patience: float = 60, mode: Mode = Mode.APPROVAL, speed: float | None = None) -> None:
        self.seconds = 1_000.0
        self.said: list[str] = []
        ticks = Ticks(lambda: round(self.seconds * 1e9), lambda: "boot")
        self.stage: Floor = floor(
            folder, market(bars("AAPL"), bars("IBM")), OPEN, strategy(mode=mode), strategy("second", mode=mode, symbols=("IBM",)),
        )
        self.clock = ReplayClock.create(
            folder / "clock.json", market="samples", pace=Pace.INTRADAY if speed else Pace.DAILY, start=OPEN, end=CLOSE + timedelta(days=2),
            calendar=calendar(), speed=speed or 1.0, session_seconds=SLOT, running=False, ticks=ticks,
        )
        self.keeper = Keeper(self.clock, lambda: self.stage.desk, self.said.append, patience, lambda: self.seconds)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let real time pass, in fifths of a second, the floor's clock following; how much did."""
        for step in range(round(seconds * 5)):
            self.keeper()
            self.seconds += 0.2
            self.stage.go(self.clock.now())
            if until():
                return (step + 1) / 5
        return seconds

    def trade(self) -> None:
        """The session's cycle, and what it leaves for a second later."""
        self.run(2)
        self.stage.cycle()
        self.run(2)
        self.stage.release()

    def swept(self) -> bool:
        """Whether it has left the morning."""
        return self.clock.now() > OPEN + timedelta(hours=1)

    def next_day(self) -> bool:
        """Whether the next session has opened."""
        return self.clock.now() >= calendar().next(DAY).open


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    return Replay(tmp_path)


def test_it_goes_on_when_there_is_nothing_to_wait_for(replay: Replay) -> None:
    replay.run(2)
    replay.stage.cycle()
    for row in replay.stage.rows("approvals"):
        approvals.reject(replay.stage.desk, row["action_id"], actor=PERSON)
    assert replay.run(60, replay.swept) == pytest.approx(SLOT * 0.8 - 2 + 1, abs=1)


def test_a_person_is_waited_for_and_told_how_long(replay: Replay) -> None:
    replay.run(2)
    replay.stage.cycle()
    replay.run(1)
    assert "waiting for you: 2 proposals, 1 min 2" in replay.said[-1]
    assert replay.said[-1].startswith("REPLAY 2024-08-28 09:30:0")
    assert replay.run(120, replay.swept) == pytest.approx(SLOT * 0.8 - 3 + 60 + 1, abs=1)
    assert "going on; 2 proposals not decided" in replay.said[-1]
    assert len(replay.said) == 2


def test_nobody_is_waited_for_when_it_is_switched_off(tmp_path: Path) -> None:
    replay = Replay(tmp_path, patience=0)
    replay.run(2)
    replay.stage.cycle()
    assert replay.run(120, replay.swept) == pytest.approx(SLOT * 0.8 - 2 + 1, abs=1)


def test_what_was_approved_is_sent_before_the_market_leaps(replay: Replay) -> None:
    replay.run(20)
    replay.stage.cycle()
    for row in replay.stage.rows("approvals"):
        approvals.approve(replay.stage.desk, row["action_id"], actor=PERSON)
    for _ in range(2):
        replay.run(5)
        assert not replay.swept()
        replay.stage.release()
    assert len(replay.stage.rows("fills")) == 2
    assert replay.run(60, replay.swept) < 5


def test_an_action_that_nobody_sends_is_waited_for_no_longer_than_it_lives(replay: Replay) -> None:
    replay.run(20)
    replay.stage.cycle()
    for row in replay.stage.rows("approvals"):
        approvals.approve(replay.stage.desk, row["action_id"], actor=PERSON)
    assert 20 < replay.run(200, replay.swept) < 45, "thirty seconds from its release"


def test_an_action_that_is_not_sent_though_it_lives_is_left(tmp_path: Path) -> None:
    replay = Replay(tmp_path, mode=Mode.AUTONOMOUS)
    replay.run(20)
    replay.stage.cycle()
    assert len(replay.stage.rows("actions", state="ready")) == 1, "the account's orders are a second apart"
    assert WORK_SECONDS < replay.run(200, replay.swept) < WORK_SECONDS + 10
    assert replay.said[-1].endswith("going on; 1 action not sent.")


def test_the_cycle_of_the_session_is_waited_for_but_not_for_good(replay: Replay) -> None:
    assert replay.run(200, replay.swept) == pytest.approx(SLOT * 0.8 + WORK_SECONDS + 1, abs=1)
    assert "going on; the cycle has not ended" in replay.said[-1]


def test_no_session_begins_before_the_last_one_is_closed_in_the_ledger(tmp_path: Path) -> None:
    replay = Replay(tmp_path, mode=Mode.AUTONOMOUS)
    replay.trade()
    replay.run(50)
    assert CLOSE < replay.clock.now() < CLOSE + timedelta(minutes=1)
    close_session(replay.stage.desk, calendar().session(DAY))
    assert replay.run(60, replay.next_day) < 6
    assert replay.said[-1].startswith("REPLAY 2024-08-28 closed: equity $99,")
    assert replay.said[-1].endswith("2 fills.")


def test_a_close_that_does_not_come_is_said_and_passed(tmp_path: Path) -> None:
    replay = Replay(tmp_path, mode=Mode.AUTONOMOUS)
    replay.trade()
    assert 80 < replay.run(300, replay.next_day) < 100
    assert "its close is not in the ledger after 60 s; going on" in replay.said[-1]


def test_a_ledger_that_does_not_answer_is_said_once_and_stops_nothing(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    replay.run(1)

    def broken(*_: object, **__: object) -> None:
        raise LedgerUnavailable("The ledger does not answer.")

    monkeypatch.setattr(replay.stage.desk.ledger, "find", broken)
    assert 80 < replay.run(200, replay.swept) < 90
    assert replay.said == ["REPLAY: what to wait for cannot be read: The ledger does not answer."]


def test_a_disk_that_is_full_is_said_once_and_the_replay_stands_until_there_is_room(
    replay: Replay, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """fault 31."""
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    replay.run(1)
    with monkeypatch.context() as disk:
        disk.setattr(clocks, "write_atomically", full)
        replay.run(100)
        stood = replay.clock.now()
        replay.run(10)
    assert replay.clock.now() == stood <= OPEN + timedelta(seconds=SLOT)
    [said] = replay.said
    assert said.startswith("REPLAY: it will stand still, and is tried again: The replay clock failed")
    assert said.endswith("No space left on device. To do: free space and try again.")
    replay.run(5)
    assert replay.clock.now() > stood
    assert "going on" in replay.said[1]


def test_gates_are_kept_though_the_disk_was_full_at_the_first_try(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(clocks, "write_atomically", full)
        replay.run(3)
    assert replay.clock.now() == OPEN
    assert replay.run(200, replay.swept) == pytest.approx(SLOT * 0.8 + WORK_SECONDS + 1, abs=1)


def market_seconds(replay: Replay, real: float) -> float:
    """How far the market comes in so much real time."""
    before = replay.clock.now()
    replay.run(real)
    return (replay.clock.now() - before).total_seconds()


def test_a_fast_replay_of_minutes_gives_a_person_the_time_of_their_own_clock(tmp_path: Path) -> None:
    """47: five minutes of market time are thirty seconds at speed 10, and what is approved has three to be sent."""
    replay = Replay(tmp_path, patience=40, speed=10)
    assert market_seconds(replay, 2) == pytest.approx(20, abs=4)
    replay.stage.cycle()
    assert market_seconds(replay, 35) == pytest.approx(35, abs=10), "ten seconds until it is seen at the most"
    assert "waiting for you: 2 proposals, 1 min" in replay.said[0]
    first, second = (row["action_id"] for row in replay.stage.rows("approvals"))
    approvals.reject(replay.stage.desk, second, actor=PERSON)
    approvals.approve(replay.stage.desk, first, actor=PERSON)
    assert market_seconds(replay, 20) == pytest.approx(20, abs=1), "a run has time to send it"
    replay.stage.release()
    [fill] = replay.stage.rows("fills")
    assert fill["symbol"] == "AAPL"
    assert market_seconds(replay, 10) > 90, "nobody is waited for any more"


def test_a_fast_replay_waits_for_a_person_no_longer_than_it_says(tmp_path: Path) -> None:
    replay = Replay(tmp_path, patience=5, speed=10)
    replay.run(2)
    replay.stage.cycle()
    assert market_seconds(replay, 5) < 20
    assert market_seconds(replay, 5) == pytest.approx(50, abs=10)


def test_a_fast_replay_that_is_to_wait_for_nobody_still_sends_what_somebody_approved(tmp_path: Path) -> None:
    replay = Replay(tmp_path, patience=0, speed=10)
    replay.run(2)
    replay.stage.cycle()
    assert market_seconds(replay, 4) == pytest.approx(40, abs=4)
    approvals.approve(replay.stage.desk, replay.stage.rows("approvals")[0]["action_id"], actor=PERSON)
    assert market_seconds(replay, 10) < 20


def test_how_long_a_person_has_is_said_where_the_market_is_faster_than_they_are(tmp_path: Path) -> None:
    def clock(name: str, speed: float, pace: Pace = Pace.INTRADAY) -> ReplayClock:
        return ReplayClock.create(
            tmp_path / f"{name}.json", market="files", pace=pace, start=OPEN, end=CLOSE, calendar=calendar(), speed=speed,
        )

    fast = clock("fast", 10)
    assert "in real time, for up to 1 min 0 s (market.decision_seconds)" in time_to_decide(fast, 60)
    assert "of a minute that a proposal stands you have 6 s" in time_to_decide(fast, 0)
    assert time_to_decide(clock("real", 1), 60) == time_to_decide(clock("daily", 10, Pace.DAILY), 60) == ""


def test_a_speed_that_runs_cannot_follow_is_named_with_one_that_they_can(tmp_path: Path) -> None:
    def clock(speed: float) -> ReplayClock:
        return ReplayClock.create(
            tmp_path / f"{speed}.json", market="files", pace=Pace.INTRADAY, start=OPEN, end=CLOSE, calendar=calendar(), speed=speed,
        )

    assert "A bar closes every 1 s" in speed_warning(clock(60), 1, 8)
    assert "--speed 7.5 or slower" in speed_warning(clock(61), 1, 8)
    assert speed_warning(clock(7.5), 1, 8) == ""
    assert speed_warning(clock(30), 5, 8) == ""


def test_what_a_run_takes_depends_on_the_launcher(tmp_path: Path) -> None:
    """A bar every 7.5 s: the warm launcher's runs follow, fresh processes do not."""
    clock = ReplayClock.create(
        tmp_path / "clock.json", market="files", pace=Pace.INTRADAY, start=OPEN, end=CLOSE, calendar=calendar(), speed=8,
    )
    warned = {launcher: bool(speed_warning(clock, 1, RUN_SECONDS[launcher])) for launcher in Launcher}
    assert warned == {Launcher.WARM: False, Launcher.DEFAULT: True}
