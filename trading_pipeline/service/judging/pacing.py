"""Pacing: when the next order may go out, by what has gone out lately and what is admitted already (D3)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from trading_pipeline.domain.approvals import RELEASABLE, ActionState
from trading_pipeline.domain.limits import COOLDOWN, AccountLimits
from trading_pipeline.domain.orders import OrderClass, OrderState
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Reader
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.desk import Desk

OPEN = (*RELEASABLE, ActionState.PENDING.value)


@dataclass(slots=True, kw_only=True)
class Pacing:
    """Cooldowns and gaps at one instant; no bar and no quote is looked at."""

    now: datetime
    limits: AccountLimits
    """Those in force for the account."""
    recent: list[Row]
    """Orders submitted in the last day, all states, as `recent_orders` has them."""
    actions: list[Row]
    """Open actions, and those generated in the last minutes."""

    @classmethod
    def at_hand(cls, desk: Desk, reader: Reader, now: datetime) -> "Pacing":
        """As the ledger has it."""
        limits = standing(desk, reader).effective
        return Pacing(now=now, limits=limits, recent=recent_orders(reader, now), actions=recent_actions(reader, now))

    def next_release(self, strategy: str, *, queued: bool = True) -> datetime:
        """The first instant at which an action of the strategy may go out (D3): after the strategy's cooldown and the account's gap.

        Args:
            queued: Behind the actions that are admitted already; False: as if this one were the next.
        """
        admitted = [row for row in self.actions if queued and row["state"] in RELEASABLE and row["not_before"] is not None]
        own = [row["not_before"] for row in admitted if row["strategy"] == strategy]
        trades = [at for at in (self.last_trade(strategy), *own) if at is not None]
        gap = self.limits.min_order_gap
        placed = self.last_account_order()
        release: datetime = max([self.now, *(at + COOLDOWN for at in trades), *([placed + gap] if placed else [])])
        for other in sorted(row["not_before"] for row in admitted):
            if abs(other - release) < gap:
                release = other + gap
        return release

    def last_account_order(self, other_than: str = "") -> datetime | None:
        """When the account's newest order was submitted, one action's aside; brackets go with their entries."""
        times: list[datetime] = [
            order["submitted_at"] for order in self.recent if order["parent"] is None and order["action_id"] != other_than
        ]
        return max(times, default=None)

    def last_trade(self, strategy: str, other_than: str = "") -> datetime | None:
        """The strategy's last submission or entry fill (D3): protective orders aside, and slices of one action."""
        own = [row for row in self.recent if row["strategy"] == strategy and row["action_id"] != other_than]
        times = [row["submitted_at"] for row in own if row["order_class"] != OrderClass.PROTECTIVE.value]
        times += [row["filled_at"] for row in own if row["filled_at"] is not None]
        return max(times, default=None)

    def admit(self, row: Row) -> None:
        """Count an action that this transaction has just admitted or changed."""
        self.actions = [other for other in self.actions if other["action_id"] != row["action_id"]] + [row]


def recent_orders(reader: Reader, now: datetime) -> list[Row]:
    """Submitted in the last day, all states, each with `filled_at`: of an entry, when its last fill so far was booked."""
    return [row | {"filled_at": _filled_at(reader, row)} for row in reader.find("orders", since=("submitted_at", now - timedelta(days=1)))]


def _filled_at(reader: Reader, row: Row) -> datetime | None:
    if row["order_class"] != OrderClass.ENTRY.value or not row["filled_quantity"]:
        return None
    filled: datetime = row["updated_at"]
    if row["state"] == OrderState.FILLED.value:
        return filled
    # Its last fact may be a cancel, which starts no cooldown: an exit that cancels its entry would wait for itself.
    # What was taken over has filled before the book began, too, and nobody knows when.
    newest = reader.find("fills", client_id=row["client_id"], order_by="seq", descending=True, limit=1)
    fact = reader.event(newest[0]["seq"]) if newest else None
    return filled if fact is None else fact.at


def recent_actions(reader: Reader, now: datetime) -> list[Row]:
    """Open, or generated in the last minutes."""
    found = {row["action_id"]: row for row in reader.find("actions", state=OPEN)}
    found.update((row["action_id"], row) for row in reader.find("actions", since=("generated_at", now - timedelta(minutes=2))))
    return list(found.values())
