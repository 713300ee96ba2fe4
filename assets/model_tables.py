"""What models were asked and what they said, as Dagster metadata: prompt, picture, reply, tokens and USD of each signal.

Prompts and replies are data, in part from outside: they stand in JSON, which the UI shows as it is, never in Markdown; what a reply hides
is shown as an escape.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg

from assets.presenting import MOST_PICTURES, picture_sheet, present, table
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.outside_text import visible
from trading_pipeline.errors import StorageError
from trading_pipeline.service.desk import Desk

MOST_TEXTS = 20
MOST_TEXT = 20_000
"""Characters of one prompt that the UI is given; the whole of it is in the object store."""


def conversations(desk: Desk, events: Sequence[Event]) -> dict[str, Any]:
    """Of the signals step; nothing where no model was asked."""
    requests = {event.seq: event.payload for event in events if event.type is EventType.LLM_REQUESTED and "request" in event.payload}
    replies = {event.cause: event for event in events if event.type in _ENDS and event.cause in requests}
    skipped = [event.payload for event in events if event.type is EventType.LLM_SKIPPED]
    rows = [_row(request, replies[seq].payload if seq in replies else None) for seq, request in requests.items()]
    prompts, answers = {}, {}
    for seq, request in list(requests.items())[:MOST_TEXTS]:
        name = f"{request['symbol']} ({request['strategy']})"
        prompts[name] = _text(desk, request["rendered"]).splitlines()
        if seq in replies:
            said = replies[seq].payload
            answers[name] = visible(said.get("raw", "") or said.get("detail", ""))
    seen = [(f"{data['symbol']} as {data['model']} sees it", data["picture"]) for data in requests.values() if data["picture"]]
    refused = [
        {"symbol": data["symbol"], "reason": data["reason"], "strategy": data["strategy"], "detail": data["detail"][:400]}
        for data in skipped
    ]
    return present(
        models_asked=table(rows), not_asked=table(refused), prompts=dg.MetadataValue.json(prompts) if prompts else None,
        replies=dg.MetadataValue.json(answers) if answers else None, pictures_sent=picture_sheet(desk, seen[:MOST_PICTURES]),
    )


_ENDS = (EventType.LLM_RESPONDED, EventType.LLM_DISCARDED, EventType.LLM_LOST)


def _row(request: Mapping[str, Any], reply: Mapping[str, Any] | None) -> dict[str, str | int | float | bool]:
    said = reply or {}
    return {
        "symbol": request["symbol"], "model": said.get("model") or request["model"], "prompt": request["prompt"],
        "tokens in": said.get("tokens_in", 0), "tokens out": said.get("tokens_out", 0), "USD": f"{Decimal(said.get('cost', '0')):.6f}",
        "seconds": float(said.get("seconds", 0.0)), "calls": said.get("calls", 0), "recorded": bool(said.get("replayed", False)),
        "ended": said.get("trouble") or said.get("ending") or "lost", "strategy": request["strategy"],
    }


def _text(desk: Desk, digest: str) -> str:
    try:
        return desk.objects.get(digest).decode("utf-8", "replace")[:MOST_TEXT]
    except StorageError as error:
        return error.message
