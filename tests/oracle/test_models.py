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


CASES = {
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


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_that(name, talked):
    number, forge = CASES[name]
    forgery = Forgery(talked)
    forge(forgery)
    found = check(forgery.chained())
    assert number in {violation.number for violation in found}, found
