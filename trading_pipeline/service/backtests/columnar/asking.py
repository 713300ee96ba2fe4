"""A function that decides: asked at every close in turn, told what that close tells, and nothing later.

As a research loop has it: no trigger is computed beforehand, and the function may remember what it saw. Sizing, rulebook and fills are
the simulation's. Closes of a session's last bar are not decided on, nor those at which an order of the lane is reached first.
"""

from collections.abc import Callable, Mapping, Sequence

from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.signals import Action

Values = Mapping[str, float]
"""Prices, volume and indicators of one bar by name; NaN where there is none."""
Ask = Callable[[Values, Values, int | None], Action]
"""(this close, the one before it, how many bars it is held or None) to what to do: BUY counts while flat, SELL while it is held."""
Agency = Callable[[str], Ask]
"""Makes the function that decides on a symbol, with a memory of its own."""
NOWHERE = 1 << 40
"""Beyond every bar."""


class Asked:
    """Asks for one lane.

    Args:
        columns: With their history, of which the grid begins at row `first`.
        decides: By bar of the grid, whether its close is decided on.
    """

    def __init__(self, agency: Agency, symbol: str, columns: Mapping[str, Floats], first: int, decides: Sequence[bool]) -> None:
        self._ask, self._decides = agency(symbol), decides
        self._names = tuple(columns)
        self._rows = list(zip(*(values[max(0, first - 1) :].tolist() for values in columns.values()), strict=True))
        if not first:
            self._rows.insert(0, (float("nan"),) * len(self._names))
        self._newest = -1, self._told(-1)

    def buys(self, bar: int) -> int:
        """The next bar, this one included, at which a flat lane buys."""
        return self._first(Action.BUY, bar, len(self._decides), None)

    def sells(self, bar: int, until: int, entered: int) -> int:
        """The next bar before `until`, this one included, at which one that was bought in bar `entered` sells."""
        return self._first(Action.SELL, bar, until, entered)

    def _first(self, wanted: Action, bar: int, until: int, entered: int | None) -> int:
        ask, names, rows, decides = self._ask, self._names, self._rows, self._decides
        at, before = self._newest
        if at != bar - 1:
            before = self._told(bar - 1)
        for at in range(bar, until):
            now = dict(zip(names, rows[at + 1], strict=True))
            if decides[at] and ask(now, before, None if entered is None else at - entered + 1) is wanted:
                self._newest = at, now
                return at
            before = now
        self._newest = max(bar, until) - 1, before
        return NOWHERE

    def _told(self, bar: int) -> Values:
        return dict(zip(self._names, self._rows[bar + 1], strict=True))
