"""A server that speaks Claude's API, and desks whose strategies ask it."""

import pytest

from tests.desks import OPEN, bars, floor, market
from tests.model_desks import GENEROUS, asking, models
from tests.model_servers.anthropic_server import AnthropicServer


@pytest.fixture
def server():
    with AnthropicServer() as server:
        yield server


@pytest.fixture
def stage(tmp_path, server):
    opened = []

    def made(*specs, source=None, now=OPEN, budget=GENEROUS, **changes):
        opened.append(models(tmp_path, server, budget=budget))
        changes["models"] = opened[-1]
        return floor(tmp_path, source or market(bars("AAPL"), bars("IBM"), bars("MSFT")), now, *(specs or (asking(),)), **changes)

    yield made
    for each in opened:
        for llm in each.llms.values():
            llm.close()
