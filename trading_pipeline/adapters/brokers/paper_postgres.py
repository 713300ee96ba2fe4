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

    def _locked(self, connection: sa.Connection) -> sa.Row[Any]:
        query = sa.select(_accounts).where(_accounts.c.account == self.account).with_for_update()
        found = connection.execute(query).one_or_none()
        if found is None:
            empty = dict.fromkeys(("positions", "progress", "scales", "splits"), "{}")
            opening = {"account": self.account, "cash": self._cash, "placed": 0, "executed": 0, **empty}
            connection.execute(insert(_accounts).values(opening).on_conflict_do_nothing())
            connection.commit()
            found = connection.execute(query).one()
        return found

    def _store(self, connection: sa.Connection, account: sa.Row[Any], book: Book, before: dict[int, PaperOrder], executed: int) -> bool:
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
        touched = any(getattr(account, name) != value for name, value in row.items())
        if touched:
            connection.execute(sa.update(_accounts).where(_accounts.c.account == book.account).values(row))
        return bool(orders or fills or touched)


def _load(
    connection: sa.Connection, account: sa.Row[Any], named: Collection[str], since: datetime | None, hidden: bool, traded: Collection[str],
) -> Book:
    progress = {symbol: decode(Progress, text) for symbol, text in json.loads(account.progress).items()}
    scales = {symbol: instant_from(text) for symbol, text in json.loads(account.scales).items()}
    splits = {
        symbol: {instant_from(at): decode(KnownSplit, split) for at, split in known.items()}
        for symbol, known in json.loads(account.splits).items()
    }
    positions = json.loads(account.positions)
    book = Book(
        account.account, account.cash, account.placed, account.executed, positions=positions, progress=progress, scales=scales,
        splits=splits,
    )
    wanted = sa.or_(_orders.c.open, _orders.c.client_id.in_(list(named))) if named else _orders.c.open
    query = sa.select(_orders.c.content).where(_orders.c.account == account.account, wanted).order_by(_orders.c.number)
    for (content,) in connection.execute(query):
        book.add(copy(_decoded(content)))
    wanted_executions = []
    if since is not None:
        wanted_executions.append(_executions.c.at >= since)
    if hidden:
        wanted_executions.append(_executions.c.visible_at.is_not(None))
    if traded:
        of_them = _executions.c.account == account.account, _executions.c.symbol.in_(list(traded))
        newest = sa.select(sa.func.max(_executions.c.number)).where(*of_them).group_by(_executions.c.symbol)
        wanted_executions.append(_executions.c.number.in_(newest))
    if wanted_executions:
        rows = connection.execute(
            sa.select(_executions)
            .where(_executions.c.account == account.account, sa.or_(*wanted_executions))
            .order_by(_executions.c.at, _executions.c.number)
        )
        book.executions = [_execution(row) for row in rows]
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


def _execution(row: sa.Row[Any]) -> Execution:
    fill = Fill(row.execution_id, row.client_id, row.symbol, Side(row.side), row.quantity, row.price, row.commission, row.at)
    return Execution(row.number, fill, row.visible_at)


@contextmanager
def _not_ready() -> Iterator[None]:
    try:
        yield
    except (sa.exc.SQLAlchemyError, LedgerUnavailable, StorageError) as error:  # The last two: the server cannot be started again.
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        raise BrokerNotReady(
            f"The paper broker's database answered: {text}.", value=type(error).__name__,
            rule="the paper broker keeps its book in PostgreSQL", remedy="start the database (`trading doctor` says which) and try again",
        ) from error
