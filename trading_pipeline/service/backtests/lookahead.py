"""The look-ahead check: a backtest is run again on bars whose future is another, and whatever it did before must be the same.

At an instant t known are the bars that have ended by t and the open of the one that has started; everything else is changed, once upwards
and once downwards. Every fact up to t is then compared, from the first difference on it can be told who looked ahead, when and at what.
It is blind to nothing on the path: indicators, triggers, decision makers, sizing, rules and fills all leave facts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice, zip_longest
from typing import Any, Final

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.engines import Backtest, Engine, run

Tables = Mapping[tuple[str, Interval], BarTable]
FUTURES: Final = (1.07, 0.93)
"""How many times the last close the changed price is that the close itself becomes: one of them turns any move round."""
INSTANTS: Final = 4
_DECISIONS: Final = (EventType.LLM_ACTION_GENERATED, EventType.LLM_ABSTAINED)
_LEAST_PRICE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Leak:
    """The first fact that is another when what comes after an instant is another; empty where there was none."""

    known_until: datetime
    at: datetime
    about: str
    """Type of the fact, and its symbol or strategy."""
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LookAheadCheck:
    """What the check found, one leak an instant at most."""

    instants: tuple[datetime, ...]
    compared: int
    """Facts, over all instants."""
    decisions: int
    """Of the backtest itself; without any the check has seen nothing."""
    leaks: tuple[Leak, ...]

    @property
    def passed(self) -> bool:
        """Whether decisions were made, and none of them depended on what came later."""
        return bool(self.decisions) and not self.leaks

    @property
    def headline(self) -> str:
        """One sentence."""
        if not self.decisions:
            return "LOOK-AHEAD NOT CHECKED: the backtest decided nothing, so there is nothing to compare."
        if not self.leaks:
            return (
                f"No look-ahead: {self.compared:,} facts are the same when the bars after {len(self.instants)} instants are others."
            )
        first = min(self.leaks, key=lambda leak: leak.at)
        return (
            f"LOOKS AHEAD: {first.about} at {first.at:%Y-%m-%d %H:%M} UTC changes with bars that end after "
            f"{first.known_until:%Y-%m-%d %H:%M} UTC, from {first.before or 'nothing'} to {first.after or 'nothing'}."
        )


def look_ahead(
    bench_of: Callable[[Tables], Bench], tables: Tables, plan: BacktestPlan, *, engine: Engine = Engine.AUTO, instants: int = INSTANTS,
    progress: Callable[[], None] | None = None,
) -> LookAheadCheck:
    """Check a plan.

    All runs are of one engine, since what two of them write about idle bars differs; where a future is not for the one that ran first,
    everything is run again by the stepped one.

    Args:
        bench_of: Sets a bench up over these bars in the place of its own, everything else the same.
        tables: Unadjusted bars, all that the plan may see.
        instants: At how many of its decisions to look, spread evenly over them.
        progress: Told after each run; there are at most 2 x `instants` + 1, twice where they are run again.
    """
    def ran(of: Tables, by: Engine) -> Backtest:
        backtest = run(bench_of(of), plan, engine=by)
        if progress is not None:
            progress()
        return backtest

    first = ran(tables, engine)
    try:
        return _check(first, lambda of: ran(of, Engine.AUTO if first.engine is Engine.COLUMNAR else Engine.STEPPED), tables, instants)
    except _OtherEngine:
        return _check(ran(tables, Engine.STEPPED), lambda of: ran(of, Engine.STEPPED), tables, instants)


class _OtherEngine(Exception):
    """A changed future is not for the engine that ran first."""


def _check(first: Backtest, rerun: Callable[[Tables], Backtest], tables: Tables, instants: int) -> LookAheadCheck:
    def facts(of: Tables) -> list[Event]:
        other = rerun(of)
        if other.engine is not first.engine:
            raise _OtherEngine
        return list(other.ledger.events())

    own = list(first.ledger.events())
    decided = list(dict.fromkeys(event.at for event in own if event.type in _DECISIONS))
    places = np.linspace(0, len(decided) - 1, instants + 2)[1:-1].round().astype(int).tolist() if decided else []
    chosen = [decided[place] for place in dict.fromkeys(places)]
    leaks: list[Leak] = []
    compared = 0
    for at in chosen:
        known = [event for event in own if event.at <= at]
        compared += len(known)
        found = (_first(known, facts(changed(tables, at, future)), at) for future in FUTURES)
        leaks += islice((leak for leak in found if leak is not None), 1)
    return LookAheadCheck(tuple(chosen), compared, sum(event.type in _DECISIONS for event in own), tuple(leaks))


def changed(tables: Tables, at: datetime, future: float) -> dict[tuple[str, Interval], BarTable]:
    """The bars with another future: each price after an instant is mirrored at the last close known, and moved by `future`."""
    return {place: _changed(table, at, future) for place, table in tables.items()}


def _changed(table: BarTable, at: datetime, future: float) -> BarTable:
    cut = int(np.searchsorted(table.end, instant_ns(at), side="right"))
    if cut == len(table):
        return table
    last = float(table.close[cut - 1]) if cut else float(table.open[0])
    later = table.rows(cut, len(table))
    mirrored = {
        name: np.maximum(_LEAST_PRICE, np.round(future * last * last / getattr(later, of), 2))
        for name, of in (("open", "open"), ("high", "low"), ("low", "high"), ("close", "close"))
    }
    if later.start[0] <= instant_ns(at):
        # Its open was published when it began: orders fill there.
        mirrored["open"][0] = later.open[0]
        mirrored["high"][0] = max(mirrored["high"][0], later.open[0])
        mirrored["low"][0] = min(mirrored["low"][0], later.open[0])
    mirrored["volume"] = later.volume * 3 + 1_000
    columns: dict[str, Any] = {name: np.concatenate((getattr(table, name)[:cut], values)) for name, values in mirrored.items()}
    return replace(table, **columns)


def _first(known: Sequence[Event], other: Sequence[Event], at: datetime) -> Leak | None:
    """The first difference among the facts up to an instant."""
    there = [event for event in other if event.at <= at]
    for one, two in zip_longest(known, there):
        if one is not None and two is not None and _said(one) == _said(two):
            continue
        event = one or two
        assert event is not None
        return Leak(at, event.at, _about(event), "" if one is None else _told(one), "" if two is None else _told(two))
    return None


def _said(event: Event) -> tuple[str, str, datetime, str]:
    return event.type.value, event.key, event.at, event.payload_text


def _about(event: Event) -> str:
    whose = event.payload.get("symbol") or event.payload.get("strategy") or event.payload.get("name") or ""
    return f"{event.type.value} {whose}".strip()


def _told(event: Event) -> str:
    """What a fact says, as short as a sentence bears it."""
    if event.type in _DECISIONS:
        return str(event.payload.get("action") or event.payload.get("reason"))
    text = event.payload_text
    return text if len(text) <= 120 else f"{text[:117]}..."
