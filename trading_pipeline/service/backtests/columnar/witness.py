"""Who writes down what a simulation does: told of everything as it happens, before what follows from it."""

from collections.abc import Sequence
from typing import Protocol

from trading_pipeline.service.backtests.columnar.incidents import Filled
from trading_pipeline.service.backtests.columnar.judging import Waiting
from trading_pipeline.service.backtests.columnar.sizes import Entry


class Witness(Protocol):
    """Who writes down what a simulation does."""

    def decided(self, bar: int, due: Sequence[tuple[int, bool]]) -> None:
        """Lanes decide at a close to trade, in the order of judging: (lane, whether it sells)."""

    def judged(self, number: int, bar: int, entry: Entry | str | None, denial: str, waiting: Sequence[Waiting]) -> None:
        """A proposal was sized and judged; those in `waiting` were admitted before it."""

    def sent(self, number: int, bar: int, entry: Entry | None, at: int, denial: str, left: Sequence[Waiting]) -> None:
        """An order reaches the gate, and goes out unless it is denied there; those in `left` come after it."""

    def filled(self, fill: Filled, bracket: int) -> None:
        """An execution, of a bracket's stop or target where it is not 0."""
