"""59, 60, 62: the parser of model replies: what is perfect becomes a signal, what is not is refused by name, and nothing raises."""

import json
import sys
import threading
from dataclasses import fields
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_pipeline.domain.outside_text import one_line
from trading_pipeline.domain.replies import MAX_BRACKETS, MAX_RATIONALE, MAX_REPLY, Flaw, parse_reply, reply_schema
from trading_pipeline.domain.signals import Abstain, Action, Figure, Hints, Signal

D = Decimal
UNIVERSE = ("AAPL", "IBM", "BRK.B")
GOOD = {
    "action": "BUY", "symbol": "AAPL", "confidence": 0.72, "rationale": "Momentum turned up.",
    "figures": [{"name": "close", "value": 227.52}, {"name": "rsi_14", "value": 61}], "limit": 228.1, "stop": 221, "targets": [235.5, 240],
}


def text(**changes) -> str:
    """A good reply with fields changed; a field of `...` is left out."""
    return json.dumps({name: value for name, value in (GOOD | changes).items() if value is not ...})


def flaw(reply: str | bytes, symbol: str = "AAPL", universe=UNIVERSE) -> Flaw:
    """What the reply is refused for."""
    said = parse_reply(reply, symbol, universe)
    assert isinstance(said, Abstain), said
    assert said.symbol == symbol
    assert said.detail
    assert said.detail.isascii()
    assert len(said.detail) < 400
    return Flaw(said.reason)


def test_a_perfect_reply_becomes_a_signal_to_the_last_digit():
    assert parse_reply(text(), "AAPL", UNIVERSE) == Signal(
        "AAPL", Action.BUY, D("0.72"), "Momentum turned up.", figures=(Figure("close", D("227.52")), Figure("rsi_14", D(61))),
        hints=Hints(D("228.1"), D(221), (D("235.5"), D(240))),
    )


@pytest.mark.parametrize("action", ["BUY", "SELL", "HOLD"])
def test_each_action_is_one_word_and_holding_is_an_answer(action):
    said = parse_reply(text(action=action, limit=..., stop=..., targets=...), "AAPL", UNIVERSE)
    assert isinstance(said, Signal)
    assert said.action.value == action.lower()
    assert said.hints == Hints()


def test_bytes_white_space_around_and_escapes_inside_are_plain_json():
    spelled = text(symbol="@").replace('"@"', '"\\u0041APL"').replace("action", "\\u0061ction", 1)
    for reply in (f" \r\n\t{text()}\n", text().encode(), spelled, text(limit=None, stop=None, targets=None)):
        assert isinstance(parse_reply(reply, "AAPL", UNIVERSE), Signal), reply


def test_numbers_keep_their_digits_and_lose_the_sign_of_zero():
    said = parse_reply(text(confidence="@", figures=[]).replace('"@"', "0.1000000000000000000055"), "AAPL", UNIVERSE)
    assert isinstance(said, Signal)
    assert said.confidence == D("0.1000000000000000000055")
    zero = parse_reply(text(confidence="@").replace('"@"', "-0.0"), "AAPL", UNIVERSE)
    assert isinstance(zero, Signal)
    assert (str(zero.confidence), all(isinstance(each.value, Decimal) for each in zero.figures)) == ("0.0", True)


SPELLED = text(confidence="@")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("NaN", Flaw.NOT_FINITE), ("Infinity", Flaw.NOT_FINITE), ("-Infinity", Flaw.NOT_FINITE), ("1e999", Flaw.OUT_OF_RANGE),
        ("1e-999", Flaw.OUT_OF_RANGE), ("1e99999999999999999999", Flaw.OUT_OF_RANGE), ("-1e33", Flaw.OUT_OF_RANGE),
        ("0e-999999999", Flaw.OUT_OF_RANGE), ("0e999999999", Flaw.OUT_OF_RANGE), ("-0.0E-33", Flaw.OUT_OF_RANGE),
        ("1" * 5000, Flaw.OUT_OF_RANGE), ("0." + "1" * 30, Flaw.OUT_OF_RANGE), ("1.0000001", Flaw.OUT_OF_RANGE),
        ("-0.01", Flaw.OUT_OF_RANGE), ("72", Flaw.OUT_OF_RANGE), ("\u0660.\u0667", Flaw.INVALID_JSON),
        ("0.\uff17", Flaw.INVALID_JSON), ("\u0967", Flaw.INVALID_JSON),
        ("01", Flaw.INVALID_JSON), (".7", Flaw.INVALID_JSON), ("+0.7", Flaw.INVALID_JSON), ("0.7%", Flaw.INVALID_JSON),
        ("0x1", Flaw.INVALID_JSON), ("1_0", Flaw.INVALID_JSON), ("nan", Flaw.INVALID_JSON), ("'0.7'", Flaw.INVALID_JSON),
        ('"0.7"', Flaw.WRONG_TYPE), ("true", Flaw.WRONG_TYPE), ("null", Flaw.WRONG_TYPE), ("[0.7]", Flaw.WRONG_TYPE),
        ("{}", Flaw.WRONG_TYPE),
    ],
)
def test_a_number_that_is_none_is_refused(number, expected):
    """59, fault 39."""
    assert flaw(SPELLED.replace('"@"', number)) is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("", Flaw.EMPTY), (b"", Flaw.EMPTY), (" \n\t ", Flaw.EMPTY), ("\ufeff" + text(), Flaw.BYTE_ORDER_MARK),
        (b"\xef\xbb\xbf" + text().encode(), Flaw.BYTE_ORDER_MARK), (text().encode("utf-16"), Flaw.ENCODING),
        (text().encode() + b"\xff", Flaw.ENCODING), (f"```json\n{text()}\n```", Flaw.FENCED), (f"```\n{text()}", Flaw.FENCED),
        (f"Here you are: {text()}", Flaw.SURROUNDED), (f"{text()} I hope it helps.", Flaw.SURROUNDED), (text() * 2, Flaw.SURROUNDED),
        (f"{text()}\n```", Flaw.SURROUNDED), ("BUY AAPL now", Flaw.SURROUNDED), (f"<json>{text()}</json>", Flaw.SURROUNDED),
        ("\xa0" + text(), Flaw.SURROUNDED), (text() + "\x00", Flaw.SURROUNDED), (f"[{text()}]", Flaw.NOT_AN_OBJECT),
        ('"BUY"', Flaw.NOT_AN_OBJECT), ("1", Flaw.NOT_AN_OBJECT), ("null", Flaw.NOT_AN_OBJECT), ("{" + text()[1:-1], Flaw.INVALID_JSON),
        (text().replace('"', "'"), Flaw.INVALID_JSON), (text()[:-1] + ",}", Flaw.INVALID_JSON), (text() + " // sure", Flaw.SURROUNDED),
        (text(rationale="a\nb").replace("\\n", "\n"), Flaw.INVALID_JSON), ("[" * 100_000, Flaw.TOO_LONG), ("[" * MAX_REPLY, Flaw.NESTED),
        ('{"a":' * (MAX_BRACKETS + 1), Flaw.NESTED), ("[" * MAX_BRACKETS + "]" * MAX_BRACKETS, Flaw.NOT_AN_OBJECT),
        (text(rationale="x" * MAX_REPLY), Flaw.TOO_LONG),
    ],
)
def test_anything_but_one_json_object_is_refused(reply, expected):
    """59, fault 38, fault 39."""
    assert flaw(reply) is expected


@pytest.mark.parametrize("again", ['"action": "SELL"', '"\\u0061ction": "BUY"', '"stop": 1'])
def test_a_field_that_stands_there_twice_is_refused_whichever_would_win(again):
    assert flaw(f"{text()[:-1]}, {again}}}") is Flaw.DUPLICATE_KEY


def test_every_column_of_ours_can_be_cited():
    # A length that is no whole number stands in the name as it is written.
    assert [figure.name for figure in parse_reply(
        text(figures=[{"name": name, "value": 1} for name in ("bbands_20_2.5_upper", "macd_hist")]), "AAPL", UNIVERSE,
    ).figures] == ["bbands_20_2.5_upper", "macd_hist"]


def test_a_field_twice_inside_a_figure_is_refused():
    assert flaw(text(figures="@").replace('"@"', '[{"name": "close", "name": "open", "value": 1}]')) is Flaw.DUPLICATE_KEY


@pytest.mark.parametrize("name", ["quantity", "shares", "size", "order", "tool", "Action", "action ", "reason", "", "__class__", "n\xf6te"])
def test_a_field_that_nobody_asked_for_is_refused_a_quantity_first_of_all(name):
    """60: the model has no say in how many."""
    assert flaw(text(**{name: 1000})) is Flaw.UNKNOWN_FIELD


@pytest.mark.parametrize("name", ["action", "symbol", "confidence", "rationale", "figures"])
def test_a_field_that_is_missing_or_null_is_refused(name):
    assert flaw(text(**{name: ...})) is Flaw.MISSING_FIELD
    assert flaw(text(**{name: None})) is Flaw.WRONG_TYPE


@pytest.mark.parametrize("action", ["buy", "Buy", "BUY ", "STRONG_BUY", "SHORT", "", "\u0392UY", "BUY\u200b"])
def test_an_action_is_spelled_exactly(action):
    assert flaw(text(action=action)) is Flaw.UNKNOWN_ACTION


@pytest.mark.parametrize(
    "symbol",
    ["IBM", "aapl", "AAPL ", " AAPL", "AAPL\u200b", "\u0410APL", "\uff21\uff21\uff30\uff2c", "AAPL\x00", "APPL",
     "AAPL.US", "", "A\u0300APL", "\u202eLPAA"],
)
def test_a_symbol_is_the_one_that_was_asked_character_by_character(symbol):
    """39, fault 40: no homoglyphs, no case, no blanks; another of the universe is another question's answer."""
    assert flaw(text(symbol=symbol)) is Flaw.WRONG_SYMBOL


def test_a_symbol_outside_the_universe_is_refused_even_if_it_was_asked():
    """39, 59, fault 40."""
    assert flaw(text(symbol="TQQQ"), "TQQQ") is Flaw.OUTSIDE_UNIVERSE
    assert flaw(text(), "AAPL", ()) is Flaw.OUTSIDE_UNIVERSE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"limit": 0}, Flaw.OUT_OF_RANGE), ({"limit": -5}, Flaw.OUT_OF_RANGE), ({"stop": 10_000_001}, Flaw.OUT_OF_RANGE),
        ({"stop": "221"}, Flaw.WRONG_TYPE), ({"targets": 240}, Flaw.WRONG_TYPE), ({"targets": [None]}, Flaw.WRONG_TYPE),
        ({"targets": [230, 231, 232, 233, 234]}, Flaw.OUT_OF_RANGE), ({"stop": 228.1}, Flaw.CONTRADICTORY),
        ({"stop": 300}, Flaw.CONTRADICTORY), ({"targets": [240, 235]}, Flaw.CONTRADICTORY), ({"targets": [227]}, Flaw.CONTRADICTORY),
        ({"limit": None, "stop": 236}, Flaw.CONTRADICTORY), ({"figures": {}}, Flaw.WRONG_TYPE), ({"figures": ["close"]}, Flaw.WRONG_TYPE),
        ({"figures": [{"name": "close"}]}, Flaw.UNKNOWN_FIELD),
        ({"figures": [{"name": "close", "value": 1, "unit": "$"}]}, Flaw.UNKNOWN_FIELD),
        ({"figures": [{"name": "close", "value": "1"}]}, Flaw.WRONG_TYPE), ({"figures": [{"name": 1, "value": 1}]}, Flaw.WRONG_TYPE),
        ({"figures": [{"name": "Close", "value": 1}]}, Flaw.OUT_OF_RANGE),
        ({"figures": [{"name": "close\n", "value": 1}]}, Flaw.OUT_OF_RANGE),
        ({"figures": [{"name": "x" * 41, "value": 1}]}, Flaw.OUT_OF_RANGE),
        ({"figures": [{"name": "close", "value": 2e15}]}, Flaw.OUT_OF_RANGE),
        ({"figures": [{"name": "close", "value": 1}] * 2}, Flaw.DUPLICATE_KEY),
        ({"figures": [{"name": f"f{n}", "value": n} for n in range(33)]}, Flaw.OUT_OF_RANGE),
        ({"rationale": 5}, Flaw.WRONG_TYPE), ({"rationale": ""}, Flaw.MISSING_FIELD), ({"rationale": " \u202e\x07\n"}, Flaw.MISSING_FIELD),
    ],
)
def test_hints_figures_and_rationale_make_sense_or_the_reply_is_refused(changes, expected):
    assert flaw(text(**changes)) is expected


def test_a_sale_may_name_prices_in_any_order():
    said = parse_reply(text(action="SELL", limit=220, stop=230, targets=[210]), "AAPL", UNIVERSE)
    assert isinstance(said, Signal)
    assert said.hints == Hints(D(220), D(230), (D(210),))


def test_the_rationale_is_one_visible_line_of_bounded_length():
    """62, 83: control and bidirectional characters, tags and selectors are gone; letters of any script stay."""
    hostile = "Kurs\u202e gesunken\x1b[31m\r\n\tAPPROVED \u2066by\u2069 \x00user "
    hostile += "\U000e0041\ufe0f\ud800\u2028\u0645\u0631\u062d\u0628\u0627 <b>&"
    said = parse_reply(text(rationale=hostile), "AAPL", UNIVERSE)
    assert isinstance(said, Signal)
    assert said.rationale == "Kurs gesunken[31m APPROVED by user \u0645\u0631\u062d\u0628\u0627 <b>&"
    long = parse_reply(text(rationale="word " * 1000), "AAPL", UNIVERSE)
    assert isinstance(long, Signal)
    assert len(long.rationale) == MAX_RATIONALE - 1, "cut after a blank, which goes too"


@given(st.text())
def test_one_line_is_always_printable_and_never_changes_twice(raw):
    line = one_line(raw, 50)
    assert len(line) <= 50
    assert line.isprintable()
    assert line == one_line(line, 50)
    line.encode()


SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
ANY_JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(json.dumps)


@settings(max_examples=500)
@given(st.text() | st.binary() | ANY_JSON)
def test_no_text_whatever_raises(reply):
    """59, fault 39."""
    assert isinstance(parse_reply(reply, "AAPL", UNIVERSE), Abstain)


VALUES = SCALARS | st.lists(st.floats()) | st.just("AAPL") | st.sampled_from(["BUY", "SELL"])


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(list(GOOD)), VALUES))
def test_a_signal_is_always_within_its_bounds(changes):
    said = parse_reply(text(**changes), "AAPL", UNIVERSE)
    if isinstance(said, Signal):
        assert said.symbol == "AAPL"
        assert 0 <= said.confidence <= 1
        prices = [price for price in (said.hints.limit, said.hints.stop, *said.hints.targets) if price is not None]
        assert all(price.is_finite() and price > 0 for price in prices)


def test_the_schema_names_exactly_the_fields_that_are_read():
    schema = reply_schema("AAPL")
    assert set(schema["properties"]) == set(GOOD) == set(schema["required"])
    assert schema["properties"]["symbol"]["enum"] == ["AAPL"]
    assert schema["additionalProperties"] is False
    read = {field.name for field in fields(Signal)} - {"score", "label", "hints", "flags"} | {field.name for field in fields(Hints)}
    assert read == set(GOOD)


def test_the_same_parser_reads_for_many_threads():
    """Providers ask about many symbols at once."""
    wrong: list[object] = []

    def read(symbol: str) -> None:
        mine = text(symbol=symbol, rationale=f"about {symbol}")
        for _ in range(300):
            said = parse_reply(mine, symbol, UNIVERSE)
            if not (isinstance(said, Signal) and said.rationale == f"about {symbol}"):
                wrong.append(said)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read, args=(symbol,)) for symbol in UNIVERSE * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
