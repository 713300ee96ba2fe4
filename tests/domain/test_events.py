"""The canonical bytes of a fact and its hash, against the standard library's own JSON."""

import hashlib
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.domain.events import GENESIS, canonical_payload, event_hash, instant_from, instant_of_file, instant_text, storable

AT = datetime(2012, 10, 15, 13, 30, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(texts, texts, texts, st.one_of(st.none(), st.integers(1, 2**62)), st.integers(1, 2**62), texts)
def test_the_hash_is_sha256_over_previous_envelope_line_feed_and_payload(
    stream: str, key: str, actor: str, cause: int | None, seq: int, payload: str
) -> None:
    """3."""
    envelope = json.dumps([seq, stream, 7, key, "bar.received", 1, cause, actor, "2012-10-15T13:30:00.000000Z"], separators=(",", ":"))
    expected = hashlib.sha256(GENESIS + envelope.encode() + b"\n" + payload.encode()).digest()
    assert event_hash(GENESIS, seq, stream, 7, key, "bar.received", 1, cause, actor, AT, payload) == expected


def test_the_hash_of_a_first_event_stays_what_it_was() -> None:
    """Computed once with coreutils: (head -c32 /dev/zero; printf '[1,...]\\n{...}') | sha256sum."""
    found = event_hash(GENESIS, 1, "system", 1, "ledger.opened", "ledger.opened", 1, None, "system", AT, '{"environment":"demo"}')
    assert found.hex() == "16edfd0203566e6ecf1b3a178a344f3605dfd13d0e21ad0fefecf4715923312e"


def test_one_instant_has_one_text() -> None:
    new_york = AT.astimezone(timezone(timedelta(hours=-4)))
    assert instant_text(new_york) == instant_text(AT) == "2012-10-15T13:30:00.000000Z"
    assert instant_text(datetime(33, 4, 3, tzinfo=UTC)) == "0033-04-03T00:00:00.000000Z"
    assert instant_from("2012-10-15T13:30:00.000001Z") == AT + timedelta(microseconds=1)


def test_a_payload_has_one_text_whatever_the_order_of_its_keys() -> None:
    payload = {"b": Decimal("1.50"), "a": AT, "c": [date(2012, 10, 15), "é", None, True, 3]}
    expected = '{"a":"2012-10-15T13:30:00.000000Z","b":"1.50","c":["2012-10-15","\\u00e9",null,true,3]}'
    assert canonical_payload(payload) == expected == canonical_payload(dict(reversed(payload.items())))


def test_money_is_never_written_with_an_exponent() -> None:
    assert canonical_payload({"x": Decimal("1E+5")}) == '{"x":"100000"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_what_has_no_place_in_json_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_payload({"x": value})


def test_an_instant_that_a_person_may_have_touched_is_aware_or_refused() -> None:
    read = instant_of_file("2012-10-15T09:30:00-04:00")
    assert (read, read.tzinfo) == (AT, UTC)
    for wrong in ("2012-10-15T13:30:00", "yesterday", "", "0001-01-01T00:00:00+23:59"):
        with pytest.raises(ValueError):
            instant_of_file(wrong)


def test_text_from_a_terminal_is_made_storable() -> None:
    assert storable("a\x00b\udc80cé😀", 200) == "ab?cé😀"
    assert storable("abc", 2) == "ab"
