"""Models answer in any order; what follows from their answers comes in the order in which the strategies name their symbols."""

from dataclasses import replace

from tests.desks import OPEN, bars, floor, market
from tests.model_desks import asking, models
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.plumbing import Behaviour
from trading_pipeline.domain.events import EventType


def test_who_answers_first_does_not_decide_who_comes_first(tmp_path):
    slow = {"MSFT": 0.4, "AAPL": 0.2, "IBM": 0.0}
    with AnthropicServer() as server:
        server.respond = lambda asked: Behaviour(delay=slow[asked.symbol])
        spec = replace(asking(), symbols=("MSFT", "AAPL", "IBM"))
        source = market(bars("AAPL"), bars("IBM"), bars("MSFT"))
        asked = models(tmp_path, server)
        done = floor(tmp_path, source, OPEN, spec, models=asked)
        done.cycle()
        for llm in asked.llms.values():
            llm.close()
    answered = [event.payload["symbol"] for event in done.events(EventType.LLM_RESPONDED)]
    decided = [event.payload["symbol"] for event in done.events(EventType.LLM_ACTION_GENERATED, EventType.LLM_ABSTAINED)]
    assert answered == ["IBM", "AAPL", "MSFT"]
    assert decided == ["MSFT", "AAPL", "IBM"]
