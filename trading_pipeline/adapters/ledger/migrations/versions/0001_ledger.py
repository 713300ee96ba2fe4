"""The ledger as first published: events, head, projections, and the triggers that keep them what they are.

Written out, not derived from the code: what a revision makes must not change when the code does.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text(collation="C")
INTEGER = sa.BigInteger()
MONEY = sa.Numeric()
INSTANT = sa.DateTime(timezone=True)
FLAG = sa.Boolean()
HASH = sa.LargeBinary()


def _columns(type_: sa.types.TypeEngine[Any], names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_) for name in names.split()]


def _key(*names: str, type_: sa.types.TypeEngine[Any] = TEXT) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_, primary_key=True, autoincrement=False) for name in names]


def upgrade() -> None:
    """Make everything."""
    _events()
    _trading()
    _account()
    _triggers()


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("seq", INTEGER, primary_key=True, autoincrement=False),
        sa.Column("stream", TEXT, nullable=False),
        sa.Column("stream_seq", INTEGER, nullable=False),
        sa.Column("event_key", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("schema", sa.Integer(), nullable=False),
        sa.Column("cause", INTEGER),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.Column("payload", TEXT, nullable=False),
        sa.Column("previous_hash", HASH, nullable=False),
        sa.Column("hash", HASH, nullable=False),
        sa.UniqueConstraint("event_key", name="events_event_key"),
        sa.UniqueConstraint("stream", "stream_seq", name="events_stream_stream_seq"),
    )
    op.create_index("events_type_seq", "events", ["type", "seq"])
    head = op.create_table(
        "ledger_head",
        sa.Column("single", FLAG, primary_key=True),
        sa.Column("environment", TEXT),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("hash", HASH, nullable=False),
        sa.CheckConstraint("single", name="ledger_head_single"),
    )
    op.bulk_insert(head, [{"single": True, "environment": None, "seq": 0, "hash": bytes(32)}])


def _trading() -> None:
    op.create_table(
        "strategies", *_key("name"), *_columns(TEXT, "state reason spec"), *_columns(INTEGER, "limits_version"),
        *_columns(INSTANT, "created_at state_since"), *_columns(TEXT, "actor"), *_columns(INTEGER, "last_seq"),
    )
    op.create_table(
        "actions", *_key("action_id"), *_columns(TEXT, "strategy symbol side order_class state reason"), *_columns(MONEY, "confidence"),
        *_columns(TEXT, "cycle_id"), *_columns(INSTANT, "bar_end"), *_columns(TEXT, "session"),
        *_columns(INSTANT, "generated_at not_before expires_at"), *_columns(TEXT, "intent"), *_columns(FLAG, "admitted"),
        *_columns(INTEGER, "generated_seq verdict_seq last_seq"),
    )
    op.create_index("actions_state", "actions", ["state"])
    op.create_index("actions_strategy_generated_at", "actions", ["strategy", "generated_at"])
    op.create_table(
        "approvals", *_key("action_id"), *_columns(TEXT, "strategy symbol state shown hash nonce"),
        *_columns(INSTANT, "requested_at expires_at"), *_columns(MONEY, "price_low price_high"), *_columns(INTEGER, "limits_version"),
        *_columns(INSTANT, "decided_at"), *_columns(TEXT, "decided_by reason"), *_columns(INTEGER, "requested_seq last_seq"),
    )
    op.create_index("approvals_state", "approvals", ["state"])
    op.create_table(
        "orders", *_key("client_id"),
        *_columns(TEXT, "action_id part parent oco account strategy symbol side order_class order_type time_in_force"),
        *_columns(INTEGER, "quantity"), *_columns(MONEY, "reference limit_price stop_price"),
        *_columns(TEXT, "state before_cancel reason broker_order_id"), *_columns(INTEGER, "filled_quantity"),
        *_columns(MONEY, "filled_value"), *_columns(TEXT, "session"), *_columns(INSTANT, "intent_at submitted_at updated_at"),
        *_columns(INTEGER, "intent_seq last_seq"),
    )
    op.create_index("orders_state", "orders", ["state"])
    op.create_index("orders_action_id", "orders", ["action_id"])
    op.create_index("orders_strategy_submitted_at", "orders", ["strategy", "submitted_at"])
    op.create_table(
        "fills", *_key("execution_id"), *_columns(TEXT, "client_id strategy symbol side"), *_columns(INTEGER, "quantity"),
        *_columns(MONEY, "price commission"), *_columns(INSTANT, "at"), *_columns(TEXT, "session"), *_columns(INTEGER, "seq"),
    )
    op.create_index("fills_client_id", "fills", ["client_id"])
    op.create_index("fills_strategy_at", "fills", ["strategy", "at"])


def _account() -> None:
    op.create_table(
        "positions", *_key("strategy", "symbol"), *_columns(INTEGER, "quantity"), *_columns(MONEY, "cost realised"),
        *_columns(INSTANT, "opened_at"), *_columns(INTEGER, "last_seq"),
    )
    op.create_table(
        "limits", *_key("account"), *_columns(INTEGER, "version"), *_columns(TEXT, "limits"), *_columns(INSTANT, "set_at"),
        *_columns(TEXT, "actor"), *_columns(INTEGER, "last_seq"),
    )
    op.create_table("cash", *_key("account"), *_columns(MONEY, "cash deposited commissions"), *_columns(INTEGER, "last_seq"))
    op.create_table(
        "snapshots", *_key("seq", type_=INTEGER), *_columns(TEXT, "account"), *_columns(INSTANT, "at"), *_columns(TEXT, "session"),
        *_columns(MONEY, "equity cash market_value realised unrealised day_pnl"), *_columns(TEXT, "positions"),
    )
    op.create_index("snapshots_session", "snapshots", ["session"])
    op.create_table(
        "sessions", *_key("session"), *_columns(TEXT, "state"), *_columns(INSTANT, "opened_at"), *_columns(MONEY, "baseline_equity"),
        *_columns(INSTANT, "closed_at"), *_columns(MONEY, "closing_equity"), *_columns(TEXT, "report"), *_columns(INTEGER, "last_seq"),
    )


def _triggers() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
        END $$
    """)
    # As its owner: the application may lock the head, not write it.
    op.execute("""
        CREATE FUNCTION move_head() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
            head ledger_head;
            first_seq bigint;
            last_seq bigint;
            number bigint;
        BEGIN
            SELECT min(seq), max(seq), count(*) INTO first_seq, last_seq, number FROM added;
            IF number = 0 THEN
                RETURN NULL;
            END IF;
            SELECT * INTO head FROM ledger_head FOR UPDATE;
            IF first_seq <> head.seq + 1 OR last_seq <> head.seq + number
               OR (SELECT previous_hash FROM added WHERE seq = first_seq) <> head.hash THEN
                RAISE EXCEPTION 'events % to % do not continue the chain at %', first_seq, last_seq, head.seq
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            UPDATE ledger_head SET seq = last_seq, hash = (SELECT hash FROM added WHERE seq = last_seq);
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER events_move_head AFTER INSERT ON events REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION move_head()
    """)
    op.execute("""
        CREATE FUNCTION guard_head() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF OLD.environment IS NOT NULL AND NEW.environment IS DISTINCT FROM OLD.environment THEN
                RAISE EXCEPTION 'the environment of a ledger is stamped once' USING ERRCODE = 'insufficient_privilege';
            END IF;
            IF NEW.seq < OLD.seq THEN
                RAISE EXCEPTION 'the head of a ledger never goes back' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    op.execute("""
        CREATE TRIGGER ledger_head_stays BEFORE DELETE OR TRUNCATE ON ledger_head
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    op.execute("CREATE TRIGGER ledger_head_guard BEFORE UPDATE ON ledger_head FOR EACH ROW EXECUTE FUNCTION guard_head()")
