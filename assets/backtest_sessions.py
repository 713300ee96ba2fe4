"""A backtest's sessions as metadata: of each the figures that the UI plots, of few sessions the live chain's tables too.

Facts are told apart by their type, because a ledger of the columnar engine has no facts about steps. A year of tables of every rule
would be tens of megabytes of Dagster's event log: what is not shown here is in the backtest's ledger, which the metadata names.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import dagster as dg
import numpy as np

from assets.materialize import ranges
from assets.presenting import Cells, present, table
from assets.tables import details
from trading_pipeline.domain.backtests import BacktestResult
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.ports import Reader
from trading_pipeline.service.desk import Desk

MOST_DETAILED = 20
"""Sessions: of a longer backtest only the last one is shown with every table."""

_FILLED = (EventType.ORDER_FILLED, EventType.ORDER_PARTIALLY_FILLED)
TYPES: Mapping[str, tuple[EventType, ...]] = {
    "bars": (EventType.BAR_DROPPED, EventType.CORPORATE_ACTION_SPLIT),
    "signals": (
        EventType.LLM_ACTION_GENERATED, EventType.LLM_ABSTAINED, EventType.LLM_REQUESTED, EventType.LLM_RESPONDED, EventType.LLM_SKIPPED,
    ),
    "verdicts": (EventType.RISK_EVALUATED, EventType.APPROVAL_REQUESTED, EventType.APPROVAL_APPROVED),
    "orders": tuple(each for each in EventType if each.value.startswith("order.") and each not in _FILLED),
    "fills": _FILLED,
    "portfolio_snapshots": (EventType.PORTFOLIO_SNAPSHOTTED,),
}
"""Which facts the asset of a step shows; the sessions of `portfolio_snapshots` are told by the closes as well."""


@dataclass(frozen=True, slots=True)
class SessionShown:
    """A session, and metadata by step."""

    day: date
    steps: Mapping[str, Mapping[str, Any]]


def sessions_shown(
    desk: Desk, reader: Reader, result: BacktestResult, opens: Sequence[datetime], tables: Sequence[BarTable],
) -> Iterator[SessionShown]:
    """Every session of a result, in order.

    Args:
        desk: Of the backtest; it shows pictures and words of models.
        opens: When the result's sessions opened.
        tables: Bars that the backtest ran on.
    """
    many, facts = len(result.sessions), _by_session(reader, opens)
    detailed = many <= MOST_DETAILED
    before = result.cash
    for place, day in enumerate(result.sessions):
        found = facts[place]
        steps: dict[str, dict[str, Any]] = {}
        for step in TYPES:
            events = found.get(step, [])
            steps[step] = _counts(step, events)
            if events:
                steps[step]["ledger_seqs"] = dg.MetadataValue.text(ranges([event.seq for event in events]))
            if step != "bars" and (detailed or place == many - 1):
                steps[step] |= details(desk, step, events)
        steps["bars"] |= _bars(day, tables)
        equity = float(result.equity[place])
        steps["fills"] |= {"traded_usd": float(result.traded[place]), "commissions_usd": float(result.commissions[place])}
        steps["portfolio_snapshots"] |= {
            "equity_usd": equity, "day_pnl_usd": round(equity - before, 2), "invested_usd": float(result.invested[place]),
        }
        before = equity
        yield SessionShown(day, steps)


def _by_session(reader: Reader, opens: Sequence[datetime]) -> list[dict[str, list[Event]]]:
    """What came before the first open belongs to the first session."""
    step_of = {each: step for step, types in TYPES.items() for each in types}
    found: list[dict[str, list[Event]]] = [{} for _ in opens]
    for event in reader.events(types=tuple(step_of)):
        found[max(0, bisect_right(opens, event.at) - 1)].setdefault(step_of[event.type], []).append(event)
    return found


def _counts(step: str, events: Sequence[Event]) -> dict[str, Any]:
    counted = Counter(event.type for event in events)
    match step:
        case "signals":
            actions = Counter(event.payload["action"] for event in events if event.type is EventType.LLM_ACTION_GENERATED)
            return {name: actions[name] for name in ("buy", "sell", "hold")} | {"abstained": counted[EventType.LLM_ABSTAINED]}
        case "verdicts":
            passed = sum(bool(event.payload["passed"]) for event in events if event.type is EventType.RISK_EVALUATED)
            return {"passed": passed, "denied": counted[EventType.RISK_EVALUATED] - passed}
        case "orders":
            return {
                "sent": counted[EventType.ORDER_SUBMITTED], "canceled": counted[EventType.ORDER_CANCELED],
                "expired": counted[EventType.ORDER_EXPIRED], "rejected": counted[EventType.ORDER_REJECTED],
            }
        case "fills":
            return {"executions": len(events)}
        case "bars":
            return {"dropped": counted[EventType.BAR_DROPPED], "splits": counted[EventType.CORPORATE_ACTION_SPLIT]}
        case _:
            return {}


def _bars(day: date, tables: Sequence[BarTable]) -> dict[str, Any]:
    """A session's bars, as one a symbol."""
    rows: list[Cells] = []
    many, at = 0, np.datetime64(day)
    for each in tables:
        first, end = np.searchsorted(each.session_days, [at, at + 1])
        if first == end:
            continue
        many += int(end - first)
        rows.append({
            "symbol": each.symbol, "bars": int(end - first), "interval": each.interval.value, "open": float(each.open[first]),
            "high": float(each.high[first:end].max()), "low": float(each.low[first:end].min()), "close": float(each.close[end - 1]),
            "volume": int(each.volume[first:end].sum()),
        })
    return {"bars": many} | present(by_symbol=table(rows))
