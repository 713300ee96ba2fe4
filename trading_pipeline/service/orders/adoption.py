"""What happens in the account without us, and what we once did and no longer know (invariants 20, 28, C14, fault 20).

An execution that no order of ours explains is booked under the name EXTERNAL: counted in every exposure, never traded against. An
order or execution under a name of ours that the ledger never wrote means that the ledger is older than the account: it was restored
from before; the order is adopted and the account latched until a person has looked. An execution that the broker restates is
corrected, the position folded anew from every fill.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import OrderClass, OrderState, Side
from trading_pipeline.domain.portfolio import EXTERNAL, Fill, Position
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import StorageError
from trading_pipeline.ports import BrokerOrder, Fence, Reader, Stop, Transaction
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping.presses import standing

_OURS = re.compile(r"[A-Z2-7]{20}")
"""A client id as `domain.orders.client_id` makes it."""


def is_ours(client_id: str) -> bool:
    """Whether a name at the broker is of our making."""
    return _OURS.fullmatch(client_id) is not None


def fill_payload(desk: Desk, client_id: str, strategy: str, fill: Fill) -> dict[str, Any]:
    """What every booking of an execution says."""
    session = desk.calendar.last_opened(fill.at)
    return {
        "execution_id": fill.execution_id, "client_id": client_id, "strategy": strategy, "account": desk.broker.account_id,
        "symbol": fill.symbol, "side": fill.side.value, "quantity": fill.quantity, "price": fill.price, "commission": fill.commission,
        "filled_at": fill.at, "session": session.day if session else fill.at.date(),
    }


def since_funding(desk: Desk, reader: Reader, fill: Fill) -> bool:
    """Whether an execution came after the account's book began: what came before is in its opening balance."""
    funded = reader.event_by_key(f"account.funded:{desk.broker.account_id}")
    if funded is None or fill.at < funded.at:
        return False
    return fill.at > funded.at or fill.execution_id not in funded.payload.get("executed", ())


MOST_SHARES, MOST_PRICE, MOST_NAME = 10**9, Decimal(10) ** 7, 150
AHEAD = timedelta(days=1)
"""So much later than now an execution may be stamped; after one from a distant future nothing before it would be asked for any more."""


def flaws(desk: Desk, executions: Sequence[tuple[str, Fill]]) -> list[str]:
    """Why each of these cannot be booked as the broker tells it (invariant 18), in words; empty where it can."""
    found = [_malformed(client_id, fill) or _from_another_time(desk, fill) for client_id, fill in executions]
    sound = [each for each, why in zip(executions, found, strict=True) if not why]
    booked = {row["execution_id"]: row for row in desk.ledger.find("fills", execution_id=[fill.execution_id for _, fill in sound])}
    orders = {row["client_id"]: row for row in desk.ledger.find("orders", client_id=[client_id for client_id, _ in sound])}
    first: dict[str, Row] = {}
    for client_id, fill in sound:
        first.setdefault(fill.execution_id, {"client_id": client_id, "symbol": fill.symbol})
    return [
        why or _contradicts(client_id, fill, booked.get(fill.execution_id), orders.get(client_id)) or _is_anothers(client_id, fill, first)
        for (client_id, fill), why in zip(executions, found, strict=True)
    ]


def _malformed(client_id: str, fill: Fill) -> str:
    if not (_is_name(fill.execution_id) and _is_name(client_id) and _is_name(fill.symbol)):
        return "a name that cannot be written down"
    if type(fill.quantity) is not int or not 0 < fill.quantity <= MOST_SHARES:
        return f"a quantity of {str(fill.quantity)[:40]}"
    amounts: tuple[object, ...] = (fill.price, fill.commission)
    if not all(isinstance(amount, Decimal) for amount in amounts):
        return "a price that is no exact number"
    if not fill.price.is_finite() or not 0 < fill.price < MOST_PRICE:
        return f"a price of {str(fill.price)[:40]}"
    if not fill.commission.is_finite() or abs(fill.commission) >= MOST_PRICE:
        return f"a commission of {str(fill.commission)[:40]}"
    return "" if fill.at.tzinfo is not None else "an instant without a time zone"


def _from_another_time(desk: Desk, fill: Fill) -> str:
    return "" if desk.calendar.first.open <= fill.at <= desk.now() + AHEAD else f"an instant of {fill.at:%Y-%m-%d %H:%M:%S}"


def _contradicts(client_id: str, fill: Fill, booked: Row | None, order: Row | None) -> str:
    """An id is one execution's, and an order's executions are of its symbol and side."""
    if booked is not None:
        return _is_anothers(client_id, fill, {fill.execution_id: booked})
    if order is None or (order["symbol"], order["side"]) == (fill.symbol, fill.side.value):
        return ""
    return f"{fill.side.value} {fill.symbol}, and the order is to {order['side']} {order['symbol']}"


def _is_anothers(client_id: str, fill: Fill, known: Mapping[str, Row]) -> str:
    owner = known[fill.execution_id]
    same = (owner["client_id"], owner["symbol"]) == (client_id, fill.symbol)
    return "" if same else f"the id of an execution of {owner['symbol']} by {owner['client_id']}"


def refusal_key(fill: Fill) -> str:
    """Of the fact that an execution was refused: whatever its id is made of."""
    told = repr((fill.execution_id, fill.quantity, fill.price, fill.commission))
    return f"execution.refused:{hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()[:24]}"


def believed(desk: Desk, executions: Sequence[tuple[str, Fill]], tally: Tally) -> list[tuple[str, Fill]]:
    """Those that can be booked. What cannot is written down, once each; an order of ours is set aside, and everything else goes on."""
    found = flaws(desk, executions)
    for (client_id, fill), why in zip(executions, found, strict=True):
        if not why or desk.ledger.event_by_key(refusal_key(fill)) is not None:
            continue
        shown = {"execution_id": ascii(fill.execution_id)[:MOST_NAME], "client_id": ascii(client_id)[:MOST_NAME], "reason": why}
        actor = f"broker:{desk.broker.name}"
        with desk.ledger.transaction() as tx:
            tally.saw(tx.append(NewEvent(EventType.EXECUTION_REFUSED, "account", refusal_key(fill), shown, desk.now(), actor)))
            row = tx.get("orders", client_id) if _is_name(client_id) else None
            if row is not None and row["state"] != OrderState.QUARANTINED.value:
                named = {name: row[name] for name in ("client_id", "action_id", "strategy", "symbol")} | {"reason": f"executed with {why}"}
                key, stream = f"order.quarantined:{refusal_key(fill)}", f"strategy:{row['strategy']}"
                tally.saw(tx.append(NewEvent(EventType.ORDER_QUARANTINED, stream, key, named, desk.now(), actor, row["last_seq"])))
        tally.notes.append(f"an execution is refused: {why}")
    return [each for each, why in zip(executions, found, strict=True) if not why]


def _is_name(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MOST_NAME and text.isprintable()


def adopt_fill(desk: Desk, tx: Transaction, client_id: str, fill: Fill, tally: Tally) -> None:
    """Book an execution that no order in the ledger explains."""
    if not since_funding(desk, tx, fill):
        return
    actor = f"broker:{desk.broker.name}"
    payload = fill_payload(desk, client_id, EXTERNAL, fill)
    tally.saw(tx.append(NewEvent(EventType.EXTERNAL_FILLED, "account", f"fill:{fill.execution_id}", payload, desk.now(), actor)))
    tally.count("external")
    tally.notes.append(f"execution {fill.execution_id} of {fill.symbol} belongs to no order of ours")
    if is_ours(client_id):
        latch(desk, tx, f"execution {fill.execution_id} of {client_id}, an order with a name of ours that this ledger never wrote", tally)


NEVER_SENT = (OrderState.INTENT.value, OrderState.DENIED.value)
"""Of an order that this ledger says it never sent, the broker can know only if the ledger is older than the account."""


def adopt_orders(desk: Desk, tally: Tally) -> None:
    """Take over orders under names of ours that this ledger never sent, and latch the account; with the submitter's lease."""
    unsent = [row["client_id"] for row in desk.ledger.find("orders", state=OrderState.INTENT.value)]
    stated = [*desk.broker.orders(), *(desk.broker.orders(unsent) if unsent else [])]
    for order in {order.client_id: order for order in stated if is_ours(order.client_id)}.values():
        row = desk.ledger.get("orders", order.client_id)
        if row is None or row["state"] in NEVER_SENT:
            rest = since_the_book_began(desk, order)
            with desk.ledger.transaction() as tx:
                adopt(desk, tx, order.client_id, rest, tally)


def known_to_broker(desk: Desk, fence: Fence, client_ids: Sequence[str], tally: Tally) -> str:
    """A name among those that are about to be meant for the first time which the broker has had, ended unfilled perhaps; else empty.

    What it has is taken over, and the account latched. A broker that takes a name once is not asked: it would refuse the second.

    Raises:
        BrokerNotReady: Nobody can look, so nothing is to be sent.
        Fenced: The submitter's lease has passed on: whoever has it may have sent these.
    """
    if desk.broker.capabilities.deduplicates:
        return ""
    known = desk.broker.orders(client_ids)
    for order in known:
        rest = since_the_book_began(desk, order)
        with desk.ledger.transaction() as tx:
            tx.require(fence)
            adopt(desk, tx, order.client_id, rest, tally)
    return known[0].client_id if known else ""


def since_the_book_began(desk: Desk, order: BrokerOrder) -> BrokerOrder:
    """An order without what it filled before: that is in the opening balance."""
    if not order.filled_quantity:
        return order
    told = desk.broker.executions(desk.calendar.first.open)
    # Each counts once, however often it is told, and one that cannot be booked for nothing.
    own = list({fill.execution_id: (name, fill) for name, fill in told if name == order.client_id}.values())
    sound = (fill for (_, fill), why in zip(own, flaws(desk, own), strict=True) if not why)
    before = sum(fill.quantity for fill in sound if not since_funding(desk, desk.ledger, fill))
    return replace(order, ticket=replace(order.ticket, quantity=order.ticket.quantity - before))


def adopt(desk: Desk, tx: Transaction, client_id: str, order: BrokerOrder | None, tally: Tally) -> None:
    """Take one over, as the broker states it or as the ledger meant it, and latch the account."""
    row = tx.get("orders", client_id)
    if row is not None and row["state"] not in NEVER_SENT:
        return
    payload = _as_stated(desk, order) if order is not None else _as_meant(row)
    if payload is not None and tx.get("cash", desk.broker.account_id) is None:
        # Nothing can be booked before the book has begun: it is taken over once it has.
        latch(desk, tx, f"the broker has the order {client_id} of {payload['symbol']}, which this ledger never sent", tally)
        return
    if payload is not None:
        key, actor = f"order.adopted:{client_id}", f"broker:{desk.broker.name}"
        tally.saw(tx.append(NewEvent(EventType.ORDER_ADOPTED, "account", key, payload, desk.now(), actor)))
        latch(desk, tx, f"the broker has the order {client_id} of {payload['symbol']}, which this ledger never sent", tally)
        tally.count("adopted")


def latch(desk: Desk, tx: Transaction, reason: str, tally: Tally) -> None:
    """Stop the account until a person has looked: the file first, then the fact; also under a person's stop, so that who clears it sees."""
    hold = Stop(None, reason, RECOVERY, desk.now())
    with suppress(StorageError):
        # On a disk that takes no file the fact holds the account, and recovery makes the file good.
        desk.latch.stop(hold)
    account = desk.broker.account_id
    if all(fact.actor != RECOVERY for fact in standing(desk, tx)):
        key = f"account.latched:{account}:{tx.head()[0]}"
        payload = {"account": account, "reason": hold.reason, "pressed_at": hold.at}
        tally.saw(tx.append(NewEvent(EventType.ACCOUNT_LATCHED, "account", key, payload, desk.now(), RECOVERY)))
    tally.notes.append(f"the account is latched: {reason}")


def is_restated(reader: Reader, row: Row, fill: Fill) -> bool:
    """Whether the broker states a booked execution otherwise, and that is not written down yet."""
    if (row["quantity"], row["side"]) != (fill.quantity, fill.side.value):
        order = reader.get("orders", row["client_id"])
        return order is not None and bool(order["state"] != OrderState.QUARANTINED.value)
    return bool((row["price"], row["commission"]) != (fill.price, fill.commission))


def correct(desk: Desk, tx: Transaction, stored: Event, fill: Fill, tally: Tally) -> None:
    """Take over what the broker restates of an execution that is booked; a restated quantity or side quarantines its order."""
    row = tx.get("fills", fill.execution_id)
    if row is None or not is_restated(tx, row, fill):
        return
    actor = f"broker:{desk.broker.name}"
    if (row["quantity"], row["side"]) != (fill.quantity, fill.side.value):
        order = tx.get("orders", row["client_id"])
        reason = f"execution {fill.execution_id} was {row['side']} {row['quantity']} and is stated as {fill.side.value} {fill.quantity}"
        assert order is not None
        named = {name: order[name] for name in ("client_id", "action_id", "strategy", "symbol")}
        stream, payload = f"strategy:{order['strategy']}", named | {"reason": reason}
        key = f"order.quarantined:{fill.execution_id}:{row['seq']}"
        tally.saw(tx.append(NewEvent(EventType.ORDER_QUARANTINED, stream, key, payload, desk.now(), actor, stored.seq)))
        tally.notes.append(reason)
        return
    position = refolded(tx, row, fill)
    key = f"fill.corrected:{fill.execution_id}:{tx.head()[0]}"
    payload = fill_payload(desk, row["client_id"], row["strategy"], fill) | {
        "price_before": row["price"], "commission_before": row["commission"], "cost": position.cost, "realised": position.realised,
    }
    tally.saw(tx.append(NewEvent(EventType.FILL_CORRECTED, "account", key, payload, desk.now(), actor, stored.seq)))
    tally.count("corrected")
    tally.notes.append(f"execution {fill.execution_id} of {fill.symbol} was restated from {row['price']} to {fill.price}")


def refolded(reader: Reader, row: Row, fill: Fill) -> Position:
    """The position of a booked fill as it would be, had the execution been stated so from the beginning."""
    rows = reader.find("fills", strategy=row["strategy"], symbol=row["symbol"], order_by="seq")
    splits = [
        (event.seq, event.payload) for event in reader.events(types=(EventType.CORPORATE_ACTION_SPLIT,))
        if event.payload["symbol"] == row["symbol"]
    ]
    position = Position(row["strategy"], row["symbol"])
    for each in rows:
        while splits and splits[0][0] < each["seq"]:
            position = _split(position, splits.pop(0)[1])
        price, commission = each["price"], each["commission"]
        if each["execution_id"] == fill.execution_id:
            price, commission = fill.price, fill.commission
        booked = each["execution_id"], each["client_id"], each["symbol"], Side(each["side"]), each["quantity"]
        position = position.after(Fill(*booked, price, commission, each["at"]))
    for _, data in splits:
        position = _split(position, data)
    return position


def _split(position: Position, data: Any) -> Position:
    for part in data["positions"]:
        if part["strategy"] == position.strategy:
            return position.after_split(Decimal(data["ratio"]), part["quantity"], Decimal(part["in_lieu"]))
    return position


def _as_stated(desk: Desk, order: BrokerOrder) -> dict[str, Any]:
    ticket = order.ticket
    order_class = OrderClass.ENTRY if ticket.side is Side.BUY else OrderClass.PROTECTIVE
    return {
        "client_id": order.client_id, "broker_order_id": order.broker_order_id, "account": desk.broker.account_id, "symbol": ticket.symbol,
        "side": ticket.side.value, "order_class": order_class.value, "order_type": ticket.order_type.value,
        "time_in_force": ticket.time_in_force.value, "quantity": ticket.quantity,
        "reference": ticket.limit_price or ticket.stop_price or ZERO, "limit_price": ticket.limit_price, "stop_price": ticket.stop_price,
        "session": desk.today(), "strategy": EXTERNAL, "oco": ticket.oco,
    }


def _as_meant(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    names = (
        "client_id", "broker_order_id", "account", "symbol", "side", "order_class", "order_type", "time_in_force", "quantity", "reference",
        "limit_price", "stop_price", "session", "strategy",
    )
    return {name: row[name] for name in names}
