"""What holds a replay: the gates of a daily one, and the wall clock's minutes of one at real speed."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.replays import SESSIONS, START, Machine, attach, create, utc
from trading_pipeline.adapters.clocks import (
    Pace,
    SystemClock,
    real_seconds_left,
)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def gated(tmp_path, machine):
    clock = create(tmp_path, machine, pace=Pace.DAILY)
    clock.keep_gates()
    return clock


def test_at_a_closed_gate_the_market_runs_in_real_time_and_then_sweeps_from_there(tmp_path, machine, gated):
    machine.run(24, gated)
    other = attach(tmp_path, machine)
    assert other.now() == utc("2012-10-25T13:30:24")
    assert (other.gate.session, other.gate.closing) == (SESSIONS[0], False)
    machine.run(100, gated)
    assert gated.now() == other.now() == utc("2012-10-25T13:32:04")
    gated.open_gate()
    assert gated.now() == other.now() == utc("2012-10-25T13:32:04")
    assert gated.gate is other.gate is None
    machine.run(1.5, gated)
    assert gated.now() == other.now() == utc("2012-10-25T16:46:02")  # half of the way to 20:00


def test_the_second_gate_is_the_close_and_the_next_session_begins_after_it(tmp_path, machine, gated):
    machine.run(24, gated)
    gated.open_gate()
    machine.run(3, gated)
    assert gated.now() == SESSIONS[0].close
    assert (gated.gate.session, gated.gate.closing) == (SESSIONS[0], True)
    machine.run(60, gated)
    assert gated.now() == SESSIONS[0].close + timedelta(seconds=60)
    gated.open_gate()
    machine.run(3, gated)
    assert gated.now() == SESSIONS[1].open
    machine.run(1_000, gated)
    assert gated.gate.session == SESSIONS[1]


def test_a_gate_is_opened_only_by_whom_stands_there(machine, gated):
    machine.run(10, gated)
    gated.open_gate()
    machine.run(100, gated)
    assert gated.gate is not None
    assert gated.now() == SESSIONS[0].open + timedelta(seconds=110)


def test_gates_stay_closed_over_a_restart_and_an_intraday_replay_has_none(tmp_path, machine, gated):
    machine.run(30, gated)
    machine.reboot()
    again = attach(tmp_path, machine)
    again.keep_gates()
    machine.run(1_000, again)
    assert again.gate.session == SESSIONS[0]
    intraday = create(tmp_path / "intraday", machine)
    intraday.keep_gates()
    machine.run(3_000, intraday)
    assert intraday.gate is None
    assert intraday.now() == START + timedelta(seconds=3_000)


def test_gates_that_nobody_kept_are_behind_it(tmp_path, machine):
    clock = create(tmp_path, machine, pace=Pace.DAILY)
    machine.run(55, clock)
    clock.keep_gates()
    machine.run(1_000, clock)
    assert (clock.gate.session, clock.gate.closing) == (SESSIONS[1], True)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.3, 300), st.lists(st.tuples(st.integers(0, 10**11), st.sampled_from(["keep", "open_gate", "look", "pause"])), max_size=40)
)
def test_with_gates_too_no_process_sees_it_go_back_and_no_session_is_skipped(tmp_path_factory, session_seconds, steps):
    machine, path = Machine(), tmp_path_factory.mktemp("clock")
    actor = create(path, machine, pace=Pace.DAILY, session_seconds=session_seconds)
    actor.keep_gates()
    told, gates = [actor.now()], []
    for nanoseconds, act in steps:
        machine.ns += nanoseconds
        # A process that has only just come sees what the others see.
        told += [actor.now(), attach(path, machine).now()]
        if (gate := actor.gate) is not None and gate.number not in gates:
            gates.append(gate.number)
            assert gate.session.open <= told[-1] and (not gate.closing or told[-1] >= gate.session.close)
        if act != "look":
            getattr(actor, act)()
        told += [actor.now(), attach(path, machine).now()]
        assert told == sorted(told)
    assert gates == list(range(len(gates)))


@pytest.mark.parametrize(
    ("ran", "left"),
    [
        (0, 84.0),  # 24 s to the gate and 60 s there
        (20, 64.0),
        (54, 30.0),
        (84, 0.0),
        (100, 0.0),
    ],
)
def test_a_person_has_the_slot_and_the_patience_but_never_longer_than_the_deadline(machine, gated, ran, left):
    machine.run(ran, gated)
    deadline = SESSIONS[0].open + timedelta(minutes=5)
    assert gated.real_seconds_until(deadline, 60) == pytest.approx(left)
    assert gated.real_seconds_until(gated.now() + timedelta(seconds=3), 60) == pytest.approx(min(3, left))


def test_nobody_has_time_in_a_sweep(machine, gated):
    machine.run(24, gated)
    gated.open_gate()
    machine.run(1, gated)
    assert gated.real_seconds_until(SESSIONS[0].close, 60) == 0


def test_real_time_left_is_told_of_a_replay_that_runs(tmp_path, machine):
    clock = create(tmp_path, machine, speed=10.0)
    deadline = START + timedelta(minutes=5)
    assert real_seconds_left(clock, deadline, 60) == pytest.approx(30)
    machine.run(60)
    assert real_seconds_left(clock, deadline, 60) is None, "it stands still"
    assert real_seconds_left(SystemClock(), deadline, 60) is None


# Minutes


@pytest.mark.parametrize("ran", [0.0, 17.25, 59.9, 61.0])
def test_at_real_speed_minutes_end_with_the_wall_clocks(tmp_path, machine, ran):
    clock = create(tmp_path, machine, speed=1.0)
    machine.run(ran, clock)
    before, wall = clock.now(), utc("2026-11-21T05:00:42.500")
    clock.keep_minutes(wall)
    assert (clock.now() - wall) % timedelta(minutes=1) == timedelta(0)
    assert timedelta(0) <= clock.now() - before < timedelta(minutes=1)
    assert attach(tmp_path, machine).now() == clock.now()


@pytest.mark.parametrize("values", [{"speed": 60.0}, {"pace": Pace.DAILY}])
def test_a_replay_of_another_pace_has_minutes_of_its_own(tmp_path, machine, values):
    clock = create(tmp_path, machine, **values)
    before = clock.now()
    clock.keep_minutes(utc("2026-11-21T05:00:42.500"))
    assert clock.now() == before
