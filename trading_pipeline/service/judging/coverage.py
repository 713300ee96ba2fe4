"""How many shares a resting exit can still sell: what its entry has bought for it, less what it and the other of its pair have sold.

A child of an entry waits for its parent's fills, the first bracket at work served first; a pair sells its shares once. Orders that rest
through a split are restated with it, and their entries have ended by then: from there on their own quantity counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import prod

from trading_pipeline.domain.events import EventType, instant_from
from trading_pipeline.domain.orders import WORKING, OrderType
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Reader

AT_WORK = tuple(state.value for state in WORKING)


def bracket_of(row: Row) -> str:
    """`1` of `stop-1` and `target-1`, and of what was placed for them later, `stop-1.2`."""
    return str(row["part"]).partition("-")[2].partition(".")[0]


class Coverage:
    """Of some exits, with their parents, siblings and pairs at hand."""

    def __init__(self, reader: Reader, exits: Iterable[Row], splits: "Sequence[BookedSplit] | None" = None) -> None:
        """Read the families of these exits, and the splits that are booked unless they are given."""
        exits = list(exits)
        parents = {row["parent"] for row in exits if row["parent"] is not None}
        groups = {row["oco"] for row in exits if row["oco"] is not None}
        self._parents = {row["client_id"]: row for row in reader.find("orders", client_id=parents)} if parents else {}
        self._children = reader.find("orders", parent=parents, order_by="intent_seq") if parents else []
        self._pairs = reader.find("orders", oco=groups) if groups else []
        self._splits = (booked_splits(reader) if splits is None else splits) if parents else []

    def left(self, row: Row) -> int:
        """Shares it can still sell."""
        parent = self._parents.get(row["parent"])
        own: int = max(0, row["quantity"] - self._sold(row))
        if parent is None or self._is_restated(row):
            return own
        family = [other for other in self._children if other["parent"] == row["parent"]]
        bought: int = parent["filled_quantity"] - sum(other["filled_quantity"] for other in family)
        # What the entry has bought goes to the brackets at work, the first one first.
        earlier = {_group(other): other for other in family if other["state"] in AT_WORK and bracket_of(other) < bracket_of(row)}
        for other in earlier.values():
            bought -= max(0, other["quantity"] - self._sold(other))
        return min(own, max(0, bought))

    def share(self, row: Row) -> int:
        """Shares of its entry's fills that its bracket stands for, sold or not."""
        size: int = row["quantity"]
        parent = self._parents.get(row["parent"])
        if parent is None or self._is_restated(row):
            return size
        stops = [other for other in self._children if other["parent"] == row["parent"] and other["order_type"] == OrderType.STOP.value]
        before: int = sum(other["quantity"] for other in stops if bracket_of(other) < bracket_of(row))
        bought: int = parent["filled_quantity"] - before
        return min(size, max(0, bought))

    def _sold(self, row: Row) -> int:
        pair = [row] if row["oco"] is None else [other for other in self._pairs if other["oco"] == row["oco"]]
        sold: int = sum(other["filled_quantity"] for other in pair)
        return sold

    def _is_restated(self, row: Row) -> bool:
        return any(row["client_id"] in split.restated for split in self._splits)


def _group(row: Row) -> str:
    return str(row["oco"] or row["client_id"])


@dataclass(frozen=True, slots=True)
class BookedSplit:
    """A split in the ledger; `restated` are the orders that rested through it and are on the new scale."""

    symbol: str
    ratio: Decimal
    effective_at: datetime
    restated: frozenset[str]


def booked_splits(reader: Reader, symbol: str | None = None) -> list[BookedSplit]:
    """Those of one symbol, or all."""
    facts = (event.payload for event in reader.events(types=(EventType.CORPORATE_ACTION_SPLIT,)))
    return [
        BookedSplit(
            data["symbol"], Decimal(data["ratio"]), instant_from(data["effective_at"]),
            frozenset(order["client_id"] for order in data["orders"]),
        )
        for data in facts if symbol is None or data["symbol"] == symbol
    ]


def scale_of(row: Row, splits: Sequence[BookedSplit]) -> Decimal:
    """New shares for one that an order was written in: by the splits since it was placed that it did not rest through."""
    since = (split for split in splits if split.effective_at > row["intent_at"] and row["client_id"] not in split.restated)
    return prod((split.ratio for split in since), start=Decimal(1))
