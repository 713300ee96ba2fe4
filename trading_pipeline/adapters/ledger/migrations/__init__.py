"""The schema's history, run by the owner's role; the application's role can change no schema.

`REVISION` is what this version of the code needs: a database with an older one is migrated, with an unknown
one refused. Alembic is imported only when there is something to do. Downgrades are deliberately absent: a
ledger is only ever added to.
"""

from pathlib import Path

import sqlalchemy as sa

from trading_pipeline.adapters.ledger.tables import EVENTS, HEAD, HEALTH, LEASES, PROJECTIONS
from trading_pipeline.errors import LedgerCorrupt

REVISION = "0003"
VERSION_TABLE = "alembic_version"


def revision_of(connection: sa.Connection) -> str | None:
    """The schema's revision, or None when the database is empty."""
    if connection.execute(sa.text("SELECT to_regclass(:name)"), {"name": f"public.{VERSION_TABLE}"}).scalar() is None:
        return None
    found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def migrate(connection: sa.Connection, app_role: str) -> None:
    """Bring the schema to REVISION and give the application's role what it needs, within the caller's transaction.

    Raises:
        LedgerCorrupt: The database has a revision that this version does not know.
    """
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('ledger migration'))"))
    if revision_of(connection) != REVISION:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, REVISION)
        except CommandError as error:
            raise LedgerCorrupt(
                f"The ledger's schema is of revision {revision_of(connection)}, which this version does not know.",
                value=revision_of(connection), rule=f"this version works on schema {REVISION}", remedy="use the version that wrote it",
            ) from error
    _grant(connection, app_role)


def _grant(connection: sa.Connection, app_role: str) -> None:
    role = connection.dialect.identifier_preparer.quote(app_role)
    projections = ", ".join(PROJECTIONS)
    operational = f"{LEASES.name}, {HEALTH.name}"
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"REVOKE ALL ON {EVENTS.name}, {HEAD.name}, {VERSION_TABLE}, {operational}, {projections} FROM {role}",
        f"GRANT SELECT, INSERT ON {EVENTS.name} TO {role}",
        f"GRANT SELECT, UPDATE (environment) ON {HEAD.name} TO {role}",
        f"GRANT SELECT ON {VERSION_TABLE} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE ON {operational} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {projections} TO {role}",
    ):
        connection.execute(sa.text(statement))
