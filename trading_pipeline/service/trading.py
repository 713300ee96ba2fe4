"""Step verdicts: every proposed action is sized by code, judged by the whole rulebook, and then asked about,
made ready, or denied. Releases are paced here (D3), judged again in `execution` at the gate.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from trading_pipeline.domain.approvals import ActionState, proposal_hash
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import Event, EventType, NewEvent, instant_text
from trading_pipeline.domain.limits import effective_collar
from trading_pipeline.domain.money import ZERO, to_cents
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderType, Side
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Judgement, Outcome, Verdict
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.sizing import NoEntry, marketable_limit, size_entry, split_exit
from trading_pipeline.domain.strategies import Mode, RiskSizing, StrategySpec
from trading_pipeline.ports import Transaction
from trading_pipeline.service import market
from trading_pipeline.service.account_limits import in_force
from trading_pipeline.service.book import Book
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.market import View
from trading_pipeline.service.outside import look
from trading_pipeline.service.settlement import settled_mismatches
from trading_pipeline.service.steps import StepResult, Tally, completed, due_strategies, nothing_to_do, spec_of
from trading_pipeline.service.voiding import void


def judge_actions(desk: Desk, cycle: Cycle) -> StepResult:
    """One verdict with every rule for each action of the cycle, the most confident first."""
    done = completed(desk.ledger, cycle, "verdicts")
    if done is not None:
        return done
    specs = {spec.name: spec for spec in due_strategies(desk, cycle)}
    waiting = desk.ledger.find("actions", cycle_id=cycle.cycle_id, state=ActionState.PROPOSED.value)
    if cycle.bar_end is None or not waiting:
        return nothing_to_do(desk, cycle, "verdicts", "no action was proposed")
    tally = Tally("verdicts", cycle)
    seen = market.views(desk, cycle, tuple(specs.values()))
    mismatched = settled_mismatches(desk, tally)
    with desk.ledger.transaction() as tx:
        in_force(desk, tx)
        decided_on = {symbol: view.bars.last_end for symbol, view in seen.items() if len(view.bars)}
        symbols = [row["symbol"] for row in waiting]
        book = Book.read(desk, tx, look(desk, tx, symbols, cycle.interval, mismatched=mismatched, bar_ends=decided_on))
        for row in sorted(waiting, key=lambda row: (-row["confidence"], row["strategy"], row["symbol"])):
            # A strategy revised meanwhile is judged, and asks a person, as it is now.
            spec = spec_of(book.strategies[row["strategy"]])
            _judge(desk, tx, cycle, spec, row, seen[row["symbol"]], book, tally)
        return tally.complete(tx, desk.now())


def _judge(desk: Desk, tx: Transaction, cycle: Cycle, spec: StrategySpec, row: Row, view: View, book: Book, tally: Tally) -> None:
    side = Side(row["side"])
    if book.now >= cycle.stale_at():
        age, life = book.now - cycle.due_at, cycle.stale_at() - cycle.due_at
        measured = f"{age} after it was due"
        verdict = Verdict("signal_ttl", Outcome.DENY, measured=measured, limit=f"{life}", detail="the run came back too late")
        tally.count("denied")
        kind = OrderClass.ENTRY if side is Side.BUY else OrderClass.EXIT
        tally.saw(tx.append(_evaluated(book, cycle, spec, row, Judgement((verdict,)), kind, None)))
        return
    tally.saw(_void_opposites(desk, tx, book, row))
    held = book.held(spec.name, row["symbol"])
    intent = _entry(desk, spec, row, view, book) if side is Side.BUY else _exit(desk, spec, row, book, held)
    if isinstance(intent, NoEntry):
        verdict = Verdict("sizing", Outcome.DENY, measured="0 shares", limit="at least 1 share", detail=f"{intent.reason}: {intent.detail}")
        tally.count("denied")
        tally.saw(tx.append(_evaluated(book, cycle, spec, row, Judgement((verdict,)), OrderClass.ENTRY, None)))
        return
    release = book.next_release(spec.name)
    judged = replace(intent, quantity=split_exit(held, intent.reference)[0]) if intent.order_class is OrderClass.EXIT and held else intent
    judgement = judge(judged, book.context(spec, intent, release=release))
    if spec.mode is Mode.AUTONOMOUS and intent.order_class is OrderClass.ENTRY and row["confidence"] < spec.min_confidence:
        low = Verdict("min_confidence", Outcome.DENY, measured=f"{row['confidence']:.2f}", limit=f"{spec.min_confidence:.2f}")
        judgement = Judgement((*judgement.verdicts, low))
    [evaluated] = tally.saw(tx.append(_evaluated(book, cycle, spec, row, judgement, intent.order_class, intent)))
    if not tx.is_new(evaluated):
        return
    tally.count("judged")
    if not judgement.passed:
        tally.count("denied")
        return
    if spec.mode is Mode.APPROVAL:
        tally.saw(tx.append(_request(book, cycle, spec, row, intent, judgement, view, evaluated)))
        tally.count("pending")
    else:
        expires = min(cycle.stale_at(), _close(desk, book.now))
        payload = {"cycle": cycle.cycle_id, "action_id": row["action_id"], "not_before": release, "expires_at": expires}
        key = f"action.ready:{row['action_id']}"
        tally.saw(tx.append(NewEvent(EventType.ACTION_READY, f"strategy:{spec.name}", key, payload, desk.now(), "rulebook", evaluated.seq)))
        tally.count("ready")
    changed = tx.get("actions", row["action_id"])
    assert changed is not None
    book.admit(changed)


def _entry(desk: Desk, spec: StrategySpec, row: Row, view: View, book: Book) -> OrderIntent | NoEntry:
    quote = book.outside.quotes.get(row["symbol"])
    if quote is None:
        return NoEntry("no_quote", f"{row['symbol']} has no quote at {book.now:%Y-%m-%d %H:%M:%S} UTC")
    collar = effective_collar(book.limits, spec.limits, autonomous=spec.mode is Mode.AUTONOMOUS)
    held = book.held(spec.name, row["symbol"]) * quote.last
    plan = size_entry(
        spec.sizing, price=quote.last, equity=book.portfolio.equity, buying_power=book.portfolio.cash, held_value=held, limits=book.limits,
        strategy_limits=spec.limits, atr=_newest(view, "atr_14"), support=_support(spec, view), sma20=_newest(view, "sma_20"),
        collar=collar,
        price_band=spec.price_band, average_day_volume=book.average_volume(row["symbol"]),
    )
    if isinstance(plan, NoEntry):
        return plan
    return OrderIntent(
        action_id=row["action_id"], part="entry", account=desk.broker.account_id, environment=desk.environment, strategy=spec.name,
        symbol=row["symbol"], side=Side.BUY, order_class=OrderClass.ENTRY, quantity=plan.quantity, order_type=plan.order_type,
        reference=quote.last, limit_price=plan.limit_price, brackets=plan.brackets,
    )


def _exit(desk: Desk, spec: StrategySpec, row: Row, book: Book, held: int) -> OrderIntent:
    quote = book.outside.quotes.get(row["symbol"])
    reference = quote.last if quote is not None else ZERO
    collar = effective_collar(book.limits, spec.limits, autonomous=spec.mode is Mode.AUTONOMOUS)
    limit = marketable_limit(Side.SELL, reference, collar, spec.price_band) if quote is not None else None
    return OrderIntent(
        action_id=row["action_id"], part="exit", account=desk.broker.account_id, environment=desk.environment, strategy=spec.name,
        symbol=row["symbol"], side=Side.SELL, order_class=OrderClass.EXIT, quantity=held, order_type=OrderType.MARKETABLE,
        reference=reference, limit_price=limit,
    )


def _newest(view: View, column: str) -> Decimal | None:
    values = view.columns.get(column)
    if values is None or not len(values) or not np.isfinite(values[-1]):
        return None
    return Decimal(format(float(values[-1]), ".10g"))


def _support(spec: StrategySpec, view: View) -> Decimal | None:
    """The lowest low of the newest bars."""
    bars = spec.sizing.support_bars if isinstance(spec.sizing, RiskSizing) else 20
    lows = view.bars.low[-bars:]
    return Decimal(format(float(lows.min()), ".10g")) if len(lows) >= bars else None


def _void_opposites(desk: Desk, tx: Transaction, book: Book, row: Row) -> list[Event]:
    """An opposite signal voids what is pending or ready for the same symbol (D29)."""
    events = []
    for other in list(book.actions):
        same = (other["strategy"], other["symbol"]) == (row["strategy"], row["symbol"])
        if same and other["side"] != row["side"] and other["state"] in (ActionState.PENDING.value, ActionState.READY.value):
            events += void(tx, other, f"an opposite signal came: {row['action_id']}", desk.now(), "rulebook", row["generated_seq"])
            changed = tx.get("actions", other["action_id"])
            if changed is not None:
                book.admit(changed)
    return events


def _evaluated(
    book: Book, cycle: Cycle, spec: StrategySpec, row: Row, judgement: Judgement, kind: OrderClass, intent: OrderIntent | None,
) -> NewEvent:
    payload = {
        "cycle": cycle.cycle_id, "stage": "proposal", "action_id": row["action_id"], "strategy": spec.name, "symbol": row["symbol"],
        "side": row["side"], "order_class": kind.value, "passed": judgement.passed, "reason": judgement.reason,
        "intent": encode(intent) if intent is not None else None, "verdicts": judgement.as_json(), **book.limits_versions(spec.name),
    }
    key = f"risk.evaluated:{row['action_id']}"
    return NewEvent(EventType.RISK_EVALUATED, f"strategy:{spec.name}", key, payload, book.desk.now(), "rulebook", row["generated_seq"])


def _request(
    book: Book, cycle: Cycle, spec: StrategySpec, row: Row, intent: OrderIntent, judgement: Judgement, view: View, evaluated: Event,
) -> NewEvent:
    desk, versions = book.desk, book.limits_versions(spec.name)
    generated = desk.ledger.event(row["generated_seq"])
    now = desk.now()
    expires = min(now + spec.approval_timeout, _close(desk, now))
    nonce = secrets.token_hex(8)
    band = spec.price_band
    shown = proposal(spec, intent, judgement, generated.payload if generated else {}) | {
        **versions, "expires_at": instant_text(expires), "nonce": nonce, "verdict_hash": evaluated.hash.hex(),
        "price_low": format(intent.reference * (1 - band), "f"), "price_high": format(intent.reference * (1 + band), "f"),
        "bar_end": instant_text(view.bars.last_end),
    }
    payload = {
        "cycle": cycle.cycle_id, "action_id": row["action_id"], "strategy": spec.name, "symbol": row["symbol"], "shown": shown,
        "hash": proposal_hash(shown), "nonce": nonce, "expires_at": expires, "price_low": shown["price_low"],
        "price_high": shown["price_high"], "limits_version": versions["limits_version"],
    }
    key = f"approval.requested:{row['action_id']}"
    return NewEvent(EventType.APPROVAL_REQUESTED, f"strategy:{spec.name}", key, payload, now, "rulebook", evaluated.seq)


def proposal(spec: StrategySpec, intent: OrderIntent, judgement: Judgement, signal: Mapping[str, Any]) -> dict[str, Any]:
    """What a person is shown, and what the approval's hash covers (invariant 45). JSON values only."""
    return {
        "account": intent.account, "environment": intent.environment, "strategy": spec.name, "symbol": intent.symbol,
        "side": intent.side.value, "order_class": intent.order_class.value, "quantity": intent.quantity,
        "order_type": intent.order_type.value, "time_in_force": intent.time_in_force.value, "regular_hours_only": True,
        "reference": format(intent.reference, "f"), "limit_price": None if intent.limit_price is None else format(intent.limit_price, "f"),
        "estimated_value": format(to_cents(intent.quantity * intent.reference), "f"),
        "brackets": [encode(bracket) for bracket in intent.brackets], "confidence": signal.get("confidence"),
        "rationale": signal.get("rationale", ""), "label": signal.get("label", ""), "chart": signal.get("chart"),
        "verdicts": judgement.as_json(),
    }


def _close(desk: Desk, now: datetime) -> datetime:
    session = desk.calendar.at(now)
    return session.close if session is not None else now + timedelta(seconds=1)
