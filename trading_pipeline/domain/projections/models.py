"""The family `llm.*` as far as money goes: what was asked of models, what is reserved, what was spent (D4).

Only a model's facts keep rows: its `llm.requested` carries `reserved`, and whatever follows from that carries `day`. The rules agent's
carry neither. A request's money counts for the day that was written into it, whenever the reply comes. The instants here are those of
the wall clock (`recorded_at`): calls are counted by the hour of the people who pay for them, not by a replayed market's.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections.rows import Handler, Touched, blank, json_text, move, require
from trading_pipeline.domain.projections.tables import Key, Row, Tables
from trading_pipeline.errors import IllegalTransition

CALLS, SPEND = "model_calls", "model_spend"


class CallState(StrEnum):
    """Where a question to a model stands."""

    ASKED = "asked"
    """Its money is reserved; a reply may come."""
    ANSWERED = "answered"
    """Settled, also where what came back was a failure."""
    LOST = "lost"
    """The process that asked is gone; what was reserved counts as spent."""
    DISCARDED = "discarded"
    """Settled, and nothing follows from it."""


_S = CallState
TRANSITIONS: Final[dict[CallState, frozenset[CallState]]] = {
    _S.ASKED: frozenset({_S.ANSWERED, _S.LOST, _S.DISCARDED}),
    _S.ANSWERED: frozenset(),
    # A reply that was given up and came all the same: then it is known what it cost.
    _S.LOST: frozenset({_S.DISCARDED}),
    _S.DISCARDED: frozenset(),
}
OF_A_BUDGET: Final = frozenset({"budget", "provider_budget", "strategy_budget"})
"""Reasons of `llm.skipped` that mean: there was not money enough."""


def _requested(event: Event, tables: Tables) -> None:
    data = event.payload
    if "reserved" not in data:
        return
    key = _call_key(data)
    if tables.get(CALLS, key) is not None:
        raise IllegalTransition(
            f"{'/'.join(key)} was asked already.", value=event.key, rule="a question of a cycle is asked once",
            remedy="take up the request that is in the ledger",
        )
    reserved = _usd(data["reserved"])
    tables.put(
        CALLS,
        blank(
            CALLS, cycle=data["cycle"], strategy=data["strategy"], symbol=data["symbol"], state=_S.ASKED.value, day=data["day"],
            provider=data["provider"], model=data["model"], prompt=data["prompt"], reserved=reserved, asked_at=event.recorded_at,
            requested_seq=event.seq, last_seq=event.seq,
        ),
    )
    spend = _spend(tables, data["day"], data["strategy"], data["provider"])
    spend["asked"] += 1
    spend["reserved"] += reserved
    _put(tables, spend, event)


def _settled(target: CallState) -> Handler:
    """A handler that takes what came back for what was reserved."""

    def handler(event: Event, tables: Tables) -> None:
        data = event.payload
        if "day" not in data:
            return
        row, spend = _open(event, tables, target)
        used, cost, replayed = data["usage"], _usd(data["cost"]), bool(data["replayed"])
        tokens = {name: int(used[name]) for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")}
        outcome = data.get("trouble") or data["ending"]
        calls = 0 if replayed else int(data["calls"])
        row.update(
            cost=cost, calls=calls, replayed=replayed, outcome=outcome,
            answered_by=None if data.get("trouble") else data["model"], answered_at=event.recorded_at, **tokens,
        )
        spend["spent"] += cost
        spend["calls"] += calls
        spend[target.value] += 1
        spend["failed"] += 1 if data.get("trouble") else 0
        spend["replayed"] += 1 if replayed else 0
        spend["tokens_in"] += tokens["input_tokens"] + tokens["cached_tokens"] + tokens["cache_write_tokens"]
        spend["tokens_out"] += tokens["output_tokens"]
        tables.put(CALLS, row)
        _put(tables, spend, event)

    return handler


def _lost(event: Event, tables: Tables) -> None:
    row, spend = _open(event, tables, _S.LOST)
    row["cost"] = row["reserved"]
    spend["spent"] += row["reserved"]
    spend["lost"] += 1
    tables.put(CALLS, row)
    _put(tables, spend, event)


def _skipped(event: Event, tables: Tables) -> None:
    data = event.payload
    spend = _spend(tables, data["day"], data["strategy"], data["provider"])
    reason = str(data["reason"])
    counts = json.loads(spend["skipped"])
    spend["skipped"] = json_text(counts | {reason: counts.get(reason, 0) + 1})
    if data.get("saved") is not None:
        amount = _usd(data["saved"])
        if reason in OF_A_BUDGET:
            spend["wanted"] = amount if spend["wanted"] is None else min(spend["wanted"], amount)
        if reason == "trigger":
            spend["saved"] += amount
    _put(tables, spend, event)


def _open(event: Event, tables: Tables, target: CallState) -> tuple[Row, Row]:
    """The call that an event settles, moved, and the day it counts for, without what was held or spent for it."""
    key = _call_key(event.payload)
    row = require(tables, CALLS, key, event)
    before = CallState(row["state"])
    move(before, target, TRANSITIONS, f"The call {'/'.join(key)}", event)
    row.update(state=target.value, last_seq=event.seq)
    spend = _spend(tables, row["day"], row["strategy"], row["provider"])
    if before is _S.LOST:
        spend["spent"] -= row["reserved"]
        spend["lost"] -= 1
    else:
        spend["reserved"] -= row["reserved"]
    return row, spend


def _spend(tables: Tables, day: str, strategy: str, provider: str) -> Row:
    counts = dict.fromkeys(("asked", "answered", "failed", "lost", "discarded", "calls", "replayed", "tokens_in", "tokens_out"), 0)
    amounts = dict.fromkeys(("reserved", "spent", "saved"), Decimal(0))
    named = {"day": day, "strategy": strategy, "provider": provider}
    return tables.get(SPEND, (day, strategy, provider)) or blank(SPEND, **named, **counts, **amounts, skipped="{}")


def _put(tables: Tables, spend: Row, event: Event) -> None:
    spend["last_seq"] = event.seq
    tables.put(SPEND, spend)


def _usd(text: str) -> Decimal:
    amount = Decimal(text)
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{text!r} is no amount of money that was reserved or spent")
    return amount


def _call_key(data: Mapping[str, Any]) -> tuple[str, str, str]:
    return data["cycle"], data["strategy"], data["symbol"]


def _touches(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    if "day" not in data:
        return ()
    return ((CALLS, _call_key(data)), (SPEND, (data["day"], data["strategy"], data["provider"])))


HANDLERS: dict[EventType, Handler] = {
    EventType.LLM_REQUESTED: _requested,
    EventType.LLM_RESPONDED: _settled(_S.ANSWERED),
    EventType.LLM_DISCARDED: _settled(_S.DISCARDED),
    EventType.LLM_LOST: _lost,
    EventType.LLM_SKIPPED: _skipped,
}
TOUCHED: dict[EventType, Touched] = dict.fromkeys(HANDLERS, _touches)
