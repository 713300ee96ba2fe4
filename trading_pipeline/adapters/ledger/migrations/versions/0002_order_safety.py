"""Latches, grants of a day's loss, and what no event keeps: leases with their fencing tokens, and who is well."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text(collation="C")
INTEGER = sa.BigInteger()
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "latches", sa.Column("scope", TEXT, primary_key=True), sa.Column("state", TEXT), sa.Column("reason", TEXT),
        sa.Column("at", INSTANT), sa.Column("actor", TEXT), sa.Column("last_seq", INTEGER),
    )
    op.create_table(
        "grants", sa.Column("scope", TEXT, primary_key=True), sa.Column("session", TEXT, primary_key=True),
        sa.Column("amount", sa.Numeric()), sa.Column("at", INSTANT), sa.Column("actor", TEXT), sa.Column("last_seq", INTEGER),
    )
    op.create_table(
        "leases", sa.Column("name", TEXT, primary_key=True), sa.Column("token", INTEGER, nullable=False),
        sa.Column("holder", TEXT, nullable=False), sa.Column("backend", sa.Integer(), nullable=False),
        sa.Column("renewed_at", INSTANT, nullable=False),
    )
    op.create_table(
        "health", sa.Column("name", TEXT, primary_key=True), sa.Column("at", INSTANT, nullable=False),
        sa.Column("content", TEXT, nullable=False),
    )
