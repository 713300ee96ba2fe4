"""Random markets and orders: what happens does not depend on when one looks, and the books always balance."""

from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.brokers.paper_venue import MINUTE, SESSIONS, Venue, at, buy, market_of, minutes, sell, stop, target
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.domain.orders import OrderType, Side
from trading_pipeline.errors import BrokerRefused
from trading_pipeline.ports import BrokerStatus, Ticket

CASH = Decimal(50_000)
cents = st.integers(9_600, 10_400).map(lambda n: f"{n / 100:.2f}")


@st.composite
def bar(draw):
    prices = sorted(draw(st.lists(st.integers(9_600, 10_400), min_size=4, max_size=4)))
    first, last = draw(st.sampled_from([(1, 2), (2, 1), (0, 3), (3, 0)]))
    shown = [f"{prices[i] / 100:.2f}" for i in (first, 3, 0, last)]
    return (*shown, draw(st.sampled_from([0, 5, 200, 900, 20_000])))


@st.composite
def markets(draw) -> dict[str, BarTable]:
    """Two sessions of ten minutes for two symbols, with minutes in which nothing traded."""
    tables = {}
    for symbol in ("AAPL", "IBM"):
        days = [draw(st.lists(st.one_of(bar(), bar(), bar(), st.none()), min_size=10, max_size=10)) for _ in range(2)]
        first = minutes(*days[0], symbol=symbol)
        tables[symbol] = first.joined(minutes(*days[1], symbol=symbol, first=at(0, day=1), before=None))
    return tables


@st.composite
def tickets(draw, number: int) -> Ticket:
    symbol = draw(st.sampled_from(["AAPL", "IBM"]))
    quantity = draw(st.integers(1, 150))
    kind = draw(st.sampled_from([OrderType.MARKETABLE, OrderType.LIMIT]))
    if draw(st.booleans()):
        return sell(f"{number}", quantity, draw(cents), kind=kind, symbol=symbol)
    children: list[Ticket] = []
    left = quantity
    for pair in range(draw(st.integers(0, 2))):
        share = draw(st.integers(1, max(1, left)))
        if share > left:
            break
        left -= share
        children.append(stop(f"{number}S{pair}", share, draw(cents), f"{number}-{pair}", symbol))
        if draw(st.booleans()):
            children.append(target(f"{number}T{pair}", share, draw(cents), f"{number}-{pair}", symbol))
    return buy(f"{number}", quantity, draw(cents), *children, kind=kind, symbol=symbol)


@st.composite
def days(draw) -> list[tuple[datetime, Ticket | str]]:
    """What is sent and canceled when, in order."""
    acts: list[tuple[datetime, Ticket | str]] = []
    for number in range(draw(st.integers(1, 6))):
        when = at(0, draw(st.integers(0, 599)), day=draw(st.integers(0, 1)))
        acts.append((when, draw(tickets(number))))
        if draw(st.integers(0, 3)) == 0:
            acts.append((when + timedelta(seconds=draw(st.integers(0, 90))), f"{number}"))
    return sorted(acts, key=lambda act: act[0])


def play(tables: dict[str, BarTable], acts: list[tuple[datetime, Ticket | str]], looks: list[datetime]) -> Venue:
    here = Venue(market_of(*tables.values()), PaperSettings(cash=CASH))
    pending = [(when, 0, None) for when in looks] + [(when, 1, act) for when, act in acts]
    for when, _, act in sorted(pending, key=lambda each: each[:2]):
        here.go_to(when)
        if act is None:
            here.broker.orders()
        elif isinstance(act, str):
            here.broker.cancel(act)
        else:
            try:
                here.submit(act)
            except BrokerRefused:
                continue
    return here.go_to(SESSIONS[2].close + 2 * MINUTE)


def outcome(here: Venue, acts: list[tuple[datetime, Ticket | str]]) -> object:
    names = [each.client_id for _, act in acts if not isinstance(act, str) for each in (act, *act.children)]
    return here.broker.executions(SESSIONS[0].open), here.broker.orders(names), here.broker.positions(), here.broker.account()


@settings(max_examples=60, deadline=None)
@given(markets(), days(), st.lists(st.one_of(st.integers(0, 600), st.integers(86_390, 87_000)), max_size=40))
def test_the_result_is_the_same_however_often_one_looks(tables, acts, looks):
    rarely = play(tables, acts, [])
    often = play(tables, acts, [at(0, second) for second in looks] + [at(minute) for minute in range(11)])
    assert outcome(rarely, acts) == outcome(often, acts)


@settings(max_examples=60, deadline=None)
@given(markets(), days())
def test_the_books_balance_and_nothing_is_ever_oversold(tables, acts):
    """26."""
    here = play(tables, acts, [])
    cash, held, bought = CASH, {}, {}
    seen = set()
    for name, fill in here.broker.executions(SESSIONS[0].open):
        sign = 1 if fill.side is Side.BUY else -1
        cash -= sign * fill.quantity * fill.price + fill.commission
        held[fill.symbol] = held.get(fill.symbol, 0) + sign * fill.quantity
        bought[name] = bought.get(name, 0) + fill.quantity
        assert held[fill.symbol] >= 0
        assert cash >= 0
        assert fill.quantity > 0
        assert fill.execution_id not in seen
        seen.add(fill.execution_id)
    assert here.broker.account().cash == cash
    assert here.broker.positions() == {symbol: shares for symbol, shares in held.items() if shares}
    tickets_sent = [act for _, act in acts if not isinstance(act, str)]
    for ticket in tickets_sent:
        assert bought.get(ticket.client_id, 0) <= ticket.quantity
        pairs: dict[str | None, int] = {}
        for child in ticket.children:
            pairs[child.oco] = pairs.get(child.oco, 0) + bought.get(child.client_id, 0)
            assert pairs[child.oco] <= child.quantity
        assert sum(pairs.values()) <= bought.get(ticket.client_id, 0)


@settings(max_examples=60, deadline=None)
@given(markets(), days())
def test_no_fill_is_beyond_its_limit_or_more_than_its_share_of_a_bar(tables, acts):
    here = play(tables, acts, [])
    sent = {each.client_id: each for _, act in acts if not isinstance(act, str) for each in (act, *act.children)}
    for name, fill in here.broker.executions(SESSIONS[0].open):
        ticket = sent[name]
        if ticket.limit_price is not None:
            assert fill.price <= ticket.limit_price if fill.side is Side.BUY else fill.price >= ticket.limit_price
        assert fill.quantity <= 2_000
        assert any(session.open <= fill.at <= session.close for session in SESSIONS)
    for order in here.broker.orders(sent):
        assert order.filled_quantity == sum(fill.quantity for name, fill in here.broker.executions(at(0)) if name == order.client_id)
        if order.status is BrokerStatus.FILLED:
            assert order.filled_quantity == order.ticket.quantity
