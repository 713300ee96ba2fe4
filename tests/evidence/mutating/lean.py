"""A pytest plugin for the runs of one mutant: what is drawn is drawn the same each time, and nothing is shrunk."""

import os

import pytest
from hypothesis import Phase, settings

settings.register_profile("mutation", derandomize=True, database=None, deadline=None, phases=(Phase.explicit, Phase.generate))
settings.load_profile("mutation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs a PostgreSQL of its own, unless it is asked for."""
    if os.environ.get("MUTATION_POSTGRES") != "1":
        items[:] = [item for item in items if "postgres" not in getattr(item, "fixturenames", ())]
