"""Ending a quarantine: a person has compared the account with the ledger and says that an order is over (INVARIANTS 3.2).

What an order that nobody understood did to positions stays booked as it is; only its symbol is free again. It is refused while the
broker shows the order at work, or while book and broker disagree about the symbol: then there is something left to understand.
"""

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.orders import RELEASES, OrderState
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import Conflict, PermissionRequired, UnknownName
from trading_pipeline.ports import BrokerStatus, Reader
from trading_pipeline.service.accounting import mismatches
from trading_pipeline.service.desk import Desk, is_person
from trading_pipeline.service.orders.order_facts import again, order_event


def find(reader: Reader, client_id: str) -> Row:
    """The order with this id, or the only one whose id begins so; UnknownName otherwise."""
    wanted = client_id.strip().upper()
    exact = reader.get("orders", wanted)
    found = [exact] if exact is not None else [row for row in reader.find("orders") if wanted and row["client_id"].startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise UnknownName(
        f"{len(found) or 'No'} order{'s begin' if found else ' begins'} with {client_id!r}.", value=client_id,
        rule="an order is named by its id or a beginning that only it has", remedy="list them with `trading orders --all`",
    )


def release(desk: Desk, client_id: str, *, actor: str, typed: str) -> Event:
    """Free the symbol of an order that was set aside, or that has stayed in doubt.

    Args:
        client_id: Its id, or a beginning of it.
        actor: The person.
        typed: The symbol, as they typed it at a terminal.

    Raises:
        UnknownName: There is no such order.
        PermissionRequired: No person, or the symbol was not typed.
        Conflict: There is nothing to release, or not yet.
    """
    row = find(desk.ledger, client_id)
    if not is_person(actor) or typed != row["symbol"]:
        raise PermissionRequired(
            f"Nobody at a terminal confirms that {row['client_id']} is over.", value=typed,
            rule=f"a person releases {row['symbol']} by typing it", remedy="run `trading orders release ID` at a terminal",
        )
    _require_a_persons(row)
    until = row["submitted_at"] + desk.broker.capabilities.visibility if row["submitted_at"] is not None else desk.now()
    if row["state"] == OrderState.UNKNOWN.value and desk.now() < until:
        raise Conflict(
            f"The order {row['client_id']} may still appear, until {until:%H:%M:%S} UTC.", value=row["client_id"],
            rule="an order in doubt is over once the broker would show it", remedy="wait, and look again",
        )
    working = [each for each in desk.broker.orders([row["client_id"]]) if each.status in (BrokerStatus.WORKING, BrokerStatus.HELD)]
    differs = mismatches(desk)
    why = "it works at the broker still" if working else differs.get(row["symbol"]) or differs.get("*")
    if why:
        raise Conflict(
            f"The order {row['client_id']} of {row['symbol']} cannot be released: {why}.", value=row["client_id"],
            rule="book and broker agree, and nothing of it works, before a symbol trades again", remedy="settle that first",
        )
    with desk.ledger.transaction() as tx:
        current = tx.get("orders", row["client_id"])
        assert current is not None
        # The desk may have found it at work since it was looked at.
        _require_a_persons(current)
        reason = {"reason": f"released by {actor}, was {current['state']}"}
        # It may have been released, and set aside again, before.
        [event] = tx.append(again(tx, order_event(EventType.ORDER_RELEASED, current, reason, desk.now(), actor)))
        after = tx.get("orders", row["client_id"])
        assert after is not None and after["state"] == OrderState.CANCELED.value
    return event


def _require_a_persons(row: Row) -> None:
    if not RELEASES[OrderState(row["state"])]:
        raise Conflict(
            f"The order {row['client_id']} is {row['state']}.", value=row["state"], rule="what was set aside or is in doubt is released",
            remedy="look at it with `trading why`",
        )
