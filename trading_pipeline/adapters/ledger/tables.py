"""The ledger's tables as SQLAlchemy sees them: events, the head, and the projections of `domain.projections`.

The schema itself is made by the migrations, written out by hand; a test holds the two together. Text is
compared by code point (collation C), so that every server sorts as Python does.
"""

from typing import Any

import sqlalchemy as sa

from trading_pipeline.domain.projections import TABLES, Kind

TEXT = sa.Text(collation="C")
TYPES: dict[Kind, sa.types.TypeEngine[Any]] = {
    Kind.TEXT: TEXT,
    Kind.INTEGER: sa.BigInteger(),
    Kind.MONEY: sa.Numeric(),
    Kind.INSTANT: sa.DateTime(timezone=True),
    Kind.FLAG: sa.Boolean(),
    Kind.JSON: TEXT,
}

METADATA = sa.MetaData()

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("stream", TEXT, nullable=False),
    sa.Column("stream_seq", sa.BigInteger, nullable=False),
    sa.Column("event_key", TEXT, nullable=False),
    sa.Column("type", TEXT, nullable=False),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("cause", sa.BigInteger),
    sa.Column("actor", TEXT, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("payload", TEXT, nullable=False),
    sa.Column("previous_hash", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("event_key", name="events_event_key"),
    sa.UniqueConstraint("stream", "stream_seq", name="events_stream_stream_seq"),
    sa.Index("events_type_seq", "type", "seq"),
)

HEAD = sa.Table(
    "ledger_head",
    METADATA,
    sa.Column("single", sa.Boolean, primary_key=True),
    sa.Column("environment", TEXT),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.CheckConstraint("single", name="ledger_head_single"),
)
"""One row. Its lock makes writers take turns; `environment` is null until the first ledger is opened on it."""

LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("holder", TEXT, nullable=False),
    sa.Column("backend", sa.Integer, nullable=False),
    sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
)
"""Who holds a lease by which server process, and the fencing token that each new holder raises: kept from no event."""

HEALTH = sa.Table(
    "health",
    METADATA,
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("content", TEXT, nullable=False),
)
"""What a long-running process last said of itself, by the database's clock: kept from no event."""

PROJECTIONS: dict[str, sa.Table] = {
    table.name: sa.Table(
        table.name,
        METADATA,
        *(
            sa.Column(name, TYPES[kind], primary_key=name in table.key, autoincrement=False, nullable=name not in table.key)
            for name, kind in table.columns.items()
        ),
    )
    for table in TABLES.values()
}

INDEXES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("actions_state", "actions", ("state",)),
    ("actions_strategy_generated_at", "actions", ("strategy", "generated_at")),
    ("approvals_state", "approvals", ("state",)),
    ("orders_state", "orders", ("state",)),
    ("orders_action_id", "orders", ("action_id",)),
    ("orders_strategy_submitted_at", "orders", ("strategy", "submitted_at")),
    ("fills_client_id", "fills", ("client_id",)),
    ("fills_strategy_at", "fills", ("strategy", "at")),
    ("snapshots_session", "snapshots", ("session",)),
    ("model_calls_asked_at", "model_calls", ("asked_at",)),
    ("model_calls_day", "model_calls", ("day",)),
    ("model_calls_state", "model_calls", ("state",)),
    ("model_calls_model_last_seq", "model_calls", ("model", "last_seq")),
)
for _name, _table, _columns in INDEXES:
    sa.Index(_name, *(PROJECTIONS[_table].c[column] for column in _columns))
