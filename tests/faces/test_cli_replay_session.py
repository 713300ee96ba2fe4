"""8: `trading replay --session`, derived again from the ledger of a home, with nobody to ask."""

import socket

import pytest

from tests.conftest import execute
from tests.faces.conftest import Shell
from trading_pipeline import bootstrap
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.market_data.table_market import TableMarket

SESSION = ("replay", "--session", "2012-10-15")


@pytest.fixture
def traded(asked: Shell) -> Shell:
    """Two proposals, one approved and sent, one rejected."""
    first, second = [row["action_id"] for row in asked("approvals", "--json").json()]
    assert asked.attended("approve", first, "--yes").code == 0
    assert asked("reject", second).code == 0
    asked.at("2012-10-15T09:30:20")
    assert asked("run").code == 0
    return asked


@pytest.fixture
def alone(traded: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """From here on no connection but to files, and no broker or market but those that are there already."""
    connect = socket.socket.connect

    def refusing(self: socket.socket, address: object) -> None:
        assert self.family == socket.AF_UNIX, f"a connection to {address}"
        connect(self, address)  # type: ignore[arg-type]

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a replay opens neither a broker nor a market")

    monkeypatch.setattr(socket.socket, "connect", refusing)
    monkeypatch.setattr(socket, "getaddrinfo", opened)
    for owner, name in ((PaperBroker, "__init__"), (TableMarket, "__init__"), (bootstrap, "open_desk"), (bootstrap, "open_market")):
        monkeypatch.setattr(owner, name, opened)
    return traded


def test_a_session_in_postgresql_is_derived_again_without_a_network(alone: Shell) -> None:
    """8."""
    answer = alone(*SESSION, "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert (found["replayed"], found["difference"], found["underivable"]) == (True, None, {})
    made = found["derived"]
    assert (made["verdicts"], made["proposals"], made["approvals"], made["intents"], made["submissions"]) == (2, 2, 1, 1, 1)
    assert found["state_hash"] == found["head_hash"] == found["stored_hash"]


def test_people_read_what_was_derived_and_the_states_hash(traded: Shell) -> None:
    told = traded(*SESSION, "--strategy", "steady")
    assert told.code == 0
    assert "decisions of steady derived again as stored" in told.out
    assert traded(*SESSION, "--json").json()["state_hash"] in told.out


def test_a_forged_verdict_is_named_and_the_exit_code_says_so(traded: Shell, postgres: EmbeddedPostgres) -> None:
    event = next(each for each in traded.events() if each.type == "risk.evaluated")
    _rewrite(postgres, traded.database, event.seq, '"rule":"cooldown"', '"rule":"cooldowm"')
    answer = traded(*SESSION, "--json")
    assert answer.code == 1
    difference = answer.json()["difference"]
    assert (difference["seq"], difference["field"]) == (event.seq, "verdicts.cooldown")


def test_a_table_that_was_touched_is_named(traded: Shell, postgres: EmbeddedPostgres) -> None:
    execute(postgres.superuser_url(traded.database), "UPDATE cash SET cash = cash + 0.01")
    answer = traded(*SESSION)
    assert answer.code == 1
    assert "table cash" in answer.out


def test_what_cannot_be_replayed_is_refused(traded: Shell) -> None:
    assert traded("replay").code == 2
    assert traded("replay", "--session", "yesterday", "--json").error()["value"] == "yesterday"
    assert traded("replay", "--session", "2012-10-14").code == 2
    assert "2012-10-15 to 2012-10-15" in traded("replay", "--session", "2012-10-17").err
    assert traded(*SESSION, "--strategy", "nobody").code == 2


def _rewrite(postgres: EmbeddedPostgres, database: str, seq: int, old: str, new: str) -> None:
    """As a superuser who has switched the triggers off."""
    statement = "SET session_replication_role = replica; UPDATE events SET payload = replace(payload, %s, %s) WHERE seq = %s"
    execute(postgres.superuser_url(database), statement, old, new, seq)
