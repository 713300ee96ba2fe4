"""The tables of orders, fills, positions and cash, fact by fact: each changes just these columns, to what a bookkeeper would write."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.histories import AT, E, created, fact, funded
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import IllegalTransition

D = Decimal
TRADED_AT = datetime(2012, 10, 16, 14, tzinfo=UTC)
ORDER = {"client_id": "C", "strategy": "trend", "symbol": "AAPL", "account": "PAPER"}
INTENT = {
    **ORDER, "action_id": "A", "part": "stop-1", "parent": "PARENT", "oco": "OCO", "side": "buy", "order_class": "P", "order_type": "limit",
    "time_in_force": "gtc", "quantity": 10, "reference": "101.5", "limit_price": "102.25", "stop_price": "97.5", "session": "2012-10-16",
}


class Book:
    """A ledger with $100,000 and a strategy, an event a minute; the opening, the money and the strategy are its first three."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger("demo", opened_at=AT)
        self.minute = 0
        with self.ledger.transaction() as transaction:
            transaction.append(funded(), created())

    @property
    def now(self) -> datetime:
        """When the newest event happened."""
        return AT + timedelta(minutes=self.minute)

    def order(self) -> Row:
        """The order's row."""
        row = self.ledger.get("orders", "C")
        assert row is not None
        return row

    def append(self, type_: EventType, **payload: Any) -> dict[str, Any]:
        """Append a fact about the order; the columns of it that changed."""
        before = self.ledger.get("orders", "C") or {}
        self.minute += 1
        with self.ledger.transaction() as transaction:
            transaction.append(fact(type_, f"{type_}:{self.minute}", "strategy:trend", self.now, **(ORDER | payload)))
        return {name: value for name, value in self.order().items() if name not in before or before[name] != value}

    def fill(self, quantity: int, price: str, name: str = "E1", side: str = "buy") -> dict[str, Any]:
        """Append an execution."""
        done = EventType.ORDER_FILLED if quantity + self.order()["filled_quantity"] == 10 else EventType.ORDER_PARTIALLY_FILLED
        return self.append(
            done, execution_id=name, side=side, quantity=quantity, price=price, commission="1.25", session="2012-10-16",
            filled_at="2012-10-16T14:00:00.000000Z",
        )

    def money(self) -> tuple[Decimal, Decimal, int]:
        """Cash, commissions, and the fact that changed them last."""
        [row] = self.ledger.find("cash")
        return row["cash"], row["commissions"], row["last_seq"]


@pytest.fixture
def book() -> Book:
    """With an order that is meant."""
    book = Book()
    book.append(E.ORDER_INTENT, **INTENT)
    return book


@pytest.fixture
def accepted(book: Book) -> Book:
    """With an order that works: event 6."""
    book.append(E.ORDER_SUBMITTED)
    book.append(E.ORDER_ACCEPTED, broker_order_id="B")
    return book


def test_an_intent_is_written_down_whole(book: Book) -> None:
    """11."""
    assert book.order() == {
        **{name: value for name, value in INTENT.items() if not name.endswith("price")}, "reference": D("101.5"),
        "limit_price": D("102.25"), "stop_price": D("97.5"), "state": "intent", "reason": "", "before_cancel": None,
        "broker_order_id": None, "filled_quantity": 0, "filled_value": D(0), "intent_at": book.now, "submitted_at": None,
        "updated_at": book.now, "intent_seq": 4, "last_seq": 4,
    }


def test_a_client_id_is_meant_once(book: Book) -> None:
    """13."""
    with pytest.raises(IllegalTransition, match="The order C exists already") as refused:
        book.append(E.ORDER_INTENT, **INTENT)
    assert refused.value.value == "C"


def test_a_submission_and_its_answer_change_state_and_times(book: Book) -> None:
    assert book.append(E.ORDER_SUBMITTED) == {"state": "submitted", "submitted_at": book.now, "updated_at": book.now, "last_seq": 5}
    sent_at = book.now
    answered = book.append(E.ORDER_ACCEPTED, broker_order_id="B")
    assert answered == {"state": "accepted", "broker_order_id": "B", "updated_at": book.now, "last_seq": 6}
    assert book.order()["submitted_at"] == sent_at


def test_a_denial_has_its_reason(book: Book) -> None:
    denied = book.append(E.ORDER_DENIED, reason="cooldown")
    assert denied == {"state": "denied", "reason": "cooldown", "updated_at": book.now, "last_seq": 5}


def test_a_cancel_remembers_the_state_it_goes_back_to(accepted: Book) -> None:
    asked = accepted.append(E.ORDER_CANCEL_REQUESTED, reason="paused")
    assert asked == {
        "state": "cancel_pending", "reason": "paused", "before_cancel": "accepted", "updated_at": accepted.now, "last_seq": 7,
    }
    again = accepted.append(E.ORDER_CANCEL_REQUESTED)
    assert again == {"updated_at": accepted.now, "last_seq": 8}, "sent again, it goes back no further, and the reason stays"
    refused = accepted.append(E.ORDER_ACCEPTED)
    assert refused == {"state": "accepted", "updated_at": accepted.now, "last_seq": 9}


def test_an_order_in_doubt_or_set_aside_is_ended_by_a_release(accepted: Book) -> None:
    accepted.append(E.ORDER_QUARANTINED, reason="misheard")
    released = accepted.append(E.ORDER_RELEASED, reason="looked")
    assert released == {"state": "canceled", "reason": "looked", "updated_at": accepted.now, "last_seq": 8}


@pytest.mark.parametrize("before", [[], [E.ORDER_CANCEL_REQUESTED], [E.ORDER_CANCELED]], ids=["at work", "to be cancelled", "over"])
def test_nothing_else_is_ended_by_a_release(accepted: Book, before: list[EventType]) -> None:
    """17."""
    for type_ in before:
        accepted.append(type_)
    state = accepted.order()["state"]
    with pytest.raises(IllegalTransition, match=f"is {state} and cannot become canceled by order.released"):
        accepted.append(E.ORDER_RELEASED)
    assert accepted.order()["state"] == state


def test_fills_are_booked_to_order_position_and_cash(accepted: Book) -> None:
    """18, 27, 29."""
    assert accepted.fill(4, "101.75") == {
        "state": "partial", "filled_quantity": 4, "filled_value": D("407.00"), "updated_at": accepted.now, "last_seq": 7,
    }
    assert accepted.ledger.get("fills", "E1") == {
        "execution_id": "E1", "client_id": "C", "strategy": "trend", "symbol": "AAPL", "side": "buy", "quantity": 4, "price": D("101.75"),
        "commission": D("1.25"), "at": TRADED_AT, "session": "2012-10-16", "seq": 7,
    }
    position = {"strategy": "trend", "symbol": "AAPL", "realised": D(0), "opened_at": TRADED_AT}
    assert accepted.ledger.get("positions", "trend", "AAPL") == position | {"quantity": 4, "cost": D("408.25"), "last_seq": 7}
    # 100,000 - 4 x 101.75 - 1.25
    assert accepted.money() == (D("99591.75"), D("1.25"), 7)
    assert accepted.fill(6, "102", "E2") == {
        "state": "filled", "filled_quantity": 10, "filled_value": D("1019.00"), "updated_at": accepted.now, "last_seq": 8,
    }
    assert accepted.ledger.get("positions", "trend", "AAPL") == position | {"quantity": 10, "cost": D("1021.50"), "last_seq": 8}
    assert accepted.money() == (D("98978.50"), D("2.50"), 8)


def test_a_sale_brings_its_price_less_its_commission(accepted: Book) -> None:
    accepted.fill(4, "100")
    accepted.fill(4, "110", "E2", side="sell")
    # 100,000 - 400 - 1.25 + 440 - 1.25
    assert accepted.money() == (D("100037.50"), D("2.50"), 8)
    position = accepted.ledger.get("positions", "trend", "AAPL")
    assert position is not None
    assert (position["quantity"], position["realised"]) == (0, D("37.50"))


@pytest.mark.parametrize(
    ("before", "quantity", "state"),
    [
        ([E.ORDER_CANCELED], 4, "canceled"),
        ([E.ORDER_CANCELED], 10, "filled"),
        ([E.ORDER_EXPIRED], 4, "expired"),
        ([E.ORDER_CANCEL_REQUESTED], 4, "cancel_pending"),
        ([E.ORDER_REJECTED], 4, "quarantined"),
        ([E.ORDER_QUARANTINED], 4, "quarantined"),
        ([], 11, "quarantined"),
    ],
)
def test_a_fill_is_booked_whatever_became_of_its_order(accepted: Book, before: list[EventType], quantity: int, state: str) -> None:
    """18, 19: late fills count, too many shares or a fill of what was refused set the order aside."""
    for type_ in before:
        accepted.append(type_)
    accepted.fill(quantity, "100")
    assert (accepted.order()["state"], accepted.order()["filled_quantity"]) == (state, quantity)
    position = accepted.ledger.get("positions", "trend", "AAPL")
    assert position is not None
    assert position["quantity"] == quantity


def test_a_fill_of_what_was_full_already_sets_the_order_aside(accepted: Book) -> None:
    """18."""
    accepted.fill(10, "100")
    accepted.fill(1, "100", "E2")
    assert (accepted.order()["state"], accepted.order()["filled_quantity"]) == ("quarantined", 11)


def test_a_fill_of_what_was_never_sent_is_refused_by_name(book: Book) -> None:
    """17."""
    with pytest.raises(IllegalTransition, match=r"The order C is intent and cannot become partial by order\.partially_filled") as refused:
        book.fill(4, "100")
    assert refused.value.value == "order.partially_filled:2"


def test_an_account_without_money_trades_nothing(accepted: Book) -> None:
    with pytest.raises(IllegalTransition, match=r"order\.rejected names orders D, which does not exist"):
        accepted.append(E.ORDER_REJECTED, client_id="D")
    accepted.fill(4, "100")
    corrected = {"price": "101", "commission": "1", "commission_before": "1.25", "cost": "405", "realised": "0"}
    with pytest.raises(IllegalTransition, match=r"fill\.corrected names cash NOBODY") as refused:
        accepted.append(E.FILL_CORRECTED, execution_id="E1", account="NOBODY", **corrected)
    assert refused.value.value == "fill.corrected:6"
    stranger = Book()
    stranger.append(E.ORDER_INTENT, **(INTENT | {"account": "NOBODY"}))
    stranger.append(E.ORDER_SUBMITTED)
    with pytest.raises(IllegalTransition, match=r"order\.partially_filled names cash NOBODY") as refused:
        stranger.fill(4, "100")
    assert refused.value.value == "order.partially_filled:3"


@pytest.mark.parametrize(
    ("side", "cash", "commissions"),
    [
        ("buy", "99595.25", "0.75"),  # 100,000 - 4 x 101 - 0.75
        ("sell", "100002.00", "2.00"),  # 100,000 - 4 x 100 - 1.25 + 4 x 101 - 0.75
    ],
)
def test_a_restated_execution_moves_the_difference(accepted: Book, side: str, cash: str, commissions: str) -> None:
    """Fault 20: at $101.00 after all, for $0.75 instead of $1.25; what the position comes to, the fact says itself."""
    accepted.fill(4, "100")
    name = "E1"
    if side == "sell":
        name = "E2"
        accepted.fill(4, "99", name, side="sell")
    accepted.append(
        E.FILL_CORRECTED, execution_id=name, price="101.00", commission="0.75", commission_before="1.25", cost="404.75", realised="3.5",
    )
    seq = accepted.ledger.head()[0]
    fill, position = accepted.ledger.get("fills", name), accepted.ledger.get("positions", "trend", "AAPL")
    assert fill is not None
    assert position is not None
    assert (fill["price"], fill["commission"]) == (D("101.00"), D("0.75"))
    assert (position["cost"], position["realised"], position["last_seq"]) == (D("404.75"), D("3.5"), seq)
    assert accepted.money() == (D(cash), D(commissions), seq)


def test_what_nobody_here_ordered_belongs_to_the_account(accepted: Book) -> None:
    """28."""
    accepted.append(
        E.EXTERNAL_FILLED, execution_id="X1", client_id="", side="buy", quantity=3, price="50", commission="1", session="2012-10-16",
        filled_at="2012-10-16T14:00:00.000000Z",
    )
    position = accepted.ledger.get("positions", "EXTERNAL", "AAPL")
    assert position is not None
    assert (position["quantity"], position["cost"]) == (3, D(151))
    assert accepted.money() == (D(99_849), D(1), 7)


ADOPTED = {
    "side": "sell", "order_class": "P", "order_type": "stop", "time_in_force": "gtc", "quantity": 7, "reference": "99", "limit_price": None,
    "stop_price": "95.5", "session": "2012-10-16", "broker_order_id": "B7",
}


def test_an_order_that_the_broker_has_and_the_ledger_lost_is_adopted() -> None:
    """C14: the ledger was restored from before it was sent."""
    book = Book()
    book.append(E.ORDER_ADOPTED, **ADOPTED)
    assert book.order() == {
        **ADOPTED, "client_id": "C", "symbol": "AAPL", "account": "PAPER", "action_id": "", "part": "adopted", "parent": None, "oco": None,
        "strategy": "EXTERNAL", "reference": D(99), "stop_price": D("95.5"), "state": "accepted", "reason": "adopted",
        "before_cancel": None, "filled_quantity": 0, "filled_value": D(0), "intent_at": book.now, "submitted_at": book.now,
        "updated_at": book.now, "intent_seq": 4, "last_seq": 4,
    }


def test_the_target_that_is_adopted_keeps_its_price() -> None:
    book = Book()
    book.append(E.ORDER_ADOPTED, **(ADOPTED | {"order_type": "limit", "limit_price": "105.5", "stop_price": None}))
    assert (book.order()["limit_price"], book.order()["stop_price"]) == (D("105.5"), None)


def test_the_group_of_which_one_fills_is_adopted_with_the_order() -> None:
    book = Book()
    book.append(E.ORDER_ADOPTED, **(ADOPTED | {"oco": "G7"}))
    assert book.order()["oco"] == "G7"


def test_an_intent_that_the_broker_has_after_all_is_adopted_as_what_it_is(book: Book) -> None:
    assert book.append(E.ORDER_ADOPTED, **ADOPTED) == {
        "state": "accepted", "reason": "adopted", "broker_order_id": "B7", "submitted_at": book.now, "updated_at": book.now, "last_seq": 5,
    }


def test_a_fact_that_does_not_follow_is_refused_by_name(accepted: Book) -> None:
    """17."""
    with pytest.raises(IllegalTransition, match=r"The order C is accepted and cannot become submitted by order\.submitted"):
        accepted.append(E.ORDER_SUBMITTED)


def test_an_order_that_was_sent_is_not_adopted(accepted: Book) -> None:
    with pytest.raises(IllegalTransition, match="The order C is accepted") as refused:
        accepted.append(E.ORDER_ADOPTED, **ADOPTED)
    assert refused.value.value == "C"
