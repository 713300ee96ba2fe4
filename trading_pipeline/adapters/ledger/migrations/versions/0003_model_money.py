"""What is asked of models and what it costs: one row a question, and the day's sums by strategy and provider."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text(collation="C")
INTEGER = sa.BigInteger()
MONEY = sa.Numeric()
INSTANT = sa.DateTime(timezone=True)


def _columns(type_: sa.types.TypeEngine[Any], names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_) for name in names.split()]


def _key(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, TEXT, primary_key=True) for name in names]


def upgrade() -> None:
    """Add the tables; no ledger before them has a model's facts."""
    op.create_table(
        "model_calls", *_key("cycle", "strategy", "symbol"), *_columns(TEXT, "state day provider model prompt"),
        *_columns(MONEY, "reserved cost"), *_columns(INTEGER, "calls input_tokens output_tokens cached_tokens cache_write_tokens"),
        sa.Column("replayed", sa.Boolean()), *_columns(TEXT, "outcome answered_by"), *_columns(INSTANT, "asked_at answered_at"),
        *_columns(INTEGER, "requested_seq last_seq"),
    )
    for column in ("asked_at", "day", "state"):
        op.create_index(f"model_calls_{column}", "model_calls", [column])
    op.create_index("model_calls_model_last_seq", "model_calls", ["model", "last_seq"])
    op.create_table(
        "model_spend", *_key("day", "strategy", "provider"), *_columns(MONEY, "reserved spent"),
        *_columns(INTEGER, "asked answered failed lost discarded calls replayed tokens_in tokens_out"), *_columns(TEXT, "skipped"),
        *_columns(MONEY, "saved wanted"), *_columns(INTEGER, "last_seq"),
    )
