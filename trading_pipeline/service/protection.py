"""What protects a position, placed again when it is gone (F6, C12).

An entry takes its stops and targets to the broker with it. They can end while the position goes on: cancelled for an exit that
filled in part, was refused or never went out, dropped by the broker, or lost with a crash in between. Whoever holds the submitter's
lease then places what the entry's record says, as protective orders of their own, before anything else is sent. A position whose
strategy asked for no stop is nobody's business here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import prod

from trading_pipeline.domain.events import EventType, NewEvent, instant_from
from trading_pipeline.domain.orders import WORKING, OrderClass, OrderIntent, OrderState, OrderType, Side
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.rules.standing import PROTECTIVE_STATES
from trading_pipeline.domain.sizing import split_exit
from trading_pipeline.domain.split_holdings import restated_price
from trading_pipeline.ports import Fence, Reader
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.gate import denial_ahead, gate_and_submit, intents_of, protective_intent
from trading_pipeline.service.settlement import settled_mismatches
from trading_pipeline.service.steps import Tally

_WORKS = tuple(state.value for state in WORKING)
_UNDER_WAY = (*_WORKS, OrderState.INTENT.value)
_PROTECTED_BY = tuple(state.value for state in PROTECTIVE_STATES)
_FOUND_LATE = timedelta(days=5)
"""An order given up as not placed is watched until the end of the next session, over a long weekend at most."""
_PATIENCE = timedelta(seconds=30)
"""A broker that has just rejected a stop is not asked again at once."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Shares of a position without a stop: `stop` and `target` are the newest orders that stood for them."""

    strategy: str
    symbol: str
    quantity: int
    stop: Row
    target: Row | None
    generation: int
    """How many times they have been placed."""
    since_seq: int
    """The last fact about the position or these orders."""

    @property
    def part(self) -> str:
        """Of the bracket: `1`, `2` ..."""
        return _bracket(self.stop)


def gaps(reader: Reader) -> list[Gap]:
    """Every position, or part of one, that had a stop and has none, while no exit for it works."""
    found: list[Gap] = []
    for position in reader.find("positions"):
        if position["quantity"] <= 0 or position["strategy"] == EXTERNAL:
            continue
        strategy = reader.get("strategies", position["strategy"])
        if strategy is None or strategy["state"] not in _PROTECTED_BY:
            continue
        place = {"strategy": position["strategy"], "symbol": position["symbol"]}
        entries = reader.find("orders", client_id=_bought_by(reader, position))
        if entries:
            actions = {entry["action_id"] for entry in entries}
            exits = reader.find("orders", side=Side.SELL.value, state=_UNDER_WAY, **place)
            stood = reader.find("orders", action_id=actions, order_class=OrderClass.PROTECTIVE.value, order_by="intent_seq", **place)
            found += _gaps_of(reader, position, entries, exits, stood)
    return found


def _bought_by(reader: Reader, position: Row) -> set[str]:
    """The orders that bought what is held; one that was found late filled before the position opened, and was booked after."""
    place = {"strategy": position["strategy"], "symbol": position["symbol"], "side": Side.BUY.value}
    fills = reader.find("fills", since=("at", position["opened_at"] - _FOUND_LATE), **place)
    opened = min((fill["seq"] for fill in fills if fill["at"] >= position["opened_at"]), default=0)
    return {fill["client_id"] for fill in fills if fill["seq"] >= opened}


def _gaps_of(reader: Reader, position: Row, entries: Sequence[Row], exits: Sequence[Row], stood: Sequence[Row]) -> list[Gap]:
    """Shares that neither a stop nor an exit under way covers, shared out over the brackets that lack a stop.

    Args:
        entries: The orders that bought what is held.
        exits: All orders under way that sell of it.
        stood: The stops and targets that the entries had, and those placed for them later, in order.
    """
    bought = {row["client_id"]: row["filled_quantity"] for row in entries}
    selling = (row for row in exits if row["order_class"] != OrderClass.PROTECTIVE.value or row["order_type"] == OrderType.STOP.value)
    # A child waits for its parent: it covers at most what that has bought.
    naked: int = position["quantity"]
    for row in selling:
        naked -= _left(row) if row["parent"] is None else min(_left(row), bought.get(row["parent"], 0))
    found = []
    for rows in _brackets(entries, stood):
        stops = [row for row in rows if row["order_type"] == OrderType.STOP.value]
        sent = [row for row in stops if row["submitted_at"] is not None]
        if naked <= 0 or not sent or any(row["state"] in _UNDER_WAY for row in stops):
            continue
        split = _split_since(reader, position["symbol"], stops[-1]["updated_at"]) != 1
        left = naked if split else _released(rows, stood, bought) - sum(row["filled_quantity"] for row in rows)
        quantity = min(left, naked)
        if quantity > 0:
            naked -= quantity
            targets = [row for row in rows if row["order_type"] == OrderType.LIMIT.value]
            last = max(position["last_seq"], *(row["last_seq"] for row in rows))
            target = targets[-1] if targets else None
            found.append(Gap(position["strategy"], position["symbol"], quantity, sent[-1], target, len(stops), last))
    return found


def _brackets(entries: Sequence[Row], stood: Sequence[Row]) -> list[list[Row]]:
    """Stops and targets by entry and bracket, the newest entry first: what is left of a position is what was bought last."""
    newest_first = sorted(entries, key=lambda row: row["intent_seq"], reverse=True)
    found: list[list[Row]] = []
    for entry in newest_first:
        own = [row for row in stood if row["action_id"] == entry["action_id"]]
        found += [[row for row in own if _bracket(row) == number] for number in sorted({_bracket(row) for row in own})]
    return found


def _released(rows: Sequence[Row], stood: Sequence[Row], bought: Mapping[str, int]) -> int:
    """Shares of a bracket that its entry did buy: the first bracket is served first."""
    first = rows[0]
    before: int = sum(
        row["quantity"] for row in stood
        if row["parent"] == first["parent"] and row["order_type"] == OrderType.STOP.value and _bracket(row) < _bracket(first)
    )
    size: int = first["quantity"]
    return min(size, max(0, bought.get(first["parent"], 0) - before))


def protect(desk: Desk, fence: Fence, tally: Tally) -> None:
    """Place again what is missing; what cannot be placed is a fact that asks for a person."""
    for gap in gaps(desk.ledger):
        if gap.stop["state"] == OrderState.REJECTED.value and desk.now() < gap.stop["updated_at"] + _PATIENCE:
            continue
        [stop, *others] = orders_for(desk, gap)
        denied = denial_ahead(desk, stop, settled_mismatches(desk, tally))
        if denied:
            _alarm(desk, gap, denied, tally)
            continue
        if _place(desk, fence, stop, gap, tally):
            tally.count("protected")
            for other in others:
                _place(desk, fence, other, gap, tally)
        else:
            _alarm(desk, gap, "the broker or the gate did not take the stop", tally)


def orders_for(desk: Desk, gap: Gap) -> list[OrderIntent]:
    """The stop, and the target that it pairs with where that has ended too."""
    generation = gap.generation + 1
    ratio = _split_since(desk.ledger, gap.symbol, gap.stop["updated_at"])
    stop_price = restated_price(gap.stop["stop_price"], ratio, OrderType.STOP)
    quantity = split_exit(gap.quantity, max(stop_price, gap.stop["reference"] / ratio))[0]
    group = f"{gap.stop['action_id'][:24]}-{gap.part}.{generation}"
    target = gap.target if gap.target is not None and gap.target["state"] not in _WORKS else None
    reference = (gap.stop["reference"] / ratio).quantize(Decimal("0.0001"))
    stop = protective_intent(
        gap.stop, part=f"stop-{gap.part}.{generation}", quantity=quantity, environment=desk.environment, reference=reference,
        oco=group if target is not None else gap.stop["oco"], limit_price=None, stop_price=stop_price,
    )
    if target is None:
        return [stop]
    pair = protective_intent(
        target, part=f"target-{gap.part}.{generation}", quantity=quantity, environment=desk.environment, reference=reference, oco=group,
        limit_price=restated_price(target["limit_price"], ratio, OrderType.LIMIT), stop_price=None,
    )
    return [stop, pair]


def _place(desk: Desk, fence: Fence, intent: OrderIntent, gap: Gap, tally: Tally) -> bool:
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(*intents_of(intent, "protection", desk.today(), desk.now(), gap.since_seq)))
    if not gate_and_submit(desk, fence, intent, tally):
        return False
    row = desk.ledger.get("orders", intent.client_id)
    return row is not None and row["state"] != OrderState.REJECTED.value


def _alarm(desk: Desk, gap: Gap, reason: str, tally: Tally) -> None:
    payload = {
        "strategy": gap.strategy, "symbol": gap.symbol, "quantity": gap.quantity, "stop_price": gap.stop["stop_price"], "reason": reason,
    }
    key = f"position.unprotected:{gap.strategy}:{gap.symbol}:{gap.since_seq}"
    if desk.ledger.event_by_key(key) is not None:
        return
    stream = f"strategy:{gap.strategy}"
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(NewEvent(EventType.POSITION_UNPROTECTED, stream, key, payload, desk.now(), "desk", gap.since_seq)))
    tally.count("unprotected")
    tally.notes.append(f"{gap.quantity} shares of {gap.symbol} held by {gap.strategy} have no stop: {reason}")


def _split_since(reader: Reader, symbol: str, then: datetime) -> Decimal:
    """New shares for one that the order was written in: resting orders are restated with the split, ended ones are not."""
    splits = (event.payload for event in reader.events(types=(EventType.CORPORATE_ACTION_SPLIT,)))
    return prod(
        (Decimal(data["ratio"]) for data in splits if data["symbol"] == symbol and instant_from(data["effective_at"]) > then),
        start=Decimal(1),
    )


def _bracket(row: Row) -> str:
    """`1` of `stop-1`, `target-1` and of what was placed for them later, `stop-1.2`."""
    return str(row["part"]).partition("-")[2].partition(".")[0]


def _left(row: Row) -> int:
    return int(row["quantity"] - row["filled_quantity"])
