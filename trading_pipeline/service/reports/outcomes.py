"""Outcomes: what happened after each signal, acted on or not, and what proposals that were never sent would have made (D7, E7).

An outcome is a fact once the bar that ends its horizon has closed, and never before; the same signal and horizon is measured once.
Entry is the open of the first bar after the decision, as the paper broker fills (D28). Bars are the archive's; what it does not have,
because nobody follows the symbol any more, is asked of the source and not archived. Nothing here is read on any decision path.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from trading_pipeline.domain.adjustments import on_scale_of
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.bar_quality import lone_prints, sane, unproven
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns, instant_of
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.events import Event, EventType, NewEvent, instant_from
from trading_pipeline.domain.judgement import gain, right
from trading_pipeline.domain.money import price_of, to_cents
from trading_pipeline.domain.orders import OrderIntent
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.sessions import Session, TradingCalendar
from trading_pipeline.domain.shadow import shadow_trade
from trading_pipeline.domain.signals import Action
from trading_pipeline.errors import CalendarError, MarketDataError
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.desk import Desk

HORIZONS: Final[Mapping[str, int]] = {"1_bar": 1, "5_bars": 5, "20_bars": 20, "1_session": 0}
"""Bars after the decision; `1_session` ends with the session after the one of the entry."""
LONGEST: Final = "20_bars"
"""How long a trade that was never made is held at most."""
NEVER_SENT: Final = (ActionState.REJECTED, ActionState.EXPIRED, ActionState.DENIED, ActionState.VOIDED)
GIVEN_UP: Final = timedelta(days=30)
"""Bars that have not come so long after a horizon's end are waited for no more."""
_BATCH = 500
_DIGITS = Decimal("0.00000001")


@dataclass(slots=True)
class Measured:
    """What one look found: new facts, and what is still to come."""

    outcomes: int = 0
    shadows: int = 0
    waiting: int = 0
    """Of both: the horizon has not ended."""
    without_bars: int = 0
    """It has ended, and its bars are not there yet."""
    unmeasurable: int = 0
    """No bar between decision and horizon, or none for `GIVEN_UP`."""
    seqs: list[int] = field(default_factory=list)
    """The new facts."""
    notes: list[str] = field(default_factory=list)


class _Due(NamedTuple):
    """Something to be measured: from the first bar after `bar_end` to the horizon's end, on the share scale of `session`."""

    symbol: str
    interval: Interval
    bar_end: datetime
    ends: datetime
    session: date
    horizon: str
    seq: int
    signal: Event | None
    row: Row | None


def measure(desk: Desk, session: date | None = None) -> Measured:
    """Write down every outcome that can be known by now and is not yet.

    Args:
        session: The partition that is materialised: that it was measured is a fact too.
    """
    found = Measured()
    due, open_from = _due(desk, _resume_after(desk), found)
    bars = _Bars(desk, due, found)
    facts: list[NewEvent] = []
    for each in due:
        table = bars.of(each)
        if not len(table) or table.last_end < each.ends:
            if desk.now() - each.ends > GIVEN_UP:
                found.unmeasurable += 1
            else:
                found.without_bars += 1
                open_from = min(open_from, each.seq)
            continue
        first, last = _rows(table, each)
        if last <= first:
            found.unmeasurable += 1
        elif each.signal is not None:
            facts.append(_outcome(desk, each, each.signal, table.rows(first, last)))
            found.outcomes += 1
        elif each.row is not None:
            facts.append(_shadow(desk, each, each.row, table.rows(first, last)))
            found.shadows += 1
    for batch in _batches(facts):
        with desk.ledger.transaction() as tx:
            found.seqs.extend(event.seq for event in tx.append(*batch))
    if session is not None:
        payload = {
            "session": session, "outcomes": found.outcomes, "shadows": found.shadows, "waiting": found.waiting,
            "without_bars": found.without_bars, "unmeasurable": found.unmeasurable, "resume_after": open_from - 1,
        }
        with desk.ledger.transaction() as tx:
            tx.append(NewEvent(EventType.OUTCOMES_MEASURED, "system", marker(session), payload, desk.now(), "evidence"))
    return found


def marker(session: date) -> str:
    """The key of the fact that a session was measured."""
    return f"outcomes.measured:{session}"


def session_to_measure(desk: Desk) -> Session | None:
    """The newest closed session, unless it was measured: whoever measures it measures all before it."""
    closed = desk.ledger.find("sessions", state="closed", order_by="session", descending=True, limit=1)
    if not closed or desk.ledger.event_by_key(marker(date.fromisoformat(closed[0]["session"]))) is not None:
        return None
    return desk.calendar.session(date.fromisoformat(closed[0]["session"]))


def horizon_end(calendar: TradingCalendar, interval: Interval, bar_end: datetime, horizon: str) -> datetime | None:
    """When the last bar of a horizon closes by the calendar; None where the calendar does not reach."""
    try:
        session = calendar.at(bar_end)
        if session is None:
            before = calendar.last_opened(bar_end)
            session = calendar.next(bar_end.date() if before is None else before.day)
        left = HORIZONS[horizon]
        if not left:
            return calendar.next(session.day).close
        while True:
            ends = [slot.end for slot in calendar.slots(session, interval) if slot.start >= bar_end]
            if len(ends) >= left:
                return ends[left - 1]
            left -= len(ends)
            session = calendar.next(session.day)
    except CalendarError:
        return None


def _resume_after(desk: Desk) -> int:
    """The seq after which something may be open: what lies before it was measured or given up."""
    marks = desk.ledger.events(types=(EventType.OUTCOMES_MEASURED,))
    return int(marks[-1].payload["resume_after"]) if marks else 0


def _due(desk: Desk, resume: int, found: Measured) -> tuple[list[_Due], int]:
    """What has a horizon that has ended, and the lowest seq of what has not."""
    done = {event.key for event in desk.ledger.events(after=resume, types=(EventType.SIGNAL_OUTCOME, EventType.SHADOW_CLOSED))}
    ends: dict[tuple[Interval, datetime, str], datetime | None] = {}
    due, open_from = [], desk.ledger.head()[0] + 1
    for each in (*_signals(desk, resume), *_never_sent(desk, resume)):
        if _key(each) in done:
            continue
        place = (each.interval, each.bar_end, each.horizon)
        if place not in ends:
            ends[place] = horizon_end(desk.calendar, *place)
        end = ends[place]
        if end is not None and end <= desk.now():
            due.append(each._replace(ends=end))
        else:
            found.waiting += 1
            open_from = min(open_from, each.seq)
    return due, open_from


def _signals(desk: Desk, resume: int) -> Iterable[_Due]:
    for event in desk.ledger.events(after=resume, types=(EventType.LLM_ACTION_GENERATED,)):
        data = event.payload
        bar_end = instant_from(data["bar_end"])
        for horizon in HORIZONS:
            session = date.fromisoformat(data["session"])
            yield _Due(data["symbol"], _interval(data["cycle"]), bar_end, bar_end, session, horizon, event.seq, event, None)


def _never_sent(desk: Desk, resume: int) -> Iterable[_Due]:
    for row in desk.ledger.find("actions", state=[state.value for state in NEVER_SENT]):
        if row["generated_seq"] > resume and row["intent"] is not None:
            yield _Due(
                row["symbol"], _interval(row["cycle_id"]), row["bar_end"], row["bar_end"], date.fromisoformat(row["session"]), LONGEST,
                row["generated_seq"], None, row,
            )


def _interval(cycle: str) -> Interval:
    return Interval(cycle.partition("@")[0])


def _key(due: _Due) -> str:
    if due.row is not None:
        return f"{EventType.SHADOW_CLOSED.value}:{due.row['action_id']}"
    assert due.signal is not None
    return f"{EventType.SIGNAL_OUTCOME.value}:{due.signal.payload['action_id']}:{due.horizon}"


class _Bars:
    """Every table that is needed, read once, without bad prints, on the share scale of a decision."""

    def __init__(self, desk: Desk, due: Sequence[_Due], found: Measured) -> None:
        self._desk, self._most = desk, standing(desk, desk.ledger).effective.max_bar_gap
        self._raw: dict[tuple[str, Interval], BarTable] = {}
        self._scaled: dict[tuple[str, Interval, date | None], BarTable] = {}
        for interval in {each.interval for each in due}:
            mine = [each for each in due if each.interval is interval]
            needed: dict[str, datetime] = {}
            for each in mine:
                needed[each.symbol] = max(needed.get(each.symbol, each.ends), each.ends)
            tables = desk.archive.read_many(
                sorted(needed), interval, until=desk.now(), count=self._count(interval, min(each.bar_end for each in mine))
            )
            self._raw |= {(symbol, interval): table for symbol, table in self._completed(tables, needed, interval, found).items()}

    def of(self, due: _Due) -> BarTable:
        """The bars of what is due."""
        splits = self._desk.splits.get(due.symbol, ())
        key = (due.symbol, due.interval, due.session if splits else None)
        if key not in self._scaled:
            table = on_scale_of(self._raw[due.symbol, due.interval], splits, due.session)
            if unproven(table.close):
                table = table.rows(0, len(table) - 1)
            self._scaled[key] = table.where(~lone_prints(table.close, self._most)) if len(table) else table
        return self._scaled[key]

    def _count(self, interval: Interval, since: datetime) -> int:
        """Bars since then, by the calendar, with a session to spare."""
        sessions = len(self._desk.calendar.between(since.date(), self._desk.now().date())) + 2
        return sessions * -(-390 // interval.minutes)

    def _completed(
        self, tables: Mapping[str, BarTable], needed: Mapping[str, datetime], interval: Interval, found: Measured,
    ) -> dict[str, BarTable]:
        """What the archive has, and of the source what it does not have yet or any more."""
        whole = dict(tables)
        for symbol, ends in needed.items():
            held = whole[symbol]
            if len(held) and held.last_end >= ends:
                continue
            after = held.last_end if len(held) else None
            try:
                newer = self._desk.market.closed_bars([symbol], interval, after, self._desk.now()).get(symbol)
            except MarketDataError as error:
                found.notes.append(f"{symbol}: its source does not answer, so its newest outcomes wait: {error.message}")
                continue
            if newer is not None and len(newer):
                whole[symbol] = held.joined(sane(newer, float(held.close[-1]) if len(held) else None)[0])
        return whole


def _rows(table: BarTable, due: _Due) -> tuple[int, int]:
    """The bars that start after the decision and have closed by the horizon's end."""
    first = int(np.searchsorted(table.start, instant_ns(due.bar_end), side="left"))
    return first, int(np.searchsorted(table.end, instant_ns(due.ends), side="right"))


def _outcome(desk: Desk, due: _Due, signal: Event, bars: BarTable) -> NewEvent:
    data = signal.payload
    action, entry, last = Action(data["action"]), float(bars.open[0]), float(bars.close[-1])
    moved, cost = last / entry - 1, desk.costs.round_trip
    ways = sorted(gain(action, float(price) / entry - 1) for price in (bars.low.min(), bars.high.max()))
    directed = action is not Action.HOLD
    payload = {
        "action_id": data["action_id"], "strategy": data["strategy"], "symbol": due.symbol, "action": action.value, "horizon": due.horizon,
        "interval": due.interval.value, "bar_end": due.bar_end, "bars": len(bars), "entry_at": instant_of(bars.start[0]),
        "entry": price_of(entry), "exit_at": instant_of(bars.end[-1]), "exit": price_of(last), "moved": _fraction(moved), "cost": cost,
        "right": right(action, moved, float(cost)), "adverse": _fraction(min(0.0, ways[0])) if directed else None,
        "favourable": _fraction(max(0.0, ways[1])) if directed else None,
    }
    return NewEvent(EventType.SIGNAL_OUTCOME, signal.stream, _key(due), payload, desk.now(), "evidence", signal.seq)


def _shadow(desk: Desk, due: _Due, row: Row, bars: BarTable) -> NewEvent:
    opened = desk.calendar.last_opened(instant_of(bars.start[0]))
    assert opened is not None
    intent = decode(OrderIntent, json.loads(row["intent"]))
    trade = shadow_trade(intent, list(bars), opened.close, len(bars), desk.costs)
    assert trade is not None, "the horizon has ended"
    payload = {
        "action_id": row["action_id"], "strategy": row["strategy"], "symbol": due.symbol, "side": row["side"], "state": row["state"],
        "reason": row["reason"], "quantity": intent.quantity, "staked": to_cents(intent.quantity * intent.reference),
        "fills": encode(trade.fills), "result": to_cents(trade.result), "closed_at": trade.closed_at,
    }
    return NewEvent(EventType.SHADOW_CLOSED, f"strategy:{row['strategy']}", _key(due), payload, desk.now(), "evidence", row["last_seq"])


def _fraction(value: float) -> Decimal:
    return Decimal(value).quantize(_DIGITS) + 0


def _batches(facts: Sequence[NewEvent]) -> Iterable[list[NewEvent]]:
    """A few hundred at a time, so that nobody waits long for the head of the log."""
    rest = iter(facts)
    while batch := list(islice(rest, _BATCH)):
        yield batch
