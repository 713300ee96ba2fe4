"""A process that dies and a stop that falls while a model is asked: nothing is asked twice, nobody waits, what was paid is booked."""

import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, PERSON, at, bars, crashing, market
from tests.model_desks import GENEROUS, asking
from tests.model_servers.plumbing import Behaviour, rate_limited
from tests.oracle.forging import record
from tests.service.models.conversations.exchanges import ran, reply
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.oracle import check
from trading_pipeline.service import deliberation
from trading_pipeline.service.models import conversations
from trading_pipeline.service.stopping import emergency

E = EventType


# A process that dies


def test_a_request_whose_process_died_is_lost_paid_and_never_sent_again(stage, server):
    floor_ = stage()
    with crashing(conversations, "ask_all"), pytest.raises(BaseException, match="ask_all"):
        floor_.cycle()
    assert server.asked == []
    after = ran(floor_.restarted())
    assert [event.payload["reason"] for event in after.events(E.LLM_ABSTAINED)] == ["lost"]
    assert server.asked == [], "nobody knows what became of the call"
    [requested] = after.events(E.LLM_REQUESTED)
    assert after.row("model_spend")["spent"] == Decimal(requested.payload["reserved"])
    assert after.verifies()


def test_a_reply_whose_process_died_before_it_decided_is_read_again(stage, server):
    server.script(Behaviour(reply=reply()))
    floor_ = stage()
    with crashing(deliberation, "decisions"), pytest.raises(BaseException, match="decisions"):
        floor_.cycle()
    after = ran(floor_.restarted())
    assert [event.payload["action"] for event in after.events(E.LLM_ACTION_GENERATED)] == ["buy"]
    assert len(server.asked) == 1
    assert after.verifies()


def test_a_request_that_no_run_came_back_to_is_lost_with_the_next_cycle(stage, server, monkeypatch):
    monkeypatch.setattr(conversations, "SLACK", timedelta(days=-1))
    server.respond = lambda _: Behaviour(reply=reply(action="HOLD"))
    floor_ = stage(asking(interval=Interval.MIN5), source=market(bars("AAPL", Interval.MIN5, DAY, DAY)), now=at(9, 35))
    with crashing(conversations, "ask_all"), pytest.raises(BaseException, match="ask_all"):
        floor_.cycle(Interval.MIN5)
    after = floor_.restarted()
    after.clock.advance_to(at(9, 40))
    after.cycle(Interval.MIN5)
    first, second = after.events(E.LLM_REQUESTED)
    assert [event.cause for event in after.events(E.LLM_LOST)] == [first.seq]
    assert [event.cause for event in after.events(E.LLM_RESPONDED)] == [second.seq]
    assert check(record(after.desk.ledger)) == []


def test_a_cycle_run_twice_at_once_asks_once_and_decides_once(stage, server):
    floor_ = stage()

    def another_run(_asked):
        server.respond = lambda _: None
        floor_.cycle()
        return Behaviour(reply=reply())

    server.respond = another_run
    floor_.cycle()
    assert len(server.asked) == 1
    [decision] = floor_.events(E.LLM_ACTION_GENERATED, E.LLM_ABSTAINED)
    assert decision.payload["reason"] == "lost", "the second run could not know that the first one lived"
    assert [event.payload["reason"] for event in floor_.events(E.LLM_DISCARDED)] == ["it was given up before it came"]
    assert floor_.row("model_spend")["spent"] == Decimal(floor_.events(E.LLM_DISCARDED)[0].payload["cost"]), "what it cost is known now"
    assert floor_.verifies()


def test_a_question_that_waits_for_its_turn_is_not_taken_for_lost(stage, server, monkeypatch):
    """Sixteen one after the other may need sixteen times what one needs; another cycle begins meanwhile."""
    monkeypatch.setattr(conversations, "SLACK", timedelta(0))
    monkeypatch.setattr(conversations, "LONGEST_WAIT", 0.0)
    symbols = tuple(f"A{chr(ord('A') + number)}" for number in range(16))
    server.policy = lambda asked: reply("HOLD", symbol=asked.symbol)
    slow = replace(GENEROUS, timeout_seconds=0.5, concurrency=1)
    floor_ = stage(asking(symbols=symbols), source=market(*map(bars, symbols)), budget=slow)
    other = replace(floor_.due(), cycle_id="5m@another")
    take, swept = server.answer, []

    def answer(*given):
        time.sleep(0.1)
        if len(server.asked) == len(symbols):
            conversations.sweep(floor_.desk, floor_.desk.models, other)
            swept.append(len(server.asked))
        return take(*given)

    monkeypatch.setattr(server, "answer", answer)
    ran(floor_)
    assert swept == [len(symbols)]
    assert floor_.events(E.LLM_LOST) == []
    assert len(floor_.events(E.LLM_ACTION_GENERATED)) == len(symbols)


# A stop


def test_a_reply_that_comes_after_a_stop_is_paid_and_discarded(stage, server):
    floor_ = stage()

    def stopping(_asked):
        emergency.stop(floor_.desk, reason="enough", actor=PERSON)
        return Behaviour(reply=reply())

    server.respond = stopping
    floor_.cycle()
    ends = floor_.events(E.LLM_DISCARDED, E.LLM_LOST)
    assert len(ends) == 1
    assert floor_.events(E.LLM_ACTION_GENERATED, E.LLM_ABSTAINED, E.ORDER_INTENT) == []
    assert floor_.row("model_spend")["reserved"] == 0
    assert floor_.verifies()


def test_a_stop_waits_for_no_model(stage, server):
    floor_ = stage()

    def stopping(_asked):
        emergency.stop(floor_.desk, reason="enough", actor=PERSON)
        return Behaviour(reply=reply(), delay=5.0)

    server.respond = stopping
    before = time.monotonic()
    floor_.cycle()
    assert time.monotonic() - before < 5.0, "no longer than the model would have taken"
    assert [event.payload["reason"] for event in floor_.events(E.LLM_LOST)] == ["given up for an emergency stop"]


def test_nobody_is_asked_again_once_a_stop_has_fallen(stage, server):
    floor_ = stage()

    def stopping(_asked):
        emergency.stop(floor_.desk, reason="enough", actor=PERSON)
        return rate_limited("3")

    server.respond = stopping
    floor_.cycle()
    for llm in floor_.desk.models.llms.values():
        llm.close()
    assert len(server.asked) == 1


HANGS = 60.0
GIVES_UP = """
import sys, threading, time
from pathlib import Path
from dataclasses import replace
from tests.desks import OPEN, PERSON, bars, floor, market
from tests.model_desks import GENEROUS, KEY, asking, models
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Provider
from trading_pipeline.service.stopping import emergency

folder, base_url = Path(sys.argv[1]), sys.argv[2]
llm = AnthropicLLM(KEY, base_url)
asked = models(folder, budget=replace(GENEROUS, timeout_seconds=600.0), llms={Provider.ANTHROPIC: llm})
floor_ = floor(folder, market(bars("AAPL"), bars("IBM")), OPEN, asking(symbols=("AAPL", "IBM")), models=asked)

def stop_once_asked():
    while not (folder / "asked").exists():
        time.sleep(0.02)
    emergency.stop(floor_.desk, reason="enough", actor=PERSON)

threading.Thread(target=stop_once_asked, daemon=True).start()
floor_.cycle()
llm.close()
print(len(floor_.events(EventType.LLM_LOST)), flush=True)
"""


@pytest.mark.slow
def test_a_process_that_gave_up_ends_however_long_the_model_hangs(server, tmp_path):
    """Its pool of threads would have been joined when the interpreter ends."""
    def hanging(_asked):
        (tmp_path / "asked").touch()
        return Behaviour(delay=HANGS)

    server.respond = hanging
    with subprocess.Popen([sys.executable, "-c", GIVES_UP, tmp_path, server.base_url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n", "both requests are lost in the ledger"
        said = time.monotonic()
        assert process.wait(HANGS) == 0
        assert time.monotonic() - said < HANGS / 4
