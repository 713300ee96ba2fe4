"""The facts of a step as Dagster metadata: tables, and the chart itself.

Model and broker text goes into table cells and JSON, never into Markdown: it is data from outside.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg

from trading_pipeline.adapters.chart_png import thumbnail
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.lineage import sentence
from trading_pipeline.domain.money import usd
from trading_pipeline.service.desk import Desk

MOST_ROWS = 200
MOST_PICTURES = 10

Cells = Mapping[str, str | int | float | bool]


def details(desk: Desk, step: str, events: Sequence[Event]) -> dict[str, Any]:
    """Metadata of one step, by the names under which the UI shows them."""
    show = _SHOWN.get(step)
    return show(desk, events) if show is not None else {}


def _table(rows: Sequence[Cells]) -> dg.TableMetadataValue | None:
    if not rows:
        return None
    kinds = {str: "string", int: "int", float: "float", bool: "bool"}
    columns = [dg.TableColumn(name, kinds[type(value)]) for name, value in rows[0].items()]
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows[:MOST_ROWS]], dg.TableSchema(columns))


def _present(**tables: Any) -> dict[str, Any]:
    return {name: value for name, value in tables.items() if value is not None}


def _of(events: Sequence[Event], *types: EventType) -> list[Mapping[str, Any]]:
    return [event.payload for event in events if event.type in types]


def _bars(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    rows = [
        {
            "symbol": bar["symbol"], "interval": bar["interval"], "closed": bar["end"][:16].replace("T", " "), "open": float(bar["open"]),
            "high": float(bar["high"]), "low": float(bar["low"]), "close": float(bar["close"]), "volume": int(bar["volume"]),
        }
        for bar in _of(events, EventType.BAR_RECEIVED)
    ]
    dropped = [{"symbol": bar["symbol"], "start": bar["start"], "reason": bar["reason"]} for bar in _of(events, EventType.BAR_DROPPED)]
    return _present(bars=_table(rows), dropped_bars=_table(dropped))


def _indicators(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    found = _of(events, EventType.INDICATORS_COMPUTED)
    names = sorted({name for data in found for name in data["values"]})
    rows = [
        {"symbol": data["symbol"], "bars": data["bars"]} | {name: _number(data["values"].get(name)) for name in names}
        for data in found
    ]
    return _present(values=_table(rows))


def _number(text: str | None) -> str:
    return "warm-up" if text is None else format(float(text), ".6g")


def _charts(desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    """All pictures on one sheet, and where each file is."""
    pictures: list[str] = []
    files = []
    for data in _of(events, EventType.CHART_RENDERED):
        strategies = ", ".join(data["strategies"])
        files.append({"symbol": data["symbol"], "strategies": strategies, "file": desk.objects.locate(data["sha256"])})
        if len(pictures) < MOST_PICTURES:
            picture = base64.b64encode(thumbnail(desk.objects.get(data["sha256"]))).decode()
            pictures.append(f"{data['symbol']} for {strategies}\n\n![{data['symbol']}](data:image/png;base64,{picture})")
    sheet = dg.MetadataValue.md("\n\n".join(pictures)) if pictures else None
    return _present(pictures=sheet, files=_table(files))


def _signals(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    rows = [
        {
            "strategy": data["strategy"], "symbol": data["symbol"], "action": data["action"].upper(), "label": data["label"],
            "confidence": float(data["confidence"]), "reasons": data["rationale"][:400],
        }
        for data in _of(events, EventType.LLM_ACTION_GENERATED)
    ]
    silent = [
        {"strategy": data["strategy"], "symbol": data["symbol"], "reason": data["reason"], "detail": data["detail"][:400]}
        for data in _of(events, EventType.LLM_ABSTAINED)
    ]
    cost = sum((Decimal(data["cost"]) for data in _of(events, EventType.LLM_RESPONDED)), Decimal(0))
    return _present(signals=_table(rows), abstained=_table(silent)) | {"model_cost_usd": float(cost)}


def _verdicts(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    rows = [
        {
            "action": data["action_id"], "strategy": data["strategy"], "symbol": data["symbol"], "side": data["side"].upper(),
            "rule": verdict["rule"], "outcome": verdict["outcome"], "measured": verdict["measured"], "limit": verdict["limit"],
            "detail": verdict["detail"],
        }
        for data in _of(events, EventType.RISK_EVALUATED)
        for verdict in sorted(data["verdicts"], key=lambda v: v["outcome"] not in ("deny", "halt"))
    ]
    outcome = [
        {
            "action": data["action_id"], "strategy": data["strategy"], "symbol": data["symbol"], "side": data["side"].upper(),
            "passed": bool(data["passed"]), "denied_by": data["reason"],
        }
        for data in _of(events, EventType.RISK_EVALUATED)
    ]
    asked = [
        {
            "action": data["action_id"], "symbol": data["symbol"], "quantity": int(data["shown"]["quantity"]),
            "value": usd(Decimal(data["shown"]["estimated_value"])), "expires": data["expires_at"][:19].replace("T", " "),
        }
        for data in _of(events, EventType.APPROVAL_REQUESTED)
    ]
    return _present(judgements=_table(outcome), verdicts=_table(rows), waiting_for_a_person=_table(asked))


def _orders(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    intents = [
        {
            "client_id": data["client_id"], "strategy": data["strategy"], "part": data["part"], "symbol": data["symbol"],
            "side": data["side"].upper(), "quantity": int(data["quantity"]), "type": data["order_type"],
            "limit": str(data["limit_price"] or ""),
            "stop": str(data["stop_price"] or ""),
        }
        for data in _of(events, EventType.ORDER_INTENT)
    ]
    story = [
        {"seq": event.seq, "event": event.type.value, "order": str(event.payload.get("client_id", "")), "says": sentence(event)[:300]}
        for event in events
        if event.type.value.startswith(("order.", "action.", "approval."))
    ]
    return _present(orders=_table(intents), story=_table(story))


def _fills(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    rows = [
        {
            "execution": data["execution_id"], "strategy": data["strategy"], "part": data["part"], "symbol": data["symbol"],
            "side": data["side"].upper(), "quantity": int(data["quantity"]), "price": float(data["price"]),
            "commission": float(data["commission"]), "at": data["filled_at"][:19].replace("T", " "),
        }
        for data in _of(events, EventType.ORDER_FILLED, EventType.ORDER_PARTIALLY_FILLED)
    ]
    value = sum(row["quantity"] * Decimal(str(row["price"])) for row in rows)
    return _present(fills=_table(rows)) | {"traded_usd": float(value)}


def _snapshots(_desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for data in _of(events, EventType.PORTFOLIO_SNAPSHOTTED):
        shown |= {f"{name}_usd": float(data[name]) for name in ("equity", "cash", "day_pnl", "realised", "unrealised")}
        held = [
            {
                "strategy": row["strategy"], "symbol": row["symbol"], "quantity": int(row["quantity"]), "mark": float(row["mark"]),
                "value": float(row["value"]), "unrealised": float(row["unrealised"]),
            }
            for row in data["positions"]["held"]
        ]
        shown |= _present(positions=_table(held))
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
