"""What the paper broker does not take; after each refusal nothing is placed."""

import math
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.adapters.brokers.paper_venue import CALM, SESSIONS, at, bracketed, buy, sell, stop, target, venue
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.orders import OrderType, Side
from trading_pipeline.errors import BrokerRefused, OrderExists, SettingsError
from trading_pipeline.ports import Permit, ticket_digest

ENTRY = buy("A", 100, "101.00")


@pytest.mark.parametrize(
    ("ticket", "words"),
    [
        (buy("A", 100, "101.00", symbol="NOPE"), "No contract NOPE"),
        (replace(ENTRY, quantity=0), "0 shares"),
        (replace(ENTRY, quantity=-5), "-5 shares"),
        (replace(ENTRY, limit_price=None), "needs a limit price"),
        (replace(ENTRY, stop_price=Decimal(90)), "has no stop price"),
        (replace(ENTRY, limit_price=Decimal("NaN")), "NaN"),
        (replace(ENTRY, limit_price=Decimal("101.005")), "off the tick"),
        (replace(ENTRY, limit_price=Decimal(-1)), "off the tick"),
        (replace(stop("A", 10, "90.00"), side=Side.BUY), "buy stop"),
        (replace(stop("A", 10, "90.00"), limit_price=Decimal(89)), "has no limit price"),
        (buy("A", 1_000, "101.00"), "$101,005.00 is needed and $100,000.00 is free"),
        (sell("A", 1, "99.00"), "0 are held"),
        (buy("A", 100, "101.00", stop("S", 60, "98.00", "1"), stop("S2", 60, "97.00", "2")), "sell 120 shares of 100"),
        (buy("A", 100, "101.00", stop("S", 100, "98.00", symbol="MSFT")), "does not protect"),
        (buy("A", 100, "101.00", buy("S", 100, "98.00")), "does not protect"),
        (buy("A", 100, "101.00", sell("S", 100, "98.00")), "does not protect"),
    ],
)
def test_a_ticket_that_makes_no_sense_is_refused(ticket, words):
    here = venue(CALM)
    with pytest.raises(BrokerRefused, match=words.replace("$", r"\$")):
        here.submit(ticket)
    assert here.broker.orders() == []
    assert here.broker.orders([ticket.client_id]) == []
    assert here.broker.positions() == {}


@pytest.mark.parametrize("when", [at(10), at(30), SESSIONS[-1].close.replace(year=2030)])
def test_orders_outside_regular_hours_are_refused(when):
    here = venue(CALM)
    with pytest.raises(BrokerRefused):
        here.submit(ENTRY, when)
    assert here.fills() == []


def test_a_permit_of_another_order_or_of_other_bytes_is_refused():
    """24."""
    here = venue(CALM)
    good = ticket_digest(ENTRY)
    other = ticket_digest(replace(ENTRY, quantity=101))
    for name, digest in (("B", good), ("A", other), ("A", "")):
        permit = Permit(name, digest, 1, "buyer", math.inf, math.inf)
        with pytest.raises(BrokerRefused):
            here.broker.submit(ENTRY, permit)
    assert here.broker.orders(["A"]) == []


def test_every_field_of_a_ticket_and_of_its_children_changes_the_digest():
    """24."""
    ticket = bracketed()
    changed = [
        replace(ticket, client_id="X"), replace(ticket, symbol="X"), replace(ticket, side=Side.SELL), replace(ticket, quantity=99),
        replace(ticket, order_type=OrderType.LIMIT), replace(ticket, limit_price=Decimal("101.01")), replace(ticket, oco="X"),
        replace(ticket, children=()), replace(ticket, children=ticket.children[::-1]),
        replace(ticket, children=(replace(ticket.children[0], stop_price=Decimal("98.01")), ticket.children[1])),
    ]
    assert len({ticket_digest(each) for each in [ticket, *changed]}) == len(changed) + 1


def test_a_client_id_is_taken_once_for_good():
    here = venue(CALM, CALM)
    here.submit(bracketed())
    for again in (buy("E", 10, "101.00"), sell("S", 10, "99.00")):
        with pytest.raises(OrderExists, match="duplicate"):
            here.submit(again)
    assert here.broker.positions() == {"AAPL": 100}


def test_a_broker_that_does_not_deduplicate_places_a_second_order():
    here = venue(CALM, settings=PaperSettings(deduplicates=False))
    here.submit(ENTRY)
    here.submit(ENTRY)
    assert here.broker.positions() == {"AAPL": 200}
    assert len(here.broker.orders(["A"])) == 2


def test_open_exits_together_never_sell_more_than_is_held():
    """26."""
    here = venue(CALM, CALM)
    here.submit(bracketed())
    with pytest.raises(BrokerRefused, match="100 are in open exits"):
        here.submit(sell("B", 1, "99.00"))
    here.broker.cancel("S")
    with pytest.raises(BrokerRefused, match="100 are in open exits"):
        here.submit(sell("B", 1, "99.00"))
    here.broker.cancel("T")
    here.submit(sell("B", 100, "99.00"))
    assert here.broker.positions() == {}


def test_a_pair_sent_by_itself_counts_once():
    here = venue(CALM, CALM)
    here.submit(ENTRY)
    here.submit(stop("S", 100, "98.00"))
    here.submit(target("T", 100, "103.00"))
    with pytest.raises(BrokerRefused, match="open exits"):
        here.submit(target("U", 1, "103.00", oco="other"))


def test_selling_what_an_unsold_child_was_for_is_impossible_in_both_orders():
    here = venue(("100.00", "100.00", "100.00", "100.00", 10_000), ("97.00", "97.00", "97.00", "97.00", 10_000))
    here.submit(bracketed())
    here.broker.trade_by_hand("AAPL", Side.SELL, 70, Decimal("100.00"))
    here.go_to(at(1))
    assert here.fills()[-1][:2] == ("S", 30)
    assert here.broker.positions() == {}
    assert here.order("S").reason == "the shares it was to sell are gone"


@pytest.mark.parametrize(
    "wrong",
    [{"spread": Decimal(-1)}, {"slippage": Decimal("NaN")}, {"volume_share": Decimal(0)}, {"spread": Decimal(2)}],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(SettingsError):
        PaperSettings(**wrong)
