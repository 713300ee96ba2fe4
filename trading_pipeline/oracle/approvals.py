# ruff: noqa: ARG001 - every check has the one signature
"""From a verdict to the leave to send: 32, 33, 41, 44 to 50, and the state machine of actions (part of 17)."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from trading_pipeline.oracle.fact import CENT, Fact, canonical, instant, money, money_or_none, person, sha256
from trading_pipeline.oracle.fold import ACTION_LEADS_TO
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import ACTION_MOVES, Action, Order, State

FRESH = timedelta(seconds=5)
LONGEST = timedelta(minutes=10)
APPROVED_FOR = timedelta(seconds=30)
OUTCOMES = {"allow": True, "exempt": True, "not_applicable": True, "deny": False, "halt": False}
HARD_RULES = frozenset({"hard_order_value", "penny_stock", "trading_hours", "cooldown", "duplicate_action"})
COVERED = (
    "account", "environment", "symbol", "side", "quantity", "order_type", "limit_price", "time_in_force", "regular_hours_only",
    "order_class", "verdict_hash", "account_limits_version", "limits_version", "estimated_value", "expires_at", "nonce",
)
"""What the hash of an approval covers (45)."""


def sent(state: State, fact: Fact) -> Order | None:
    """The order that a submission sends, or None for a child that goes with it."""
    order = state.orders.get(fact.data["client_id"])
    return order if order is not None and order.head else None


def _moves(state: State, fact: Fact) -> Iterator[str]:
    action = state.actions.get(fact.data["action_id"])
    if fact.type == "order.intent":
        if action is None or fact.data.get("parent") is not None or fact.data["order_class"] == "P":
            return
        if action.state not in ("approved", "ready") and (action.state, fact.data["order_class"]) != ("consumed", "X"):
            yield f"order.intent of action {action.action_id}, which is {action.state}"
        return
    if action is None:
        yield f"{fact.type} of action {fact.data['action_id']}, which nobody proposed"
        return
    target = ACTION_LEADS_TO[fact.type]
    if target not in ACTION_MOVES.get(action.state, frozenset()):
        yield f"{fact.type} of action {action.action_id}, which is {action.state}"
    if target in ("pending", "ready") and not action.passed:
        yield f"{fact.type} of action {action.action_id}, which no verdict has let pass"


def _judged(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    order = state.orders.get(data["client_id"])
    if order is None:
        return
    name = order.parent or order.client_id
    verdict = state.verdicts.get(name)
    if verdict is None or verdict.seq != data.get("verdict_seq"):
        yield f"{order.client_id} is sent on verdict {data.get('verdict_seq')}, the newest of its gate is {verdict and verdict.seq}"
        return
    age = fact.at - verdict.at
    if not timedelta(0) <= age <= FRESH:
        yield f"{order.client_id} is sent {age.total_seconds():.3f} s after its verdict, at most {FRESH.seconds} s are allowed"
    if not verdict.passed:
        yield f"{order.client_id} is sent though verdict {verdict.seq} denies it"
    if verdict.action_id != order.action_id:
        yield f"{order.client_id} belongs to action {order.action_id}, its verdict {verdict.seq} to {verdict.action_id}"
    parent = state.orders.get(order.parent or "")
    if parent is not None and parent.digest != data.get("digest"):
        yield f"{order.client_id} goes with a ticket of digest {data.get('digest')}, its parent's is {parent.digest}"


def _total(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    outcomes = {verdict["rule"]: verdict["outcome"] for verdict in data["verdicts"]}
    what = f"the verdict on {data['action_id']} ({data['stage']})"
    strange = sorted({outcome for outcome in outcomes.values() if outcome not in OUTCOMES})
    if strange:
        yield f"{what} has the outcome {strange[0]!r}, which is none"
    stopped = [rule for rule, outcome in outcomes.items() if not OUTCOMES.get(outcome, False)]
    if data["passed"] is not (not stopped):
        yield f"{what} {'passes' if data['passed'] else 'does not pass'}, and {', '.join(stopped) or 'no rule'} stops it"
    if data["passed"]:
        missing = HARD_RULES - outcomes.keys()
        if missing:
            yield f"{what} passes without {', '.join(sorted(missing))}"
        unread = sorted(verdict["rule"] for verdict in data["verdicts"] if not verdict["measured"] or not verdict["limit"])
        if unread:
            yield f"{what} passes without a measured value and a limit of {', '.join(unread)}"


def _class(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    fits = data["side"] == "buy" if data["order_class"] == "E" else data["side"] == "sell" and data["order_class"] in ("X", "P")
    name = data.get("client_id") or data["action_id"]
    if not fits:
        yield f"{name} is a {data['side']} of class {data['order_class']}"
    if fact.type == "risk.evaluated" and data["order_class"] == "E":
        exempt = [verdict["rule"] for verdict in data["verdicts"] if verdict["outcome"] == "exempt"]
        if exempt:
            yield f"the entry {name} is exempt from {', '.join(exempt)}"


def _approved(state: State, fact: Fact) -> Iterator[str]:
    order = sent(state, fact)
    strategy = state.strategies.get(order.strategy) if order is not None else None
    if order is None or order.kind == "P" or strategy is None or strategy.spec["mode"] != "approval":
        return
    action = state.actions.get(order.action_id)
    if action is None and order.kind == "X" and person(order.intent_actor, state.environment):
        return
    if action is None or not action.approved or action.state != "consumed":
        yield f"{order.client_id} of {order.strategy} is sent, and its action {order.action_id} is {action.state if action else 'unknown'}"
        return
    yield from _as_shown(action, order)


def _as_shown(action: Action, order: Order) -> Iterator[str]:
    shown = action.shown or {}
    pairs = {
        "account": order.account, "symbol": order.symbol, "side": order.side, "order_class": order.kind, "order_type": order.order_type,
        "time_in_force": order.time_in_force, "strategy": order.strategy,
    }
    for name, value in pairs.items():
        if shown.get(name) != value:
            yield f"{order.client_id} is sent with {name} {value}, a person was shown {shown.get(name)}"
    if money_or_none(shown.get("limit_price")) != order.limit:
        yield f"{order.client_id} is sent with the limit {order.limit}, a person was shown {shown.get('limit_price')}"
    if order.quantity > shown.get("quantity", 0) or (order.kind == "E" and order.quantity != shown.get("quantity")):
        yield f"{order.client_id} is sent for {order.quantity} shares, a person was shown {shown.get('quantity')}"


def _bound(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    action = state.actions.get(data["action_id"])
    if fact.type == "approval.approved":
        if action is not None and (data["hash"], data["nonce"]) != (action.hash, action.nonce):
            yield f"{data['action_id']} is approved with the hash {data['hash']}, what was shown has {action.hash}"
        return
    shown: dict[str, Any] = data["shown"]
    derived = sha256(canonical(shown))
    if derived != data["hash"]:
        yield f"what was shown of {data['action_id']} has the hash {derived}, the ledger says {data['hash']}"
    missing = [name for name in COVERED if name not in shown]
    if missing:
        yield f"the hash of {data['action_id']} does not cover {', '.join(missing)}"
        return
    if action is not None and shown["verdict_hash"] != action.verdict_hash:
        yield f"{data['action_id']} shows the verdict {shown['verdict_hash']}, it was judged by {action.verdict_hash}"
    if (shown["nonce"], instant(shown["expires_at"])) != (data["nonce"], instant(data["expires_at"])):
        yield f"{data['action_id']} shows another nonce or expiry than it has"
    value = shown["quantity"] * money(shown["reference"])
    if abs(value - money(shown["estimated_value"])) >= CENT:
        yield f"{data['action_id']} shows {shown['estimated_value']} USD for {shown['quantity']} shares at {shown['reference']}"


def _single_use(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    action = state.actions.get(data["action_id"])
    if action is None or data.get("parent") is not None or data["order_class"] == "P" or not action.heads:
        return
    if data["order_class"] == "E":
        yield f"action {action.action_id} was used for {action.heads[0]} and is used again for {data['client_id']}"
        return
    quantity = sum(state.orders[name].quantity for name in action.heads) + data["quantity"]
    most = (action.shown or {}).get("quantity")
    if most is not None and quantity > most:
        yield f"action {action.action_id} was approved for {most} shares and sells {quantity}"


def _in_time(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if fact.type == "order.submitted":
        order = sent(state, fact)
        if order is not None and order.kind != "P" and fact.at >= order.intent_at + APPROVED_FOR:
            yield f"{order.client_id} is sent {fact.at - order.intent_at} after its intent, less than {APPROVED_FOR.seconds} s are allowed"
        return
    action = state.actions.get(data["action_id"])
    if action is None:
        return
    if fact.type == "approval.requested":
        span = instant(data["expires_at"]) - fact.at
        if not timedelta(0) < span <= LONGEST:
            yield f"{action.action_id} waits {span} for a person, at most {LONGEST} is allowed"
    elif fact.type == "approval.approved" and action.asked_until is not None and fact.at >= action.asked_until:
        yield f"{action.action_id} is approved at {fact.at:%H:%M:%S.%f}, it expired at {action.asked_until:%H:%M:%S.%f} UTC"
    elif fact.type == "approval.expired" and action.asked_until is not None and fact.at < action.asked_until:
        yield f"{action.action_id} expires at {fact.at:%H:%M:%S.%f}, before {action.asked_until:%H:%M:%S.%f} UTC"
    elif fact.type == "order.intent" and data.get("parent") is None and data["order_class"] != "P" and not action.heads:
        if action.not_before is not None and fact.at < action.not_before:
            yield f"{action.action_id} is sent at {fact.at:%H:%M:%S.%f}, before its release at {action.not_before:%H:%M:%S.%f} UTC"
        if action.expires_at is not None and fact.at >= action.expires_at:
            yield f"{action.action_id} is sent at {fact.at:%H:%M:%S.%f}, it expired at {action.expires_at:%H:%M:%S.%f} UTC"


def _unchanged(state: State, fact: Fact) -> Iterator[str]:
    if fact.type == "approval.approved":
        action = state.actions.get(fact.data["action_id"])
    else:
        order = sent(state, fact)
        action = state.actions.get(order.action_id) if order is not None and order.kind != "P" else None
    if action is None or action.shown is None:
        return
    strategy = state.strategies.get(action.strategy)
    pairs = {
        "limits_version": strategy.version if strategy is not None else None,
        "account_limits_version": state.limits_version.get(action.shown.get("account", "")),
    }
    for name, now in pairs.items():
        if action.shown.get(name) != now:
            yield f"{fact.type} of {action.action_id}, judged under {name} {action.shown.get(name)}; in force is {now}"


def _by_a_person(state: State, fact: Fact) -> Iterator[str]:
    if person(fact.actor, state.environment):
        return
    if fact.type == "strategy.resumed":
        strategy = state.strategies.get(fact.data["strategy"])
        reason = strategy.reason.partition(":")[0] if strategy is not None else ""
        if strategy is None or strategy.state == "not_ready" or (strategy.state == "paused_risk" and reason in BY_ITSELF):
            return
        yield f"{strategy.name}, {strategy.state} ({reason or 'no reason'}), is resumed by {fact.actor}"
    elif fact.type in ("limits.set", "strategy.revised"):
        loosened = _loosened(state, fact)
        if loosened:
            yield f"{fact.actor} loosens {', '.join(loosened)}"
    else:
        yield f"{fact.type} of {fact.data.get('action_id') or fact.data.get('strategy') or fact.data.get('account')} by {fact.actor}"


BY_ITSELF = frozenset({"rate", "volatility", "data", "budget"})
"""Reasons of a pause that may end without a person (3.3)."""
LARGER_IS_LOOSER = frozenset(
    {"position_target", "sector_target", "price_collar", "volatility_trip", "volatility_clear", "losing_streak", "recovery_size"}
)
SMALLER_IS_LOOSER = frozenset({"cool_off", "revenge_wait"})


def _loosened(state: State, fact: Fact) -> list[str]:
    if fact.type == "limits.set":
        before, after = state.limits.get(fact.data["account"], {}), fact.data["limits"]
    else:
        strategy = state.strategies.get(fact.data["strategy"])
        before, after = (strategy.spec["limits"] if strategy is not None else {}), fact.data["spec"]["limits"]
    found = []
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if name == "forbidden_symbols":
            if set(old) - set(new):
                found.append(f"{name} by {', '.join(sorted(set(old) - set(new)))}")
        elif _looser(name, old, new):
            found.append(f"{name} from {old} to {new}")
    return found


def _looser(name: str, old: Any, new: Any) -> bool:
    """Whether a limit allows more than before; one that is switched off allows most."""
    if old is None or new is None:
        return old is not None and new is None
    if name.startswith("max_") or name in LARGER_IS_LOOSER:
        return Decimal(str(new)) > Decimal(str(old))
    return (name.startswith("min_") or name in SMALLER_IS_LOOSER) and Decimal(str(new)) < Decimal(str(old))


def _judged_again(state: State, fact: Fact) -> Iterator[str]:
    order = sent(state, fact)
    if order is None:
        return
    verdict = state.verdicts.get(order.client_id)
    if verdict is None or verdict.stage != "gate":
        yield f"{order.client_id} is sent, and the gate did not judge it again"


_ACTION_FACTS = (*ACTION_LEADS_TO, "order.intent")
INVARIANTS = (
    Invariant(17, "actions move as the state machine says", _ACTION_FACTS, _moves),
    Invariant(32, "what is sent carries a passed verdict of its own, at most 5 s old", ("order.submitted",), _judged),
    Invariant(33, "a verdict passes only when every rule answered and none stops it", ("risk.evaluated",), _total),
    Invariant(41, "buys enter, sells reduce, and no entry is exempt from anything", ("order.intent", "risk.evaluated"), _class),
    Invariant(44, "in approval mode nothing is sent but what a person approved", ("order.submitted",), _approved),
    Invariant(45, "an approval's hash covers what was shown", ("approval.requested", "approval.approved"), _bound),
    Invariant(46, "an approval is used once", ("order.intent",), _single_use),
    Invariant(
        47, "approvals end when they expire",
        ("approval.requested", "approval.approved", "approval.expired", "order.intent", "order.submitted"), _in_time,
    ),
    Invariant(48, "an approval holds only under the limits that were shown", ("approval.approved", "order.submitted"), _unchanged),
    Invariant(
        49, "only a person approves, loosens, grants, resumes, releases and clears",
        (
            "approval.approved", "approval.rejected", "strategy.resumed", "strategy.revised", "limits.set", "loss.granted",
            "account.latch_cleared", "order.released",
        ),
        _by_a_person,
    ),
    Invariant(50, "an approval is not enough: the gate judges again", ("order.submitted",), _judged_again),
)
