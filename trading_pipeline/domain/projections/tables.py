"""The tables that are kept from the events: names, keys and columns, and what the fold needs of a store.

A column more or less is a change of the ledger's schema: the migrations say the same in their own words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Row = dict[str, Any]
Key = tuple[Any, ...]


class Kind(StrEnum):
    """What a column holds, in Python and in PostgreSQL."""

    TEXT = "text"
    INTEGER = "integer"
    MONEY = "money"
    """Decimal, exact."""
    INSTANT = "instant"
    """Aware UTC datetime."""
    FLAG = "flag"
    JSON = "json"
    """Canonical JSON text."""


@dataclass(frozen=True, slots=True)
class Table:
    """A projection: its key columns come first; every column but the key may be null."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Kind]


T, N, M, AT, F, J = Kind.TEXT, Kind.INTEGER, Kind.MONEY, Kind.INSTANT, Kind.FLAG, Kind.JSON

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "strategies", ("name",),
            {
                "name": T, "state": T, "reason": T, "spec": J, "limits_version": N, "created_at": AT, "state_since": AT, "actor": T,
                "last_seq": N,
            },
        ),
        Table(
            "actions", ("action_id",),
            {
                "action_id": T, "strategy": T, "symbol": T, "side": T, "order_class": T, "state": T, "reason": T, "confidence": M,
                "cycle_id": T, "bar_end": AT, "session": T, "generated_at": AT, "not_before": AT, "expires_at": AT, "intent": J,
                "admitted": F, "generated_seq": N, "verdict_seq": N, "last_seq": N,
            },
        ),
        Table(
            "approvals", ("action_id",),
            {
                "action_id": T, "strategy": T, "symbol": T, "state": T, "shown": J, "hash": T, "nonce": T, "requested_at": AT,
                "expires_at": AT, "price_low": M, "price_high": M, "limits_version": N, "decided_at": AT, "decided_by": T,
                "reason": T, "requested_seq": N, "last_seq": N,
            },
        ),
        Table(
            "orders", ("client_id",),
            {
                "client_id": T, "action_id": T, "part": T, "parent": T, "oco": T, "account": T, "strategy": T, "symbol": T, "side": T,
                "order_class": T, "order_type": T, "time_in_force": T, "quantity": N, "reference": M, "limit_price": M, "stop_price": M,
                "state": T, "before_cancel": T, "reason": T, "broker_order_id": T, "filled_quantity": N, "filled_value": M,
                "session": T, "intent_at": AT, "submitted_at": AT, "updated_at": AT, "intent_seq": N, "last_seq": N,
            },
        ),
        Table(
            "fills", ("execution_id",),
            {
                "execution_id": T, "client_id": T, "strategy": T, "symbol": T, "side": T, "quantity": N, "price": M, "commission": M,
                "at": AT, "session": T, "seq": N,
            },
        ),
        Table(
            "positions", ("strategy", "symbol"),
            {"strategy": T, "symbol": T, "quantity": N, "cost": M, "realised": M, "opened_at": AT, "last_seq": N},
        ),
        Table("limits", ("account",), {"account": T, "version": N, "limits": J, "set_at": AT, "actor": T, "last_seq": N}),
        Table("latches", ("scope",), {"scope": T, "state": T, "reason": T, "at": AT, "actor": T, "last_seq": N}),
        Table("grants", ("scope", "session"), {"scope": T, "session": T, "amount": M, "at": AT, "actor": T, "last_seq": N}),
        Table("cash", ("account",), {"account": T, "cash": M, "deposited": M, "commissions": M, "last_seq": N}),
        Table(
            "snapshots", ("seq",),
            {
                "seq": N, "account": T, "at": AT, "session": T, "equity": M, "cash": M, "market_value": M, "realised": M,
                "unrealised": M, "day_pnl": M, "positions": J,
            },
        ),
        Table(
            "sessions", ("session",),
            {
                "session": T, "state": T, "opened_at": AT, "baseline_equity": M, "closed_at": AT, "closing_equity": M, "report": J,
                "last_seq": N,
            },
        ),
        Table(
            "model_calls", ("cycle", "strategy", "symbol"),
            {
                "cycle": T, "strategy": T, "symbol": T, "state": T, "day": T, "provider": T, "model": T, "prompt": T, "reserved": M,
                "cost": M, "calls": N, "input_tokens": N, "output_tokens": N, "cached_tokens": N, "cache_write_tokens": N, "replayed": F,
                "outcome": T, "answered_by": T, "asked_at": AT, "answered_at": AT, "requested_seq": N, "last_seq": N,
            },
        ),
        Table(
            "model_spend", ("day", "strategy", "provider"),
            {
                "day": T, "strategy": T, "provider": T, "reserved": M, "spent": M, "asked": N, "answered": N, "failed": N, "lost": N,
                "discarded": N, "calls": N, "replayed": N, "tokens_in": N, "tokens_out": N, "skipped": J, "saved": M, "wanted": M,
                "last_seq": N,
            },
        ),
    )
}


class Tables(Protocol):
    """What the fold needs of a store: rows by key, within one transaction."""

    def get(self, table: str, key: Key) -> Row | None:
        """A copy of the row, or None."""

    def put(self, table: str, row: Row) -> None:
        """Insert or replace the row; it has every column of its table."""
