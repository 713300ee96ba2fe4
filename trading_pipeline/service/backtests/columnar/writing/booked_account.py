"""The broker of a simulated account: sessions open and close on it, and it states nothing that is not booked already."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.ports import BrokerAccount, BrokerOrder, Permit, Ticket
from trading_pipeline.service.desk import Desk


class BookedAccount:
    """The broker of a simulated account: it states what is booked, has no news, and takes no order."""

    name = "paper"

    def __init__(self, desk: Desk, cash: Decimal) -> None:
        self._ledger, self._cash = desk.ledger, cash
        self.account_id, self.capabilities = desk.broker.account_id, desk.broker.capabilities

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:  # noqa: ARG002
        """Nothing is sent: what fills is known."""
        raise BrokerNotReady("A simulated account takes no orders.", value=ticket.client_id, rule="its fills are known", remedy="none")

    def cancel(self, client_id: str) -> None:
        """Nothing works."""

    def orders(self, client_ids: Collection[str] | None = None) -> list[BrokerOrder]:  # noqa: ARG002
        """Nothing to state: what ends is written down when it ends."""
        return []

    def executions(self, since: datetime) -> list[tuple[str, Fill]]:  # noqa: ARG002
        """Nothing to state: what fills is written down when it fills."""
        return []

    def positions(self) -> dict[str, int]:
        """As booked."""
        held: dict[str, int] = {}
        for row in self._ledger.find("positions"):
            held[row["symbol"]] = held.get(row["symbol"], 0) + row["quantity"]
        return {symbol: many for symbol, many in sorted(held.items()) if many}

    def account(self) -> BrokerAccount:
        """As booked, or what it begins with."""
        row = self._ledger.get("cash", self.account_id)
        cash = self._cash if row is None else row["cash"]
        return BrokerAccount(self.account_id, cash, cash, cash)

    def paid_in_lieu_at(self, symbol: str, split_at: datetime) -> Decimal | None:  # noqa: ARG002
        """Nothing splits."""
        return None
