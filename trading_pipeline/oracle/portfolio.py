# ruff: noqa: ARG001 - every check has the one signature
"""What the account holds and is worth, folded anew and held against what the ledger states: 27, 29, 30, 31."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.oracle.booking import apply, flow
from trading_pipeline.oracle.exchange import NEW_YORK, closes_at, session_before
from trading_pipeline.oracle.fact import CENT, ZERO, Fact, instant, money, whole
from trading_pipeline.oracle.invariant import EVERY, Invariant
from trading_pipeline.oracle.state import Position, State

AMOUNTS = frozenset(
    {
        "price", "commission", "commission_before", "limit_price", "stop_price", "reference", "amount", "cash", "equity", "market_value",
        "realised", "unrealised", "day_pnl", "total_pnl", "cost", "mark", "value", "estimated_value", "baseline_equity", "closing_equity",
        "bought", "sold", "in_lieu", "ratio", "max_order_value", "max_position_value", "max_day_loss", "max_day_risk", "max_day_notional",
        "max_concentration", "price_low", "price_high", "stop", "target", "confidence", "price_collar",
    }
)
SHARES = frozenset({"quantity", "before"})
DECIDING = ("order", "external", "fill", "portfolio", "session", "account", "approval", "risk", "limits", "loss", "corporate_action", "llm")


def _folded(state: State, fact: Fact) -> Iterator[str]:
    if fact.type == "fill.corrected":
        yield from _corrected(state, fact)
        return
    data = fact.data
    stated = {(held["strategy"], held["symbol"]): held for held in data["positions"]["held"]}
    folded = {place: position for place, position in state.positions.items() if position.quantity}
    for place in sorted(stated.keys() | folded.keys()):
        have, want = stated.get(place), folded.get(place)
        name = "/".join(place)
        if have is None or want is None or have["quantity"] != want.quantity:
            yield f"{name}: stated {have and have['quantity']} shares, its executions make {want and want.quantity}"
        elif abs(money(have["cost"]) - want.cost) > CENT:
            yield f"{name}: stated a cost of {have['cost']} USD, its executions make {want.cost:.4f}"
    cash = state.cash.get(data["account"], ZERO)
    realised = sum((position.realised for position in state.positions.values()), ZERO)
    worth = sum((held["quantity"] * money(held["mark"]) for held in stated.values()), ZERO)
    cost = sum((position.cost for position in folded.values()), ZERO)
    figures = {"cash": cash, "realised": realised, "market_value": worth, "equity": cash + worth, "unrealised": worth - cost}
    for figure, derived in figures.items():
        if abs(money(data[figure]) - derived) > CENT:
            yield f"the account's {figure} is stated as {data[figure]} USD, the facts make {derived:.4f}"


def _corrected(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    done = state.executions.get(data["execution_id"])
    if done is None:
        yield f"the execution {data['execution_id']} is corrected and was never booked"
        return
    corrected = replace(done, price=money(data["price"]), commission=money(data["commission"]))
    again = Position()
    for change in state.positions[done.strategy, done.symbol].made_of:
        apply(again, corrected if change is done else change)
    for figure, derived in (("cost", again.cost), ("realised", again.realised)):
        if abs(money(data[figure]) - derived) > CENT:
            yield f"{done.strategy}/{done.symbol}: {figure} is corrected to {data[figure]} USD, the executions make {derived:.4f}"


def _exact(state: State, fact: Fact) -> Iterator[str]:
    if fact.type.partition(".")[0] in DECIDING:
        # Of a verdict what was judged is looked at; what its rules read is told in words, too.
        data = {"intent": fact.data.get("intent")} if fact.type == "risk.evaluated" else fact.data
        yield from _inexact(fact, data)


def _inexact(fact: Fact, data: Mapping[str, Any]) -> Iterator[str]:
    for name, value in data.items():
        if name in AMOUNTS and value is not None:
            if not isinstance(value, Mapping):
                yield from _unreadable(fact, name, value, money)
        elif name in SHARES:
            yield from _unreadable(fact, name, value, whole)
        if isinstance(value, Mapping):
            yield from _inexact(fact, value)
        elif isinstance(value, list) and name != "verdicts":
            for item in value:
                if isinstance(item, Mapping):
                    yield from _inexact(fact, item)


def _unreadable(fact: Fact, name: str, value: object, read: Any) -> Iterator[str]:
    try:
        read(value)
    except ValueError as error:
        yield f"{fact.type} {fact.key}: {name}: {error}"


def _baseline(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if fact.type == "portfolio.snapshotted":
        known = state.sessions.get(data["session"])
        if known is not None and known.open:
            made = money(data["equity"]) - known.equity - (state.deposited - known.deposited)
            if abs(made - money(data["day_pnl"])) > CENT:
                yield f"the day's result is stated as {data['day_pnl']} USD; it began with {known.equity}, and {made} were made"
        return
    if data["session"] in state.sessions:
        yield f"the baseline of {data['session']} is fixed again"
    before = session_before(date.fromisoformat(data["session"]))
    last = state.sessions.get(before.isoformat())
    if last is not None and not last.open:
        if money(data["baseline_equity"]) != last.equity:
            yield f"{data['session']} begins with {data['baseline_equity']} USD, {before} ended with {last.equity}"
    elif "stood_at" in data:
        yield from _stood(state, data, before)
    elif state.sessions:
        yield f"{data['session']} goes on from {state.last_closed or 'nothing'}, and not from {before}"
    elif abs(money(data["baseline_equity"]) - sum(state.cash.values(), ZERO)) > CENT:
        yield f"the first session begins with {data['baseline_equity']} USD, the account was funded with {sum(state.cash.values(), ZERO)}"


def _stood(state: State, data: Mapping[str, Any], before: date) -> Iterator[str]:
    """Nobody closed the day before: its end is what is booked, without the executions since, at the prices stated."""
    moment, prices = instant(data["stood_at"]), data["prices"]
    closing = closes_at(before)
    if closing is None or moment != datetime.combine(before, closing, NEW_YORK):
        yield f"{data['session']} is measured from {moment:%Y-%m-%d %H:%M} UTC, and not from the close of {before}"
    held = {place: position.quantity for place, position in state.positions.items()}
    worth = sum(state.cash.values(), ZERO)
    for done in state.executions.values():
        if done.at > moment:
            held[done.strategy, done.symbol] -= done.quantity if done.side == "buy" else -done.quantity
            worth -= flow(done)
    unpriced = sorted({symbol for (_, symbol), shares in held.items() if shares and symbol not in prices})
    if unpriced:
        yield f"{data['session']} begins without a price of {', '.join(unpriced)}"
        return
    worth += sum((shares * money(prices[symbol]) for (_, symbol), shares in held.items() if shares), ZERO)
    if abs(money(data["baseline_equity"]) - worth) > CENT:
        yield f"{data['session']} begins with {data['baseline_equity']} USD, the facts make {worth:.4f} at the close of {before}"


def _explained(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    ratio = money(data["ratio"])
    before = after = 0
    for part in data["positions"]:
        held = state.held(part["strategy"], data["symbol"])
        before, after = before + held, after + whole(part["quantity"])
        if part["before"] != held:
            yield f"{part['strategy']}/{data['symbol']} is split from {part['before']} shares, it holds {held}"
        if abs(part["quantity"] - held * ratio) >= 1:
            yield f"{part['strategy']}/{data['symbol']}: {held} shares become {part['quantity']} at {ratio} for 1"
    if after > before * ratio + Decimal("0.000001"):
        yield f"{data['symbol']}: {before} shares become {after} at {ratio} for 1"
    paid = sum((money(part["in_lieu"]) for part in data["positions"]), ZERO)
    if paid != money(data["in_lieu"]):
        yield f"{data['symbol']}: {data['in_lieu']} USD are paid in lieu, its holders get {paid}"


INVARIANTS = (
    Invariant(27, "positions, cash and profit are what the executions make of them", ("portfolio.snapshotted", "fill.corrected"), _folded),
    Invariant(29, "money is written as exact decimals, shares as whole numbers", EVERY, _exact),
    Invariant(
        30, "a day's baseline is fixed once, at what the day before ended with", ("session.opened", "portfolio.snapshotted"), _baseline
    ),
    Invariant(31, "shares change without an execution only by a split that explains them", ("corporate_action.split",), _explained),
)
