"""The paper broker: anything sent, cancelled or traded by hand at any time, over two sessions and a split; its books always balance."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.adapters.brokers.paper_venue import SESSIONS, Venue, at, buy, market_of, minutes, sell, stop, target
from tests.adapters.brokers.test_paper_properties import bar
from tests.state_machines.walking import walk
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.domain.orders import OrderType, Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.errors import BrokerRefused, OrderExists
from trading_pipeline.ports import BrokerOrder, BrokerStatus, Ticket

D = Decimal
CASH = D(50_000)
SPLIT_AT = SESSIONS[2].open
OVER = {BrokerStatus.FILLED, BrokerStatus.CANCELED, BrokerStatus.EXPIRED, BrokerStatus.REJECTED}
prices = st.integers(9_600, 10_400).map(lambda cents: D(cents) / 100)
shares = st.integers(1, 150)


def scaled(table: BarTable, ratio: Decimal) -> BarTable:
    """Prices after a split."""
    by = float(ratio)
    columns = {name: (getattr(table, name) / by).round(4) for name in ("open", "high", "low", "close")}
    return replace(table, **columns)


class PaperBroker(RuleBasedStateMachine):
    """One account, one symbol, ten minutes on each of two days; the symbol may split over night."""

    @initialize(
        days=st.tuples(*[st.lists(st.one_of(bar(), bar(), bar(), st.none()), min_size=10, max_size=10)] * 2),
        ratio=st.sampled_from(["1", "2", "4", "0.5", "0.1"]),
    )
    def open(self, days: tuple[list[tuple[str, str, str, str, int] | None], ...], ratio: str) -> None:
        self.ratio = D(ratio)
        self.first = minutes(*days[0])
        second = minutes(*days[1], first=at(0, day=1), before=None)
        table = self.first.joined(scaled(second, self.ratio)) if len(second) else self.first
        splits = {} if ratio == "1" else {"AAPL": (Split("AAPL", SESSIONS[2].day, self.ratio),)}
        self.here = Venue(market_of(table), PaperSettings(cash=CASH), splits=splits)
        self.sent: dict[str, Ticket] = {}
        self.pairs: list[tuple[str, ...]] = []
        self.seen: dict[str, tuple[str, Fill]] = {}
        self.over: dict[str, BrokerOrder] = {}

    @property
    def scale(self) -> Decimal:
        """What prices are divided by now."""
        return self.ratio if self.here.clock.now() >= SPLIT_AT else D(1)

    def _price(self, price: Decimal) -> str:
        return f"{price / self.scale:.2f}"

    def _send(self, ticket: Ticket) -> None:
        names = [ticket.client_id, *(child.client_id for child in ticket.children)]
        try:
            self.here.submit(ticket)
        except BrokerRefused:
            assert self.here.broker.orders(names) == [], "refused, and there all the same"
            return
        self.sent |= {each.client_id: each for each in (ticket, *ticket.children)}
        self.pairs += [tuple(child.client_id for child in ticket.children)] if ticket.children else []

    @rule(
        quantity=shares, limit=prices, low=prices, high=prices, kind=st.sampled_from([OrderType.MARKETABLE, OrderType.LIMIT]),
        children=st.sampled_from([0, 1, 2]),
    )
    def buy(self, quantity: int, limit: Decimal, low: Decimal, high: Decimal, kind: OrderType, children: int) -> None:
        """With a stop, a stop and a target, or nothing."""
        name = f"B{len(self.sent)}"
        low, high = min(low, high), max(low, high)
        bracket = [stop(f"{name}S", quantity, self._price(low), name), target(f"{name}T", quantity, self._price(high), name)]
        self._send(buy(name, quantity, self._price(limit), *bracket[:children], kind=kind))

    @rule(quantity=shares, limit=prices, kind=st.sampled_from([OrderType.MARKETABLE, OrderType.LIMIT]))
    def sell(self, quantity: int, limit: Decimal, kind: OrderType) -> None:
        """What is held, or too much."""
        self._send(sell(f"S{len(self.sent)}", quantity, self._price(limit), kind=kind))

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 50))
    def cancel(self, number: int) -> None:
        """An order, an order's child, or what is over already."""
        self.here.broker.cancel(list(self.sent)[number % len(self.sent)])

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 50))
    def send_again(self, number: int) -> None:
        """A client id is taken once."""
        ticket = list(self.sent.values())[number % len(self.sent)]
        try:
            self.here.submit(ticket)
        except OrderExists:
            return
        raise AssertionError("a client id was taken twice")

    @rule(quantity=shares, price=prices, side=st.sampled_from(list(Side)))
    def trade_by_hand(self, quantity: int, price: Decimal, side: Side) -> None:
        """The account's owner."""
        held, open_orders = self.here.broker.positions().get("AAPL", 0), self.here.broker.orders()
        if open_orders or (side is Side.SELL and quantity > held):
            return
        if side is Side.BUY and quantity * price / self.scale + 10 > self.here.broker.account().cash:
            return
        self.here.broker.trade_by_hand("AAPL", side, quantity, D(self._price(price)))

    @rule(seconds=st.sampled_from([1, 20, 60, 61, 120, 300]))
    def wait(self, seconds: int) -> None:
        """Within a session, or over night into the next."""
        now = self.here.clock.now()
        session = next((each for each in SESSIONS[1:] if now < each.close), None)
        if session is not None:
            later = now + timedelta(seconds=seconds)
            after = SESSIONS[SESSIONS.index(session) + 1].open if session is SESSIONS[1] else session.close + timedelta(minutes=2)
            self.here.go_to(later if later < session.close else after)

    @invariant()
    def cash_and_shares_are_those_of_the_executions(self) -> None:
        if not hasattr(self, "here"):
            return
        account, held, cash, split = self.here.broker.account(), 0, CASH, self.here.clock.now() < SPLIT_AT or self.ratio == 1
        executions = self.here.broker.executions(SESSIONS[0].open)
        for _, fill in [*executions, ("", None)]:
            if not split and (fill is None or fill.at >= SPLIT_AT):
                exact = held * self.ratio
                cash += ((exact - int(exact)) / self.ratio * D(str(self.first.close[-1]))).quantize(D("0.01"))
                held, split = int(exact), True
            if fill is not None:
                sign = 1 if fill.side is Side.BUY else -1
                held, cash = held + sign * fill.quantity, cash - sign * fill.quantity * fill.price - fill.commission
                assert fill.quantity > 0
                assert fill.price > 0
                assert held >= 0, "sold short"
                assert cash >= 0, "bought on credit"
        assert account.cash == cash
        assert self.here.broker.positions() == ({"AAPL": held} if held else {})
        # Nothing that was reported is taken back or changed.
        told = {fill.execution_id: (name, fill) for name, fill in executions}
        assert len(told) == len(executions)
        assert self.seen.items() <= told.items()
        self.seen = told

    @invariant()
    def no_order_fills_beyond_itself_and_what_is_over_stays_over(self) -> None:
        if not hasattr(self, "here"):
            return
        stated = {order.client_id: order for order in self.here.broker.orders(self.sent)}
        assert stated.keys() == self.sent.keys()
        for name, order in stated.items():
            assert 0 <= order.filled_quantity <= order.ticket.quantity
            if order.status is BrokerStatus.FILLED:
                assert order.filled_quantity == order.ticket.quantity
            if name in self.over:
                assert (order.status, order.filled_quantity) == (self.over[name].status, self.over[name].filled_quantity)
            elif order.status in OVER:
                self.over[name] = order
        for pair in self.pairs:
            assert sum(stated[name].filled_quantity for name in pair) <= max(stated[name].ticket.quantity for name in pair)


def test_cash_and_shares_are_conserved_whatever_is_sent_when() -> None:
    """18, 26, D24, D28."""
    walk(PaperBroker, examples=40, steps=25)
