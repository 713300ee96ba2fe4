"""The facts of a step as Dagster metadata: tables, and the chart itself.

What a trader decides by stands in the first columns, ids in the last; prices and USD have separators, times are New York's. Model
and broker text goes into table cells and JSON, never into Markdown: it is data from outside.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg

from assets.model_tables import conversations
from assets.presenting import MOST_PICTURES, picture_sheet, present, table
from trading_pipeline.domain.events import Event, EventType, instant_from
from trading_pipeline.domain.lineage import sentence
from trading_pipeline.domain.money import usd
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.service.desk import Desk


def details(desk: Desk, step: str, events: Sequence[Event]) -> dict[str, Any]:
    """Metadata of one step, by the names under which the UI shows them."""
    show = _SHOWN.get(step)
    return show(desk, events) if show is not None else {}


def _of(events: Sequence[Event], *types: EventType) -> list[Mapping[str, Any]]:
    return [event.payload for event in events if event.type in types]


def _bars(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    rows = [
        {
            "symbol": bar["symbol"], "close": _price(bar["close"]), "open": _price(bar["open"]), "high": _price(bar["high"]),
            "low": _price(bar["low"]), "volume": f"{int(bar['volume']):,}", "interval": bar["interval"],
            "closed (New York)": _new_york(bar["end"])[:16],
        }
        for bar in _of(events, EventType.BAR_RECEIVED)
    ]
    dropped = [
        {"symbol": bar["symbol"], "reason": bar["reason"], "start (New York)": _new_york(bar["start"])[:16]}
        for bar in _of(events, EventType.BAR_DROPPED)
    ]
    return present(bars=table(rows), dropped_bars=table(dropped))


def _new_york(text: str) -> str:
    return f"{instant_from(text).astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}"


def _price(text: str | None) -> str:
    """A price a share as finely as it is given, at least to the cent; empty for none."""
    if text is None:
        return ""
    value = Decimal(text).normalize()
    return f"{value:,.{max(2, -int(value.as_tuple().exponent))}f}"


def _indicators(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    found = _of(events, EventType.INDICATORS_COMPUTED)
    names = sorted({name for data in found for name in data["values"]})
    rows = [
        {"symbol": data["symbol"], "bars": data["bars"]} | {name: _number(data["values"].get(name)) for name in names}
        for data in found
    ]
    return present(values=table(rows))


def _number(text: str | None) -> str:
    return "warm-up" if text is None else format(float(text), ".6g")


def _charts(desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    """All pictures on one sheet, and where each file is."""
    found = [(data, ", ".join(data["strategies"])) for data in _of(events, EventType.CHART_RENDERED)]
    files = [{"symbol": data["symbol"], "strategies": names, "file": desk.objects.locate(data["sha256"])} for data, names in found]
    sheet = picture_sheet(desk, [(f"{data['symbol']} for {names}", data["sha256"]) for data, names in found[:MOST_PICTURES]])
    return present(pictures=sheet, files=table(files))


def _signals(desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    rows = [
        {
            "symbol": data["symbol"], "action": data["action"].upper(), "confidence": float(data["confidence"]), "label": data["label"],
            "strategy": data["strategy"], "reasons": data["rationale"][:400],
        }
        for data in _of(events, EventType.LLM_ACTION_GENERATED)
    ]
    silent = [
        {"symbol": data["symbol"], "reason": data["reason"], "strategy": data["strategy"], "detail": data["detail"][:400]}
        for data in _of(events, EventType.LLM_ABSTAINED)
    ]
    cost = sum((Decimal(data["cost"]) for data in _of(events, EventType.LLM_RESPONDED)), Decimal(0))
    return present(signals=table(rows), abstained=table(silent)) | {"model_cost_usd": float(cost)} | conversations(desk, events)


def _verdicts(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    rows = [
        {
            "symbol": data["symbol"], "side": data["side"].upper(), "outcome": verdict["outcome"], "rule": verdict["rule"],
            "measured": verdict["measured"], "limit": verdict["limit"], "detail": verdict["detail"], "strategy": data["strategy"],
            "action": data["action_id"],
        }
        for data in _of(events, EventType.RISK_EVALUATED)
        for verdict in sorted(data["verdicts"], key=lambda v: v["outcome"] not in ("deny", "halt"))
    ]
    outcome = [
        {
            "symbol": data["symbol"], "side": data["side"].upper(), "passed": bool(data["passed"]), "denied_by": data["reason"],
            "strategy": data["strategy"], "action": data["action_id"],
        }
        for data in _of(events, EventType.RISK_EVALUATED)
    ]
    asked = [
        {
            "symbol": data["symbol"], "side": data["shown"]["side"].upper(), "quantity": int(data["shown"]["quantity"]),
            "about": usd(Decimal(data["shown"]["estimated_value"])), "expires (New York)": _new_york(data["expires_at"]),
            "strategy": data["strategy"], "decide with": f"trading approve {data['action_id'][:6]}", "action": data["action_id"],
        }
        for data in _of(events, EventType.APPROVAL_REQUESTED)
    ]
    # First what somebody has to do: the answers of all rules are long.
    return present(waiting_for_a_person=table(asked), judgements=table(outcome), verdicts=table(rows))


def _orders(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    intents = [
        {
            "symbol": data["symbol"], "side": data["side"].upper(), "quantity": int(data["quantity"]), "part": data["part"],
            "type": data["order_type"], "limit": _price(data["limit_price"]), "stop": _price(data["stop_price"]),
            "strategy": data["strategy"], "order": data["client_id"],
        }
        for data in _of(events, EventType.ORDER_INTENT)
    ]
    story = [
        {"seq": event.seq, "event": event.type.value, "says": sentence(event)[:300], "order": str(event.payload.get("client_id", ""))}
        for event in events
        if event.type.value.startswith(("order.", "action.", "approval."))
    ]
    return present(orders=table(intents), story=table(story))


def _fills(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    filled = _of(events, EventType.ORDER_FILLED, EventType.ORDER_PARTIALLY_FILLED)
    rows = [
        {
            "symbol": data["symbol"], "side": data["side"].upper(), "quantity": int(data["quantity"]), "price": _price(data["price"]),
            "value": usd(int(data["quantity"]) * Decimal(data["price"])), "commission": usd(Decimal(data["commission"])),
            "part": data["part"], "strategy": data["strategy"], "at (New York)": _new_york(data["filled_at"]), "fill": data["execution_id"],
        }
        for data in filled
    ]
    value = sum(int(data["quantity"]) * Decimal(data["price"]) for data in filled)
    return present(fills=table(rows)) | {"traded_usd": float(value)}


def _snapshots(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for data in _of(events, EventType.PORTFOLIO_SNAPSHOTTED):
        shown |= {f"{name}_usd": float(data[name]) for name in ("equity", "cash", "day_pnl", "realised", "unrealised")}
        held = [
            {
                "symbol": row["symbol"], "quantity": int(row["quantity"]), "value": usd(Decimal(row["value"])),
                "open_pnl": usd(Decimal(row["unrealised"])), "mark": _price(row["mark"]), "strategy": row["strategy"],
            }
            for row in data["positions"]["held"]
        ]
        shown |= present(positions=table(held))
    for data in _of(events, EventType.RECONCILED):
        shown["book_equals_broker"] = dg.MetadataValue.bool(bool(data["agrees"]))
    return shown


_SHOWN: dict[str, Callable[[Desk, Sequence[Event]], dict[str, Any]]] = {
    "bars": _bars,
    "indicators": _indicators,
    "charts": _charts,
    "signals": _signals,
    "verdicts": _verdicts,
    "orders": _orders,
    "fills": _fills,
    "portfolio_snapshots": _snapshots,
}
