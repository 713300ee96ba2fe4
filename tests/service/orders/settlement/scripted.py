"""A broker that says what a test tells it to, and what settling wrote down of it."""

from collections.abc import Callable, Collection
from datetime import datetime

from tests.desks import Floor
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.domain.cycles import action_id, follow_up
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.ports import BrokerOrder
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import Tally

NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
MINUTE = client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), "entry")
"""The entry of a strategy on minutes that decides at ten."""


def tally(stage: Floor) -> Tally:
    """Of a run that has counted nothing yet."""
    return Tally("test", follow_up((), stage.desk.today(), stage.desk.now(), "test"))


def settled(stage: Floor, instant: datetime | None = None) -> Tally:
    """Settle, at an instant if one is given; what was counted and noted."""
    found = tally(stage if instant is None else stage.go(instant))
    settle(stage.desk, found)
    return found


def told(stage: Floor, name: str) -> list[tuple[str, str]]:
    """The facts about an order after its submission, with their actors."""
    facts = [event for event in stage.events() if event.payload.get("client_id") == name and event.type.value.startswith("order.")]
    return [(event.type.value, event.actor) for event in facts[2:]]


class Scripted(LatchedBroker):
    """Says what it is told to, over what the broker says."""

    def __init__(self, stage: Floor) -> None:
        super().__init__(stage.broker, stage.desk.latch)
        self.cancels: list[str] = []
        self.before_orders: Callable[[], object] = lambda: None
        self.restate: Callable[[BrokerOrder], BrokerOrder | None] = lambda order: order
        self.holds: dict[str, int] | None = None
        self.more: list[tuple[str, Fill]] = []
        self.asked_since: list[datetime] = []
        self.asked_for: list[str] = []
        self.deaf = False

    def orders(self, client_ids: Collection[str] | None = None) -> list[BrokerOrder]:
        self.asked_for += client_ids or ()
        found = super().orders(client_ids)
        self.before_orders()
        return [said for order in found if (said := self.restate(order)) is not None]

    def positions(self) -> dict[str, int]:
        return super().positions() if self.holds is None else self.holds

    def executions(self, since: datetime) -> list[tuple[str, Fill]]:
        self.asked_since.append(since)
        return [*super().executions(since), *self.more]

    def cancel(self, client_id: str) -> None:
        self.cancels.append(client_id)
        if not self.deaf:
            super().cancel(client_id)


def scripted(stage: Floor) -> tuple[Floor, Scripted]:
    """A fresh process over the same record whose broker is scripted, and that broker."""
    broker = Scripted(stage)
    return stage.restarted(broker=broker), broker
