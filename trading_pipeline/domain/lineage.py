"""Lineage: the walk from any fact back to the bar it came from, by `cause`, each fact in words."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.events import Event, EventType, instant_from
from trading_pipeline.domain.money import usd
from trading_pipeline.domain.sessions import NEW_YORK

Find = Callable[[int], Event | None]
MAX_STEPS = 200
MAX_TEXT = 1_000
"""Characters of a model's or a list's text in one sentence."""


def ancestors(event: Event, find: Find) -> list[Event]:
    """The event and everything that led to it, the oldest first."""
    chain, seen = [event], {event.seq}
    while len(chain) < MAX_STEPS:
        cause = chain[-1].cause
        if cause is None or cause in seen:
            break
        previous = find(cause)
        if previous is None:
            break
        chain.append(previous)
        seen.add(previous.seq)
    return chain[::-1]


FILLS = (EventType.ORDER_FILLED, EventType.ORDER_PARTIALLY_FILLED)


def happened_at(event: Event) -> datetime:
    """When a fact came about in the market: of a fill its own time, which may be long before it was booked."""
    return instant_from(event.payload["filled_at"]) if event.type in FILLS else event.at


def sentence(event: Event) -> str:
    """One fact as a person would say it. Model text is bounded and stays text."""
    data = event.payload
    describe = _SENTENCES.get(event.type)
    return describe(data) if describe is not None else data.get("reason") or data.get("strategy") or ""


def _clock(text: str) -> str:
    """A stored instant as the time in New York."""
    return f"{instant_from(text).astimezone(NEW_YORK):%H:%M:%S} New York"


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT].rpartition(' ')[0]} …"


def _many(count: int, plural: str) -> str:
    """`4 canceled`, `1 position`, `2 positions`."""
    return f"{count:,} {plural.removesuffix('s') if count == 1 and ' ' not in plural else plural}"


def _money(text: str | None) -> str:
    return "-" if text is None else usd(Decimal(text))


def _bar(data: Mapping[str, Any]) -> str:
    return (
        f"{data['symbol']} {data['interval']} bar closed at {data['close']} "
        f"(open {data['open']}, high {data['high']}, low {data['low']}, volume {int(data['volume']):,})"
    )


def _indicators(data: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {float(value):.4g}" for name, value in sorted(data["values"].items()) if value is not None)
    return f"{data['symbol']} over {data['bars']} bars: {_bounded(values)}"


def _asked(data: Mapping[str, Any]) -> str:
    if "request" not in data:
        return f"{data['strategy']} asks {data['provider']} about {data['symbol']}"
    seen = " and its chart" if data["picture"] else ""
    words = f"prompt {data['prompt']} as {data['rendered'][:12]}{seen}, at most {_cost(data['reserved'])}"
    return f"{data['strategy']} asks {data['model']} of {data['provider']} about {data['symbol']}: {words}"


def _answered(data: Mapping[str, Any]) -> str:
    if "calls" not in data:
        return "nobody was asked" if data["provider"] == "none" else f"the {data['model']} answered, without a model and its cost"
    who = f"{data['model']} of {data['provider']}"
    if data.get("trouble"):
        return f"{who} gave no answer: {data['trouble']}, {_cost(data['cost'])}"
    how = ", from the cassette" if data["replayed"] else f" in {data['seconds']:.1f} s"
    return f"{who} answered{how}, {data['tokens_in']:,} tokens in and {data['tokens_out']:,} out, {_cost(data['cost'])}"


def _cost(text: str) -> str:
    """Cents and their fractions: one call costs little."""
    amount = Decimal(text)
    return usd(amount) if amount == 0 or amount >= 1 else f"${amount:.4f}"


def _signal(data: Mapping[str, Any]) -> str:
    label = f" ({data['label']})" if data.get("label") else ""
    return f"{data['action'].upper()} {data['symbol']}{label}, confidence {Decimal(data['confidence']):.2f}: {_bounded(data['rationale'])}"


def _verdict(data: Mapping[str, Any]) -> str:
    rules = len(data["verdicts"])
    return f"{data['stage']}: {rules} rules, {'all passed' if data['passed'] else 'denied by ' + data['reason']}"


def _intent(data: Mapping[str, Any]) -> str:
    limit = f", limit {data['limit_price']}" if data.get("limit_price") else ""
    stop = f", stop {data['stop_price']}" if data.get("stop_price") else ""
    return f"{data['part']}: {data['side'].upper()} {data['quantity']} {data['symbol']} {data['order_type']}{limit}{stop}"


def _step(data: Mapping[str, Any]) -> str:
    done = ", ".join(_many(many, what.replace("_", " ")) for what, many in data["counts"].items() if many)
    return f"{data['step'].replace('_', ' ')} of {data['cycle']}: {done or 'nothing to do'}"


def _named(what: str) -> Callable[[Mapping[str, Any]], str]:
    """What happened to an order or a proposal, by its symbol if it is said, and why."""

    def say(data: Mapping[str, Any]) -> str:
        subject = data.get("symbol") or data.get("client_id", "")
        return f"{subject} {what}" + (f": {data['reason']}" if data.get("reason") else "")

    return say


def _fill(data: Mapping[str, Any]) -> str:
    part = str(data.get("part", "")).rstrip("-0123456789")
    how = f" by its {part}" if part in ("stop", "target") else ""
    order = f"{data['side'].upper()} {data['quantity']} {data['symbol']} at {data['price']}{how}"
    return f"{order}, commission {_money(data['commission'])}, fill {data['execution_id']}"


def _resumed(data: Mapping[str, Any]) -> str:
    """What a strategy goes on with, where its prompt or model had changed."""
    if "prompt_digest" not in data:
        return f"{data['strategy']} goes on"
    rests_on = "UNCHECKED" if data.get("unchecked") else f"which passed the golden set in {data['checked']}"
    return f"{data['strategy']} goes on with prompt {data['prompt_digest'][:12]} and {data['answered_by'] or 'its model'}, {rests_on}"


def _outcome(data: Mapping[str, Any]) -> str:
    told = {True: ", right", False: ", wrong", None: ""}[data["right"]]
    return f"{data['action'].upper()} {data['symbol']}, {data['horizon'].replace('_', ' ')} later: {Decimal(data['moved']):+.2%}{told}"


def _shadow(data: Mapping[str, Any]) -> str:
    if not data["fills"]:
        return f"{data['state']} {data['side'].upper()} {data['symbol']}: its order would not have filled"
    return f"{data['state']} {data['side'].upper()} {data['quantity']} {data['symbol']}: would have made {_money(data['result'])}"


def _split(data: Mapping[str, Any]) -> str:
    held = [f"{each['before']} of {each['strategy']} are {each['quantity']}" for each in data["positions"]]
    told = [*held, *([f"{_many(len(data['orders']), 'orders')} restated"] if data["orders"] else [])]
    return f"{data['symbol']} splits, {data['ratio']} for 1" + (f": {', '.join(told)}" if told else "")


_SENTENCES: dict[EventType, Callable[[Mapping[str, Any]], str]] = {
    EventType.BAR_RECEIVED: _bar,
    EventType.INDICATORS_COMPUTED: _indicators,
    EventType.CHART_RENDERED: lambda data: f"{data['symbol']} chart {data['sha256'][:12]}",
    EventType.LLM_REQUESTED: _asked,
    EventType.LLM_RESPONDED: _answered,
    EventType.LLM_DISCARDED: lambda data: f"{_answered(data)}; discarded: {data['reason']}",
    EventType.LLM_SKIPPED: lambda data: f"{data['model']} is not asked about {data['symbol']}: {data['detail'] or data['reason']}",
    EventType.LLM_LOST: lambda data: f"no reply about {data['symbol']}: {data['reason']}; {_cost(data['reserved'])} count as spent",
    EventType.LLM_ACTION_GENERATED: _signal,
    EventType.LLM_ABSTAINED: lambda data: f"no answer on {data['symbol']}: {data['detail'] or data['reason']}",
    EventType.STRATEGY_RESUMED: _resumed,
    EventType.PROMPT_CHECKED: lambda data: (
        f"{data['prompt']} with {data['answered_by'] or data['model']} {'passes' if data['passed'] else 'DOES NOT PASS'} the golden set: "
        f"{sum(case['passed'] for case in data['cases'])} of {len(data['cases'])} cases"
    ),
    EventType.SIGNAL_OUTCOME: _outcome,
    EventType.SHADOW_CLOSED: _shadow,
    EventType.OUTCOMES_MEASURED: lambda data: f"measured {_many(data['outcomes'], 'outcomes')}, {data['shadows']:,} of trades never made",
    EventType.RISK_EVALUATED: _verdict,
    EventType.ACTION_READY: lambda data: f"ready, to be sent from {_clock(data['not_before'])}",
    EventType.APPROVAL_REQUESTED: lambda data: (
        f"{data['shown']['side'].upper()} {data['shown']['quantity']} {data['symbol']}, about {_money(data['shown']['estimated_value'])}: "
        f"asked a person until {_clock(data['expires_at'])}"
    ),
    EventType.APPROVAL_APPROVED: lambda data: f"approved {data['symbol']}, to be sent from {_clock(data['not_before'])}",
    EventType.ORDER_INTENT: _intent,
    EventType.ORDER_SUBMITTED: lambda data: f"sent as {data['client_id']}",
    EventType.ORDER_ACCEPTED: lambda data: f"the broker took it as {data.get('broker_order_id', 'part of its parent')}",
    EventType.ORDER_PARTIALLY_FILLED: _fill,
    EventType.ORDER_FILLED: _fill,
    EventType.APPROVAL_REJECTED: _named("rejected by a person"),
    EventType.APPROVAL_EXPIRED: _named("expired"),
    EventType.APPROVAL_VOIDED: _named("voided"),
    EventType.ACTION_EXPIRED: _named("expired"),
    EventType.ACTION_VOIDED: _named("voided"),
    EventType.ORDER_DENIED: _named("denied"),
    EventType.ORDER_REJECTED: _named("rejected by the broker"),
    EventType.ORDER_UNKNOWN: _named("unknown at the broker"),
    EventType.ORDER_CANCEL_REQUESTED: _named("to be cancelled"),
    EventType.ORDER_CANCELED: _named("cancelled"),
    EventType.ORDER_EXPIRED: _named("expired at the broker"),
    EventType.ORDER_NOT_PLACED: _named("never reached the broker"),
    EventType.ORDER_LATE_FOUND: _named("found late"),
    EventType.ORDER_QUARANTINED: _named("set aside, its symbol is a person's"),
    EventType.ORDER_ADOPTED: lambda data: f"{data['symbol']} order {data['client_id']} taken over: this ledger never sent it",
    EventType.ORDER_RELEASED: _named("released by a person"),
    EventType.EXECUTION_REFUSED: lambda data: f"execution {data['execution_id']} is not booked: {data['reason']}",
    EventType.EXTERNAL_FILLED: lambda data: f"not ours: {_fill(data)}",
    EventType.FILL_CORRECTED: lambda data: f"fill {data['execution_id']} restated: {data['price_before']} is {data['price']}",
    EventType.POSITION_UNPROTECTED: lambda data: f"{data['quantity']} {data['symbol']} have no stop: {data['reason']}",
    EventType.PROTECTION_OVERSIZED: lambda data: (
        f"exits could sell {data['selling']} {data['symbol']}, {data.get('strategy') or 'the account'} has {data['held']}: a person decides"
    ),
    EventType.ORDERS_REQUESTED: lambda data: f"the desk is asked for the orders of {data['cycle']}",
    EventType.ORDERS_REFUSED: lambda data: f"the desk could not place the orders of {data['cycle']}: {data['error']['message']}",
    EventType.DESK_STARTED: lambda data: f"the desk holds {data['account']}, lease {data['token']}",
    EventType.DESK_STOPPED: lambda data: f"the desk lets go of {data['account']}, lease {data['token']}",
    EventType.STEP_COMPLETED: _step,
    EventType.CYCLE_MISSED: lambda data: f"{data['cycle']} missed: {data['reason']}",
    EventType.LEDGER_OPENED: lambda data: f"a ledger of the environment {data['environment']}",
    EventType.ACCOUNT_FUNDED: lambda data: f"{data['account']} begins with {_money(data['amount'])}",
    EventType.SESSION_OPENED: lambda data: f"{data['session']} begins with equity {_money(data['baseline_equity'])}",
    EventType.SESSION_CLOSED: lambda data: f"{data['session']} ends with equity {_money(data['closing_equity'])}",
    EventType.ACCOUNT_LATCHED: lambda data: f"EMERGENCY STOP of {data['account']}: {data['reason']}",
    EventType.ACCOUNT_LATCH_CLEARED: lambda data: f"the latch of {data['account']} is cleared; nothing resumes",
    EventType.STOP_REPORTED: lambda data: (
        f"stop {'done' if data['clean'] else 'NOT DONE'}: {_many(len(data['ended']), 'orders')} confirmed, "
        f"{len(data['open'])} open, {len(data['unknown'])} unknown"
    ),
    EventType.STRATEGY_REPORTED: lambda data: (
        f"{data['strategy']} on {data['session']}: {_many(data['fills'], 'fills')}, "
        f"day {_money(data['day_pnl'])}, total {_money(data['total_pnl'])}"
    ),
    EventType.CORPORATE_ACTION_SPLIT: _split,
    EventType.BAR_DROPPED: lambda data: f"{data['symbol']} {data['interval']} bar dropped: {data['reason']}",
    EventType.RECONCILED: lambda data: "; ".join(data["differences"]) or "book and broker agree",
    EventType.PORTFOLIO_SNAPSHOTTED: lambda data: (
        f"equity {_money(data['equity'])}, cash {_money(data['cash'])}, day {_money(data['day_pnl'])}"
    ),
}
