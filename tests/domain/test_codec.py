"""Domain values as JSON and back: what is written, that it comes back the same, and that nothing else is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum

import pytest

from tests.desks import strategy
from tests.service.minutes import bracketed
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.errors import InputError


class Colour(StrEnum):
    """A closed set."""

    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Small:
    """One of two that may stand at a place."""

    size: Decimal


@dataclass(frozen=True, slots=True)
class Large:
    """The other, with the same field."""

    size: Decimal


@dataclass(frozen=True, slots=True)
class Sample:
    """A field of every kind that the domain has."""

    name: str
    colour: Colour
    price: Decimal
    limit: Decimal | None
    at: datetime
    day: date
    waits: timedelta
    count: int
    share: float
    whether: bool
    many: tuple[str, ...]
    pair: tuple[str, int]
    some: frozenset[str]
    marks: Mapping[str, Decimal]
    either: Small | Large
    maybe: Small | None
    bound: Small | Decimal
    notes: Mapping[str, str] | None
    extra: int = 7
    listed: tuple[int, ...] = field(default=(1,))


SAMPLE = Sample(
    name="é", colour=Colour.BLUE, price=Decimal("1E+2"), limit=None, at=datetime(2012, 10, 15, 16, tzinfo=timezone(timedelta(hours=-4))),
    day=date(2012, 10, 15), waits=timedelta(minutes=2, milliseconds=500), count=3, share=0.25, whether=True, many=("b", "a"),
    pair=("x", 2), some=frozenset({"z", "y"}), marks={"AAPL": Decimal("1.50")}, either=Large(Decimal(9)), maybe=Small(Decimal("0.1")),
    bound=Decimal("0.5"), notes={"a": "b"}, extra=8, listed=(4, 5),
)
WRITTEN = {
    "type": "Sample", "name": "é", "colour": "blue", "price": "100", "limit": None, "at": "2012-10-15T20:00:00.000000Z",
    "day": "2012-10-15", "waits": 120.5, "count": 3, "share": 0.25, "whether": True, "many": ["b", "a"], "pair": ["x", 2],
    "some": ["y", "z"], "marks": {"AAPL": "1.50"}, "either": {"type": "Large", "size": "9"}, "maybe": {"type": "Small", "size": "0.1"},
    "bound": "0.5", "notes": {"a": "b"}, "extra": 8, "listed": [4, 5],
}


def test_every_kind_of_value_is_written_as_json_that_has_one_form():
    assert encode(SAMPLE) == WRITTEN
    assert json.loads(json.dumps(encode(SAMPLE))) == WRITTEN


def test_what_was_written_comes_back_the_same():
    back = decode(Sample, json.loads(json.dumps(WRITTEN)))
    assert back == SAMPLE
    assert type(back.either) is Large
    assert back.at.utcoffset() == UTC.utcoffset(None)
    assert decode(Sample, WRITTEN | {"limit": "2.5"}).limit == Decimal("2.5")
    assert decode(Sample, WRITTEN | {"maybe": None}).maybe is None
    assert decode(Sample, WRITTEN | {"bound": {"type": "Small", "size": "3"}}).bound == Small(Decimal(3))


@pytest.mark.parametrize("value", [strategy(), bracketed(), AccountLimits()], ids=["strategy", "bracketed", "limits"])
def test_what_the_ledger_keeps_of_strategies_and_limits_comes_back_the_same(value):
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


def test_a_field_that_has_a_default_may_be_missing_and_no_other():
    """A field that a later version adds reads as its default from what an earlier one wrote."""
    older = {name: value for name, value in WRITTEN.items() if name not in ("extra", "listed", "type")}
    back = decode(Sample, older)
    assert (back.extra, back.listed) == (7, (1,))
    with pytest.raises(InputError, match="A stored Sample cannot be read: 'day'"):
        decode(Sample, {name: value for name, value in older.items() if name not in ("day", "waits")})


def test_a_number_without_a_fraction_is_a_share_too():
    assert decode(Sample, WRITTEN | {"share": 1}).share == 1


WRONG = {
    "an unknown field": {"colour_of_the_moon": 1}, "a number for a name": {"name": 3}, "a name for a number": {"count": "3"},
    "a flag for a number": {"count": True}, "a flag for a share": {"share": True}, "a number for a flag": {"whether": 1},
    "a fraction for a number": {"count": 1.5}, "no price": {"price": "much"}, "a price that was rounded": {"price": 1.5},
    "a number for an instant": {"at": 5},
    "no instant": {"at": "yesterday"}, "no day": {"day": "2012-10-32"}, "no duration": {"waits": "long"}, "no colour": {"colour": "green"},
    "a third of a pair": {"pair": ["x", 2, 3]}, "half a pair": {"pair": ["x"]}, "another kind": {"either": {"type": "Huge", "size": "1"}},
    "no kind": {"either": {"size": "1"}}, "nothing where something is": {"either": None}, "nothing for a name": {"name": None},
    "a name among numbers": {"listed": [1, "2"]}, "a number among names": {"some": ["a", 2]}, "a mark that is none": {"marks": {"A": "x"}},
    "a list for an object": {"marks": [1]}, "a word for a list": {"many": "ba"}, "a word for a set": {"some": "zy"},
    "a word for a pair": {"pair": "x2"}, "a list for one of two": {"either": ["9"]}, "a name for a part": {"maybe": "Small"},
}


@pytest.mark.parametrize("what", WRONG)
def test_anything_else_than_what_the_type_says_is_refused(what):
    with pytest.raises(InputError, match="A stored Sample cannot be read") as refused:
        decode(Sample, WRITTEN | WRONG[what])
    assert refused.value.rule == "stored values have exactly the fields of their type"


def test_a_refusal_shows_the_beginning_of_what_cannot_be_read():
    with pytest.raises(InputError, match="unknown field colour_of_the_moon") as refused:
        decode(Sample, WRITTEN | {"name": "x" * 300, "colour_of_the_moon": 1, "zenith": 2})
    assert refused.value.value == str(WRITTEN | {"name": "x" * 300, "colour_of_the_moon": 1, "zenith": 2})[:200]
    with pytest.raises(InputError):
        decode(StrategySpec, "no object")
