"""Strategies, stops and closes: 17 for strategies, 51, 52, 54, 57, 58; 53 as far as a session's close shows it."""

from collections.abc import Iterator
from datetime import date, datetime

from trading_pipeline.oracle.approvals import sent
from trading_pipeline.oracle.exchange import NEW_YORK, closes_at
from trading_pipeline.oracle.fact import Fact, person
from trading_pipeline.oracle.fold import LEADS_TO, target_of
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import EXTERNAL, STRATEGY_MOVES, State, Strategy

STOPPED = "emergency_stopped"


def _moves(state: State, fact: Fact) -> Iterator[str]:
    strategy = state.strategies.get(fact.data["strategy"])
    if fact.type == "strategy.created":
        if strategy is not None:
            yield f"the strategy {strategy.name} is created again"
        return
    if strategy is None:
        yield f"{fact.type} of {fact.data['strategy']}, which nobody created"
    elif fact.type == "strategy.revised":
        if strategy.state not in STRATEGY_MOVES:
            yield f"{strategy.name}, which is {strategy.state}, is revised"
    elif strategy.state != STOPPED and target_of(fact) not in STRATEGY_MOVES.get(strategy.state, frozenset()):
        yield f"{strategy.name} is {strategy.state} and becomes {target_of(fact)}"


def _stays_stopped(state: State, fact: Fact) -> Iterator[str]:
    strategy = state.strategies.get(fact.data["strategy"])
    if strategy is not None and strategy.state == STOPPED:
        yield f"{strategy.name} was stopped in an emergency and becomes {target_of(fact)}"


def stopped(state: State, strategy: str, account: str = "") -> str:
    """Under which emergency stop something of a strategy is; empty when under none."""
    known = state.strategies.get(strategy)
    if known is not None and known.state == STOPPED:
        return f"{strategy} was stopped in an emergency"
    if state.latched and (not account or account in state.latched):
        return f"the account {account or next(iter(state.latched))} is under an emergency stop"
    return ""


def _nothing_sent(state: State, fact: Fact) -> Iterator[str]:
    order = state.orders.get(fact.data["client_id"])
    if order is None:
        return
    why = stopped(state, order.strategy, order.account)
    # A person who closes a position after a stop acts for themselves (D9).
    if why and not (order.kind == "P" and person(order.intent_actor, state.environment)):
        yield f"{order.client_id} is sent, and {why}"


def _cancelled(state: State, fact: Fact) -> Iterator[str]:
    for order in state.open.values():
        why = stopped(state, order.strategy, order.account)
        if why and order.kind != "P" and order.strategy != EXTERNAL and order.state in ("accepted", "partial", "late_found"):
            yield f"{order.client_id} of {order.strategy} is {order.state} when {fact.data['session']} closes, and {why}"


def _nobody_asked(state: State, fact: Fact) -> Iterator[str]:
    name = fact.data.get("strategy") or ""
    if not name:
        action = state.actions.get(fact.data.get("action_id", ""))
        name = action.strategy if action is not None else ""
    why = stopped(state, name)
    if why:
        yield f"{fact.type} of {name}, and {why}"


def _only_running(state: State, fact: Fact) -> Iterator[str]:
    if fact.type == "llm.requested":
        strategy = state.strategies.get(fact.data["strategy"])
        if strategy is not None and strategy.state != "running":
            yield f"{strategy.name} is asked about {fact.data['symbol']} while it is {strategy.state}"
        return
    order = sent(state, fact)
    strategy = state.strategies.get(order.strategy) if order is not None else None
    if order is None or strategy is None:
        return
    if order.kind != "P" and strategy.state != "running":
        yield f"{order.client_id} of class {order.kind} is sent while {strategy.name} is {strategy.state}"
    if order.kind == "P" and strategy.state == "draft":
        yield f"{order.client_id} is sent, and {strategy.name} never ran"


def _closed(state: State, fact: Fact) -> Iterator[str]:
    session = fact.data["session"]
    for order in state.open.values():
        works = order.kind == "E" and order.strategy != EXTERNAL and order.state in ("submitted", "accepted", "partial")
        if works and order.session <= session:
            yield f"{session} closes with the entry {order.client_id} of {order.strategy} {order.state}"
    for action in state.unfinished.values():
        if action.session <= session:
            yield f"{session} closes with action {action.action_id} of {action.strategy} {action.state}"
    for strategy in state.strategies.values():
        lasts = strategy.spec["lifetime"] == "session" and not _started_after(session, strategy)
        if lasts and strategy.state in ("running", "paused_user", "paused_risk", "not_ready"):
            yield f"{session} closes with {strategy.name}, which lasts for a session, {strategy.state}"


def _started_after(session: str, strategy: Strategy) -> bool:
    """Whether it was started when the session was over, which was closed late: it lasts for another one."""
    day = date.fromisoformat(session)
    closing = closes_at(day)
    return closing is not None and strategy.started_at is not None and strategy.started_at >= datetime.combine(day, closing, NEW_YORK)


INVARIANTS = (
    Invariant(17, "strategies move as the state machine says", ("strategy.created", "strategy.revised", *LEADS_TO), _moves),
    Invariant(51, "an emergency stop is for good", tuple(LEADS_TO), _stays_stopped),
    Invariant(52, "nothing is sent after an emergency stop", ("order.submitted",), _nothing_sent),
    Invariant(53, "what a stop found working is cancelled by the session's close", ("session.closed",), _cancelled),
    Invariant(
        54, "nobody is asked, and nothing admitted, after an emergency stop",
        ("llm.requested", "llm.action_generated", "action.ready", "approval.requested", "approval.approved"), _nobody_asked,
    ),
    Invariant(57, "only a running strategy asks and trades; what protects goes on", ("llm.requested", "order.submitted"), _only_running),
    Invariant(58, "a session closes without working entries, open actions or session-long strategies", ("session.closed",), _closed),
)
