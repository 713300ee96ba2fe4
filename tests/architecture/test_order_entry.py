"""What a broker can be asked to do: there is a way to place an order and a way to cancel it, and none to change one."""

from trading_pipeline import ports
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper import PaperBroker

READS = {"capabilities", "name", "account_id", "orders", "executions", "positions", "account", "paid_in_lieu_at"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_a_working_order_can_be_cancelled_and_not_changed() -> None:
    """25."""
    assert public(ports.Broker) == READS | {"submit", "cancel"}
    for adapter in (PaperBroker, LatchedBroker):
        assert not [name for name in public(adapter) if any(word in name for word in ("modif", "amend", "replace", "change", "update"))]
