"""What each lane waits for, in the order in which it happens: the next bar at which something can."""

from collections.abc import Sequence
from heapq import heappop, heappush

from trading_pipeline.service.backtests.columnar.asking import NOWHERE, Asked
from trading_pipeline.service.backtests.columnar.holdings import Held, first_reached
from trading_pipeline.service.backtests.columnar.lanes import Lane

REACHED, OPENED, DECIDED = 0, 1, 2
"""What a lane waits for. What a bar's range reaches comes first, then what the next one's open does, then what is decided at its close."""
_STRETCH = 32
"""Bars that are looked through at once for a lane that is asked."""


class Agenda:
    """One entry for each lane. A flat lane waits for its rules to buy; one that holds, for its stops and targets or its rules to sell."""

    def __init__(self, lanes: Sequence[Lane], size: int, first: int = 0) -> None:
        """Every lane is flat at the first bar that is looked at; there are so many."""
        self._lanes, self._size = lanes, size
        self._asked = [lane.asked() if lane.asked is not None else None for lane in lanes]
        self._entries: list[tuple[int, int, int]] = []
        for number in range(len(lanes)):
            self.flat(number, first)

    @property
    def bar(self) -> int:
        """At which something can happen next."""
        return self._entries[0][0]

    def take(self) -> tuple[int, int, list[int]]:
        """The bar, what happens, and to which lanes: decisions at one close come together. Whoever takes an entry makes the lane's next."""
        bar, kind, number = heappop(self._entries)
        numbers, entries = [number], self._entries
        if kind == DECIDED:
            while entries and entries[0][0] == bar and entries[0][1] == DECIDED:
                numbers.append(heappop(entries)[2])
        return bar, kind, numbers

    def add(self, number: int, bar: int, kind: int) -> None:
        """What is known to happen to a lane."""
        heappush(self._entries, (bar, kind, number))

    def flat(self, number: int, bar: int) -> None:
        """A lane is flat, and decides from a bar's close on."""
        asked = self._asked[number]
        enter = self._lanes[number].enter[bar if bar < self._size else self._size] if asked is None else asked.buys(bar)
        heappush(self._entries, (enter, DECIDED, number))

    def holds(self, number: int, held: Held, bar: int, after: int) -> None:
        """A lane holds: `after` is the first bar that may reach a stop or target, `bar` the first whose close may decide to sell."""
        lane, size, asked = self._lanes[number], self._size, self._asked[number]
        if asked is not None:
            heappush(self._entries, (*self._asked_on(asked, lane, held, bar, after), number))
            return
        leave = self._leaves(lane, held, bar)
        if held.parts:
            met = first_reached(lane.prices, held, after, leave + 1 if leave + 1 < size else size - 1)
            if met is not None:
                reached, by_open = met
                if reached - by_open <= leave:
                    heappush(self._entries, (reached - by_open, OPENED if by_open else REACHED, number))
                    return
        heappush(self._entries, (leave, DECIDED, number))

    def sells(self, number: int, held: Held, bar: int) -> bool:
        """Whether the rules sell at a bar's close."""
        asked = self._asked[number]
        return (self._leaves(self._lanes[number], held, bar) if asked is None else asked.sells(bar, bar + 1, held.entered)) == bar

    def _leaves(self, lane: Lane, held: Held, bar: int) -> int:
        """The first bar from `bar` on at whose close the rules sell."""
        size = self._size
        leave = lane.leave[bar if bar < size else size]
        if lane.max_bars:
            last = max(bar, held.entered + lane.max_bars - 1)
            at_most = lane.decides[last if last < size else size]
            if at_most < leave:
                return at_most
        return leave

    def _asked_on(self, asked: Asked, lane: Lane, held: Held, bar: int, after: int) -> tuple[int, int]:
        """A lane that is asked, stretch by stretch: only up to the bar that reaches a stop or target."""
        while True:
            last = min(bar + _STRETCH, self._size - 1)
            met = first_reached(lane.prices, held, after, last) if held.parts else None
            until = last if met is None else met[0] - met[1]
            sold = asked.sells(bar, until, held.entered)
            if sold < until:
                return sold, DECIDED
            if met is not None:
                return until, OPENED if met[1] else REACHED
            if last == self._size - 1:
                return NOWHERE, DECIDED
            bar, after = last, last + 1
