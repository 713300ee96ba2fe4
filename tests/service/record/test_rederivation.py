"""8: a session derived again from its ledger: nothing differs when nothing was touched, and the first thing that was is named."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.desks import DAY, OPEN, Floor, bars, floor, market, strategy
from tests.service.minutes import MINUTES, bracketed, minute_bars
from tests.service.random_days import random_day
from tests.service.replaying import Payload, forged, record, replayed
from trading_pipeline.adapters.ledger import past as past_ledger
from trading_pipeline.adapters.ledger.past import PastLedger
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.rules import hard
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.errors import CalendarError, InputError, UnknownName
from trading_pipeline.service.record.past_desk import desk_at
from trading_pipeline.service.record.rederivation import rederive


def changed(type_: EventType, edit: Callable[[Payload], Any], on: int = 1) -> Callable[[Event, Payload], Payload]:
    """Edit the payload of the nth event of a type."""
    seen = 0

    def change(event: Event, payload: Payload) -> Payload:
        nonlocal seen
        if event.type is type_:
            seen += 1
            if seen == on:
                edit(payload)
        return payload

    return change


def first_of(stage: Floor, type_: EventType, on: int = 1) -> Event:
    return stage.events(type_)[on - 1]


@pytest.fixture
def day(tmp_path) -> Floor:
    """An autonomous strategy buys with a stop and a target, and sells what it holds an hour later."""
    quiet = strategy("quiet", agent=ExpressionAgent("close < 0", ""), **MINUTES)
    # Up 2 % in the first hour, flat afterwards: bought on the first closes, sold once it stands above 101.
    rising = {OPEN + timedelta(minutes=n): (100 + n / 30,) * 4 for n in range(60)}
    rising |= {OPEN + timedelta(minutes=n): (102.0,) * 4 for n in range(60, 390)}
    buyer = bracketed(agent=ExpressionAgent("close < 101", "close > 101.9"))
    stage = floor(tmp_path, minute_bars(at=rising), OPEN, buyer, quiet)
    for minute in (1, 2, 61, 62):
        stage.go(OPEN + timedelta(minutes=minute)).cycle(Interval.MIN1)
        stage.go(OPEN + timedelta(minutes=minute, seconds=40)).release()
    return stage


# Nothing was touched


def test_an_approved_and_filled_proposal_is_derived_again_kind_by_kind(stage):
    """8."""
    found = replayed(stage)
    assert found.ok, found.difference
    assert found.underivable == {}
    assert found.derived == {
        "indicators": 1, "questions": 1, "replies": 1, "signals": 1, "verdicts": 1, "proposals": 1, "approvals": 1, "intents": 1,
        "gates": 1, "submissions": 1, "snapshots": 2,
    }
    assert (found.first_seq, found.last_seq) == (1, stage.desk.ledger.head()[0])


def test_an_entry_with_its_bracket_and_its_exit_are_derived_again(day):
    found = replayed(day)
    assert found.ok, found.difference
    assert [row["quantity"] for row in day.rows("positions")] == [0]
    # Entry, stop, target; then the exit.
    assert (found.derived["verdicts"], found.derived["releases"], found.derived["intents"], found.derived["gates"]) == (2, 2, 4, 2)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_day_with_any_people_limits_and_broker_is_derived_again_without_a_difference(tmp_path_factory, seed):
    """8."""
    stage = random_day(tmp_path_factory.mktemp("day"), seed, 16)
    found = replayed(stage)
    assert found.ok, found.difference
    assert found.underivable == {}
    decided = (EventType.RISK_EVALUATED, EventType.ORDER_INTENT, EventType.ORDER_SUBMITTED, EventType.LLM_ACTION_GENERATED)
    kinds = ("verdicts", "gates", "intents", "submissions", "signals")
    assert sum(found.derived.get(kind, 0) for kind in kinds) == len(stage.events(*decided, EventType.LLM_ABSTAINED))


def test_stops_that_were_placed_again_are_derived_from_the_position_without_them(tmp_path):
    stage = floor(tmp_path, minute_bars(), OPEN, bracketed())
    stage.go(OPEN + timedelta(minutes=1)).cycle(Interval.MIN1)
    stage.go(OPEN + timedelta(minutes=2)).release()
    [stop] = [row for row in stage.rows("orders") if row["part"] == "stop-1"]
    stage.broker.cancel(stop["client_id"])
    for minute in (3, 4):
        stage.go(OPEN + timedelta(minutes=minute)).cycle(Interval.MIN1)
    again = [row for row in stage.rows("orders") if row["part"].startswith("stop-1.")]
    assert again, "the stop was not placed again"
    found = replayed(stage)
    assert found.ok, found.difference


def test_the_state_at_the_sessions_end_has_one_hash_whatever_the_ledger_goes_on_with(stage):
    during = replayed(stage)
    assert during.state_hash == during.head_hash == during.stored_hash
    stage.go(OPEN + timedelta(days=1)).cycle()
    later = replayed(stage)
    assert later.ok, later.difference
    assert later.last_seq == during.last_seq < later.head_seq
    assert later.state_hash == during.state_hash != later.head_hash == later.stored_hash


def test_only_what_one_strategy_decided_is_derived_when_it_is_named(day):
    assert replayed(day, strategy="quiet").derived["signals"] == 4
    assert "verdicts" not in replayed(day, strategy="quiet").derived
    assert replayed(day, strategy="buyer").derived["verdicts"] == 2
    with pytest.raises(UnknownName):
        replayed(day, strategy="nobody")


# Something was


def tampered_verdict(payload: Payload) -> None:
    [verdict] = [each for each in payload["verdicts"] if each["rule"] == "cooldown"]
    verdict["measured"] = "31.000 s"


FORGERIES = {
    "a verdict's figure": (EventType.RISK_EVALUATED, 1, tampered_verdict, "verdicts.cooldown.measured"),
    "the sized quantity": (EventType.RISK_EVALUATED, 1, lambda p: p["intent"].update(quantity=7), "intent.quantity"),
    "the gate's figure": (EventType.RISK_EVALUATED, 2, tampered_verdict, "verdicts.cooldown.measured"),
    "a price from outside": (
        EventType.RISK_EVALUATED, 1, lambda p: p["outside"]["quotes"]["AAPL"].update(last="90.00"), "intent.brackets.0.quantity",
    ),
    "the release": (EventType.ACTION_READY, 1, lambda p: p.update(not_before="2024-08-28T13:31:30.000000Z"), "not_before"),
    "the order's limit": (EventType.ORDER_INTENT, 1, lambda p: p.update(limit_price="250.00"), "limit_price"),
    "the stop's price": (EventType.ORDER_INTENT, 2, lambda p: p.update(stop_price="1.00"), "stop_price"),
    "the bytes sent": (EventType.ORDER_SUBMITTED, 1, lambda p: p["ticket"].update(quantity=7), "ticket.quantity"),
    "the verdict cited": (EventType.ORDER_SUBMITTED, 1, lambda p: p.update(verdict_seq=1), "verdict_seq"),
    "an indicator": (EventType.INDICATORS_COMPUTED, 1, lambda p: p["values"].update(sma_20="1"), "values.sma_20"),
    "the confidence": (EventType.LLM_ACTION_GENERATED, 1, lambda p: p.update(confidence="0.5"), "confidence"),
    "the reply": (EventType.LLM_RESPONDED, 1, lambda p: p.update(raw="{}"), "raw"),
    "the account's worth": (EventType.PORTFOLIO_SNAPSHOTTED, 1, lambda p: p.update(equity="1000000.00"), "equity"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_fact_in_a_chain_sealed_again_is_named_by_its_seq_and_field(day, what):
    """8, T17."""
    type_, on, edit, field = FORGERIES[what]
    found = replayed(day, forged(day, changed(type_, edit, on)))
    assert found.difference is not None
    assert (found.difference.seq, found.difference.column) == (first_of(day, type_, on).seq, field)


def test_what_a_person_was_shown_is_bound_to_what_was_judged(stage):
    def rosier(payload: Payload) -> None:
        payload["shown"]["quantity"] = 1

    found = replayed(stage, forged(stage, changed(EventType.APPROVAL_REQUESTED, rosier)))
    assert found.difference is not None
    assert (found.difference.seq, found.difference.column) == (first_of(stage, EventType.APPROVAL_REQUESTED).seq, "shown.quantity")


def test_an_edit_that_the_chain_tells_is_named_by_its_seq(day):
    event = first_of(day, EventType.RISK_EVALUATED)
    events = day.desk.ledger._committed.facts
    events[event.seq - 1] = replace(event, payload_text=event.payload_text.replace("cooldown", "cooldowm"))
    found = replayed(day)
    assert found.difference is not None
    assert (found.difference.seq, found.difference.column, found.stored_hash) == (event.seq, "hash", "")


def test_a_rule_that_says_something_else_now_is_named_at_the_first_verdict(day, monkeypatch):
    monkeypatch.setattr(hard, "MAX_ORDER_VALUE", Decimal(4_000))
    found = replayed(day)
    assert found.difference is not None
    assert found.difference.seq == first_of(day, EventType.RISK_EVALUATED).seq
    assert found.difference.column == "verdicts.hard_order_value.limit"
    assert (found.difference.stored, found.difference.derived) == ("$100,000.00", "$4,000.00")
    assert found.differences > 1


def test_a_passed_proposal_that_nothing_follows_is_a_difference(day):
    ready = first_of(day, EventType.ACTION_READY)
    found = replayed(day, forged(day, lambda event, payload: payload if event.seq < ready.seq else None))
    assert found.difference is not None
    assert (found.difference.seq, found.difference.stored) == (ready.seq - 1, "nothing")


def test_an_order_that_follows_from_nothing_is_a_difference(day):
    exit_ = first_of(day, EventType.ORDER_INTENT, 4)

    def double(event: Event, payload: Payload) -> Payload | None:
        return payload | {"part": "exit-9"} if event.seq == exit_.seq else payload if event.seq < exit_.seq else None

    found = replayed(day, forged(day, double))
    assert found.difference is not None
    assert (found.difference.seq, found.difference.derived) == (exit_.seq, "no such order")


def test_a_table_that_is_not_what_its_events_make_of_it_is_named_by_row_and_column(day):
    tables = day.desk.ledger._committed.tables
    [cash] = tables.values("cash")
    cash["cash"] += Decimal("0.01")
    found = replayed(day)
    assert found.difference is not None
    assert (found.difference.table, found.difference.column) == ("cash", "cash")
    assert found.head_hash != found.stored_hash


# What cannot be derived


def test_verdicts_recorded_before_their_inputs_were_are_counted_and_no_difference(day):
    def older(event: Event, payload: Payload) -> Payload:
        for name in ("outside", "measured"):
            payload.pop(name, None)
        return payload

    found = replayed(day, forged(day, older))
    assert found.ok, found.difference
    assert found.underivable == {"recorded before its inputs were": {"verdicts": 2, "releases": 2, "gates": 2}}
    assert found.derived["intents"] == 4


def test_a_corrected_archive_is_told_apart_from_a_wrong_figure(day):
    corrected = bars("AAPL", Interval.MIN1, date(2024, 8, 27), date(2024, 8, 27), price=99.0)
    day.desk.archive.append(corrected)
    found = replayed(day)
    assert found.ok, found.difference
    # Of each of four cycles the indicators; question and reply of both strategies.
    assert found.underivable == {"the archive has other bars now": {"indicators": 4, "questions": 8, "replies": 8}}
    assert found.derived["verdicts"] == 2


def test_bars_that_came_to_the_archive_later_are_no_difference(tmp_path):
    tomorrow = date(2024, 8, 29)
    source = market(bars("AAPL", Interval.MIN1, DAY, tomorrow), bars("MSFT", Interval.MIN1, tomorrow, tomorrow))
    stage = floor(tmp_path, source, OPEN, strategy(symbols=("AAPL", "MSFT"), **MINUTES))
    stage.go(OPEN + timedelta(minutes=2)).cycle(Interval.MIN1)
    stage.desk.archive.append(bars("MSFT", Interval.MIN1, date(2024, 8, 27), date(2024, 8, 28)))
    found = replayed(stage)
    assert found.ok, found.difference
    assert found.underivable["the archive has other bars now"] == {"questions": 1}


def test_a_symbol_without_a_bar_is_nobodys_decision(tmp_path):
    gone = OPEN + timedelta(minutes=1)
    stage = floor(tmp_path, minute_bars(without=(gone,)), OPEN, strategy(**MINUTES))
    stage.go(OPEN + timedelta(minutes=2)).cycle(Interval.MIN1)
    found = replayed(stage)
    assert found.ok, found.difference
    assert list(found.underivable.values()) == [{"replies": 1}]


def test_a_day_without_facts_and_a_holiday_are_refused(stage):
    with pytest.raises(UnknownName, match="2024-09-03"):
        rederive(record(stage), date(2024, 9, 3))
    with pytest.raises(CalendarError):
        rederive(record(stage), date(2024, 9, 2))


# How


def test_nobody_can_be_asked_from_a_desk_of_the_past(stage):
    then = desk_at(record(stage), OPEN, World.REPLAY)
    for ask in (lambda: then.broker.positions(), lambda: then.market.quotes(["AAPL"], OPEN), lambda: then.latch.stops()):
        with pytest.raises(InputError, match="may not ask"):
            ask()


@pytest.mark.parametrize("recent", [7, 5_000])
def test_the_past_answers_every_search_as_the_ledger_did(day, monkeypatch, recent):
    monkeypatch.setattr(past_ledger, "RECENT", recent)
    ledger = day.desk.ledger
    past = PastLedger(ledger)
    for event in ledger.events():
        assert past.add(event) is None
    assert past.head() == ledger.head()
    for name, table in TABLES.items():
        rows = list(ledger.dump(name))
        assert list(past.dump(name)) == rows
        for column in table.columns:
            for value in {row[column] for row in rows}:
                assert past.find(name, **{column: value}) == ledger.find(name, **{column: value})
        for column in ("generated_at", "submitted_at", "at", "intent_at"):
            if column in table.columns:
                for since in {row[column] for row in rows if row[column] is not None}:
                    assert past.find(name, since=(column, since)) == ledger.find(name, since=(column, since))


@pytest.mark.parametrize("recent", [7, 5_000])
def test_the_past_knows_no_event_that_came_later(day, monkeypatch, recent):
    monkeypatch.setattr(past_ledger, "RECENT", recent)
    ledger = day.desk.ledger
    middle, events = ledger.head()[0] // 2, ledger.events()
    past = PastLedger(ledger)
    for event in ledger.scan(1, middle):
        past.add(event)
    for event in events:
        known = event if event.seq <= middle else None
        assert (past.event(event.seq), past.event_by_key(event.key)) == (known, known)
    assert past.event_by_key("nothing") is None
    assert [event.seq for event in past.events(after=middle - 3)] == [middle - 2, middle - 1, middle]
    started = (EventType.STRATEGY_STARTED,)
    assert past.events(types=started, stream="strategy:buyer") == ledger.events(types=started, stream="strategy:buyer")
    assert past.events(types=(EventType.BAR_RECEIVED,)) == [e for e in events[:middle] if e.type is EventType.BAR_RECEIVED]
