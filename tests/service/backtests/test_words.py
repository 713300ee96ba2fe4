"""What the columnar engine writes of whole numbers is what rulebook and ledger write of the same values."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import instant_text
from trading_pipeline.domain.money import to_cents
from trading_pipeline.domain.rules import readings
from trading_pipeline.service.backtests.columnar.units import SCALE, priced, ticked, usd
from trading_pipeline.service.backtests.columnar.writing import words

amounts = st.integers(-(10**14), 10**14)
prices = st.integers(1, 10**9)
minutes = st.builds(timedelta, days=st.integers(0, 5_800), minutes=st.integers(0, 500)).map(datetime(2015, 1, 1, 13, tzinfo=UTC).__add__)


@given(amounts)
def test_amounts_read_as_the_rulebook_writes_them(amount):
    assert words.dollars(amount) == readings.dollars(usd(amount))
    assert words.rounded(amount) == format(to_cents(usd(amount)), "f")


@given(amounts, st.integers(1, 10**14))
def test_shares_read_as_the_rulebook_writes_them(part, whole):
    assert words.percent(part, whole) == readings.percent(Decimal(part) / Decimal(whole))


@given(prices)
def test_prices_read_as_the_ledger_keeps_them(amount):
    assert words.price(amount) == encode(priced(amount))
    assert words.exact(amount) == encode(usd(amount))
    if amount >= SCALE:
        assert words.cents(amount - amount % 100) == encode(ticked(amount - amount % 100))


@given(minutes)
def test_minutes_read_as_everybody_writes_them(at):
    moment = words.Moment(int(at.timestamp()) * words.SECOND)
    assert moment.instant == instant_text(at)
    assert moment.short == f"{at:%Y-%m-%dT%H:%MZ}"
    assert moment.minute == readings.minute(at)
    assert moment.local == readings.new_york(at).isoformat(" ", "milliseconds")[:-6]


@given(st.integers(0, 10**6))
def test_spans_read_as_the_rulebook_writes_them(milliseconds):
    assert words.since(7, 7 + milliseconds * 1_000_000) == readings.seconds(timedelta(milliseconds=milliseconds))
