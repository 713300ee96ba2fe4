"""The orders of an emergency stop: which are ours, their cancels, and what became of them (invariant 53).

The ledger says which orders there are; without it the broker is asked, and ours are those whose client ids are of our making
(invariant 13). An order is done when the broker states its end, never because it does not show it: that has to be proven, and until
then it is unknown. Orders of other hands are listed and left alone. No error of ours ends a round: it is told, and the rest is done.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import TERMINAL, WORKING, OrderClass, OrderState, OrderType, Side, TimeInForce
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import BrokerNotReady, LedgerUnavailable, TradingError
from trading_pipeline.ports import BrokerOrder, BrokerStatus, Stop
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.models.patience import together, within
from trading_pipeline.service.orders.adoption import is_ours
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping.presses import standing

T = TypeVar("T")
OPEN_ORDERS = tuple(state.value for state in WORKING)
CANCELS_AT_ONCE = 16
LEDGER_SECONDS = 2.0
"""How long an emergency waits for the ledger before it goes on without."""
ANSWER_SECONDS = 10.0
"""For a broker, and for everything that it says to be booked."""
IN_LEDGER, IN_JOURNAL = "ledger", "journal"
"""Where a stop is written down beside its file."""
_WORKS = (BrokerStatus.WORKING, BrokerStatus.HELD)
_OVER = (*(state.value for state in TERMINAL), OrderState.NOT_PLACED.value)


@dataclass(frozen=True, slots=True)
class Line:
    """One order in a report; `state` is the broker's word where it has one, else the ledger's."""

    client_id: str
    strategy: str
    symbol: str
    side: str
    quantity: int
    state: str


@dataclass(frozen=True, slots=True)
class Naked:
    """Shares held with no stop resting for them."""

    strategy: str
    symbol: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Report:
    """What one round of a stop has come to."""

    stop: Stop
    record: str
    """`IN_LEDGER`, `IN_JOURNAL`, or why nowhere."""
    ended: tuple[Line, ...]
    """Confirmed by the broker or proven: cancelled, or over before the cancel came."""
    open: tuple[Line, ...]
    unknown: tuple[Line, ...]
    kept: tuple[Line, ...]
    """Protective orders that the settings keep."""
    external: tuple[Line, ...]
    """Not ours: left alone."""
    unprotected: tuple[Naked, ...]
    trouble: tuple[str, ...]
    """What could not be asked, sent or booked."""
    complete: bool
    """Whether broker and ledger have told which orders there are."""

    @property
    def clean(self) -> bool:
        """Whether every order of ours is confirmed to be over (invariant 53)."""
        return self.complete and not self.open and not self.unknown

    def payload(self, account: str) -> dict[str, Any]:
        """As the fact `stop.reported`."""
        return {
            "account": account, "strategy": self.stop.strategy, "clean": self.clean,
            "ended": {line.client_id: line.state for line in self.ended}, "open": sorted(line.client_id for line in self.open),
            "unknown": sorted(line.client_id for line in self.unknown), "kept": sorted(line.client_id for line in self.kept),
            "external": sorted(line.client_id for line in self.external),
            "unprotected": [{"strategy": n.strategy, "symbol": n.symbol, "quantity": n.quantity} for n in self.unprotected],
            "trouble": sorted(self.trouble),
        }


def withheld(rows: Sequence[Row]) -> set[str]:
    """Protective orders that rest for shares: those whose entry has bought some, or that stand by themselves."""
    bought = {row["client_id"]: row["filled_quantity"] for row in rows}
    return {
        row["client_id"] for row in rows
        if row["order_class"] == OrderClass.PROTECTIVE.value and row["state"] != OrderState.CANCEL_PENDING.value
        and (row["parent"] not in bought or bought[row["parent"]] > 0)
    }


@dataclass(slots=True)
class _Seen:
    """What broker and ledger say, as far as they say anything."""

    shown: list[BrokerOrder] | None = None
    """All that the broker shows open."""
    booked: list[Row] | None = None
    """Orders of the scope that are not over, by the ledger; None when it cannot be read."""
    owners: Mapping[str, Row] = field(default_factory=dict)
    """The rows of what the broker shows."""


@dataclass(slots=True)
class _Asking:
    """One round's questions, with what went wrong. A ledger that has been silent once is not waited for again."""

    desk: Desk
    stop: Stop
    trouble: list[str] = field(default_factory=list)
    silent: bool = False

    def look(self, record: str) -> _Seen:
        """What is open now; before the ledger is waited for in vain, what the broker shows is cancelled."""
        seen = _Seen()
        try:
            seen.shown = within(ANSWER_SECONDS, lambda: self.desk.broker.orders(None), _no_broker)
        except TradingError as error:
            self.trouble.append(f"the broker cannot be asked: {error.message}")
        if record != IN_LEDGER:
            self.cancel(_ours(seen, self.stop) - self.kept(seen))
        scope: dict[str, Any] = {} if self.stop.strategy is None else {"strategy": self.stop.strategy}
        try:
            seen.booked = self.ledger(lambda: self.desk.ledger.find("orders", state=OPEN_ORDERS, **scope))
            names = [order.client_id for order in seen.shown or ()]
            seen.owners = {row["client_id"]: row for row in self.rows(names)}
        except TradingError as error:
            seen.booked = None
            self.trouble.append(f"the ledger cannot be read: {error.message}")
        return seen

    def rows(self, names: Sequence[str]) -> list[Row]:
        """The ledger's rows of orders."""
        return self.ledger(lambda: self.desk.ledger.find("orders", client_id=names)) if names else []

    def ledger(self, work: Callable[[], T]) -> T:
        """Read the ledger, if it has not been silent."""
        if self.silent:
            raise _no_ledger()
        try:
            return within(LEDGER_SECONDS, work, _no_ledger)
        except LedgerUnavailable:
            self.silent = True
            raise

    def requested(self) -> set[str]:
        """Orders that this stop has asked to cancel, whichever process wrote it down: the desk's is often the quicker one."""
        try:
            return self.ledger(self._requested)
        except TradingError as error:
            self.trouble.append(f"what was cancelled before cannot be read: {error.message}")
            return set()

    def _requested(self) -> set[str]:
        ledger, strategy = self.desk.ledger, self.stop.strategy
        row = ledger.get("strategies", strategy) if strategy else None
        since = row["last_seq"] if row is not None else self._first_press()
        requests = ledger.events(after=since, types=(EventType.ORDER_CANCEL_REQUESTED,))
        return {fact.payload["client_id"] for fact in requests if strategy in (None, fact.payload["strategy"])}

    def _first_press(self) -> int:
        """Of the account's stop that stands, however often it was pressed since."""
        return next((fact.seq for fact in standing(self.desk, self.desk.ledger) if fact.actor != RECOVERY), 0)

    def kept(self, seen: _Seen) -> set[str]:
        """What the settings keep."""
        return _kept(seen) if self.desk.keep_protective_stops else set()

    def cancel(self, names: Collection[str]) -> None:
        """Ask the broker for all of them, side by side."""
        failed = together(self.desk.broker.cancel, sorted(names), threads=CANCELS_AT_ONCE, seconds=ANSWER_SECONDS, otherwise=_no_broker)
        self.trouble += [f"a cancel was not taken: {message}" for message in sorted({error.message for error in failed.values()})]

    def settle(self) -> None:
        """Book what the broker says."""
        tally = Tally("stop", follow_up((), self.desk.today(), self.desk.now(), "stop"))
        try:
            within(ANSWER_SECONDS, lambda: settle(self.desk, tally), _no_ledger)
        except TradingError as error:
            self.trouble.append(f"what the broker says cannot be booked: {error.message}")


def withdraw(desk: Desk, stop: Stop, *, record: str, ended: Mapping[str, Line]) -> Report:
    """One round: find what is ours and open, cancel it, book what became of it, and look again.

    Args:
        record: Where the stop is written down, as in the report.
        ended: What earlier rounds have seen the end of.
    """
    asking = _Asking(desk, stop)
    seen = asking.look(record)
    kept = asking.kept(seen)
    wanted = _ours(seen, stop) - kept
    if record == IN_LEDGER or seen.booked is not None:
        asking.cancel(wanted)
        asking.settle()
    after = asking.look(IN_LEDGER)
    earlier = asking.requested() if record == IN_LEDGER else set()
    lines = _judge(asking, wanted | earlier | (_ours(after, stop) - kept), seen, after)
    lines += [(line, "unknown") for line in _lines(_unowned(after, stop), after)]
    over = dict(ended) | {line.client_id: line for line, state in lines if state == "ended"}
    return Report(
        stop, record, tuple(over.values()), tuple(line for line, state in lines if state == "open"),
        tuple(line for line, state in lines if state == "unknown"), tuple(_lines(kept, after)),
        tuple(_line(order, {}) for order in after.shown or () if not is_ours(order.client_id)),
        _naked(asking, after), tuple(dict.fromkeys(asking.trouble)), complete=after.shown is not None and after.booked is not None,
    )


def _ours(seen: _Seen, stop: Stop) -> set[str]:
    """What is to be cancelled: open by the ledger, or shown by the broker under a name of ours and of this scope."""
    found = {row["client_id"] for row in seen.booked or ()}
    for order in seen.shown or ():
        row = seen.owners.get(order.client_id)
        if is_ours(order.client_id) and (stop.strategy is None or (row is not None and row["strategy"] == stop.strategy)):
            found.add(order.client_id)
    return found


def _unowned(seen: _Seen, stop: Stop) -> set[str]:
    """Orders under names of ours of which nobody knows whose they are: a strategy's stop leaves them to a person, and is not clean."""
    if stop.strategy is None or seen.booked is None:
        return set()
    shown = [order.client_id for order in seen.shown or () if is_ours(order.client_id) and order.status in _WORKS]
    return {name for name in shown if name not in seen.owners or seen.owners[name]["strategy"] == EXTERNAL}


def _kept(seen: _Seen) -> set[str]:
    if seen.booked is not None:
        return withheld(seen.booked)
    # Only what protects may rest beyond the day (D7); a child that waits for its entry ends with it.
    return {o.client_id for o in seen.shown or () if o.ticket.time_in_force is TimeInForce.GTC and o.status is BrokerStatus.WORKING}


def _judge(asking: _Asking, wanted: Collection[str], before: _Seen, after: _Seen) -> list[tuple[Line, str]]:
    """Each order with whether it is `ended`, `open` or `unknown`."""
    names = sorted(wanted)
    if not names:
        return []
    stated: dict[str, BrokerOrder] = {}
    answered, rows = after.shown is not None, {row["client_id"]: row for row in before.booked or ()}
    try:
        stated = {order.client_id: order for order in within(ANSWER_SECONDS, lambda: asking.desk.broker.orders(names), _no_broker)}
    except TradingError:
        answered = False
    with suppress(TradingError):
        rows |= {row["client_id"]: row for row in asking.rows(names)}
    found = []
    for name in names:
        order, row = stated.get(name), rows.get(name)
        if order is not None:
            found.append((_line(order, rows), "open" if order.status in _WORKS else "ended"))
        elif row is not None:
            found.append((_booked_line(row), "ended" if answered and row["state"] in _OVER else "unknown"))
        else:
            found.append((Line(name, "", "", "", 0, "not shown any more"), "unknown"))
    return found


def _naked(asking: _Asking, seen: _Seen) -> tuple[Naked, ...]:
    """Held shares without a stop at the broker, by the book, or by the broker where the book cannot be read."""
    held: list[Naked] = []
    try:
        rows = asking.ledger(lambda: asking.desk.ledger.find("positions"))
        held = [Naked(row["strategy"], row["symbol"], row["quantity"]) for row in rows if row["quantity"] > 0]
    except TradingError:
        with suppress(TradingError):
            positions = within(ANSWER_SECONDS, asking.desk.broker.positions, _no_broker)
            held = [Naked("", symbol, quantity) for symbol, quantity in positions.items() if quantity > 0]
    covered: dict[str, int] = {}
    for order in seen.shown or ():
        ticket = order.ticket
        if ticket.side is Side.SELL and ticket.order_type is OrderType.STOP and order.status is BrokerStatus.WORKING:
            covered[ticket.symbol] = covered.get(ticket.symbol, 0) + ticket.quantity - order.filled_quantity
    naked = []
    for each in held:
        if asking.stop.strategy in (None, each.strategy) or not each.strategy:
            here = min(each.quantity, covered.get(each.symbol, 0))
            covered[each.symbol] = covered.get(each.symbol, 0) - here
            if each.quantity > here:
                naked.append(Naked(each.strategy, each.symbol, each.quantity - here))
    return tuple(naked)


def _lines(names: Collection[str], seen: _Seen) -> list[Line]:
    return [_line(order, seen.owners) for order in seen.shown or () if order.client_id in names]


def _line(order: BrokerOrder, rows: Mapping[str, Row]) -> Line:
    row, ticket = rows.get(order.client_id), order.ticket
    return Line(order.client_id, row["strategy"] if row else "", ticket.symbol, ticket.side.value, ticket.quantity, order.status.value)


def _booked_line(row: Row) -> Line:
    return Line(row["client_id"], row["strategy"], row["symbol"], row["side"], row["quantity"], row["state"])


def _no_broker() -> TradingError:
    return BrokerNotReady(f"The broker has not answered within {ANSWER_SECONDS:g} s.")


def _no_ledger() -> TradingError:
    return LedgerUnavailable(f"The ledger has not answered within {LEDGER_SECONDS:g} s.")
