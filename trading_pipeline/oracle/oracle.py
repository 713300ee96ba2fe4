"""Feeding facts to the invariants, one after the other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import DecimalException
from typing import Any

from trading_pipeline.oracle import approvals, chain, day_risk, hard, limits, market, models, orders, portfolio, strategies
from trading_pipeline.oracle.fact import Fact
from trading_pipeline.oracle.fold import fold
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import State

_FAMILIES = (chain, orders, approvals, limits, day_risk, portfolio, strategies, market, models, hard)
INVARIANTS: tuple[Invariant, ...] = tuple(
    sorted(
        (row for family in _FAMILIES for row in family.INVARIANTS),
        key=lambda row: row.number,
    )
)
"""Every check there is, by number; a number that concerns several state machines has a row for each."""
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, DecimalException)
"""What a payload that is not as it should be ends in."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant broken by a fact."""

    number: int
    seq: int
    says: str

    def __str__(self) -> str:
        return f"invariant {self.number}, event {self.seq}: {self.says}"


class Oracle:
    """Judges a ledger's events in order, from the first one on.

    `looked` counts how often each invariant was looked at: one that never was says nothing by its silence.
    """

    def __init__(self) -> None:
        self.state = State()
        self.events = 0
        self.looked: dict[int, int] = {row.number: 0 for row in INVARIANTS}
        every = [row for row in INVARIANTS if row.types == ("*",)]
        types = {name for row in INVARIANTS for name in row.types if name != "*"}
        self._rows = {name: sorted([*every, *(r for r in INVARIANTS if name in r.types)], key=lambda r: r.number) for name in types}
        self._every = every

    def feed(self, event: Mapping[str, Any]) -> list[Violation]:
        """Judge the next event of the export, and take it into account; every violation it is."""
        fact, found = self._read(event)
        if fact is None:
            return found
        self.events += 1
        for row in self._rows.get(fact.type, self._every):
            self.looked[row.number] += 1
            try:
                found.extend(Violation(row.number, fact.seq, says) for says in row.check(self.state, fact))
            except UNREADABLE as error:
                says = f"{fact.type} {fact.key} cannot be judged: {type(error).__name__}: {error}"
                found.append(Violation(row.number, fact.seq, says))
        return found + self._fold(fact)

    def fold(self, event: Mapping[str, Any]) -> None:
        """Take an event into account without judging it: what came before the stretch that is asked about."""
        fact, _ = self._read(event)
        if fact is not None:
            self._fold(fact)

    def _read(self, event: Mapping[str, Any]) -> tuple[Fact | None, list[Violation]]:
        try:
            return Fact.read(event), []
        except UNREADABLE as error:
            seq = event.get("seq")
            known = seq if isinstance(seq, int) else self.state.seq + 1
            return None, [Violation(1, known, f"this is no event: {type(error).__name__}: {error}")]

    def _fold(self, fact: Fact) -> list[Violation]:
        try:
            fold(self.state, fact)
        except UNREADABLE as error:
            says = f"{fact.type} {fact.key} does not follow from what came before: {type(error).__name__}: {error}"
            return [Violation(17, fact.seq, says)]
        return []


def check(events: Iterable[Mapping[str, Any]], *, first: int = 1, last: int | None = None) -> list[Violation]:
    """Every violation among a ledger's events.

    Args:
        events: The export from its beginning, one mapping an event.
        first: The first seq that is judged; what comes before is taken as it is.
        last: The last one; to the end when None.
    """
    oracle = Oracle()
    found: list[Violation] = []
    for event in events:
        if last is not None and event["seq"] > last:
            break
        if event["seq"] < first:
            oracle.fold(event)
        else:
            found += oracle.feed(event)
    return found
