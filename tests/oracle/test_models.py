"""What the oracle says of forged facts about models: money, endings, versions, figures."""

import json
from decimal import Decimal

import pytest

from tests.desks import OPEN, bars, floor, market
from tests.model_desks import asking, models
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.plumbing import Behaviour
from tests.oracle.forging import Forgery, record
from trading_pipeline.oracle import check


def settle_twice(forgery):
    reply = forgery.find("llm.responded")
    forgery.facts.insert(forgery.facts.index(reply) + 1, reply | {"key": f"{reply['key']}:again", "seq": 10_000})


def words_changed(forgery, *, resumed=None, outcome=None):
    """The question is put once more with other words, after the strategy was let go on, or not, by an outcome of the golden set, or not."""
    asked, end = forgery.find("llm.requested"), forgery.facts[-1]
    forgery.add(end, "llm.requested", "again", actor="cycle", **(asked["payload"] | {"prompt_digest": OTHER, "reserved": "0"}))
    if resumed is not None:
        going_on = {"strategy": "asker", "prompt_digest": OTHER, "answered_by": "claude", "checked": None}
        moved = forgery.add(end, "strategy.resumed", "resumed", actor="user:anna", **(going_on | resumed))
        # So that it may be resumed at all.
        forgery.add(end, "strategy.paused", "paused", strategy="asker", state="paused_risk", reason="model: other words")
        if outcome is not None:
            passed = {"strategy": "asker", "prompt_digest": OTHER, "answered_by": "claude", "passed": True}
            added = forgery.add(end, "prompt.checked", "outcome", actor="user:anna", **(passed | outcome))
            moved["payload"]["checked"] = forgery.facts.index(added) + 1


OTHER = "b" * 64
CASES = {
    "words change and nobody let them go on": (64, words_changed),
    "words go on by nothing": (64, lambda f: words_changed(f, resumed={})),
    "words go on by a failure": (64, lambda f: words_changed(f, resumed={}, outcome={"passed": False})),
    "words go on by what others passed": (64, lambda f: words_changed(f, resumed={}, outcome={"prompt_digest": "c" * 64})),
    "words go on by what another strategy passed": (64, lambda f: words_changed(f, resumed={}, outcome={"strategy": "buyer"})),
    "words go on by what another version passed": (64, lambda f: words_changed(f, resumed={}, outcome={"answered_by": "claude-2"})),
    "other words go on than are asked with": (64, lambda f: words_changed(f, resumed={"prompt_digest": "c" * 64, "unchecked": True})),
    "more is reserved than the day's budget": (63, lambda f: f.edit("llm.requested", budget="0.0001")),
    "less than nothing is reserved": (63, lambda f: f.edit("llm.requested", reserved="-1")),
    "a call costs more than was reserved": (63, lambda f: f.edit("llm.responded", cost="1000")),
    "a call costs less than nothing": (63, lambda f: f.edit("llm.responded", cost="-0.01")),
    "a call is settled on another day": (63, lambda f: f.edit("llm.responded", day="2020-01-01")),
    "a call is settled twice": (63, settle_twice),
    "an action follows from a refusal": (59, lambda f: f.edit("llm.responded", ending="refused")),
    "an action follows from another version": (59, lambda f: f.edit("llm.responded", expected_model="claude-haiku-3")),
    "a wrong figure is not flagged": (61, lambda f: f.edit("llm.action_generated", flags=[])),
}


@pytest.fixture(scope="module")
def talked(tmp_path_factory):
    """Claude was asked about AAPL, cited its close wrongly, and said HOLD."""
    folder = tmp_path_factory.mktemp("talked")
    said = {
        "action": "HOLD", "symbol": "AAPL", "confidence": 0.5, "rationale": "Flat.", "figures": [{"name": "sma_20", "value": 120}],
        "limit": None, "stop": None, "targets": [],
    }
    with AnthropicServer() as server:
        server.script(Behaviour(reply=json.dumps(said)))
        asked = models(folder, server)
        stage = floor(folder, market(bars("AAPL")), OPEN, asking(), models=asked)
        stage.cycle()
        for llm in asked.llms.values():
            llm.close()
    return record(stage.desk.ledger)


def test_the_true_record_breaks_nothing(talked):
    assert check(talked) == []
    [signal] = [fact for fact in talked if fact["type"] == "llm.action_generated"]
    assert signal["payload"]["flags"] == ["sma_20 120 is 100 (20.0% off)"]
    [reply] = [fact for fact in talked if fact["type"] == "llm.responded"]
    assert Decimal(reply["payload"]["cost"]) > 0


@pytest.mark.parametrize("allowed", [{"resumed": {}, "outcome": {}}, {"resumed": {"unchecked": True}}])
def test_words_that_passed_or_that_a_person_took_on_break_nothing(allowed, talked):
    """64."""
    forgery = Forgery(talked)
    words_changed(forgery, **allowed)
    assert 64 not in {violation.number for violation in check(forgery.chained())}


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_that(name, talked):
    number, forge = CASES[name]
    forgery = Forgery(talked)
    forge(forgery)
    found = check(forgery.chained())
    assert number in {violation.number for violation in found}, found
