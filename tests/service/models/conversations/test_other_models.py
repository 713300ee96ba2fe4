"""Another model than was asked, or other words than a person has looked at: neither is traded by before somebody looks."""

import pytest

from tests.desks import DAY, PERSON, at, bars, market
from tests.model_desks import CLAUDE, asking
from tests.model_servers.plumbing import Behaviour
from tests.oracle.forging import record
from tests.service.models.conversations.exchanges import ran, reply
from trading_pipeline.adapters.prompt_files import SHIPPED
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Provider
from trading_pipeline.oracle import check
from trading_pipeline.service import controls
from trading_pipeline.service.models.asking import another_model

E = EventType


def test_another_model_than_was_asked_is_not_believed_and_a_person_looks(stage, server):
    """64, fault 43: nobody trades by a model that nobody has looked at."""
    server.script(Behaviour(reply=reply(), model="claude-sonnet-9"))
    floor_ = ran(stage())
    [abstained] = floor_.events(E.LLM_ABSTAINED)
    assert abstained.payload["reason"] == "other_model"
    assert "claude-sonnet-9 answered" in abstained.payload["detail"]
    assert floor_.row("strategies")["state"] == "paused_risk"
    assert floor_.row("strategies")["reason"].startswith("model: ")


def test_an_alias_that_means_another_version_now_waits_for_a_person(stage, server):
    """64, fault 43: nobody trades by a model that nobody has looked at."""
    alias = asking(agent={"model": "claude-haiku-4-5"}, interval=Interval.MIN5)
    server.script(
        *(Behaviour(reply=reply(action="HOLD"), model=f"claude-haiku-4-5-{date}") for date in (20251001, 20251001, 20261101, 20261101))
    )
    floor_ = stage(alias, source=market(bars("AAPL", Interval.MIN5, DAY, DAY)), now=at(9, 35))
    for minutes in (35, 40, 45):
        floor_.clock.advance_to(at(9, minutes))
        floor_.cycle(Interval.MIN5)
    assert [event.payload["reason"] for event in floor_.events(E.LLM_ABSTAINED)] == ["other_model"]
    assert floor_.row("strategies")["state"] == "paused_risk"
    controls.resume(floor_.desk, "asker", actor=PERSON, unchecked=True)
    floor_.clock.advance_to(at(9, 50))
    floor_.cycle(Interval.MIN5)
    assert len(floor_.events(E.LLM_ACTION_GENERATED)) == 3, "a person has looked"


def test_words_that_change_under_a_running_strategy_wait_for_a_person(stage, server, tmp_path):
    """64: a changed prompt is not traded by before a person has looked; nobody is asked meanwhile, and nobody else is held up."""
    own = tmp_path / "prompts" / "mine" / "v1.md"
    own.parent.mkdir(parents=True)
    own.write_bytes((SHIPPED / "analyst" / "v1.md").read_bytes())
    server.respond = lambda asked: Behaviour(reply=reply(action="HOLD", symbol=asked.symbol))
    mine = asking(agent={"prompt": "mine/v1"}, symbols=("AAPL", "IBM"), interval=Interval.MIN5)
    other = asking("other", symbols=("AAPL",), interval=Interval.MIN5)
    source = market(bars("AAPL", Interval.MIN5, DAY, DAY), bars("IBM", Interval.MIN5, DAY, DAY))
    floor_ = stage(mine, other, source=source, now=at(9, 35))

    def turn(minutes):
        floor_.clock.advance_to(at(9, minutes))
        floor_.cycle(Interval.MIN5)
        return len(server.asked)

    def state():
        return next((row["state"], row["reason"]) for row in floor_.rows("strategies") if row["name"] == "asker")

    assert (turn(35), turn(40)) == (3, 6)
    own.write_text(own.read_text() + "\nBe bold.\n")
    assert turn(45) == 7
    skipped = floor_.events(E.LLM_SKIPPED)
    assert {(event.payload["strategy"], event.payload["symbol"], event.payload["reason"]) for event in skipped} == {
        ("asker", "AAPL", "prompt_changed"), ("asker", "IBM", "prompt_changed"),
    }
    why = "model: the words of mine/v1 are not those it was asked with last: check them, or write a new version"
    assert state() == ("paused_risk", why)
    assert turn(50) == 8
    controls.resume(floor_.desk, "asker", actor=PERSON, unchecked=True)
    assert turn(55) == 11, "a person has looked"
    own.write_text(own.read_text() + "\nBe bolder.\n")
    floor_.clock.advance_to(at(10, 0))
    floor_.cycle(Interval.MIN5)
    assert (len(server.asked), state()[0]) == (12, "paused_risk"), "at these words nobody has looked"
    own.write_bytes((SHIPPED / "analyst" / "v1.md").read_bytes())
    assert check(record(floor_.desk.ledger)) == []


def test_a_model_that_is_gone_waits_for_a_person(stage, server):
    server.script(Behaviour(status=404, message=f"model: {CLAUDE}"))
    floor_ = ran(stage())
    assert floor_.row("strategies")["state"] == "paused_risk"


@pytest.mark.parametrize(
    ("asked", "answered", "believed"),
    [
        ("gpt-5", "gpt-5-2025-08-07", True), ("gpt-5", "gpt-5", True), ("gpt-4", "gpt-4-0613", True), ("llama3.1", "llama3.1:8b", True),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001", True), ("gpt-5-chat-latest", "gpt-5-chat-latest", True),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022", True), ("gpt-5", "gpt-5-mini-2025-08-07", False),
        ("o3", "o3-mini", False), ("gpt-4", "gpt-4.1", False), ("claude-opus-4", "claude-opus-4-1-20250805", False),
        ("gpt-5", "gpt-4", False), ("gpt-5", "", False),
    ],
)
def test_a_smaller_model_of_a_longer_name_is_another_one(asked, answered, believed):
    """64."""
    agent = asking(agent={"provider": Provider.OPENAI, "model": asked}).agent
    said = another_model(agent, {"symbol": "AAPL", "asked_model": asked, "model": answered, "expected_model": None})
    assert (said is None) is believed
