"""Steps bars, indicators and charts: what the market was, and what can be seen in it.

Bars are archived unadjusted; everything computed from them sees split-adjusted prices as of the cycle's
session. A step's values are facts in the ledger; the columns themselves are computed again where they
are needed, from the archive, at a cost of microseconds a symbol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from trading_pipeline.domain import indicators
from trading_pipeline.domain.adjustments import split_adjusted
from trading_pipeline.domain.bar_quality import lone_prints, sane, unproven
from trading_pipeline.domain.bars import BarTable, Floats, Interval, instant_of
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.ports import Transaction
from trading_pipeline.service.account_limits import standing, tighten
from trading_pipeline.service.day_baseline import open_session
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.breakers import review
from trading_pipeline.service.orders.corporate_actions import pending
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import StepResult, Tally, completed, due_strategies, nothing_to_do

HISTORY = 600
"""Fewest bars that indicators see; slow ones see as many as they need to forget their seed."""
PRICES = ("open", "high", "low", "close", "volume")
LONE_RULE = "a single close far from both neighbours, which agree with each other"
LISTED_BARS = 5
"""So many refilled bars become facts of their own; of more, those of the session, or of as many days. Older history is counted only."""


@dataclass(frozen=True, slots=True)
class View:
    """One symbol as a cycle sees it: adjusted bars up to the cycle's close without bad prints, aligned columns, and what was left out."""

    bars: BarTable
    columns: Mapping[str, Floats]
    dropped: tuple[datetime, ...] = ()
    """Starts of archived bars that the bars after them have shown to be bad prints."""


def receive_bars(desk: Desk, cycle: Cycle) -> StepResult:
    """Archive every bar that has closed since the last cycle; a bar that makes no sense is dropped and said.

    Facts first: a bar that a crash keeps out of the archive comes again with the next attempt, and is no second fact.
    """
    done = completed(desk.ledger, cycle, "bars")
    if done is not None:
        return done
    if cycle.kind is CycleKind.FOLLOW_UP or cycle.interval is None or cycle.bar_end is None:
        return nothing_to_do(desk, cycle, "bars", "a follow-up receives no bars")
    notes: list[str] = []
    if cycle.kind is CycleKind.BAR:
        # Before it is settled who takes part: one whose pause has cleared does. What the night has cost counts already.
        unmeasured = open_session(desk, cycle.session)
        tighten(desk)
        notes = [*([unmeasured] if unmeasured else []), *review(desk)]
    specs = due_strategies(desk, cycle)
    symbols = sorted({symbol for spec in specs for symbol in spec.symbols})
    tally = Tally("bars", cycle, notes=notes, strategies=tuple(spec.name for spec in specs))
    refill = cycle.kind is CycleKind.BACKFILL
    known = desk.calendar.session(cycle.bar_end.date()).open if refill else cycle.bar_end
    newest = desk.archive.read_many(symbols, cycle.interval, until=known, count=1)
    arrived = _fetch(desk, cycle.interval, newest, cycle.bar_end)
    drops: list[NewEvent] = []
    events: list[NewEvent] = []
    tables = []
    around = {} if refill else _neighbours(desk, newest, arrived)
    # After the look at prices: a source may learn of a split with the first price on the new scale.
    if cycle.kind is CycleKind.BAR and pending(desk, desk.ledger):
        settle(desk, tally)
    for symbol in symbols:
        table, dropped = sane(arrived.get(symbol, BarTable.empty(symbol, cycle.interval)), *around.get(symbol, ()))
        if symbol in around and around[symbol][1] is None and _unproven(desk, newest[symbol], table, cycle):
            tally.count("doubtful")
            tally.notes.append(f"{symbol}: the newest close, {table.close[-1]:g}, is far off and no quote confirms it; not archived yet")
            table = table.rows(0, len(table) - 1)
        tables.append(table)
        tally.count("dropped", len(dropped))
        drops.extend(_dropped(cycle, symbol, reason, at, desk.now()) for at, reason in dropped)
        listed = table if len(table) <= LISTED_BARS else table.since(_listed_since(desk, cycle.interval, cycle.bar_end))
        events.extend(_received(cycle, listed, index, desk.now()) for index in range(len(listed)))
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(*drops))
        tally.saw(_record(tx, events))
    for report in desk.archive.append_many(tables):
        tally.count("added", report.added)
        tally.count("replaced", report.replaced)
    held = desk.archive.read_many(symbols, cycle.interval, until=cycle.bar_end, count=1)
    closed = [held[symbol] for symbol in symbols if len(held[symbol]) and held[symbol].last_end == cycle.bar_end]
    for symbol in sorted({*symbols} - {table.symbol for table in closed}):
        tally.count("missing")
        tally.notes.append(f"{symbol}: no bar that closed at {cycle.bar_end:%Y-%m-%d %H:%M} UTC")
    with desk.ledger.transaction() as tx:
        # A bar that was imported or fetched before its cycle is in the archive already, and not yet a fact.
        tally.saw(_record(tx, [_received(cycle, table, 0, desk.now()) for table in closed]))
        return tally.complete(tx, desk.now())


def compute_indicators(desk: Desk, cycle: Cycle) -> StepResult:
    """Every indicator that a due strategy or its agent asks for, NaN in warm-up and said so."""
    done = completed(desk.ledger, cycle, "indicators")
    if done is not None:
        return done
    specs = due_strategies(desk, cycle)
    if cycle.bar_end is None or not specs:
        return nothing_to_do(desk, cycle, "indicators", "no strategy is due")
    tally = Tally("indicators", cycle)
    events = []
    drops: list[NewEvent] = []
    seen = views(desk, cycle, specs)
    causes = received_seqs(desk, cycle, list(seen))
    for symbol, view in seen.items():
        drops.extend(_dropped(cycle, symbol, LONE_RULE, start, desk.now()) for start in view.dropped)
        if not len(view.bars):
            tally.count("without_bars")
            continue
        payload = computed_payload(cycle, view)
        warming = payload["warm_up"]
        tally.count("symbols")
        if warming:
            tally.count("in_warm_up")
            tally.notes.append(f"{symbol}: {', '.join(warming)} need more than its {len(view.bars)} bars")
        events.append(
            NewEvent(
                EventType.INDICATORS_COMPUTED, "market", f"indicators:{cycle.cycle_id}:{symbol}", payload, desk.now(), "cycle",
                causes.get(symbol),
            )
        )
    with desk.ledger.transaction() as tx:
        tally.count("dropped", len(tally.saw([event for event in tx.append(*drops) if tx.is_new(event)])))
        tally.saw(tx.append(*events))
        return tally.complete(tx, desk.now())


def computed_payload(cycle: Cycle, view: View) -> dict[str, Any]:
    """The payload of `indicators.computed`: the newest values, and the digest of the bars that they follow from."""
    values = {name: _value(column) for name, column in view.columns.items()}
    warming = sorted(name for name, value in values.items() if value is None)
    return {
        "cycle": cycle.cycle_id, "symbol": view.bars.symbol, "interval": str(cycle.interval), "bar_end": view.bars.last_end,
        "bars": len(view.bars), "bars_digest": view.bars.digest(), "values": values, "warm_up": warming,
    }


def render_charts(desk: Desk, cycle: Cycle) -> StepResult:
    """A picture per symbol and chart setting, stored by its digest, where a strategy shows one."""
    done = completed(desk.ledger, cycle, "charts")
    if done is not None:
        return done
    specs = tuple(spec for spec in due_strategies(desk, cycle) if spec.chart is not None)
    if cycle.bar_end is None or not specs:
        return nothing_to_do(desk, cycle, "charts", "no due strategy shows charts")
    if not desk.draws:
        return nothing_to_do(desk, cycle, "charts", "nobody looks at charts here")
    tally = Tally("charts", cycle)
    wanted: dict[tuple[str, ChartSpec], list[str]] = {}
    for spec in specs:
        for symbol in spec.symbols:
            if spec.chart is not None:
                wanted.setdefault((symbol, spec.chart), []).append(spec.name)
    seen = views(desk, cycle, specs)
    events = []
    for (symbol, chart), names in sorted(wanted.items(), key=lambda item: item[0][0]):
        view = seen[symbol]
        if len(view.bars) < 2:
            tally.count("too_short")
            tally.notes.append(f"{symbol}: a chart needs two bars, there are {len(view.bars)}")
            continue
        digest = desk.objects.put(desk.charts.render(chart, view.bars, view.columns), ".png")
        cause = desk.ledger.event_by_key(f"indicators:{cycle.cycle_id}:{symbol}")
        tally.count("charts")
        payload = {
            "cycle": cycle.cycle_id, "symbol": symbol, "interval": str(cycle.interval), "bar_end": view.bars.last_end, "sha256": digest,
            "spec": encode(chart), "strategies": names,
        }
        key = f"chart:{cycle.cycle_id}:{symbol}:{digest[:16]}"
        events.append(NewEvent(EventType.CHART_RENDERED, "market", key, payload, desk.now(), "cycle", cause.seq if cause else None))
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(*events))
        return tally.complete(tx, desk.now())


def views(desk: Desk, cycle: Cycle, specs: Sequence[StrategySpec]) -> dict[str, View]:
    """Every symbol of the given strategies as of the cycle's close."""
    assert cycle.interval is not None
    assert cycle.bar_end is not None
    wanted: dict[str, set[IndicatorSpec]] = {}
    bars = HISTORY
    for spec in specs:
        needs = needed_indicators(desk, spec)
        bars = max(bars, spec.chart.bars if spec.chart else 0, indicators.history(needs))
        for symbol in spec.symbols:
            wanted.setdefault(symbol, set()).update(needs)
    tables = desk.archive.read_many(sorted(wanted), cycle.interval, until=cycle.bar_end, count=bars)
    most = standing(desk, desk.ledger).effective.max_bar_gap
    seen = {}
    for symbol, table in tables.items():
        adjusted = split_adjusted(table, desk.splits.get(symbol, ()), cycle.session)
        lone = lone_prints(adjusted.close, most)
        dropped = tuple(instant_of(start) for start in adjusted.start[lone])
        if dropped:
            adjusted = adjusted.where(~lone)
        seen[symbol] = View(adjusted, indicators.compute(tuple(sorted(wanted[symbol])), adjusted) if len(adjusted) else {}, dropped)
    return seen


def needed_indicators(desk: Desk, spec: StrategySpec) -> tuple[IndicatorSpec, ...]:
    """What a strategy lists, what its agent looks at, what its chart draws and what its sizing measures."""
    chart = spec.chart
    drawn = [indicators.indicator(text) for text in (*chart.overlays, *chart.panels)] if chart else []
    sizing = [indicators.indicator("atr_14"), indicators.indicator("sma_20")]
    return tuple(sorted({*spec.indicators, *desk.deciders["rules"].needs(spec.agent), *drawn, *sizing}))


def received_seqs(desk: Desk, cycle: Cycle, symbols: Sequence[str]) -> dict[str, int]:
    """The seq of each symbol's `bar.received` for the cycle's close."""
    bars = completed(desk.ledger, cycle, "bars")
    wanted = set(symbols)
    found: dict[str, int] = {}
    for event in events_of(desk, bars):
        if event.type is EventType.BAR_RECEIVED and event.payload["symbol"] in wanted:
            found[event.payload["symbol"]] = event.seq
    return found


def events_of(desk: Desk, result: StepResult | None) -> list[Event]:
    """The facts of a step, in order."""
    if result is None or not result.seqs:
        return []
    wanted = set(result.seqs)
    length = result.seqs[-1] - result.seqs[0] + 1
    if length > 4 * len(wanted) + 1_000:
        return [event for seq in result.seqs if (event := desk.ledger.event(seq)) is not None]
    return [event for event in desk.ledger.events(after=result.seqs[0] - 1, limit=length) if event.seq in wanted]


def _listed_since(desk: Desk, interval: Interval, bar_end: datetime) -> datetime:
    if interval.daily:
        return bar_end - timedelta(days=LISTED_BARS)
    session = desk.calendar.last_opened(bar_end - timedelta(microseconds=1))
    return session.open if session is not None else bar_end


def _fetch(desk: Desk, interval: Interval, newest: Mapping[str, BarTable], until: datetime) -> Mapping[str, BarTable]:
    """What has closed since the newest bar that is taken as known; a refill knows none of its session."""
    starts: dict[datetime | None, list[str]] = {}
    for symbol, table in newest.items():
        starts.setdefault(table.last_end if len(table) else None, []).append(symbol)
    found: dict[str, BarTable] = {}
    for after, group in starts.items():
        found.update(desk.market.closed_bars(group, interval, after, until))
    return found


def _neighbours(
    desk: Desk, newest: Mapping[str, BarTable], arrived: Mapping[str, BarTable],
) -> dict[str, tuple[float | None, float | None]]:
    """The prices before and after the bars that have just arrived: without them a single bad print would have nothing to be measured by."""
    symbols = sorted(symbol for symbol, table in arrived.items() if len(table))
    quotes = desk.market.quotes(symbols, desk.now()) if symbols else {}
    return {
        symbol: (
            float(newest[symbol].close[-1]) if len(newest[symbol]) else None,
            float(quotes[symbol].last) if symbol in quotes else None,
        )
        for symbol in symbols
    }


def _unproven(desk: Desk, newest: BarTable, arrived: BarTable, cycle: Cycle) -> bool:
    """Whether nothing tells the newest bar that arrived from a bad print."""
    if not len(arrived):
        return False
    return unproven(split_adjusted(newest.joined(arrived), desk.splits.get(arrived.symbol, ()), cycle.session).close)


def _record(tx: Transaction, bars: Sequence[NewEvent]) -> list[Event]:
    """Append bars as facts; one that is a fact with other values is a correction, and a fact of its own, each time a vendor changes it."""
    stored = tx.append(*bars)
    corrections = []
    for bar, first in zip(bars, stored, strict=True):
        if tx.is_new(first):
            continue
        newest, number = first, 2
        while (later := tx.event_by_key(f"{bar.key}:{number}")) is not None:
            newest, number = later, number + 1
        if any(str(bar.payload[name]) != str(newest.payload[name]) for name in PRICES):
            corrections.append(replace(bar, key=f"{bar.key}:{number}"))
    return stored + tx.append(*corrections)


def _received(cycle: Cycle, table: BarTable, index: int, at: datetime) -> NewEvent:
    bar = table.bar(index)
    payload = {
        "cycle": cycle.cycle_id, "symbol": bar.symbol, "interval": bar.interval.value, "start": bar.start, "end": bar.end, "open": bar.open,
        "high": bar.high, "low": bar.low, "close": bar.close, "volume": bar.volume,
    }
    key = f"bar:{bar.symbol}:{bar.interval.value}:{bar.start:%Y-%m-%dT%H:%MZ}"
    return NewEvent(EventType.BAR_RECEIVED, "market", key, payload, at, "market")


def _dropped(cycle: Cycle, symbol: str, reason: str, start: datetime, at: datetime) -> NewEvent:
    key = f"bar.dropped:{symbol}:{cycle.interval}:{start:%Y-%m-%dT%H:%MZ}"
    payload = {"cycle": cycle.cycle_id, "symbol": symbol, "interval": str(cycle.interval), "start": start, "reason": reason}
    return NewEvent(EventType.BAR_DROPPED, "market", key, payload, at, "market")


def _value(column: Floats) -> str | None:
    newest = column[-1]
    return format(float(newest), ".10g") if np.isfinite(newest) else None

