"""What every broker adapter keeps: one class of tests, inherited with a stand that knows how to make its venue do things."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

import pytest
import sqlalchemy as sa

from tests.adapters.brokers.paper_venue import CALM, SESSIONS, Venue, buy, market_of, minutes, sell, stop, target
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.adapters.brokers.paper_postgres import PostgresBook, prepare_paper_schema
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.embedded_passwords import APP
from trading_pipeline.domain.orders import OrderType, Side
from trading_pipeline.errors import BrokerRefused
from trading_pipeline.ports import Broker, BrokerStatus, Permit, Ticket, ticket_digest

DATABASE = "paper"
_numbers = itertools.count(1)


class Stand(Protocol):
    """A broker whose venue is in regular hours, with a symbol that trades at some 100 USD and an account with 100,000 USD, flat."""

    broker: Broker

    def entry(self, name: str, quantity: int) -> Ticket:
        """A buy that fills whole and at once."""

    def far(self, name: str, quantity: int) -> Ticket:
        """A buy that rests."""

    def bracket(self, name: str, quantity: int) -> Ticket:
        """A resting buy with a stop and a target as a pair, named `nameS` and `nameT`."""

    def exit(self, name: str, quantity: int) -> Ticket:
        """A sale that fills whole and at once if there are shares."""

    def permit(self, ticket: Ticket) -> Permit:
        """As the gate gives it."""

    def settle(self) -> None:
        """Let the venue do what it does at once."""


class BrokerContract:
    """Inherit and define the fixture `stand`."""

    def send(self, stand: Stand, ticket: Ticket) -> None:
        stand.broker.submit(ticket, stand.permit(ticket))
        stand.settle()

    def test_it_begins_flat(self, stand):
        assert stand.broker.positions() == {}
        assert stand.broker.orders() == []
        account = stand.broker.account()
        assert (account.account, account.cash, account.equity) == (stand.broker.account_id, Decimal(100_000), Decimal(100_000))

    def test_a_filled_order_shows_in_executions_positions_and_cash(self, stand):
        ticket = stand.entry("A1", 10)
        self.send(stand, ticket)
        [order] = stand.broker.orders(["A1"])
        assert (order.status, order.filled_quantity, order.ticket) == (BrokerStatus.FILLED, 10, ticket)
        fills = [fill for name, fill in stand.broker.executions(order.updated_at - timedelta(days=1)) if name == "A1"]
        assert sum(fill.quantity for fill in fills) == 10
        assert {(fill.client_id, fill.symbol, fill.side) for fill in fills} == {("A1", ticket.symbol, Side.BUY)}
        assert stand.broker.positions() == {ticket.symbol: 10}
        paid = sum(fill.quantity * fill.price + fill.commission for fill in fills)
        assert stand.broker.account().cash == Decimal(100_000) - paid

    def test_reads_may_be_repeated(self, stand):
        self.send(stand, stand.entry("A1", 10))
        since = stand.broker.orders(["A1"])[0].updated_at - timedelta(days=1)
        assert stand.broker.executions(since) == stand.broker.executions(since)
        assert stand.broker.orders(["A1"]) == stand.broker.orders(["A1"])
        assert stand.broker.account() == stand.broker.account()

    def test_executions_have_ids_of_their_own_and_are_in_order_of_time(self, stand):
        for number in range(5):
            self.send(stand, stand.entry(f"A{number}", 1))
        executions = stand.broker.executions(stand.broker.orders(["A0"])[0].updated_at - timedelta(days=1))
        assert len({fill.execution_id for _, fill in executions}) == len(executions) == 5
        assert [fill.at for _, fill in executions] == sorted(fill.at for _, fill in executions)
        assert stand.broker.executions(executions[-1][1].at + timedelta(seconds=1)) == []

    def test_a_resting_order_is_open_until_it_is_canceled(self, stand):
        self.send(stand, stand.far("A1", 10))
        [order] = stand.broker.orders()
        assert (order.client_id, order.status, order.filled_quantity) == ("A1", BrokerStatus.WORKING, 0)
        stand.broker.cancel("A1")
        stand.settle()
        assert stand.broker.orders() == []
        assert stand.broker.orders(["A1"])[0].status is BrokerStatus.CANCELED

    def test_canceling_again_or_what_is_unknown_or_filled_changes_nothing(self, stand):
        self.send(stand, stand.far("A1", 10))
        self.send(stand, stand.entry("A2", 10))
        for name in ("A1", "A1", "A2", "NEVER"):
            stand.broker.cancel(name)
            stand.settle()
        assert [order.status for order in stand.broker.orders(["A1", "A2"])] == [BrokerStatus.CANCELED, BrokerStatus.FILLED]

    def test_names_it_does_not_know_are_left_out(self, stand):
        self.send(stand, stand.far("A1", 10))
        assert [order.client_id for order in stand.broker.orders(["NEVER", "A1"])] == ["A1"]
        assert stand.broker.orders([]) == []

    def test_children_are_held_and_end_with_an_entry_that_never_filled(self, stand):
        self.send(stand, stand.bracket("A1", 10))
        assert {order.client_id: order.status for order in stand.broker.orders()} == {
            "A1": BrokerStatus.WORKING, "A1S": BrokerStatus.HELD, "A1T": BrokerStatus.HELD,
        }
        stand.broker.cancel("A1")
        stand.settle()
        assert stand.broker.orders() == []
        assert {order.status for order in stand.broker.orders(["A1", "A1S", "A1T"])} == {BrokerStatus.CANCELED}

    def test_a_permit_for_another_order_or_for_other_bytes_is_refused(self, stand):
        """23, 24."""
        ticket = stand.entry("A1", 10)
        for permit in (
            replace(stand.permit(ticket), client_id="A2"),
            stand.permit(replace(ticket, quantity=11)),
            replace(stand.permit(ticket), digest=ticket_digest(stand.entry("A2", 10))),
        ):
            with pytest.raises(BrokerRefused):
                stand.broker.submit(ticket, permit)
        stand.settle()
        assert stand.broker.orders(["A1", "A2"]) == []
        assert stand.broker.positions() == {}

    def test_more_than_is_held_cannot_be_sold(self, stand):
        """26."""
        self.send(stand, stand.entry("A1", 10))
        with pytest.raises(BrokerRefused):
            self.send(stand, stand.exit("A2", 11))
        self.send(stand, stand.exit("A3", 10))
        assert stand.broker.positions() == {}

    def test_a_refused_order_does_not_exist(self, stand):
        with pytest.raises(BrokerRefused):
            self.send(stand, stand.exit("A1", 1))
        assert stand.broker.orders(["A1"]) == []


class PaperStand:
    """The paper broker on three calm minutes."""

    def __init__(self, book: PostgresBook | None, account: str) -> None:
        self.venue = Venue(market_of(minutes(CALM, CALM, CALM)), PaperSettings(account=account), book=book)
        self.venue.go_to(SESSIONS[1].open + timedelta(seconds=5))
        self.broker = self.venue.broker

    def entry(self, name: str, quantity: int) -> Ticket:
        return buy(name, quantity, "105.00")

    def far(self, name: str, quantity: int) -> Ticket:
        return buy(name, quantity, "80.00", kind=OrderType.LIMIT)

    def bracket(self, name: str, quantity: int) -> Ticket:
        return buy(name, quantity, "80.00", stop(f"{name}S", quantity, "70.00"), target(f"{name}T", quantity, "120.00"))

    def exit(self, name: str, quantity: int) -> Ticket:
        return sell(name, quantity, "95.00")

    def permit(self, ticket: Ticket) -> Permit:
        return Permit(ticket.client_id, ticket_digest(ticket), 1, "buyer", math.inf, math.inf)

    def settle(self) -> None:
        self.venue.go_to(self.venue.clock.now() + timedelta(seconds=1))


class TestPaperInMemory(BrokerContract):
    @pytest.fixture
    def stand(self) -> Stand:
        return PaperStand(None, "PAPER-1")


class TestPaperInPostgres(BrokerContract):
    @pytest.fixture
    def stand(self, postgres: EmbeddedPostgres) -> Iterator[Stand]:
        book = paper_book(postgres)
        yield PaperStand(book, book.account)
        book.close()


def paper_book(postgres: EmbeddedPostgres, cash: Decimal = Decimal(100_000)) -> PostgresBook:
    """A new account in a prepared database of this run's server."""
    postgres.ensure_database(DATABASE)
    number = next(_numbers)
    if number == 1:
        owner = sa.create_engine(postgres.owner_url(DATABASE))
        prepare_paper_schema(owner, APP)
        owner.dispose()
    return PostgresBook.open(postgres.app_url(DATABASE), f"TEST-{number}", cash)
