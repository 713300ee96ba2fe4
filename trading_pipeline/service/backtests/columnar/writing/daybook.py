"""What a session's report is made of, counted as fills are booked: the account's and each strategy's figures in steps."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from trading_pipeline.service.backtests.columnar.incidents import Filled
from trading_pipeline.service.backtests.columnar.units import steps
from trading_pipeline.service.backtests.columnar.writing import words
from trading_pipeline.service.backtests.columnar.writing.forms import Values

if TYPE_CHECKING:
    from trading_pipeline.service.backtests.columnar.simulation import Simulation


class DayBook:
    """Counts one session after another."""

    def __init__(self, sim: "Simulation") -> None:
        """Of an account that has booked nothing yet."""
        self._strategies = [lane.spec.name for lane in sim.lanes]
        self.names = list(sim.tracks)
        self._cash = self._baseline = sim.cash
        self.held: dict[int, int] = {}
        """By lane, its shares."""
        self._flow = dict.fromkeys(self.names, 0)
        """By strategy, got less paid since it began."""
        self._before = dict.fromkeys(self.names, 0)
        """By strategy, what it had made before this session, to the cent."""
        self.closing: Values | None = None
        """What the next session is measured from, as text; None before the first close."""
        self._next: Values = {}
        self._clear()

    def _clear(self) -> None:
        self._fills, self._bought, self._sold = (dict.fromkeys(self.names, 0) for _ in range(3))

    def book(self, fill: Filled) -> None:
        """Count an execution."""
        name, value = self._strategies[fill.lane], fill.shares * fill.price
        self._cash -= value + fill.commission
        self._flow[name] -= value + fill.commission
        self.held[fill.lane] = self.held.get(fill.lane, 0) + fill.shares
        self._fills[name] += 1
        if value > 0:
            self._bought[name] += value
        else:
            self._sold[name] -= value

    def close(self, prices: Mapping[int, int]) -> Values:
        """The session's figures as text, at closing prices by lane."""
        worth = dict.fromkeys(self.names, 0)
        for lane, shares in self.held.items():
            worth[self._strategies[lane]] += shares * prices[lane]
        equity = self._cash + sum(worth.values())
        values: Values = {
            "closing": words.rounded(equity), "cash": words.rounded(self._cash), "day": words.rounded(equity - self._baseline),
            "fills": str(sum(self._fills.values())),
        }
        for number, name in enumerate(self.names):
            total = self._flow[name] + worth[name]
            values |= {
                f"fills_{number}": str(self._fills[name]), f"bought_{number}": words.rounded(self._bought[name]),
                f"sold_{number}": words.rounded(self._sold[name]), f"day_{number}": words.rounded(total - self._before[name]),
                f"total_{number}": words.rounded(total),
            }
        self._next = {"baseline": values["closing"]} | {f"total_{number}": values[f"total_{number}"] for number in range(len(self.names))}
        return values

    def read(self, closed: Mapping[str, Any]) -> None:
        """Take the figures of a session's close from its fact."""
        told = closed["report"]["strategies"]
        self._next = {"baseline": closed["closing_equity"]}
        self._next |= {f"total_{number}": told[name]["total_pnl"] for number, name in enumerate(self.names) if name in told}

    def begin(self) -> None:
        """Go on to the next session."""
        self.closing = self._next
        self._baseline = steps(Decimal(self._next["baseline"]))
        for number, name in enumerate(self.names):
            self._before[name] = steps(Decimal(self._next.get(f"total_{number}", "0")))
        self._clear()
