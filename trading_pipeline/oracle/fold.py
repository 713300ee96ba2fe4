"""Folding one fact into what the oracle knows: a handler for each type that changes anything; every other type changes nothing."""

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

from trading_pipeline.oracle import models
from trading_pipeline.oracle.booking import book, corrected, external, split
from trading_pipeline.oracle.fact import ZERO, Fact, instant, money, money_or_none, person, whole
from trading_pipeline.oracle.state import (
    EXTERNAL,
    FILLS,
    ORDER_MOVES,
    WORKING,
    Action,
    Order,
    Session,
    State,
    Strategy,
    Verdict,
)

HOUR = timedelta(hours=1)


def fold(state: State, fact: Fact) -> None:
    """Take the fact as true, whatever the checks said of it."""
    state.seq, state.hash = fact.seq, bytes.fromhex(fact.hash)
    state.streams[fact.stream] = fact.stream_seq
    state.keys.add(fact.key)
    handler = _HANDLERS.get(fact.type)
    if handler is not None:
        handler(state, fact)


# The account


def _opened(state: State, fact: Fact) -> None:
    state.environment = fact.data["environment"]


def _funded(state: State, fact: Fact) -> None:
    account = fact.data["account"]
    state.cash[account] = state.cash.get(account, ZERO) + money(fact.data["amount"])
    state.deposited += money(fact.data["amount"])


def _limits(state: State, fact: Fact) -> None:
    state.limits[fact.data["account"]] = fact.data["limits"]
    state.limits_version[fact.data["account"]] = fact.data["version"]


def _granted(state: State, fact: Fact) -> None:
    scope = (fact.data.get("strategy") or "account", fact.data["session"])
    state.granted[scope] = state.granted.get(scope, ZERO) + money(fact.data["amount"])


def _latched(state: State, fact: Fact) -> None:
    state.latched[fact.data["account"]] = fact.data.get("reason", "")


def _latch_cleared(state: State, fact: Fact) -> None:
    state.latched.pop(fact.data["account"], None)


def _session_opened(state: State, fact: Fact) -> None:
    # A baseline that goes on from the last close counts what was deposited since as no profit of the day.
    last = state.sessions.get(state.last_closed)
    deposited = last.deposited if last is not None and "stood_at" not in fact.data else state.deposited
    made = {name: money(usd) for name, usd in fact.data.get("strategy_pnl", {}).items()}
    state.sessions[fact.data["session"]] = Session(True, money(fact.data["baseline_equity"]), deposited, made)


def _session_closed(state: State, fact: Fact) -> None:
    state.sessions[fact.data["session"]] = Session(False, money(fact.data["closing_equity"]), state.deposited)
    state.last_closed = max(state.last_closed, fact.data["session"])
    state.verdicts.clear()


def _snapshot(state: State, fact: Fact) -> None:
    for held in fact.data["positions"]["held"]:
        state.prices[held["symbol"]] = money(held["mark"])


def _bar(state: State, fact: Fact) -> None:
    data = fact.data
    if data["cycle"] != state.bar_cycle:
        state.bar_cycle = data["cycle"]
        state.last_bar.clear()
    state.last_bar[data["cycle"], data["symbol"], data["interval"]] = instant(data["end"])
    state.prices[data["symbol"]] = Decimal(str(data["close"]))


# Strategies


def _created(state: State, fact: Fact) -> None:
    state.strategies[fact.data["strategy"]] = Strategy(fact.data["strategy"], dict(fact.data["spec"]))


def _revised(state: State, fact: Fact) -> None:
    strategy = state.strategies[fact.data["strategy"]]
    strategy.spec = dict(fact.data["spec"])
    strategy.version += 1


LEADS_TO = {
    "strategy.starting": "starting", "strategy.started": "running", "strategy.not_ready": "not_ready", "strategy.paused": "paused_user",
    "strategy.resumed": "running", "strategy.finished": "finished", "strategy.emergency_stopped": "emergency_stopped",
}


def target_of(fact: Fact) -> str:
    """The state a strategy's fact leads to: a pause says which."""
    state: str = fact.data.get("state") or LEADS_TO[fact.type]
    return state


def _strategy_moves(state: State, fact: Fact) -> None:
    if fact.type == "strategy.resumed":
        models.let_go_on(state, fact)
    strategy = state.strategies.get(fact.data["strategy"])
    if strategy is not None:
        strategy.state, strategy.reason = target_of(fact), fact.data.get("reason", "")
        if strategy.state == "starting":
            strategy.started_at = fact.at
        if strategy.state == "running" and person(fact.actor, state.environment):
            strategy.recent.clear()


# Actions


def _generated(state: State, fact: Fact) -> None:
    data = fact.data
    if data["action"] != "hold":
        action = Action(data["action_id"], data["strategy"], data["symbol"], data["action"], fact.at, data["session"])
        state.actions[action.action_id] = action


def _evaluated(state: State, fact: Fact) -> None:
    data = fact.data
    action = state.actions.get(data["action_id"])
    if data["stage"] == "proposal":
        if action is not None:
            action.passed, action.verdict_hash = data["passed"], fact.hash
            if data["passed"]:
                admitted = state.admitted.setdefault((action.strategy, action.symbol, action.side), deque(maxlen=16))
                admitted.append(action)
            else:
                move_action(state, action, "denied")
    elif data.get("client_id"):
        losses = {
            verdict["rule"]: Decimal(verdict["measured"].replace("$", "").replace(",", ""))
            for verdict in data["verdicts"]
            if verdict["rule"] in ("account_day_loss", "strategy_day_loss") and verdict["outcome"] == "allow"
        }
        verdict = Verdict(fact.seq, data["stage"], data["action_id"], data["client_id"], data["passed"], fact.at, losses)
        state.verdicts[verdict.client_id] = verdict


def move_action(state: State, action: Action, target: str) -> None:
    """Move it, and keep the list of those that are still undecided or unsent."""
    action.state = target
    if target in ("pending", "approved", "ready"):
        state.unfinished[action.action_id] = action
    else:
        state.unfinished.pop(action.action_id, None)


def _requested(state: State, fact: Fact) -> None:
    action = state.actions.get(fact.data["action_id"])
    if action is not None:
        move_action(state, action, "pending")
        action.shown, action.hash, action.nonce = dict(fact.data["shown"]), fact.data["hash"], fact.data["nonce"]
        action.asked_until = instant(fact.data["expires_at"])


ACTION_LEADS_TO = {
    "action.ready": "ready", "action.expired": "expired", "action.voided": "voided", "approval.approved": "approved",
    "approval.rejected": "rejected", "approval.expired": "expired", "approval.voided": "voided", "approval.requested": "pending",
}


def _action_moves(state: State, fact: Fact) -> None:
    action = state.actions.get(fact.data["action_id"])
    if action is not None:
        move_action(state, action, ACTION_LEADS_TO[fact.type])
        action.approved = action.approved or action.state == "approved"
        for name in ("not_before", "expires_at"):
            if fact.data.get(name) is not None:
                setattr(action, name, instant(fact.data[name]))


# Orders


def order_from(fact: Fact) -> Order:
    """The order in an intent, or one adopted from the broker."""
    data = fact.data
    return Order(
        data["client_id"], data.get("action_id") or "", data.get("part") or "", data.get("parent"), data.get("oco"), data["account"],
        data.get("strategy") or EXTERNAL, data["symbol"], data["side"], data["order_class"], data["order_type"], data["time_in_force"],
        whole(data["quantity"]), money(data["reference"]), money_or_none(data.get("limit_price")), money_or_none(data.get("stop_price")),
        str(data["session"]), fact.at, fact.actor,
    )


def _intent(state: State, fact: Fact) -> None:
    order = order_from(fact)
    order.pair_filled = state.oco_filled.get(order.oco or "", 0)
    state.orders[order.client_id] = order
    if order.parent is not None:
        state.children.setdefault(order.parent, []).append(order)
    action = state.actions.get(order.action_id)
    if action is not None and order.head and order.kind != "P":
        action.heads.append(order.client_id)
        if action.state in ("approved", "ready"):
            move_action(state, action, "consumed")


def _adopted(state: State, fact: Fact) -> None:
    order = state.orders.setdefault(fact.data["client_id"], order_from(fact))
    order.submitted_at = fact.at
    _set_state(state, order, "accepted")


def found_nothing(fact: Fact) -> bool:
    """Whether somebody has looked for the order at the broker and says that it is absent; a missing answer is no look."""
    return str(fact.data.get("reason", "")).partition(" ")[0] == "absent"


def _order_moves(state: State, fact: Fact) -> None:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        return
    if fact.type == "order.submitted":
        _submitted(state, order, fact)
        state.leases[order.account] = max(state.leases.get(order.account, 0), fact.data.get("lease") or 0)
    if found_nothing(fact):
        order.looks.append(fact.at)
    elif fact.type in ("order.accepted", "order.late_found"):
        order.looks.clear()
    if fact.data.get("broker_order_id"):
        order.broker_id = fact.data["broker_order_id"]
        state.broker_ids[order.broker_id] = order.client_id
    target = "quarantined" if fact.type == "order.quarantined" else ORDER_MOVES[order.state].get(fact.type, _PLAIN.get(fact.type, ""))
    if target == "before":
        target = order.before_cancel or "accepted"
    if target == "cancel_pending" and order.state != "cancel_pending":
        order.before_cancel = order.state
    _set_state(state, order, target or order.state)


_PLAIN = {name: target for moves in ORDER_MOVES.values() for name, target in moves.items() if target != "before"}
"""Where a fact leads to that the tables forbid where it came."""


def _set_state(state: State, order: Order, target: str) -> None:
    order.state = target
    if target == "quarantined":
        state.quarantined[order.client_id] = order
    else:
        state.quarantined.pop(order.client_id, None)
    if target in WORKING:
        state.open[order.client_id] = order
    else:
        state.open.pop(order.client_id, None)


def _submitted(state: State, order: Order, fact: Fact) -> None:
    order.submitted_at = fact.at
    order.verdict_seq, order.digest = fact.data.get("verdict_seq"), fact.data.get("digest", "")
    if not order.head:
        return
    state.last_heads.append((fact.at, order.action_id))
    strategy = state.strategies.get(order.strategy)
    if strategy is not None:
        strategy.recent.append(order)
    if order.kind == "P":
        return
    state.notional[order.session] = state.notional.get(order.session, ZERO) + order.quantity * order.worst
    if strategy is not None:
        strategy.submissions.append((fact.at, order.action_id))
        while strategy.submissions and strategy.submissions[0][0] <= fact.at - HOUR:
            strategy.submissions.popleft()


# Fills


def _filled(state: State, fact: Fact) -> None:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        book(state, fact, fact.data["strategy"])
        return
    quantity = whole(fact.data["quantity"])
    order.filled += quantity
    if order.oco is not None:
        state.oco_filled[order.oco] = state.oco_filled.get(order.oco, 0) + quantity
    if order.state in ("filled", "rejected", "quarantined", "denied", "intent") or order.filled > order.quantity:
        target = "quarantined"
    elif order.filled == order.quantity:
        target = "filled"
    elif order.state in ("canceled", "expired", "cancel_pending", "not_placed", "late_found"):
        target = order.state
    else:
        target = "partial"
    _set_state(state, order, target)
    strategy = state.strategies.get(order.strategy)
    if order.kind == "E" and strategy is not None:
        at = instant(fact.data["filled_at"])
        if strategy.last_entry_fill is None or at > strategy.last_entry_fill[0]:
            strategy.last_entry_fill = (at, order.action_id)
    book(state, fact, order.strategy)


_HANDLERS: dict[str, Callable[[State, Fact], None]] = {
    "ledger.opened": _opened, "account.funded": _funded, "limits.set": _limits, "loss.granted": _granted, "account.latched": _latched,
    "account.latch_cleared": _latch_cleared, "session.opened": _session_opened, "session.closed": _session_closed,
    "portfolio.snapshotted": _snapshot, "bar.received": _bar, "corporate_action.split": split,
    "strategy.created": _created, "strategy.revised": _revised, **dict.fromkeys(LEADS_TO, _strategy_moves),
    "llm.requested": models.begun, **dict.fromkeys(models.ENDS, models.ended), "indicators.computed": models.computed,
    "prompt.checked": models.checked,
    "llm.action_generated": _generated, "risk.evaluated": _evaluated, **dict.fromkeys(ACTION_LEADS_TO, _action_moves),
    "approval.requested": _requested,
    "order.intent": _intent, "order.adopted": _adopted, **dict.fromkeys(_PLAIN, _order_moves), "order.quarantined": _order_moves,
    **dict.fromkeys(FILLS, _filled), "external.filled": external, "fill.corrected": corrected,
}
