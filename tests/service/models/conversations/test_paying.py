"""Money within a cycle: nobody is asked beyond budget and rate, and a question without room waits for what the others give back."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from tests.desks import PERSON
from tests.model_desks import GENEROUS, asking
from tests.model_servers.plumbing import Behaviour, Tokens
from tests.service.models.conversations.exchanges import ran, reply
from trading_pipeline.domain.events import EventType
from trading_pipeline.service import controls
from trading_pipeline.service.models import conversations, purse

E = EventType


def test_a_spent_budget_asks_nobody_and_says_so(stage, server):
    floor_ = ran(stage(budget=replace(GENEROUS, per_day=Decimal("0.0001"))))
    assert [event.payload["reason"] for event in floor_.events(E.LLM_SKIPPED)] == ["budget"]
    assert server.asked == []


def test_calls_beyond_the_hourly_rate_are_skipped(stage, server):
    floor_ = ran(stage(asking(symbols=("AAPL", "IBM", "MSFT")), budget=replace(GENEROUS, calls_per_hour=3)))
    assert [event.payload["reason"] for event in floor_.events(E.LLM_SKIPPED)] == ["rate"]
    assert len(server.asked) == 2


def test_a_question_that_midnight_overtakes_counts_for_the_day_it_is_paid_on(stage, server, monkeypatch):
    """63."""
    server.script(Behaviour(reply=reply()))
    floor_ = stage()
    monkeypatch.setattr(conversations, "budget_day", lambda _now: purse.budget_day() - timedelta(days=1))
    ran(floor_)
    [requested], [responded] = floor_.events(E.LLM_REQUESTED), floor_.events(E.LLM_RESPONDED)
    assert responded.payload["day"] == requested.payload["day"] == floor_.row("model_spend")["day"]


def test_a_question_without_room_waits_for_what_the_others_give_back(stage, server):
    """63: what is reserved is several times what is spent; nobody is left out for it who can be paid in the end."""
    server.respond = lambda _: Behaviour(reply=reply(action="HOLD"), tokens=Tokens(1_000, 100))
    floor_ = stage(asking(symbols=("AAPL", "IBM", "MSFT")))
    reserved = max(row["reserved"] for row in ran(floor_).rows("model_calls"))
    server.asked.clear()
    server.most_at_once = 0
    server.respond = lambda asked: Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))
    narrow = ran(stage(asking("narrow", symbols=("AAPL", "IBM", "MSFT")), budget=replace(GENEROUS, per_day=reserved * 2)))
    assert len(server.asked) == 3
    assert server.most_at_once <= 2
    assert narrow.events(E.LLM_SKIPPED) == []
    assert narrow.row("strategies")["state"] == "running"


def narrow_budget(stage, server):
    """What two symbols' questions reserve, less a little: the second waits for what the first gives back."""
    server.respond = lambda asked: Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))
    reserved = min(row["reserved"] for row in ran(stage(asking(symbols=("AAPL", "IBM")))).rows("model_calls"))
    server.asked.clear()
    return replace(GENEROUS, per_day=reserved * Decimal("1.9"))


def test_a_strategy_that_paused_while_a_question_waited_is_not_asked_again(stage, server):
    """57: nor does the question vanish."""
    floor_ = stage(asking("narrow", symbols=("AAPL", "IBM")), budget=narrow_budget(stage, server))

    def pausing(asked):
        controls.pause(floor_.desk, "narrow", actor=PERSON)
        return Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))

    server.respond = pausing
    ran(floor_)
    assert len(server.asked) == 1
    [skipped] = floor_.events(E.LLM_SKIPPED)
    assert (skipped.payload["reason"], skipped.payload["detail"]) == ("held_back", "the strategy is paused_user")


def test_a_question_that_waited_over_midnight_counts_for_the_day_it_is_asked_on(stage, server, monkeypatch):
    """63: reserved, priced and settled on one day."""
    floor_ = stage(asking("narrow", symbols=("AAPL", "IBM")), budget=narrow_budget(stage, server))
    today = purse.budget_day()

    def midnight(asked):
        monkeypatch.setattr(purse, "budget_day", lambda _now=None: today + timedelta(days=1))
        return Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))

    server.respond = midnight
    ran(floor_)
    days = [(event.payload["day"], event.type) for event in floor_.events(E.LLM_REQUESTED, E.LLM_RESPONDED)]
    tomorrow = (today + timedelta(days=1)).isoformat()
    both = (E.LLM_REQUESTED, E.LLM_RESPONDED)
    assert days == [(day, type_) for day in (today.isoformat(), tomorrow) for type_ in both]
