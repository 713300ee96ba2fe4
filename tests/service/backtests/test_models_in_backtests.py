"""Strategies that ask models, over history: recorded once, played again for nothing, and the same each time."""

from decimal import Decimal

import pytest

from tests.desks import bars
from tests.model_desks import KEY, asking
from tests.model_servers.anthropic_server import AnthropicServer
from tests.service.backtests.benches import home, plan
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.backtests import Replies
from trading_pipeline.domain.events import EventType
from trading_pipeline.service.backtests.engines import Engine, run
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.record.verification import verify

E = EventType
SYMBOLS = ("AAPL", "MSFT")


def played(settings, wanted):
    with open_bench(settings, wanted) as bench:
        return run(bench, wanted, engine=Engine.AUTO)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """One run that asks, two that play what it recorded, and one whose symbols nobody was ever asked about."""
    settings = home(tmp_path_factory.mktemp("home"), *(bars(symbol) for symbol in (*SYMBOLS, "GOOG")))
    with AnthropicServer() as server:
        model = settings.model.model_copy(update={
            "anthropic": settings.model.anthropic.model_copy(update={"base_url": server.base_url}), "calls_per_hour": 1_000,
            "budget_per_day": Decimal(1_000),
        })
        asks = settings.model_copy(update={"anthropic_api_key": KEY, "model": model})
        recorded = played(asks, plan(asking(symbols=SYMBOLS), replies=Replies.RECORD))
        calls = len(server.asked)
        replayed = [played(asks, plan(asking(symbols=SYMBOLS))) for _ in range(2)]
        unknown = played(asks, plan(asking(symbols=("GOOG",))))
        return {"recorded": recorded, "replayed": replayed, "unknown": unknown, "calls": calls, "calls_after": len(server.asked)}


def test_a_recording_asks_once_a_symbol_and_session_and_a_replay_asks_nobody(told):
    assert told["calls"] == 2 * 5
    assert told["calls_after"] == told["calls"]


def test_two_replays_are_the_same_hash_for_hash(told):
    first, second = (each.ledger for each in told["replayed"])
    assert first.head() == second.head()
    assert verify(first).difference is None
    assert judge(first, 1, None).violations == ()


def test_a_replay_decides_what_the_recording_decided_and_pays_nothing(told):
    def decided(ledger):
        made = ledger.events(types=(E.LLM_ACTION_GENERATED,))
        return [(event.at, event.payload["symbol"], event.payload.get("action")) for event in made]

    recorded, replayed = told["recorded"].ledger, told["replayed"][0].ledger
    assert decided(recorded) == decided(replayed)
    assert len(decided(replayed)) == 10
    assert {event.payload["cost"] for event in replayed.events(types=(E.LLM_RESPONDED,))} == {"0"}
    assert sum(Decimal(event.payload["cost"]) for event in recorded.events(types=(E.LLM_RESPONDED,))) > 0


def test_what_counts_as_a_day_of_a_replay_is_the_day_that_is_played(told):
    """A run of tomorrow says the same."""
    asked = told["replayed"][0].ledger.events(types=(E.LLM_REQUESTED,))
    assert {event.payload["day"] for event in asked} == {f"2024-08-{day}" for day in (26, 27, 28, 29, 30)}


def test_a_question_that_was_never_recorded_is_an_abstention(told):
    abstained = told["unknown"].ledger.events(types=(E.LLM_ABSTAINED,))
    assert [event.payload["reason"] for event in abstained] == ["not_recorded"] * 5
    assert told["unknown"].ledger.find("fills") == []
    assert any("without a recording: 5." in sentence for sentence in told["unknown"].assumptions)
    assert not any("without a recording" in sentence for sentence in told["replayed"][0].assumptions)


def test_what_came_of_each_signal_is_measured_and_the_report_says_where_replies_came_from(told):
    assert told["replayed"][0].engine is Engine.STEPPED
    assert told["replayed"][0].ledger.events(types=(E.SIGNAL_OUTCOME,))
    assert any("from recordings alone" in sentence for sentence in told["replayed"][0].assumptions)
