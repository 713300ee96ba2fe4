"""Every decision again: what the code makes of the state before an event and of what the event recorded from outside.

One method a kind of event, by family in the modules here, each calling the very function that made the event then and comparing
the payload it gives with the one that is stored, field by field. The desk that these functions see has the time and the limits of
then, and nobody behind the other ports: a function that asked a broker or a market would fail, not answer. What was recorded before
its inputs were, and what follows from bars that the archive no longer has, is told as not derivable, never as a difference.
"""

from collections.abc import Callable, Iterator

from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.errors import LedgerError, TradingError
from trading_pipeline.service.record.past_desk import Record
from trading_pipeline.service.record.rederiving.orders import Orders
from trading_pipeline.service.record.rederiving.signals import Signals
from trading_pipeline.service.record.rederiving.then import RULE, Finding, Then
from trading_pipeline.service.record.rederiving.verdicts import Verdicts

__all__ = ["Finding", "Rederiver"]

_BROKEN = (TradingError, ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)


class Rederiver:
    """Derives one event after the other, each before it is added to the past."""

    def __init__(self, record: Record) -> None:
        """Nothing is read yet."""
        then = Then(record)
        signals, self._verdicts, self._orders = Signals(then), Verdicts(then), Orders(then)
        self._kinds: dict[EventType, Callable[[Event], Iterator[Finding]]] = {
            EventType.RISK_EVALUATED: self._evaluated, **signals.kinds, **self._verdicts.kinds, **self._orders.kinds,
        }

    def check(self, event: Event) -> list[Finding]:
        """Derive what the event decided; empty for an event that decides nothing."""
        derive = self._kinds.get(event.type)
        if derive is None:
            return []
        try:
            return list(derive(event))
        except LedgerError:
            raise
        except _BROKEN as error:
            # Whatever a wrong payload makes of our functions: it is the payload that is to be named.
            return [Finding("events", Difference(RULE, event.key, f"{type(error).__name__}: {error}", event.seq))]

    def missing(self) -> list[Finding]:
        """What had to follow from the events checked, and did not come."""
        return [*self._verdicts.missing(), *self._orders.missing()]

    def _evaluated(self, event: Event) -> Iterator[Finding]:
        if event.payload["stage"] == "gate":
            yield self._orders.evaluated(event)
        else:
            yield from self._verdicts.evaluated(event)
