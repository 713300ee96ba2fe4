"""The market clocks of D28, on a machine clock that the test turns."""

import fcntl
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.replays import CALENDAR, END, MICROSECOND, SESSIONS, START, Machine, attach, create, utc
from trading_pipeline.adapters import replay_file
from trading_pipeline.adapters.clocks import (
    KEPT_SECONDS,
    PAUSE_SECONDS,
    Pace,
    ReplayClock,
    SteppedClock,
    SystemClock,
    market_pace,
)
from trading_pipeline.adapters.daily_replay import daily_instant
from trading_pipeline.errors import CalendarError, Conflict, InputError, StorageError


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_the_system_clock_is_aware_and_waits_out_a_step_back(monkeypatch):
    """72, 74, fault 45."""
    from trading_pipeline.adapters import clocks

    instants = iter([utc("2024-08-28T13:30"), utc("2024-08-28T12:30"), utc("2024-08-28T13:30:01")])

    class Stepping(datetime):
        @classmethod
        def now(cls, tz=None):
            return next(instants)

    clock = SystemClock()
    monkeypatch.setattr(clocks, "datetime", Stepping)
    assert [clock.now() for _ in range(3)] == [utc("2024-08-28T13:30"), utc("2024-08-28T13:30"), utc("2024-08-28T13:30:01")]


def test_a_stepped_clock_moves_on_and_never_back():
    clock = SteppedClock(START)
    clock.advance_to(START)
    clock.advance_to(START + MICROSECOND)
    with pytest.raises(Conflict):
        clock.advance_to(START)
    assert clock.now() == START + MICROSECOND


def test_an_instant_without_a_zone_is_refused():
    for build in (lambda: SteppedClock(datetime(2024, 8, 28)), lambda: SteppedClock(START).advance_to(datetime(2030, 1, 1))):  # noqa: DTZ001
        with pytest.raises(InputError, match="no time zone"):
            build()


@pytest.mark.parametrize(
    ("elapsed", "instant"),
    [
        (0, "2012-10-25T13:30:00"),
        (24, "2012-10-25T13:30:24"),  # 80 % of 30 s: real time
        (25.5, "2012-10-25T16:45:12"),  # half of the sweep from 13:30:24 to 20:00
        (27, "2012-10-25T20:00:00"),
        (30, "2012-10-26T13:30:00"),
        (60, "2012-10-31T13:30:00"),  # over a weekend and two closed days
        (120, "2012-11-05T14:30:00"),  # standard time
        (150, "2012-11-23T14:30:00"),
        (177, "2012-11-23T18:00:00"),  # early close
        (100_000, "2012-11-23T18:00:00"),
    ],
)
def test_a_daily_replay_runs_sweeps_and_steps_to_the_next_open(elapsed, instant):
    assert daily_instant(SESSIONS, timedelta(seconds=elapsed), 30) == utc(instant)


def test_the_next_open_is_not_told_before_its_slot():
    assert daily_instant(SESSIONS, timedelta(seconds=30) - MICROSECOND, 30) < SESSIONS[1].open


def test_slots_longer_than_a_session_wait_at_its_close():
    assert daily_instant(SESSIONS, timedelta(hours=7), 36_000) == SESSIONS[0].close
    assert daily_instant(SESSIONS, timedelta(hours=8, minutes=30), 36_000) == SESSIONS[0].close


def test_no_sessions_is_an_error():
    with pytest.raises(CalendarError):
        daily_instant((), timedelta(0), 30)


seconds = st.floats(0.05, 50_000, allow_nan=False)


@settings(max_examples=300, deadline=None)
@given(seconds, st.lists(st.integers(0, 10**12), min_size=2, max_size=20))
def test_a_daily_replay_never_goes_back(session_seconds, micros):
    told = [daily_instant(SESSIONS, timedelta(microseconds=each), session_seconds) for each in sorted(micros)]
    assert told == sorted(told)
    assert all(SESSIONS[0].open <= each <= SESSIONS[-1].close for each in told)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10_000), st.integers(0, 5))
def test_a_daily_replay_visits_every_session_from_its_open_on(session_seconds, number):
    begins = timedelta(seconds=session_seconds * number)
    assert daily_instant(SESSIONS, begins, session_seconds) == SESSIONS[number].open
    for share in (0.0, 0.3, 0.79, 0.85):
        at = daily_instant(SESSIONS, begins + share * timedelta(seconds=session_seconds), session_seconds)
        assert SESSIONS[number].open <= at <= SESSIONS[number].close
    late = daily_instant(SESSIONS, begins + 0.95 * timedelta(seconds=session_seconds), session_seconds)
    assert late >= SESSIONS[number].close
    assert number == 5 or late < SESSIONS[number + 1].open


def test_an_intraday_replay_runs_at_its_speed_from_its_start(tmp_path, machine):
    clock = create(tmp_path, machine, speed=60.0)
    assert clock.now() == START
    machine.run(1.5)
    assert clock.now() == START + timedelta(seconds=90)


def test_it_stops_where_the_data_end(tmp_path, machine):
    clock = create(tmp_path, machine, speed=1e6)
    machine.run(14)
    assert clock.now() == END == clock.end
    daily = create(tmp_path / "daily", machine, pace=Pace.DAILY, end=utc("2012-10-26T15:00"))
    machine.run(1_000, daily)
    assert daily.now() == utc("2012-10-26T15:00")


def test_a_daily_replay_begins_at_the_first_open_after_its_start(tmp_path, machine):
    clock = create(tmp_path, machine, pace=Pace.DAILY, start=utc("2012-10-26T20:00"), session_seconds=10.0)
    assert clock.now() == utc("2012-10-31T13:30")
    machine.run(10, clock)
    assert clock.now() == utc("2012-11-02T13:30")


def test_all_processes_that_attach_tell_the_same_instant(tmp_path, machine):
    first = create(tmp_path, machine, speed=3.7)
    machine.run(12.345678901)
    second = attach(tmp_path, machine)
    assert second.now() == first.now() > START
    first.keep()
    assert attach(tmp_path, machine).now() == second.now() == first.now()
    assert (second.market, second.pace, second.speed, second.session_seconds) == ("samples", Pace.INTRADAY, 3.7, 30.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, round(KEPT_SECONDS * 1e9)), max_size=20), st.floats(0.01, 500))
def test_keeping_changes_nothing_of_the_time_told(tmp_path_factory, steps, speed):
    machine, path = Machine(), tmp_path_factory.mktemp("clock")
    clock = create(path, machine, speed=speed)
    for number, nanoseconds in enumerate(steps, start=1):
        machine.ns += nanoseconds
        clock.keep()
        real = timedelta(microseconds=sum(steps[:number]) // 1000)
        assert clock.now() == attach(path, machine).now() == min(START + real * speed, END)


@settings(max_examples=50, deadline=None)
@given(st.lists(
    st.tuples(st.integers(0, 10**11), st.sampled_from(["keep", "pause", "reboot", "look", "take_time", "end_time"])), max_size=25,
))
def test_no_process_ever_sees_it_go_back(tmp_path_factory, steps):
    """74."""
    machine, path = Machine(), tmp_path_factory.mktemp("clock")
    actor, watcher = create(path, machine, speed=50.0), attach(path, machine)
    told = [watcher.now()]
    for nanoseconds, act in steps:
        machine.ns += nanoseconds
        told.append(watcher.now())
        if act == "reboot":
            told.append(actor.now())
            machine.reboot()
            kept = json.loads((path / "clock.json").read_text())
            actor, watcher = attach(path, machine), attach(path, machine)
            # A power cut leaves it at most ahead by what it was allowed.
            assert actor.now() - told[-1] <= 50 * timedelta(seconds=KEPT_SECONDS)
            assert kept["boot_id"] != machine.boot
        elif act.endswith("_time"):
            actor.take_time(20 if act == "take_time" else 0)
        elif act != "look":
            getattr(actor, act)()
        told += [actor.now(), watcher.now()]
        assert told == sorted(told)


def test_it_stands_still_when_nobody_keeps_it_and_goes_on_from_there(tmp_path, machine):
    clock = create(tmp_path, machine)
    machine.run(3_600)
    stood = START + timedelta(seconds=KEPT_SECONDS)
    assert clock.now() == attach(tmp_path, machine).now() == stood
    clock.keep()
    assert clock.now() == stood
    machine.run(5)
    assert clock.now() == stood + timedelta(seconds=5)


def test_a_pause_takes_hold_a_moment_later_for_every_process(tmp_path, machine):
    clock, other = create(tmp_path, machine), attach(tmp_path, machine)
    machine.run(5)
    clock.pause()
    machine.run(100)
    assert clock.now() == other.now() == START + timedelta(seconds=5 + PAUSE_SECONDS)
    clock.pause()
    machine.run(100)
    assert other.now() == START + timedelta(seconds=5 + PAUSE_SECONDS)
    other.keep()
    machine.run(1)
    assert clock.now() == START + timedelta(seconds=6 + PAUSE_SECONDS)


def test_the_pace_is_the_speed_while_it_runs_and_nothing_while_it_stands(tmp_path, machine):
    clock = create(tmp_path, machine, speed=60.0)
    assert market_pace(clock) == 60
    machine.run(KEPT_SECONDS + 1)
    assert market_pace(clock) == 0
    clock.keep()
    assert market_pace(clock) == 60
    assert market_pace(SystemClock()) == 1


def test_a_fast_replay_of_minutes_runs_in_real_time_for_as_long_as_it_is_told(tmp_path, machine):
    """28."""
    clock, other = create(tmp_path, machine, speed=10.0), attach(tmp_path, machine)
    clock.take_time(4)
    proposal = START + timedelta(seconds=30)
    assert clock.real_seconds_until(proposal, 60) == pytest.approx(4 + 26 / 10)
    machine.run(3)
    assert clock.now() == other.now() == START + timedelta(seconds=3)
    clock.keep()
    machine.run(3)
    assert clock.now() == other.now() == START + timedelta(seconds=4 + 2 * 10)
    clock.take_time(60)
    machine.run(1)
    clock.take_time(0)
    machine.run(1)
    assert clock.now() == other.now() == START + timedelta(seconds=4 + 2 * 10 + 1 + 10)


def test_a_replay_in_real_time_has_time_enough_and_a_slower_one_more(tmp_path, machine):
    for speed in (1.0, 0.5):
        clock = create(tmp_path / str(speed), machine, speed=speed)
        clock.take_time(5)
        began = clock.now()
        machine.run(5)
        assert clock.now() == began + timedelta(seconds=5 * speed)


def test_a_replay_can_begin_standing(tmp_path, machine):
    clock = create(tmp_path, machine, running=False)
    machine.run(100)
    assert clock.now() == START


def test_after_a_power_cut_it_stands_where_it_was_allowed_to_go_and_goes_on_when_kept_again(tmp_path, machine):
    """Nothing says how long it had run since the last keep: going back would give instants twice."""
    clock = create(tmp_path, machine)
    machine.run(100, clock)
    clock.keep()
    machine.run(7)
    machine.reboot()
    again = attach(tmp_path, machine)
    machine.run(50)
    stood = START + timedelta(seconds=100 + KEPT_SECONDS)
    assert again.now() == stood
    again.keep()
    machine.run(5)
    assert attach(tmp_path, machine).now() == again.now() == stood + timedelta(seconds=5)


def test_a_reboot_after_a_pause_changes_nothing(tmp_path, machine):
    clock = create(tmp_path, machine)
    machine.run(100, clock)
    clock.pause()
    machine.run(1)
    stood = clock.now()
    machine.reboot()
    assert attach(tmp_path, machine).now() == stood == START + timedelta(seconds=100 + PAUSE_SECONDS)


def test_nobody_else_can_hold_its_lock(tmp_path, machine):
    create(tmp_path, machine)
    assert (tmp_path / "clock.lock").stat().st_mode & 0o077 == 0, "whoever can read it could hold it"


def test_a_lock_that_is_not_let_go_is_an_error_that_says_so(tmp_path, machine, monkeypatch):
    """A stopped process, or a shell that holds the file."""
    monkeypatch.setattr(replay_file, "LOCK_SECONDS", 0.05)
    clock = create(tmp_path, machine)
    with (tmp_path / "clock.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"clock\.lock has been locked") as refused:
            clock.keep()
    assert "find the process" in refused.value.remedy
    clock.keep()


def test_a_second_replay_in_the_same_home_is_refused(tmp_path, machine):
    create(tmp_path, machine)
    with pytest.raises(Conflict, match="another home"):
        create(tmp_path, machine, start=SESSIONS[1].open)


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0.0}, {"speed": -1.0}, {"speed": float("inf")}, {"speed": float("nan")}, {"session_seconds": 0.0}, {"end": START},
        {"start": datetime(2012, 10, 25)},  # noqa: DTZ001
    ],
)
def test_values_that_make_no_replay_are_refused(tmp_path, machine, wrong):
    with pytest.raises(InputError):
        create(tmp_path, machine, **wrong)
    assert not (tmp_path / "clock.json").exists()


def test_days_outside_the_calendar_are_refused(tmp_path, machine):
    with pytest.raises(CalendarError):
        create(tmp_path, machine, pace=Pace.DAILY, start=utc("1812-10-25T13:30"))
    with pytest.raises(CalendarError):
        create(tmp_path, machine, pace=Pace.DAILY, start=utc("2012-10-27T12:00"), end=utc("2012-10-28T12:00"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"speed": 1}', b"\xff\xfe", b"null"])
def test_a_damaged_file_is_named_with_its_remedy(tmp_path, machine, content):
    (tmp_path / "clock.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"clock\.json is damaged"):
        attach(tmp_path, machine)


def test_a_field_that_was_edited_wrongly_is_named(tmp_path, machine):
    create(tmp_path, machine)
    path = tmp_path / "clock.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"speed": -1}))
    with pytest.raises(StorageError, match="speed"):
        attach(tmp_path, machine)


def test_a_missing_file_is_an_error(tmp_path, machine):
    with pytest.raises(StorageError, match="No such file"):
        attach(tmp_path / "nowhere", machine)


def test_the_real_machine_agrees_between_processes_whatever_their_time_zone(tmp_path):
    """fault 46."""
    calendar = f"TradingCalendar([Session(date(2012, 10, 25), {START!r}, {SESSIONS[0].close!r})])".replace("datetime.", "")
    code = (
        "import sys; from datetime import date, datetime, timezone; from pathlib import Path\n"
        "from trading_pipeline.adapters.clocks import ReplayClock\n"
        "from trading_pipeline.domain.sessions import Session, TradingCalendar\n"
        f"print(ReplayClock.attach(Path(sys.argv[1]), {calendar}).now().isoformat())"
    )
    here = ReplayClock.create(
        tmp_path / "clock.json", market="samples", pace=Pace.INTRADAY, start=START, end=END, calendar=CALENDAR, speed=100.0
    )
    for zone in ("UTC", "Asia/Tokyo", ""):
        before = here.now()
        told = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "clock.json")], env={**os.environ, "TZ": zone}, capture_output=True, text=True,
            check=True, cwd=Path(__file__).parents[2],
        ).stdout.strip()
        assert before < datetime.fromisoformat(told) < here.now()
