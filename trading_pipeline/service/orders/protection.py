"""What protects a position, placed again when it is gone (F6, C12).

An entry takes its stops and targets to the broker with it. They can end while the position goes on: cancelled for an exit that
filled in part, was refused or never went out, dropped by the broker, or lost with a crash in between. Whoever holds the submitter's
lease then places what the entry's record says, as protective orders of their own, before anything else is sent. A position whose
strategy asked for no stop is nobody's business here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from math import prod
from typing import Any

from trading_pipeline.domain.approvals import RELEASABLE
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import WORKING, OrderClass, OrderIntent, OrderState, OrderType, Side
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.sizing import split_exit
from trading_pipeline.domain.split_holdings import restated_price
from trading_pipeline.errors import BrokerNotReady, MarketDataError
from trading_pipeline.ports import Fence, Reader
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.coverage import booked_splits, scale_of
from trading_pipeline.service.orders.absence import ACCEPTED
from trading_pipeline.service.orders.adoption import known_to_broker
from trading_pipeline.service.orders.gaps import PATIENCE, TOLD_AFTER, Gap, Shortage, doubts, gaps, is_refused, shortages
from trading_pipeline.service.orders.gate import denial_ahead, gate_and_submit, intents_of, protective_intent
from trading_pipeline.service.orders.order_facts import taken, wording
from trading_pipeline.service.orders.oversized import call_back, oversized
from trading_pipeline.service.orders.settlement import cancel, settle, settled_mismatches
from trading_pipeline.service.steps import Tally

_WORKS = tuple(state.value for state in WORKING)
_LOST = (OrderState.CANCELED.value, OrderState.REJECTED.value, OrderState.EXPIRED.value)
_DOUBTFUL = "in doubt"


def is_exposed(desk: Desk) -> bool:
    """Whether `protect` has anything to do."""
    short = (each for each in shortages(desk.ledger) if desk.ledger.event_by_key(_shortage_key(each)) is None)
    doubted = (gap for gap in doubts(desk.ledger, desk.now() - TOLD_AFTER) if not _was_told(desk, gap, [_DOUBTFUL]))
    work = gaps(desk.ledger) or oversized(desk) or _broken(desk.ledger) or _exits_in_its_place(desk)
    return bool(work or next(short, None) or next(doubted, None))


def _exits_in_its_place(desk: Desk) -> list[Row]:
    """Exits that have worked for a while on a position whose stops were cancelled for them."""
    exits = desk.ledger.find("orders", order_class=OrderClass.EXIT.value, state=ACCEPTED)
    waiting = [row for row in exits if desk.now() >= row["submitted_at"] + PATIENCE]
    return [
        row for row in waiting
        if desk.ledger.find("orders", strategy=row["strategy"], symbol=row["symbol"], order_type=OrderType.STOP.value, state=_LOST, limit=1)
    ]


def _is_left_behind(desk: Desk, row: Row) -> bool:
    try:
        quote = desk.market.quotes([row["symbol"]], desk.now()).get(row["symbol"])
    except MarketDataError:
        # It stays as it is, and what else is naked is looked after.
        return False
    return quote is not None and row["limit_price"] is not None and bool(quote.last < row["limit_price"])


def protect(desk: Desk, fence: Fence, tally: Tally) -> None:
    """Place again what is missing; what cannot be placed is a fact that asks for a person.

    The rest of an entry whose bracket has broken while it was filling is cancelled first: which of its shares the brackets that are
    left stand for, only its end can tell.
    """
    broken = _broken(desk.ledger)
    if broken:
        cancel(desk, broken, "its stop is gone while it is filling", "desk", tally)
    idle = [row for row in _exits_in_its_place(desk) if _is_left_behind(desk, row)]
    if idle:
        cancel(desk, idle, "the market has left its limit behind, and it stands in the place of a stop", "desk", tally)
    if not (gaps(desk.ledger) or oversized(desk)):
        _tell_what_stays(desk, tally)
        return
    # Whatever has filled or ended since is booked before anything is worked out of it.
    settle(desk, tally)
    mismatched = settled_mismatches(desk, tally)
    call_back(desk, mismatched, tally)
    tried: set[tuple[str, str, str]] = set()
    while (gap := next((each for each in gaps(desk.ledger) if each.place not in tried), None)) is not None:
        tried.add(gap.place)
        _close(desk, fence, gap, mismatched, tally)
    _tell_what_stays(desk, tally)


def tell_unprotected(desk: Desk, why: str, tally: Tally) -> None:
    """Say of everything that has no stop now that it has none, once each; places nothing and needs no lease."""
    for gap in gaps(desk.ledger):
        _alarm(desk, gap, ["closed"], why, tally)
    _tell_what_stays(desk, tally)


def _close(desk: Desk, fence: Fence, gap: Gap, mismatched: Mapping[str, str], tally: Tally) -> None:
    gone = desk.now() - gap.stop["updated_at"]
    if is_refused(gap.stop, gap.generation) and gone < PATIENCE:
        _alarm(desk, gap, [wording(gap.stop["reason"])], f"the broker {gap.stop['state']} its stop: {gap.stop['reason']}", tally)
        return
    if _gives_way(desk, gap):
        if gone > TOLD_AFTER:
            _alarm(desk, gap, ["exit"], "its stop was cancelled for an exit that has not gone out yet", tally)
        return
    if gap.alone:
        # A target whose stop is gone: both are placed again as a pair, once it is confirmed to be over.
        if any(row["state"] == OrderState.CANCEL_PENDING.value and desk.now() > row["updated_at"] + TOLD_AFTER for row in gap.alone):
            _alarm(desk, gap, ["target"], "its stop is gone, and the broker has not confirmed the cancel of its target", tally)
        cancel(desk, gap.alone, "its stop is gone: both are placed again", "desk", tally)
        return
    orders, skipped = _placing(desk, desk.ledger, gap)
    if working := skipped and desk.ledger.find("orders", client_id=skipped, state=_WORKS, limit=1):
        _alarm(desk, gap, ["taken over"], f"the order {working[0]['client_id']} of its name was taken over from the broker", tally)
        return
    try:
        denied = why = denial_ahead(desk, orders[0], mismatched)
    except MarketDataError as unpriced:
        denied, why = "unpriced", unpriced.message
    if denied:
        _alarm(desk, gap, denied.split(", "), why, tally)
        return
    try:
        if _had_before(desk, fence, gap, tally):
            return
    except BrokerNotReady as unready:
        _alarm(desk, gap, ["unasked"], unready.message, tally)
        return
    # Both in one commit: a crash in between leaves an intent, which whoever comes next gates.
    with desk.ledger.transaction() as tx:
        for order in orders:
            tally.saw(tx.append(*intents_of(order, "protection", desk.today(), desk.now(), gap.since_seq)))
    for order in orders:
        sent = gate_and_submit(desk, fence, order, tally)
        row = desk.ledger.get("orders", order.client_id)
        if order is orders[0] and (not sent or row is None or row["state"] == OrderState.REJECTED.value):
            said = "" if row is None else row["reason"]
            _alarm(desk, gap, [wording(said)], f"the broker or the gate did not take the stop: {said}", tally)
        elif sent:
            tally.count("protected")


def _had_before(desk: Desk, fence: Fence, gap: Gap, tally: Tally) -> bool:
    """Whether the broker has had an order of the next name: then all of this name's kind that it has had are taken over (C14)."""
    had = False
    while known_to_broker(desk, fence, [order.client_id for order in orders_for(desk, desk.ledger, gap)], tally):
        had = True
    return had


def _gives_way(desk: Desk, gap: Gap) -> bool:
    """Whether it was cancelled a moment ago for an exit that is still to go: a stop in its place would keep the exit waiting."""
    if gap.stop["before_cancel"] is None or desk.now() >= gap.stop["updated_at"] + PATIENCE:
        return False
    sale: dict[str, Any] = {"strategy": gap.strategy, "symbol": gap.symbol, "side": Side.SELL.value}
    ready = desk.ledger.find("actions", state=RELEASABLE, **sale)
    meant = desk.ledger.find("orders", state=OrderState.INTENT.value, order_class=OrderClass.EXIT.value, limit=1, **sale)
    return bool(meant) or any(row["not_before"] is not None and row["not_before"] <= desk.now() for row in ready)


def _broken(reader: Reader) -> list[Row]:
    """Entries that have bought something, are still at work, and have lost a stop."""
    # One that was in doubt meanwhile is accepted again, whatever it has filled.
    at_work = reader.find("orders", state=ACCEPTED, order_class=OrderClass.ENTRY.value)
    filling = [row for row in at_work if row["filled_quantity"]]
    if not filling:
        return []
    lost = reader.find("orders", parent=[row["client_id"] for row in filling], state=_LOST, order_type=OrderType.STOP.value)
    parents = {row["parent"] for row in lost}
    return [row for row in filling if row["client_id"] in parents]


def orders_for(desk: Desk, reader: Reader, gap: Gap) -> list[OrderIntent]:
    """The stop, and the target that it pairs with if it had one, under the first names that are free."""
    return _placing(desk, reader, gap)[0]


def _placing(desk: Desk, reader: Reader, gap: Gap) -> tuple[list[OrderIntent], list[str]]:
    """These, and the names that are not free: a ledger that is older than the account took them over from the broker (C14)."""
    orders, skipped = _orders_of(desk, reader, gap), []
    while names := taken(reader, [order.client_id for order in orders]):
        skipped += names
        gap = replace(gap, generation=gap.generation + 1)
        orders = _orders_of(desk, reader, gap)
    return orders, skipped


def _orders_of(desk: Desk, reader: Reader, gap: Gap) -> list[OrderIntent]:
    generation, splits = gap.generation + 1, booked_splits(reader, gap.symbol)
    stop_price = restated_price(gap.stop["stop_price"], scale_of(gap.stop, splits), OrderType.STOP)
    since = (split.ratio for split in splits if split.effective_at > gap.stop["intent_at"])
    reference = (gap.stop["reference"] / prod(since, start=Decimal(1))).quantize(Decimal("0.0001"))
    quantity = split_exit(gap.quantity, max(stop_price, reference))[0]
    group = None if gap.target is None else f"{gap.stop['action_id'][:24]}-{gap.part}.{generation}"
    stop = protective_intent(
        gap.stop, part=f"stop-{gap.part}.{generation}", quantity=quantity, environment=desk.environment, reference=reference, oco=group,
        limit_price=None, stop_price=stop_price,
    )
    if gap.target is None:
        return [stop]
    pair = protective_intent(
        gap.target, part=f"target-{gap.part}.{generation}", quantity=quantity, environment=desk.environment, reference=reference, oco=group,
        limit_price=restated_price(gap.target["limit_price"], scale_of(gap.target, splits), OrderType.LIMIT), stop_price=None,
    )
    return [stop, pair]


def _alarm(desk: Desk, gap: Gap, causes: Sequence[str], reason: str, tally: Tally) -> None:
    """Say it, unless every cause was told already since the last stop stood: another one asks something else of a person.

    Args:
        causes: The rules that deny a stop, or what else keeps it from standing; without figures that change.
    """
    if _was_told(desk, gap, causes):
        return
    stream, place = f"strategy:{gap.strategy}", _place_of(gap)
    payload = {"strategy": gap.strategy, **place, "stop_price": gap.stop["stop_price"], "causes": causes, "reason": reason}
    which = hashlib.sha256(f"{gap.lost} {sorted(causes)}".encode()).hexdigest()[:12]
    key = f"position.unprotected:{gap.strategy}:{gap.symbol}:{gap.position_seq}:{gap.quantity}:{which}"
    _tell(desk, NewEvent(EventType.POSITION_UNPROTECTED, stream, key, payload, desk.now(), "desk", gap.since_seq), tally)


def _was_told(desk: Desk, gap: Gap, causes: Sequence[str]) -> bool:
    stream, place = f"strategy:{gap.strategy}", _place_of(gap)
    before = desk.ledger.events(after=gap.position_seq, types=(EventType.POSITION_UNPROTECTED,), stream=stream)
    here = [event.payload for event in before if place.items() <= event.payload.items()]
    return bool(here) and {*causes} <= {cause for payload in here for cause in payload["causes"]}


def _place_of(gap: Gap) -> dict[str, Any]:
    return {"symbol": gap.symbol, "quantity": gap.quantity, "lost": gap.lost}


def _tell_what_stays(desk: Desk, tally: Tally) -> None:
    """What no stop can be placed for: what would cover it is in doubt, or nobody knows whose it is."""
    for gap in doubts(desk.ledger, desk.now() - TOLD_AFTER):
        _alarm(desk, gap, [_DOUBTFUL], "the broker has not confirmed the order that would cover it, or is to cancel it", tally)
    reason = "others have sold of these shares, and whose are left nobody can tell: a person decides"
    for each in shortages(desk.ledger):
        payload = {"strategy": EXTERNAL, "symbol": each.symbol, "quantity": each.quantity, "stop_price": None, "reason": reason}
        key = _shortage_key(each)
        _tell(desk, NewEvent(EventType.POSITION_UNPROTECTED, "account", key, payload, desk.now(), "desk", each.since_seq), tally)


def _shortage_key(shortage: Shortage) -> str:
    return f"position.unprotected:{EXTERNAL}:{shortage.symbol}:{shortage.since_seq}:{shortage.quantity}"


def _tell(desk: Desk, alarm: NewEvent, tally: Tally) -> None:
    if desk.ledger.event_by_key(alarm.key) is not None:
        return
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(alarm))
    told = alarm.payload
    tally.count("unprotected")
    whose = "the account" if told["strategy"] == EXTERNAL else told["strategy"]
    tally.notes.append(f"{told['quantity']} shares of {told['symbol']} held by {whose} have no stop: {told['reason']}")
