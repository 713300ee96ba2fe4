"""The broker as everybody gets it: the emergency stop is read inside the submission itself (invariant 52)."""

import time
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.errors import BrokerRefused
from trading_pipeline.ports import Broker, BrokerAccount, BrokerOrder, Capabilities, Latch, Permit, Ticket


class LatchedBroker:
    """A `Broker` that sends nothing while a stop stands; everything else passes."""

    def __init__(self, broker: Broker, latch: Latch) -> None:
        self._broker = broker
        self._latch = latch

    @property
    def name(self) -> str:
        """As the broker's."""
        return self._broker.name

    @property
    def account_id(self) -> str:
        """As the broker's."""
        return self._broker.account_id

    @property
    def capabilities(self) -> Capabilities:
        """As the broker's."""
        return self._broker.capabilities

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """Place an order, unless a stop stands or the submission has been held up."""
        # By both clocks: monotonic time cannot be set, and wall time goes on while a laptop sleeps (fault 26).
        if time.monotonic() > permit.good_until or time.time() > permit.good_until_wall:
            raise BrokerRefused(
                f"Not sent: the permit for {ticket.client_id} has lapsed.", value=ticket.client_id,
                rule="what was judged is sent within seconds, or not at all", remedy="nothing: the next signal is judged anew",
            )
        stop = self._latch.standing(permit.strategy)
        if stop is not None:
            raise BrokerRefused(
                f"Not sent: {stop.strategy or 'the account'} is under an emergency stop.", value=ticket.client_id,
                rule="nothing is submitted after an emergency stop (invariant 52)", remedy="look at it with `trading stop --status`",
            )
        return self._broker.submit(ticket, permit)

    def cancel(self, client_id: str) -> None:
        """Cancels pass at any time."""
        self._broker.cancel(client_id)

    def orders(self, client_ids: Collection[str] | None = None) -> list[BrokerOrder]:
        """As the broker says."""
        return self._broker.orders(client_ids)

    def executions(self, since: datetime) -> list[tuple[str, Fill]]:
        """As the broker says."""
        return self._broker.executions(since)

    def positions(self) -> dict[str, int]:
        """As the broker says."""
        return self._broker.positions()

    def account(self) -> BrokerAccount:
        """As the broker says."""
        return self._broker.account()

    def paid_in_lieu_at(self, symbol: str, split_at: datetime) -> Decimal | None:
        """As the broker says."""
        return self._broker.paid_in_lieu_at(symbol, split_at)
