"""Step verdicts: every proposed action is sized by code, judged by the whole rulebook, and then asked about,
made ready, or denied. Releases are paced here (D3), judged again in `execution` at the gate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from trading_pipeline.domain.approvals import ActionState, proposal_hash
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.events import Event, EventType, NewEvent, instant_text
from trading_pipeline.domain.limits import effective_collar
from trading_pipeline.domain.money import ZERO, price_of, to_cents
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderType, Side
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Judgement, Outcome, Verdict
from trading_pipeline.domain.round_trips import recovering
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.sizing import NoEntry, exit_slices, marketable_limit, size_entry
from trading_pipeline.domain.strategies import Mode, RiskSizing, StrategySpec
from trading_pipeline.ports import Transaction
from trading_pipeline.service import market
from trading_pipeline.service.account_limits import in_force
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.outside import look
from trading_pipeline.service.market import View
from trading_pipeline.service.orders.settlement import settled_mismatches
from trading_pipeline.service.orders.voiding import void
from trading_pipeline.service.steps import StepResult, Tally, completed, due_strategies, nothing_to_do, spec_of


@dataclass(frozen=True, slots=True)
class Measured:
    """What sizing reads of the bars, USD a share; None in warm-up."""

    atr: Decimal | None
    support: Decimal | None
    sma20: Decimal | None
    close: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Proposed:
    """An action sized and judged."""

    intent: OrderIntent | None
    """None where there is nothing to send; the judgement says why."""
    order_class: OrderClass
    judgement: Judgement
    release: datetime
    """When it may go out, if it passed."""


def judge_actions(desk: Desk, cycle: Cycle) -> StepResult:
    """One verdict with every rule for each action of the cycle, the most confident first."""
    done = completed(desk.ledger, cycle, "verdicts")
    if done is not None:
        return done
    specs = {spec.name: spec for spec in due_strategies(desk, cycle)}
    waiting = desk.ledger.find("actions", cycle_id=cycle.cycle_id, state=ActionState.PROPOSED.value)
    left = _left_behind(desk, cycle)
    if cycle.bar_end is None or not (waiting or left):
        return nothing_to_do(desk, cycle, "verdicts", "no action was proposed")
    tally = Tally("verdicts", cycle)
    seen = market.views(desk, cycle, tuple(specs.values()))
    mismatched = settled_mismatches(desk, tally)
    with desk.ledger.transaction() as tx:
        in_force(desk, tx)
        decided_on = {symbol: view.bars.last_end for symbol, view in seen.items() if len(view.bars)}
        symbols = [row["symbol"] for row in [*waiting, *(row for _, row in left)]]
        book = Book.read(desk, tx, look(desk, tx, symbols, cycle.interval, mismatched=mismatched, bar_ends=decided_on))
        for late, row in left:
            _deny(desk, tx, late, row, book, tally)
        for row in sorted(waiting, key=lambda row: (-row["confidence"], row["strategy"], row["symbol"])):
            # A strategy revised meanwhile is judged, and asks a person, as it is now.
            spec = spec_of(book.strategies[row["strategy"]])
            _judge(desk, tx, cycle, spec, row, seen.get(row["symbol"]), book, tally)
        return tally.complete(tx, desk.now())


def _left_behind(desk: Desk, cycle: Cycle) -> list[tuple[Cycle, Row]]:
    """Proposals that no run came to judge before they went stale, such as that of a killed one: each with the cycle it was made in."""
    found = []
    for row in desk.ledger.find("actions", state=ActionState.PROPOSED.value):
        strategy = desk.ledger.get("strategies", row["strategy"])
        if row["cycle_id"] == cycle.cycle_id or strategy is None:
            continue
        interval, day = spec_of(strategy).interval, date.fromisoformat(row["session"])
        due_at = desk.calendar.session(day).open if interval.daily else row["bar_end"]
        made_in = Cycle(row["cycle_id"], CycleKind.BAR, day, due_at, interval, row["bar_end"])
        if desk.now() >= made_in.stale_at():
            found.append((made_in, row))
    return found


def _deny(desk: Desk, tx: Transaction, cycle: Cycle, row: Row, book: Book, tally: Tally) -> None:
    """Write down that a proposal of an earlier cycle is stale."""
    spec, measured = spec_of(book.strategies[row["strategy"]]), Measured(None, None, None)
    payload = evaluated_payload(book, cycle, spec, row, measured, propose(book, cycle, spec, row, measured))
    stream, key = f"strategy:{spec.name}", f"risk.evaluated:{row['action_id']}"
    tally.saw(tx.append(NewEvent(EventType.RISK_EVALUATED, stream, key, payload, desk.now(), "rulebook", row["generated_seq"])))
    tally.count("denied")


def _judge(desk: Desk, tx: Transaction, cycle: Cycle, spec: StrategySpec, row: Row, view: View | None, book: Book, tally: Tally) -> None:
    """Judge one.

    Args:
        view: None of a symbol that the strategy has been revised away from meanwhile: nothing of it is measured.
    """
    if book.now < cycle.stale_at():
        tally.saw(_void_opposites(desk, tx, book, row))
    measured = Measured(None, None, None) if view is None else _measured(spec, view)
    proposed = propose(book, cycle, spec, row, measured)
    stream, cause = f"strategy:{spec.name}", row["generated_seq"]
    payload = evaluated_payload(book, cycle, spec, row, measured, proposed)
    key = f"risk.evaluated:{row['action_id']}"
    [evaluated] = tally.saw(tx.append(NewEvent(EventType.RISK_EVALUATED, stream, key, payload, desk.now(), "rulebook", cause)))
    if not tx.is_new(evaluated):
        return
    if proposed.intent is not None:
        tally.count("judged")
    if not proposed.judgement.passed:
        tally.count("denied")
        return
    if spec.mode is Mode.APPROVAL:
        generated, now = desk.ledger.event(cause), desk.now()
        signal = generated.payload if generated is not None else {}
        payload = requested_payload(book, cycle, spec, row, proposed, signal, evaluated, now, desk.nonce())
        type_, what = EventType.APPROVAL_REQUESTED, "pending"
    else:
        type_, what, now = EventType.ACTION_READY, "ready", desk.now()
        payload = ready_payload(book, cycle, row, proposed)
    key = f"{type_.value}:{row['action_id']}"
    tally.saw(tx.append(NewEvent(type_, stream, key, payload, now, "rulebook", evaluated.seq)))
    tally.count(what)
    changed = tx.get("actions", row["action_id"])
    assert changed is not None
    book.admit(changed)


def propose(book: Book, cycle: Cycle, spec: StrategySpec, row: Row, measured: Measured) -> Proposed:
    """Size and judge one proposed action; the same book gives the same, so a replay judges with it again.

    Args:
        row: Of `actions`; what it voids is void in the book.
    """
    side = Side(row["side"])
    if book.now >= cycle.stale_at():
        age, life = book.now - cycle.due_at, cycle.stale_at() - cycle.due_at
        late = Verdict("signal_ttl", Outcome.DENY, f"{age} after it was due", f"{life}", "the run came back too late")
        return Proposed(None, OrderClass.ENTRY if side is Side.BUY else OrderClass.EXIT, Judgement((late,)), book.now)
    held = book.held(spec.name, row["symbol"])
    intent = _entry(book, spec, row, measured) if side is Side.BUY else _exit(book, spec, row, held)
    if isinstance(intent, NoEntry):
        none = Verdict("sizing", Outcome.DENY, "0 shares", "at least 1 share", f"{intent.reason}: {intent.detail}")
        return Proposed(None, OrderClass.ENTRY, Judgement((none,)), book.now)
    release = book.next_release(spec.name)
    # Without shares or a price there is nothing to slice: the rules deny it as it is.
    sliced = intent.order_class is OrderClass.EXIT and held > 0 and intent.reference > 0
    judged = replace(intent, quantity=exit_slices(held, intent.reference)[0]) if sliced else intent
    judgement = judge(judged, book.context(spec, intent, release=release))
    if spec.mode is Mode.AUTONOMOUS and intent.order_class is OrderClass.ENTRY and row["confidence"] < spec.min_confidence:
        low = Verdict("min_confidence", Outcome.DENY, measured=f"{row['confidence']:.2f}", limit=f"{spec.min_confidence:.2f}")
        judgement = Judgement((*judgement.verdicts, low))
    return Proposed(intent, intent.order_class, judgement, release)


def _entry(book: Book, spec: StrategySpec, row: Row, measured: Measured) -> OrderIntent | NoEntry:
    quote = book.outside.quotes.get(row["symbol"])
    if quote is None:
        return NoEntry("no_quote", f"{row['symbol']} has no quote at {book.now:%Y-%m-%d %H:%M:%S} UTC")
    collar = effective_collar(book.limits, spec.limits, autonomous=spec.mode is Mode.AUTONOMOUS)
    held = book.held(spec.name, row["symbol"]) * quote.last
    plan = size_entry(
        spec.sizing, price=quote.last, equity=book.portfolio.equity, buying_power=book.portfolio.cash, held_value=held, limits=book.limits,
        strategy_limits=spec.limits, atr=measured.atr, support=measured.support, sma20=measured.sma20, collar=collar,
        price_band=spec.price_band, average_day_volume=book.average_volume(row["symbol"]),
        recovering=recovering(book.track.round_trips.get(spec.name, ()), spec.limits.losing_streak),
        day_risk_left=book.day_risk_left(spec, row["action_id"]), close=measured.close,
    )
    if isinstance(plan, NoEntry):
        return plan
    return OrderIntent(
        action_id=row["action_id"], part="entry", account=book.portfolio.account, environment=book.desk.environment, strategy=spec.name,
        symbol=row["symbol"], side=Side.BUY, order_class=OrderClass.ENTRY, quantity=plan.quantity, order_type=plan.order_type,
        reference=quote.last, limit_price=plan.limit_price, brackets=plan.brackets,
    )


def _exit(book: Book, spec: StrategySpec, row: Row, held: int) -> OrderIntent:
    quote = book.outside.quotes.get(row["symbol"])
    reference = quote.last if quote is not None else ZERO
    collar = effective_collar(book.limits, spec.limits, autonomous=spec.mode is Mode.AUTONOMOUS)
    limit = marketable_limit(Side.SELL, reference, collar, spec.price_band) if quote is not None else None
    return OrderIntent(
        action_id=row["action_id"], part="exit", account=book.portfolio.account, environment=book.desk.environment, strategy=spec.name,
        symbol=row["symbol"], side=Side.SELL, order_class=OrderClass.EXIT, quantity=held, order_type=OrderType.MARKETABLE,
        reference=reference, limit_price=limit,
    )


def _measured(spec: StrategySpec, view: View) -> Measured:
    return Measured(_newest(view, "atr_14"), _support(spec, view), _newest(view, "sma_20"), price_of(view.bars.close[-1]))


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


def evaluated_payload(book: Book, cycle: Cycle, spec: StrategySpec, row: Row, measured: Measured, proposed: Proposed) -> dict[str, Any]:
    """The payload of `risk.evaluated`, with all that the verdicts took from outside the ledger."""
    intent, judgement = proposed.intent, proposed.judgement
    return {
        "cycle": cycle.cycle_id, "stage": "proposal", "action_id": row["action_id"], "strategy": spec.name, "symbol": row["symbol"],
        "side": row["side"], "order_class": proposed.order_class.value, "passed": judgement.passed, "reason": judgement.reason,
        "intent": encode(intent) if intent is not None else None, "verdicts": judgement.as_json(), **book.limits_versions(spec.name),
        "outside": encode(book.outside.only(row["symbol"])), "measured": encode(measured),
    }


def ready_payload(book: Book, cycle: Cycle, row: Row, proposed: Proposed) -> dict[str, Any]:
    """The payload of `action.ready`: when it may go out, and until when."""
    expires = min(cycle.stale_at(), _close(book.desk, book.now))
    return {"cycle": cycle.cycle_id, "action_id": row["action_id"], "not_before": proposed.release, "expires_at": expires}


def requested_payload(
    book: Book, cycle: Cycle, spec: StrategySpec, row: Row, proposed: Proposed, signal: Mapping[str, Any], evaluated: Event, now: datetime,
    nonce: str,
) -> dict[str, Any]:
    """The payload of `approval.requested`: what a person is shown, and its hash.

    Args:
        signal: The payload that the action was generated with.
        evaluated: The verdicts, whose hash is shown.
        nonce: Makes the hash of every request its own.
    """
    intent, versions = proposed.intent, book.limits_versions(spec.name)
    assert intent is not None
    expires = min(now + spec.approval_timeout, _close(book.desk, now))
    band = spec.price_band
    shown = proposal(spec, intent, proposed.judgement, signal) | {
        **versions, "expires_at": instant_text(expires), "nonce": nonce, "verdict_hash": evaluated.hash.hex(),
        "price_low": format(intent.reference * (1 - band), "f"), "price_high": format(intent.reference * (1 + band), "f"),
        "bar_end": instant_text(book.outside.bar_ends[row["symbol"]]),
    }
    return {
        "cycle": cycle.cycle_id, "action_id": row["action_id"], "strategy": spec.name, "symbol": row["symbol"], "shown": shown,
        "hash": proposal_hash(shown), "nonce": nonce, "expires_at": expires, "price_low": shown["price_low"],
        "price_high": shown["price_high"], "limits_version": versions["limits_version"],
    }


_SAID_BY_MODELS = ("hints", "flags")
"""What a person is shown of a model's reply besides: prices it would like, figures it got wrong (invariant 61)."""


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
        "verdicts": judgement.as_json(), **{name: signal[name] for name in _SAID_BY_MODELS if name in signal},
    }


def _close(desk: Desk, now: datetime) -> datetime:
    session = desk.calendar.at(now)
    return session.close if session is not None else now + timedelta(seconds=1)
