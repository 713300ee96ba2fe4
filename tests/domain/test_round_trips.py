"""Round trips: what each made, to the cent by hand, and what a run of losses is (F5)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.domain.rulebook_cases import trips
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill, Position
from trading_pipeline.domain.round_trips import HeldSplit, RoundTrip, fold, losing_run, recovering, streak_ended_at

D = Decimal
START = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)


def fill(minute: int, side: Side, quantity: int, price: str, order: str = "", commission: str = "0") -> Fill:
    return Fill(f"x-{minute:03}", order or f"o-{minute}", "IBM", side, quantity, D(price), D(commission), START + timedelta(minutes=minute))


def buy(minute: int, quantity: int, price: str, **more: str) -> Fill:
    return fill(minute, Side.BUY, quantity, price, **more)


def sell(minute: int, quantity: int, price: str, **more: str) -> Fill:
    return fill(minute, Side.SELL, quantity, price, **more)


def test_a_round_trip_is_from_flat_to_flat_and_costs_count() -> None:
    """10 at $100 and 10 at $102 cost $2,020 and $2 of commissions; 5 at $103 and 15 at $101 bring $2,030 less $3."""
    made, exits = fold("s", "IBM", [
        buy(0, 10, "100", commission="1"), buy(1, 10, "102", commission="1"), sell(2, 5, "103", commission="1"),
        sell(3, 15, "101", commission="2"), buy(4, 1, "50"),
    ])
    assert made == [RoundTrip("IBM", START + timedelta(minutes=3), D("5"))]
    assert [(leg.at, leg.result) for leg in exits] == [
        (START + timedelta(minutes=2), D("8.5")), (START + timedelta(minutes=3), D("-3.5")),
    ]


def test_one_order_filled_in_parts_is_one_exit() -> None:
    """3 at a loss of $1 and 7 at a gain of $1, one order: a gain of $4, no loss."""
    made, exits = fold("s", "IBM", [buy(0, 10, "100"), sell(1, 3, "99", order="o"), sell(2, 7, "101", order="o")])
    assert [(leg.client_id, leg.at, leg.result) for leg in exits] == [("o", START + timedelta(minutes=2), D(4))]
    assert [trip.result for trip in made] == [D(4)]


def test_a_split_while_it_is_held_is_no_loss() -> None:
    """10 at $100, four for one, 40 at $26: $40 earned."""
    split = HeldSplit(START + timedelta(minutes=5), D(4), 40, D(0))
    made, _ = fold("s", "IBM", [buy(0, 10, "100"), sell(9, 40, "26")], [split])
    assert [trip.result for trip in made] == [D(40)]


def test_executions_are_taken_in_order_of_time() -> None:
    in_order = [buy(0, 10, "100"), sell(1, 10, "99"), buy(2, 10, "98"), sell(3, 10, "99")]
    assert fold("s", "IBM", in_order) == fold("s", "IBM", in_order[::-1])
    assert [trip.result for trip in fold("s", "IBM", in_order)[0]] == [D(-10), D(10)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(9_000, 11_000)), max_size=30))
def test_round_trips_and_what_is_open_add_up_to_what_the_position_realised(steps: list[tuple[bool, int, int]]) -> None:
    """27: the same arithmetic as the book's."""
    position, fills = Position("s", "IBM"), []
    for minute, (buying, many, cents) in enumerate(steps):
        many = many if buying else min(many, position.quantity)
        if many:
            fills.append(fill(minute, Side.BUY if buying else Side.SELL, many, f"{cents / 100:.2f}", commission="1"))
            position = position.after(fills[-1])
    made, exits = fold("s", "IBM", fills)
    assert sum(leg.result for leg in exits) == position.realised
    if position.quantity == 0:
        assert sum(trip.result for trip in made) == position.realised


def test_a_run_is_of_losses_only() -> None:
    assert losing_run(trips()) == 0
    assert losing_run(trips("5", "-1", "-2")) == 2
    assert losing_run(trips("-5", "0", "-2")) == 1, "nothing lost is no loss"
    assert losing_run(trips("-5", "-2", "1")) == 0


def test_a_streak_ends_with_the_loss_that_made_it_longest() -> None:
    three = trips("-1", "-1", "-1", ago=600)
    assert streak_ended_at(three, 3) == three[-1].closed_at
    assert streak_ended_at(three, 4) is None
    longer = trips("-1", "-1", "-1", "-1", "3")
    assert streak_ended_at(longer, 3) == longer[3].closed_at


def test_recovering_ends_with_a_win_and_not_with_nothing() -> None:
    assert not recovering(trips("-1", "-1"), 3)
    assert recovering(trips("-1", "-1", "-1"), 3)
    assert recovering(trips("-1", "-1", "-1", "0", "-1"), 3)
    assert not recovering(trips("-1", "-1", "-1", "0.01", "-1"), 3)


@given(st.lists(st.sampled_from(["-1", "0", "2"]), max_size=10), st.integers(1, 5), st.integers(0, 4))
def test_a_shorter_streak_is_reached_no_later(results: list[str], length: int, more: int) -> None:
    """34."""
    made = trips(*results)
    short, long = streak_ended_at(made, length), streak_ended_at(made, length + more)
    assert long is None or (short is not None and short >= long)
    assert recovering(made, length) or not recovering(made, length + more)
