"""`why`: the walk from the bar to a fill, an order or an action, and on to what became of it. Reads only.

Causes lead back from a fact to the bar. The way on is found by what facts are about: an action's name stands in every fact about its
orders, and a trade's fills follow from the position, so that the sale of another action counts to the purchase that it ended.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from trading_pipeline.domain import lineage
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.money import ZERO, to_cents, usd
from trading_pipeline.domain.orders import OrderClass, Side
from trading_pipeline.domain.portfolio import Fill, Position
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import UnknownName
from trading_pipeline.ports import Reader
from trading_pipeline.service.accounting import portfolio_of
from trading_pipeline.service.approvals import named_some
from trading_pipeline.service.desk import Desk


@dataclass(frozen=True, slots=True)
class Cause:
    """One fact on the way from a bar to a portfolio, instants in UTC.

    `at` is when it happened; `booked_at` is when it was written down, None where that is the same second.
    """

    seq: int
    type: str
    at: str
    actor: str
    says: str
    booked_at: str | None = None


def why(desk: Desk, ident: str) -> list[Cause]:
    """The walk from the bar to what is named, and on to what became of it.

    Of a fill: its causes, and the snapshot after it. Of an action or an order: every fact about it, its orders with their gates and
    fills, the fills that sold what it had bought, and what that made. Of another event: its causes.

    Args:
        ident: An execution id, a client or broker order id, an action id or an event's seq; a unique beginning is enough.
    """
    reader = desk.ledger
    event, row = _find(reader, ident)
    if row is None or "execution_id" in row:
        facts = lineage.ancestors(event, reader.event)
        fills = [event] if event.type in lineage.FILLS else []
        facts += [each for fill in fills for each in _protected(reader, fill)]
    else:
        facts = _story(reader, row)
        fills = [each for each in facts if each.type in lineage.FILLS]
    said = {fill.seq: _how_it_came(reader, fill) for fill in fills}
    if fills:
        last = max(fills, key=lambda each: each.seq)
        said[last.seq] += _what_it_made(desk, last)
        facts += reader.events(after=last.seq, types=(EventType.PORTFOLIO_SNAPSHOTTED,), limit=1)
    chain = sorted({each.seq: each for each in facts}.items())
    return [_cause(each, said.get(seq, "")) for seq, each in chain]


def _cause(event: Event, more: str) -> Cause:
    at = lineage.happened_at(event)
    booked = None if _iso(at) == _iso(event.at) else _iso(event.at)
    return Cause(event.seq, event.type.value, _iso(at), event.actor, lineage.sentence(event) + more, booked)


_OF_AN_ACTION = tuple(
    each for each in EventType if each is EventType.RISK_EVALUATED or each.value.startswith(("action.", "approval.", "order."))
)
"""The facts that name the action they are about."""


def _story(reader: Reader, row: Row) -> list[Event]:
    """Everything about an action, or about one order and what it belongs to; of a purchase, also what sold the shares again."""
    about = {row["client_id"], row["parent"]} if "client_id" in row else None
    action = reader.get("actions", row["action_id"])
    begin = reader.event(action["generated_seq"] if action is not None else row["intent_seq"])
    assert begin is not None
    facts = lineage.ancestors(begin, reader.event)
    for event in reader.events(after=begin.seq, types=_OF_AN_ACTION, stream=f"strategy:{row['strategy']}"):
        order = event.payload.get("client_id")
        if event.payload.get("action_id") == row["action_id"] and (about is None or order is None or order in about):
            facts.append(event)
    bought = [event.seq for event in facts if event.type in lineage.FILLS]
    if bought and row["side"] == Side.BUY.value:
        facts += _sales(reader, row, bought[0])
    return facts


def _sales(reader: Reader, row: Row, bought: int) -> list[Event]:
    """The fills that sold the shares of a purchase, each with the signal that asked for it."""
    found: list[int] = []
    for fill in _trade(reader, row["strategy"], row["symbol"], bought)[0]:
        if fill["seq"] > bought and fill["side"] == Side.SELL.value:
            order = reader.get("orders", fill["client_id"])
            action = reader.get("actions", order["action_id"]) if order is not None else None
            found += [fill["seq"], *([action["generated_seq"]] if action is not None else [])]
    return [event for event in map(reader.event, found) if event is not None]


def _trade(reader: Reader, strategy: str, symbol: str, seq: int) -> tuple[list[Row], Position, Decimal]:
    """The trade that a fill belongs to, from no shares of the symbol back to none, splits in between counted.

    Returns:
        Its fills, the position after the last of them, and USD that it realised, commissions deducted.
    """
    fills = {row["seq"]: row for row in reader.find("fills", strategy=strategy, symbol=symbol)}
    told = reader.events(types=(EventType.CORPORATE_ACTION_SPLIT,))
    splits = {event.seq: event.payload for event in told if event.payload["symbol"] == symbol}
    position, before, trade = Position(strategy, symbol), ZERO, list[Row]()
    for at in sorted(fills.keys() | splits.keys()):
        if position.quantity == 0:
            if at > seq:
                break
            before, trade = position.realised, []
        if at in fills:
            trade.append(fills[at])
            position = position.after(_fill_of(fills[at]))
        else:
            for part in splits[at]["positions"]:
                if part["strategy"] == strategy:
                    position = position.after_split(Decimal(splits[at]["ratio"]), part["quantity"], Decimal(part["in_lieu"]))
    return trade, position, position.realised - before


def _fill_of(row: Row) -> Fill:
    side = Side(row["side"])
    return Fill(row["execution_id"], row["client_id"], row["symbol"], side, row["quantity"], row["price"], row["commission"], row["at"])


def _what_it_made(desk: Desk, fill: Event) -> str:
    """`; the trade made -$12.00 after commissions`, or what is still held; empty when the trade went on after this fill."""
    data = fill.payload
    trade, position, made = _trade(desk.ledger, data["strategy"], data["symbol"], fill.seq)
    if trade[-1]["seq"] != fill.seq:
        return ""
    if position.quantity == 0:
        return f"; the trade made {_gain(made)} after commissions"
    mark = portfolio_of(desk, desk.ledger).marks.get(data["symbol"])
    worth = f", {_gain(position.unrealised(mark) + made)} so far at {usd(mark)}" if mark is not None else ""
    return f"; {position.quantity:,} shares are held{worth}"


def _gain(amount: Decimal) -> str:
    return f"+{usd(amount)}" if to_cents(amount) > 0 else usd(amount)


def _protected(reader: Reader, fill: Event) -> list[Event]:
    """What a protective fill's own causes leave out: its order's intent, and the fills of the entry that it protects."""
    order = reader.get("orders", fill.payload["client_id"])
    if order is None or order["order_class"] != OrderClass.PROTECTIVE.value or order["parent"] is None:
        return []
    found = [reader.event(order["intent_seq"])]
    found += [reader.event(row["seq"]) for row in reader.find("fills", client_id=order["parent"], order_by="seq")]
    return [event for event in found if event is not None and event.seq < fill.seq]


def _how_it_came(reader: Reader, fill: Event) -> str:
    """`: the stop at $732.87 was hit at $732.65, $0.22 a share below`; empty for other orders."""
    order = reader.get("orders", fill.payload["client_id"])
    if order is None or order["order_class"] != OrderClass.PROTECTIVE.value:
        return ""
    price = Decimal(fill.payload["price"])
    if order["stop_price"] is None:
        return f": the target at {usd(order['limit_price'])} was reached" if order["limit_price"] is not None else ""
    short = order["stop_price"] - price
    slipped = f", {usd(short)} a share below" if to_cents(short) > 0 else ""
    return f": the stop at {usd(order['stop_price'])} was hit at {usd(price)}{slipped}"


_NAMES = (("fills", "execution_id"), ("orders", "client_id"), ("orders", "broker_order_id"), ("actions", "action_id"))


def _find(reader: Reader, ident: str) -> tuple[Event, Row | None]:
    """The event that is named, and the fill, order or action unless it was named by its seq."""
    if ident.isdigit():
        event = reader.event(int(ident))
        if event is not None:
            return event, None
    wanted = ident.strip().upper()
    found: dict[str, Row] = {}
    for table, column in _NAMES:
        for row in reader.find(table):
            name = (row[column] or "").upper()
            if name and name == wanted:
                return _event_of(reader, row), row
            if wanted and name.startswith(wanted):
                found[row[column]] = row
    if len(found) == 1:
        [row] = found.values()
        return _event_of(reader, row), row
    rule = "a fill, order, action or event is named by its id or a beginning that only it has"
    if found:
        raise UnknownName(
            f"{len(found)} ids begin with {ident!r}.", value=ident, rule=rule, remedy=f"give more of it: {named_some(found)}",
        )
    raise UnknownName(f"Nothing is named {ident!r}.", value=ident, rule=rule, remedy="see `trading events` for what there is")


def _event_of(reader: Reader, row: Row) -> Event:
    event = reader.event(row["seq"] if "seq" in row else row["last_seq"])
    assert event is not None
    return event


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
