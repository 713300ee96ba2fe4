"""The paper broker's book in PostgreSQL: it survives kill -9 as a real broker does.

Schema `paper`, beside the ledger and apart from it: transactions of its own, so that a crash between the broker and the ledger
is as real as with any broker. A call locks the account's row, works on what it loaded, writes what it changed and commits, so
two processes never interleave. Orders are kept as JSON by the domain's codec; executions are rows that only grow.
"""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from trading_pipeline.adapters.brokers.paper_book import Book, Execution, KnownSplit, PaperOrder, Progress
from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.database_errors import said
from trading_pipeline.adapters.ledger.statements import fetched, text_of
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.events import canonical_payload, instant_from, instant_text
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.errors import BrokerNotReady, LedgerUnavailable, OutcomeUnknown, StorageError

SCHEMA = "paper"
_metadata = sa.MetaData(schema=SCHEMA)
_instant = sa.DateTime(timezone=True)
_accounts = sa.Table(
    "accounts", _metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("cash", sa.Numeric, nullable=False),
    sa.Column("placed", sa.BigInteger, nullable=False),
    sa.Column("executed", sa.BigInteger, nullable=False),
    sa.Column("positions", sa.Text, nullable=False),
    sa.Column("progress", sa.Text, nullable=False),
    sa.Column("scales", sa.Text, nullable=False),
    sa.Column("splits", sa.Text, nullable=False, server_default="{}"),
)
_orders = sa.Table(
    "orders", _metadata,
    sa.Column("account", sa.Text, sa.ForeignKey(_accounts.c.account), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Index("orders_open", "account", postgresql_where=sa.text("open")),
    sa.Index("orders_named", "account", "client_id"),
)
_executions = sa.Table(
    "executions", _metadata,
    sa.Column("account", sa.Text, sa.ForeignKey(_accounts.c.account), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("execution_id", sa.Text, nullable=False, unique=True),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.Column("price", sa.Numeric, nullable=False),
    sa.Column("commission", sa.Numeric, nullable=False),
    sa.Column("at", _instant, nullable=False),
    sa.Column("visible_at", _instant),
    sa.Index("executions_by_time", "account", "at", "number"),
)

_LOCK = f"{text_of(sa.select(_accounts))} WHERE account = %s FOR UPDATE"
_OPEN = f"SELECT content FROM {SCHEMA}.orders WHERE account = %(account)s AND (open OR client_id = ANY(%(named)s)) ORDER BY number"
_NEWEST = f"SELECT max(number) FROM {SCHEMA}.executions WHERE account = %(account)s AND symbol = ANY(%(traded)s) GROUP BY symbol"
_EXECUTIONS = text_of(sa.select(_executions))
_OF_EXECUTIONS = {"since": "at >= %(since)s", "hidden": "visible_at IS NOT NULL", "traded": f"number IN ({_NEWEST})"}

_PREPARED = (
    f"SELECT to_regclass('{SCHEMA}.executions') IS NOT NULL"
    f" AND has_table_privilege(:role, to_regclass('{SCHEMA}.executions'), 'INSERT')"
    f" AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('{SCHEMA}.accounts') AND attname = 'splits')"
)
"""The grant on executions is the last thing that preparing does."""


def prepare_paper_schema(owner: sa.Engine, app_role: str) -> None:
    """Create the schema and its tables unless they are there, and let the application's role use them; run as their owner.

    Raises:
        BrokerNotReady: The database does not answer or refuses.
    """
    quote = owner.dialect.identifier_preparer.quote
    role = quote(app_role)
    with _not_ready(), owner.connect() as connection:
        if connection.scalar(sa.text(_PREPARED), {"role": app_role}):
            return
    with _not_ready(), owner.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('trading_pipeline.paper'))"))
        connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        _metadata.create_all(connection)
        # Accounts made before a process had to know the splits of the one before it.
        connection.execute(sa.text(f"ALTER TABLE {SCHEMA}.accounts ADD COLUMN IF NOT EXISTS splits text NOT NULL DEFAULT '{{}}'"))
        connection.execute(sa.text(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}"))
        connection.execute(sa.text(f"GRANT SELECT, INSERT, UPDATE ON {SCHEMA}.accounts, {SCHEMA}.orders TO {role}"))
        connection.execute(sa.text(f"GRANT SELECT, INSERT ON {SCHEMA}.executions TO {role}"))


class PostgresBook:
    """A `PaperBook` in a prepared database; several processes may share it."""

    def __init__(self, engine: sa.Engine, account: str, cash: Decimal) -> None:
        """Use an engine of the application's role; the account is opened with `cash` by the first call that finds it absent."""
        self._engine = engine
        self.account = account
        self._cash = cash

    @classmethod
    def open(cls, url: sa.URL | str, account: str, cash: Decimal, *, revive: Callable[[], object] | None = None) -> "PostgresBook":
        """On the URL of the application's role; `revive` is called once when the server cannot be reached."""
        return cls(engine_for(url, revive), account, cash)

    def close(self) -> None:
        """Let go of connections."""
        self._engine.dispose()

    @contextmanager
    def change(
        self, *, named: Collection[str] = (), since: datetime | None = None, hidden: bool = False, traded: Collection[str] = (),
    ) -> Iterator[Book]:
        """The account with its row locked; see `PaperBook.change`."""
        with _not_ready():
            connection = self._engine.connect()
        try:
            with _not_ready():
                account = self._locked(connection)
                book = _load(connection, account, named, since, hidden, traded)
            before = _contents(book)
            executed = book.executed
            yield book
            with _not_ready():
                changed = self._store(connection, account, book, before, executed)
            if not changed:
                with _not_ready():
                    connection.rollback()
                return
            try:
                connection.commit()
            except sa.exc.SQLAlchemyError as error:
                raise OutcomeUnknown(
                    "The paper broker's database stopped answering at the commit.", rule="what is committed is known",
                    remedy="ask for the order; never send it again",
                ) from error
        finally:
            connection.close()

    def _locked(self, connection: sa.Connection) -> dict[str, Any]:
        connection.begin()
        found = fetched(connection, _LOCK, (self.account,))
        if not found:
            empty = dict.fromkeys(("positions", "progress", "scales", "splits"), "{}")
            opening = {"account": self.account, "cash": self._cash, "placed": 0, "executed": 0, **empty}
            connection.execute(insert(_accounts).values(opening).on_conflict_do_nothing())
            connection.commit()
            connection.begin()
            found = fetched(connection, _LOCK, (self.account,))
        return dict(zip(_accounts.c.keys(), found[0], strict=True))

    def _store(self, connection: sa.Connection, account: dict[str, Any], book: Book, before: dict[int, PaperOrder], executed: int) -> bool:
        orders = [
            {
                "account": book.account, "number": order.number, "client_id": order.ticket.client_id, "open": order.open,
                "content": canonical_payload(encode(order)),
            }
            for order in _all_orders(book)
            if before.get(order.number) != order
        ]
        if orders:
            statement = insert(_orders)
            updated = {"open": statement.excluded.open, "content": statement.excluded.content}
            connection.execute(statement.on_conflict_do_update(index_elements=["account", "number"], set_=updated), orders)
        fills = [_row(book.account, each) for each in book.executions if each.number > executed]
        if fills:
            connection.execute(sa.insert(_executions), fills)
        row = {
            "cash": book.cash, "placed": book.placed, "executed": book.executed, "positions": json.dumps(book.positions, sort_keys=True),
            "progress": canonical_payload({symbol: encode(progress) for symbol, progress in book.progress.items()}),
            "scales": canonical_payload(book.scales),
            "splits": canonical_payload(
                {symbol: {instant_text(at): encode(split) for at, split in known.items()} for symbol, known in book.splits.items()}
            ),
        }
        touched = any(account[name] != value for name, value in row.items())
        if touched:
            connection.execute(sa.update(_accounts).where(_accounts.c.account == book.account).values(row))
        return bool(orders or fills or touched)


def _load(
    connection: sa.Connection, account: dict[str, Any], named: Collection[str], since: datetime | None, hidden: bool,
    traded: Collection[str],
) -> Book:
    progress = {symbol: decode(Progress, text) for symbol, text in json.loads(account["progress"]).items()}
    scales = {symbol: instant_from(text) for symbol, text in json.loads(account["scales"]).items()}
    splits = {
        symbol: {instant_from(at): decode(KnownSplit, split) for at, split in known.items()}
        for symbol, known in json.loads(account["splits"]).items()
    }
    book = Book(
        account["account"], account["cash"], account["placed"], account["executed"], positions=json.loads(account["positions"]),
        progress=progress, scales=scales, splits=splits,
    )
    asked = {"account": book.account, "named": list(named), "since": since, "traded": list(traded)}
    for (content,) in fetched(connection, _OPEN, asked):
        book.add(copy(_decoded(content)))
    wanted = {"since": since is not None, "hidden": hidden, "traded": bool(traded)}
    if any(wanted.values()):
        either = " OR ".join(condition for name, condition in _OF_EXECUTIONS.items() if wanted[name])
        rows = fetched(connection, f"{_EXECUTIONS} WHERE account = %(account)s AND ({either}) ORDER BY at, number", asked)
        book.executions = [_execution(dict(zip(_executions.c.keys(), row, strict=True))) for row in rows]
    return book


def _all_orders(book: Book) -> Iterator[PaperOrder]:
    return (order for orders in book.named.values() for order in orders)


def _contents(book: Book) -> dict[int, PaperOrder]:
    """Copies to compare with: every value in an order is immutable."""
    return {order.number: copy(order) for order in _all_orders(book)}


@lru_cache(maxsize=4096)
def _decoded(content: str) -> PaperOrder:
    """An order as it is stored; never changed, only copied. Each of many cancels in a row loads the others as they were."""
    return decode(PaperOrder, json.loads(content))


def _row(account: str, execution: Execution) -> dict[str, Any]:
    fill = execution.fill
    return {
        "account": account, "number": execution.number, "execution_id": fill.execution_id, "client_id": fill.client_id,
        "symbol": fill.symbol, "side": fill.side.value, "quantity": fill.quantity, "price": fill.price,
        "commission": fill.commission, "at": fill.at, "visible_at": execution.visible_at,
    }


def _execution(row: dict[str, Any]) -> Execution:
    named = {name: row[name] for name in ("execution_id", "client_id", "symbol", "quantity", "price", "commission", "at")}
    return Execution(row["number"], Fill(**named, side=Side(row["side"])), row["visible_at"])


@contextmanager
def _not_ready() -> Iterator[None]:
    try:
        yield
    except (sa.exc.SQLAlchemyError, LedgerUnavailable, StorageError) as error:  # The last two: the server cannot be started again.
        raise BrokerNotReady(
            f"The paper broker's database answered: {said(error)}.", value=type(error).__name__,
            rule="the paper broker keeps its book in PostgreSQL", remedy="start the database (`trading doctor` says which) and try again",
        ) from error
