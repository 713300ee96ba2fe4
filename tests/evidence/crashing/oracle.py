"""What the broker holds against what the ledger says, by plain SQL over both: no code of the pipeline has a part in the judgement.

The paper broker's book commits in its own transactions, so it is the truth about what was really placed. Each finding is a
sentence in one of a few boxes; the boxes named in the result are those of issue 4. Asked when everything has been settled, a
difference is a difference for good.
"""

import json
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg2.extras
from sqlalchemy import URL

from tests.conftest import connect

DUPLICATED, LOST, ORPHANED, PHANTOM = "duplicated", "lost", "orphaned", "phantom"
DIFFERENT, NAKED = "different", "naked"
"""Positions or cash that are not the broker's; a holding under a stop of which no part works any more (C12)."""

_OF_BROKER = {
    "working": {"accepted", "partial", "cancel_pending"}, "held": {"accepted", "cancel_pending"}, "filled": {"filled"},
    "canceled": {"canceled"}, "expired": {"expired", "canceled"}, "rejected": {"rejected", "canceled"},
}
"""What the ledger may say of an order, by what the broker says of it."""
_KNOWN = "('order.submitted', 'order.adopted')"
_ON_THE_WAY = {"submitted", "unknown", "cancel_pending"}
_NEVER_THERE = {"intent", "denied", "rejected", "not_placed"}


@dataclass
class Findings:
    """Sentences by box."""

    boxes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def say(self, box: str, sentence: str) -> None:
        """Put a sentence in a box."""
        self.boxes[box].append(sentence)

    def count(self, box: str) -> int:
        """How many there are."""
        return len(self.boxes.get(box, ()))

    def summary(self) -> dict[str, int]:
        """How many in each box."""
        return {box: len(sentences) for box, sentences in self.boxes.items()}


@dataclass(frozen=True)
class Books:
    """Both sides as they stand."""

    placed: list[dict[str, Any]]
    """The broker's orders: client_id, status, filled, symbol, side, quantity."""
    executed: dict[str, tuple[Any, ...]]
    held: dict[str, int]
    cash: Decimal
    orders: dict[str, dict[str, Any]]
    fills: dict[str, tuple[Any, ...]]
    booked: dict[str, int]
    booked_cash: Decimal | None
    submitted: set[str]
    """Or adopted: named in the ledger before anything could be made of it."""
    latched: bool


def read(superuser: URL) -> Books:
    """Read broker and ledger as they are."""
    with closing(connect(superuser)) as connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:

        def rows(query: str) -> list[dict[str, Any]]:
            cursor.execute(query)
            return [dict(row) for row in cursor.fetchall()]

        contents = [json.loads(row["content"]) for row in rows("SELECT content FROM paper.orders ORDER BY number")]
        placed = [
            {
                "client_id": each["ticket"]["client_id"], "status": each["status"], "filled": each["filled"],
                "symbol": each["ticket"]["symbol"], "side": each["ticket"]["side"], "quantity": each["ticket"]["quantity"],
            }
            for each in contents
        ]
        fills = "SELECT execution_id, client_id, symbol, side, quantity, price, commission FROM {}"
        executed, booked_fills = (
            {row["execution_id"]: tuple(row.values()) for row in rows(fills.format(table))} for table in ("paper.executions", "fills")
        )
        accounts, cash = rows("SELECT cash, positions FROM paper.accounts"), rows("SELECT cash FROM cash")
        return Books(
            placed=placed, executed=executed, held=json.loads(accounts[0]["positions"]) if accounts else {},
            cash=accounts[0]["cash"] if accounts else Decimal(0), orders={row["client_id"]: row for row in rows("SELECT * FROM orders")},
            fills=booked_fills,
            booked={
                row["symbol"]: int(row["many"])
                for row in rows("SELECT symbol, sum(quantity) AS many FROM positions GROUP BY symbol HAVING sum(quantity) <> 0")
            },
            booked_cash=cash[0]["cash"] if cash else None,
            submitted={
                row["client_id"]
                for row in rows(f"SELECT (payload::json)->>'client_id' AS client_id FROM events WHERE type IN {_KNOWN}")
            },
            latched=bool(rows("SELECT FROM latches WHERE state = 'latched'")),
        )


def compare(books: Books, *, restored: bool = False) -> Findings:
    """Every difference there is.

    Args:
        restored: The ledger is older than the broker's book: of orders that had ended before it was put back it need only have
            the executions; one without any may be denied there, as all is that is asked of a latched account.
    """
    found = Findings()
    times = Counter(each["client_id"] for each in books.placed)
    over = {each["client_id"]: each["filled"] for each in books.placed if each["status"] not in ("working", "held")}
    never_sent = {name for name, row in books.orders.items() if row["state"] == "denied" and not over.get(name)}
    excused = {name for name in over if restored and (name not in books.orders or name in never_sent)}
    for name, many in times.items():
        if many > 1:
            found.say(DUPLICATED, f"{name} stands {many} times at the broker")
        if name not in books.submitted and name not in excused:
            found.say(ORPHANED, f"{name} is at the broker, and no submission of it was committed")
    for each in books.placed:
        row = books.orders.get(each["client_id"])
        if each["client_id"] in excused:
            continue
        if row is None or row["state"] in _NEVER_THERE:
            found.say(LOST, f"{each['client_id']} is {each['status']} at the broker; the ledger: {row['state'] if row else 'nothing'}")
        elif row["state"] not in _OF_BROKER[each["status"]] or row["filled_quantity"] != each["filled"]:
            box = PHANTOM if row["state"] in ("accepted", "partial", "filled") or row["filled_quantity"] > each["filled"] else LOST
            ours = f"{row['state']} with {row['filled_quantity']}"
            found.say(box, f"{each['client_id']} is {each['status']} with {each['filled']} filled at the broker; the ledger: {ours}")
    for name, row in books.orders.items():
        if name not in times and row["state"] not in _NEVER_THERE | _ON_THE_WAY | {"canceled"}:
            found.say(PHANTOM, f"{name} is {row['state']} in the ledger and unknown to the broker")
    for number, fill in books.executed.items():
        if books.fills.get(number) != fill:
            found.say(LOST, f"the execution {fill} is booked as {books.fills.get(number)}")
    for number in books.fills.keys() - books.executed.keys():
        found.say(PHANTOM, f"the fill {books.fills[number]} is booked and was never executed")
    if books.booked != books.held:
        found.say(DIFFERENT, f"booked {books.booked}, held {books.held}")
    if books.booked_cash is not None and books.booked_cash != books.cash:
        found.say(DIFFERENT, f"booked ${books.booked_cash}, the broker has ${books.cash}")
    for symbol, held in sorted(books.held.items()):
        protected = _protected(books, symbol)
        # What a restored ledger adopts is nobody's to protect: the account is latched until a person has looked.
        if held < 0 or (not restored and protected < held):
            found.say(NAKED, f"of {held} shares of {symbol} at the broker, working exits cover {protected}")
    return found


def _protected(books: Books, symbol: str) -> int:
    """Shares that exits at work in the ledger's view would sell, one of each pair."""
    groups: dict[str, int] = {}
    for row in books.orders.values():
        if row["symbol"] == symbol and row["side"] == "sell" and row["state"] in ("accepted", "partial"):
            rest = row["quantity"] - row["filled_quantity"]
            parent = books.orders.get(row["parent"] or "")
            if parent is not None and parent["state"] != "filled":
                rest = min(rest, parent["filled_quantity"])
            name = row["oco"] or row["client_id"]
            groups[name] = max(groups.get(name, 0), rest)
    return sum(groups.values())
