"""Orders, from the intent to the last execution: 11 to 19, 24, 26. Limits on what is sent stand in `limits` and `hard`."""

from collections.abc import Iterator
from datetime import timedelta

from trading_pipeline.oracle.fact import Fact, canonical, money, money_or_none, order_name, sha256, whole
from trading_pipeline.oracle.fold import found_nothing
from trading_pipeline.oracle.invariant import FILLED, ORDER_FACTS, Invariant
from trading_pipeline.oracle.state import EXTERNAL, FILLS, ORDER_MOVES, Order, State

VISIBILITY = {"broker:etrade": timedelta(seconds=120)}
VISIBILITY_ELSEWHERE = timedelta(seconds=60)
BETWEEN_LOOKS = timedelta(seconds=5)
"""Two answers of one moment may be wrong together."""
_OF_UNSENT = ("order.submitted", "order.denied", "order.quarantined", "order.released")
"""What may be said of an order that was never sent: one may be set aside for what the broker tells under its name."""


def _intended(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        yield f"{fact.type} of {fact.data['client_id']}, of which there was no order.intent"
    elif order.submitted_at is None and fact.type not in _OF_UNSENT:
        yield f"{fact.type} of {order.client_id}, of which there was no order.submitted"


def _one_order(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        return
    if fact.type == "order.submitted" and order.submitted_at is not None:
        yield f"{order.client_id} was submitted at {order.submitted_at:%H:%M:%S.%f} and again at {fact.at:%H:%M:%S.%f} UTC"
    number = fact.data.get("broker_order_id")
    if number and order.broker_id and number != order.broker_id:
        yield f"{order.client_id} is {order.broker_id} at the broker, and now {number}"
    if number and state.broker_ids.get(number, order.client_id) != order.client_id:
        yield f"{number} at the broker is {state.broker_ids[number]}, and now {order.client_id}"


def _named(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    name, derived = data["client_id"], order_name(data["action_id"], data["part"])
    if name != derived:
        yield f"the order {data['part']} of action {data['action_id']} is called {name}; its name is {derived}"
    if name in state.orders:
        yield f"the client id {name} was used before"


def _sent_once(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        return
    if order.state != "intent":
        yield f"{order.client_id} is submitted though it is {order.state}"
    if order.head and order.kind != "P":
        for other in state.open.values():
            if other.symbol == order.symbol and other.account == order.account and other.state in ("unknown", "late_found"):
                yield f"{order.client_id} is sent in {order.symbol} while {other.client_id} is {other.state}"


def _absent(state: State, fact: Fact) -> Iterator[str]:
    if fact.type == "session.closed":
        for found in state.open.values():
            if found.state == "late_found":
                yield f"{found.client_id} appeared late and nobody asked to cancel it before {fact.type}"
        return
    order = state.orders.get(fact.data["client_id"])
    if order is None or order.submitted_at is None or order.state == "not_placed":
        return
    # What the broker itself says was cancelled needs no proof.
    if fact.type == "order.canceled" and not found_nothing(fact):
        return
    window = VISIBILITY.get(fact.actor, VISIBILITY_ELSEWHERE)
    after = order.submitted_at + window
    first = min((at for at in order.looks if at >= after), default=None)
    if first is None or fact.at < first + BETWEEN_LOOKS:
        looked = "not looked for" if first is None else f"first looked for at {first:%H:%M:%S}"
        yield (
            f"{order.client_id} is given up at {fact.at:%H:%M:%S} UTC, {looked} after {after:%H:%M:%S}, {window.seconds} s after its "
            f"submission; there must be two looks {BETWEEN_LOOKS.seconds} s apart"
        )
    if fact.type == "order.not_placed" and order.filled:
        yield f"{order.client_id} is given up as not placed with {order.filled} shares filled"


def _legal(state: State, fact: Fact) -> Iterator[str]:
    """Fills are legal in every state (19), and so is a quarantine; whatever else happens to an order must stand in the table."""
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        return
    if fact.type == "order.adopted":
        legal = order.state in ("intent", "denied")
    else:
        legal = fact.type in FILLS or fact.type == "order.quarantined" or fact.type in ORDER_MOVES[order.state]
    if not legal:
        yield f"{fact.type} of {order.client_id}, which is {order.state}"
    if fact.type == "order.submitted" and order.kind == "E":
        for other in state.quarantined.values():
            if (other.account, other.symbol) == (order.account, order.symbol):
                yield f"{order.client_id} is sent in {order.symbol}, where {other.client_id} is under quarantine"


def _one_submitter(state: State, fact: Fact) -> Iterator[str]:
    order, lease = state.orders.get(fact.data["client_id"]), fact.data.get("lease")
    if order is not None and lease is not None and lease < state.leases.get(order.account, 0):
        newer = state.leases[order.account]
        yield f"{order.client_id} is sent under lease {lease} of {order.account}, after an order was sent under lease {newer}"


def _executed_once(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if data["execution_id"] in state.executions:
        yield f"the execution {data['execution_id']} is booked again"
    if whole(data["quantity"]) <= 0:
        yield f"the execution {data['execution_id']} is of {data['quantity']} shares"
    if money(data["price"]) <= 0:
        yield f"the execution {data['execution_id']} is at {data['price']}"
    order = state.orders.get(data.get("client_id") or "")
    if order is not None and (order.symbol, order.side, order.account) != (data["symbol"], data["side"], data["account"]):
        yield (
            f"the execution {data['execution_id']} is a {data['side']} of {data['symbol']} in {data['account']}, its order "
            f"{order.client_id} a {order.side} of {order.symbol} in {order.account}"
        )


def _completes(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        return
    total = order.filled + whole(fact.data["quantity"])
    if (total >= order.quantity) != (fact.type == "order.filled"):
        yield f"{fact.type} of {order.client_id}, {order.state}: it has {total} of {order.quantity} shares"


def _as_intended(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data["client_id"])
    if order is None or not order.head:
        return
    ticket = fact.data["ticket"]
    digest = sha256(canonical(ticket))
    if digest != fact.data["digest"]:
        yield f"the ticket of {order.client_id} has the digest {digest}, the ledger says {fact.data['digest']}"
    children = {child.client_id: child for child in state.children.get(order.client_id, ())}
    if {child["client_id"] for child in ticket["children"]} != children.keys():
        yield f"the ticket of {order.client_id} has other children than were intended: {', '.join(children) or 'none'}"
    for sent in (ticket, *ticket["children"]):
        meant = order if sent is ticket else children.get(sent["client_id"])
        if meant is not None:
            yield from _differs(sent, meant)


def _differs(sent: dict[str, object], meant: Order) -> Iterator[str]:
    pairs = {
        "client_id": (sent["client_id"], meant.client_id), "symbol": (sent["symbol"], meant.symbol), "side": (sent["side"], meant.side),
        "quantity": (sent["quantity"], meant.quantity), "order_type": (sent["order_type"], meant.order_type),
        "time_in_force": (sent["time_in_force"], meant.time_in_force), "oco": (sent["oco"], meant.oco),
        "limit_price": (money_or_none(sent["limit_price"]), meant.limit), "stop_price": (money_or_none(sent["stop_price"]), meant.stop),
    }
    for name, (have, want) in pairs.items():
        if have != want:
            yield f"{meant.client_id} is sent with {name} {have}, its intent says {want}"


def _sold_by_pair(state: State, order: Order) -> int:
    """Shares that an order's OCO group has sold since the order joined it."""
    return state.oco_filled.get(order.oco or "", 0) - order.pair_filled


def exits_open(state: State, strategy: str, symbol: str, but: str | None = None) -> int:
    """Shares in working exits, one of each OCO group; children of an entry count for what it has filled.

    Args:
        but: An OCO group to leave out.
    """
    groups: dict[str, tuple[int, str]] = {}
    for order in state.open.values():
        if (order.strategy, order.symbol, order.side) != (strategy, symbol, "sell") or (but is not None and order.oco == but):
            continue
        left = order.left
        if order.oco is not None:
            left = min(left, max(0, order.quantity - _sold_by_pair(state, order)))
        name = order.oco or order.client_id
        groups[name] = max(left, groups.get(name, (0, ""))[0]), order.parent or ""
    families: dict[str, int] = {}
    for left, parent in groups.values():
        families[parent] = families.get(parent, 0) + left
    for name in families:
        parent_order = state.orders.get(name)
        if parent_order is not None and parent_order.filled < parent_order.quantity:
            sold = sum(child.filled for child in state.children.get(name, ()))
            families[name] = min(families[name], max(0, parent_order.filled - sold))
    return sum(families.values())


def _no_oversell(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data.get("client_id") or "")
    if order is None or order.side != "sell" or order.strategy == EXTERNAL:
        return
    held = state.held(order.strategy, order.symbol)
    if fact.type == "order.submitted":
        selling = exits_open(state, order.strategy, order.symbol, but=order.oco)
        if order.head and order.quantity > held - selling:
            yield (
                f"{order.client_id} sells {order.quantity} {order.symbol} of {order.strategy}, which holds {held} with {selling} in "
                "open exits"
            )
        elif order.head:
            yield from _account_oversold(state, order)
        return
    # What exceeds the order is the broker's doing: it is booked, and quarantines (18).
    quantity = min(whole(fact.data["quantity"]), order.left)
    # A child's execution may be told before its parent's (19): what that may have filled it may have sold.
    parent, parent_at_work = state.orders.get(order.parent or ""), state.open.get(order.parent or "")
    to_come = parent_at_work.left if parent_at_work is not None else 0
    ours = quantity
    if parent is not None:
        # What a child sells beyond what its parent has bought is the broker's doing, too.
        sold = sum(child.filled for child in state.children.get(parent.client_id, ()))
        ours = min(quantity, max(0, parent.filled + to_come - sold))
    if ours > held + to_come:
        yield f"{order.client_id} sold {quantity} {order.symbol} of {order.strategy}, which held {held}"
    done = _sold_by_pair(state, order) + quantity
    if order.oco is not None and done > order.quantity:
        yield f"the pair {order.oco} sold {done} shares of {order.quantity}"


def _account_oversold(state: State, order: Order) -> Iterator[str]:
    """What somebody else sold of the symbol is gone, whoever the ledger says holds it."""
    owners = [name for (name, symbol), position in state.positions.items() if symbol == order.symbol and name != EXTERNAL]
    held = sum(state.held(name, order.symbol) for name in owners) + min(0, state.held(EXTERNAL, order.symbol))
    selling = sum(exits_open(state, name, order.symbol, but=order.oco) for name in owners)
    if order.quantity > held - selling:
        yield f"{order.client_id} sells {order.quantity} {order.symbol}; the account has {held} with {selling} in open exits"


INVARIANTS = (
    Invariant(11, "what a broker says of an order follows its order.intent and its order.submitted", ORDER_FACTS, _intended),
    Invariant(
        12, "an intent becomes at most one order at the broker", ("order.submitted", "order.accepted", "order.late_found"), _one_order
    ),
    Invariant(13, "an order's name derives from its action and part, and is used once", ("order.intent",), _named),
    Invariant(14, "nothing is sent twice, nor beside an order in doubt", ("order.submitted",), _sent_once),
    Invariant(
        15, "an order is given up after two looks past the visibility window; one that appears late is cancelled",
        ("order.not_placed", "order.canceled", "session.closed"), _absent,
    ),
    Invariant(17, "orders move as the state machine says, and a quarantine blocks its symbol", (*ORDER_FACTS, "order.adopted"), _legal),
    Invariant(18, "each execution is booked once, of whole shares at a price, for its own order", FILLED, _executed_once),
    Invariant(19, "executions count whatever state the order is in", tuple(FILLS), _completes),
    Invariant(22, "one submitter an account: nothing is sent under an older lease", ("order.submitted",), _one_submitter),
    Invariant(24, "what is sent is what was intended, byte for byte", ("order.submitted",), _as_intended),
    Invariant(26, "open exits never exceed the position; a pair sells once", ("order.submitted", *sorted(FILLS)), _no_oversell),
)
