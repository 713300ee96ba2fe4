"""Trades that were never made are filled as the paper broker fills: held to it on random markets, and to prices written out by hand."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.brokers.paper_venue import CALM, MINUTE, OPEN, SESSIONS, Venue, at, buy, market_of, minutes, stop, target
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderIntent, OrderType, Side
from trading_pipeline.domain.shadow import FillCosts, Leg, ShadowTrade, shadow_trade

COSTS = FillCosts()
CLOSES = SESSIONS[1].close


def intent(quantity=100, limit="101.00", *brackets, side=Side.BUY, kind=OrderType.MARKETABLE):
    order_class = OrderClass.ENTRY if side is Side.BUY else OrderClass.EXIT
    return OrderIntent(
        "ACTION", "entry", "PAPER-1", "demo", "buyer", "AAPL", side, order_class, quantity, kind, Decimal(100), Decimal(limit),
        brackets=tuple(Bracket(shares, Decimal(low), None if high is None else Decimal(high)) for shares, low, high in brackets),
    )


def after(*bars):
    """The bars from the open on."""
    return list(minutes(*bars, before=None))


def follow(proposal, *bars, horizon=None):
    return shadow_trade(proposal, after(*bars), CLOSES, horizon or len(bars), COSTS)


def told(trade: ShadowTrade):
    return [(fill.leg.value, str(fill.price), fill.quantity, fill.at) for fill in trade.fills]


def test_a_gap_below_the_stop_fills_at_the_open():
    """Bought at 100.03; the second minute opens at 90: 90 x 0.9997 = 89.973. 100 x -10.057 less $2.00."""
    trade = follow(intent(100, "101.00", (100, "98.00", "103.00")), CALM, ("90.00", "91.00", "89.00", "90.00", 10_000))
    assert told(trade) == [("entry", "100.0300", 100, OPEN), ("stop", "89.9730", 100, at(1))]
    assert trade.result == Decimal("-1007.7000")


def test_of_two_brackets_each_ends_by_itself():
    """60 shares reach 103; 40 have their target at 110 and are sold where the horizon ends: 104 x 0.9997 = 103.9688."""
    up = ("102.00", "104.00", "101.50", "104.00", 10_000)
    trade = follow(intent(100, "101.00", (60, "98.00", "103.00"), (40, "98.00", "110.00")), CALM, up)
    assert told(trade)[1:] == [("target", "103.00", 60, at(2)), ("horizon", "103.9688", 40, at(2))]
    assert trade.result == 60 * Decimal("2.97") + 40 * Decimal("3.9388") - 3


def test_an_entry_that_never_fills_made_nothing():
    trade = follow(intent(100, "95.00", kind=OrderType.LIMIT), *([CALM] * 10))
    assert (trade.fills, trade.result) == ((), 0)


def test_no_shares_fill_nothing_and_cost_nothing():
    for side in Side:
        trade = follow(replace(intent(100, "101.00"), quantity=0, side=side), *([CALM] * 3))
        assert (trade.fills, trade.result) == ((), 0)


def test_nothing_is_told_before_the_bars_tell_it():
    """The stop is not reached, the target is not, and the horizon is three bars away: the future decides."""
    assert follow(intent(100, "101.00", (100, "98.00", "103.00")), CALM, CALM, horizon=5) is None
    assert follow(intent(100, "95.00", kind=OrderType.LIMIT), CALM, CALM, horizon=5) is None
    assert shadow_trade(intent(), [], CLOSES, 5, COSTS) is None


def test_selling_is_worth_what_the_shares_lost_afterwards():
    """Sold at 100 x 0.9997, worth 90 later: 100 x 9.97 less the $1.00 of selling."""
    trade = follow(intent(side=Side.SELL), CALM, ("95.00", "95.00", "90.00", "90.00", 10_000))
    assert trade.result == Decimal("996.0000")


def test_a_round_trip_costs_the_spread_and_twice_the_slippage():
    assert COSTS.round_trip == Decimal("0.0006")


cents = st.integers(9_600, 10_400).map(lambda n: f"{n / 100:.2f}")


@st.composite
def bar(draw):
    prices = sorted(draw(st.lists(st.integers(9_600, 10_400), min_size=4, max_size=4)))
    first, last = draw(st.sampled_from([(1, 2), (2, 1), (0, 3), (3, 0)]))
    return (*(f"{prices[i] / 100:.2f}" for i in (first, 3, 0, last)), 20_000)


@st.composite
def proposals(draw):
    shares = draw(st.lists(st.integers(1, 60), min_size=1, max_size=2))
    brackets = [(many, draw(cents), draw(st.one_of(st.none(), cents))) for many in shares]
    kind = draw(st.sampled_from([OrderType.MARKETABLE, OrderType.LIMIT]))
    return intent(sum(shares) + draw(st.integers(0, 30)), draw(cents), *brackets, kind=kind)


@settings(max_examples=150, deadline=None)
@given(st.lists(bar(), min_size=10, max_size=10), st.lists(st.one_of(bar(), bar(), st.none()), min_size=10, max_size=10), proposals())
def test_a_proposal_fills_as_the_paper_broker_fills_it(today, tomorrow, proposal):
    table = minutes(*today, before=20_000).joined(minutes(*tomorrow, first=at(0, day=1), before=None))
    venue = Venue(market_of(table), PaperSettings(cash=Decimal(1_000_000)))
    children = []
    for number, bracket in enumerate(proposal.brackets):
        children.append(stop(f"stop-{number}", bracket.quantity, str(bracket.stop), f"pair-{number}"))
        if bracket.target is not None:
            children.append(target(f"target-{number}", bracket.quantity, str(bracket.target), f"pair-{number}"))
    venue.submit(buy("entry", proposal.quantity, str(proposal.limit_price), *children, kind=proposal.order_type))
    venue.go_to(SESSIONS[2].close)
    filled = sorted((name.partition("-")[0], fill.price, fill.quantity, fill.at) for name, fill in venue.broker.executions(OPEN))
    seen = list(table.since(OPEN))
    trade = shadow_trade(proposal, seen, CLOSES, len(seen), COSTS)
    assert trade is not None
    assert sorted((fill.leg.value, fill.price, fill.quantity, fill.at) for fill in trade.fills if fill.leg is not Leg.HORIZON) == filled
    paid = sum((fill.commission for _, fill in venue.broker.executions(OPEN)), Decimal(0))
    at_end = [fill for fill in trade.fills if fill.leg is Leg.HORIZON]
    paid += sum((COSTS.commission(fill.quantity, fill.price) for fill in at_end), Decimal(0))
    flows = [(fill.quantity if fill.leg is not Leg.ENTRY else -fill.quantity) * fill.price for fill in trade.fills]
    assert trade.result == sum(flows, Decimal(0)) - paid


@settings(max_examples=60, deadline=None)
@given(st.lists(bar(), min_size=12, max_size=12), proposals(), st.integers(1, 11))
def test_what_is_told_early_is_what_is_told_later(prices, proposal, known):
    """No look-ahead: bars to come change nothing that was said before them."""
    closes = OPEN + 10 * MINUTE
    all_of_them = after(*prices)
    early = shadow_trade(proposal, all_of_them[:known], closes, 12, COSTS)
    late = shadow_trade(proposal, all_of_them, closes, 12, COSTS)
    assert late is not None
    if early is not None:
        assert replace(early, closed_at=late.closed_at) == late
        assert early.closed_at <= all_of_them[known - 1].end + timedelta(0)
