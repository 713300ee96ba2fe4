"""What becomes of a model's reply: every word and cent is kept, what is not perfect is asked for once more or abstains."""

from decimal import Decimal

import pytest

from tests.model_desks import asking
from tests.model_servers.plumbing import Behaviour, End, Tokens, rate_limited
from tests.service.models.conversations.exchanges import ran, reply
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Provider
from trading_pipeline.domain.strategies import Mode

E = EventType


def test_a_model_that_says_buy_buys_and_every_word_and_cent_is_kept(stage, server):
    server.script(Behaviour(reply=reply(), tokens=Tokens(1_000, 200)))
    floor_ = ran(stage())
    [requested], [responded], [signal] = (floor_.events(kind) for kind in (E.LLM_REQUESTED, E.LLM_RESPONDED, E.LLM_ACTION_GENERATED))
    assert requested.payload["prompt"] == "analyst/v1"
    assert floor_.desk.objects.get(requested.payload["rendered"]).decode().endswith(server.asked[0].texts[-1])
    assert responded.cause == requested.seq
    assert signal.cause == responded.seq
    assert responded.payload["raw"] == reply()
    # USD 1 and 5 for a million tokens. Source: prices.toml.
    assert Decimal(responded.payload["cost"]) == Decimal("0.002")
    assert Decimal(requested.payload["reserved"]) > Decimal("0.002")
    assert floor_.row("model_spend")["spent"] == Decimal("0.002")
    assert floor_.row("model_spend")["reserved"] == 0
    assert floor_.row("fills")["side"] == "buy"
    assert floor_.verifies()


def test_a_reply_that_cannot_be_read_is_asked_for_once_more_without_its_text(stage, server):
    tokens = Tokens(1_000, 100)
    server.script(Behaviour(reply="I would BUY, with confidence 9000", tokens=tokens), Behaviour(reply=reply(), tokens=tokens))
    floor_ = ran(stage())
    first, second = (asked.texts[-1] for asked in server.asked)
    assert second.startswith(first)
    assert "9000" not in second
    [responded] = floor_.events(E.LLM_RESPONDED)
    assert responded.payload["repaired"]["flaw"] == "surrounded"
    assert Decimal(responded.payload["cost"]) == Decimal("0.003"), "both calls are paid"
    assert [event.payload["action"] for event in floor_.events(E.LLM_ACTION_GENERATED)] == ["buy"]


@pytest.mark.parametrize("symbol", ["GOOG", "ＡＡＰＬ"])
def test_a_model_that_speaks_of_another_symbol_twice_abstains(stage, server, symbol):
    server.script(Behaviour(reply=reply(symbol=symbol)), Behaviour(reply=reply(symbol=symbol)))
    floor_ = ran(stage())
    assert [event.payload["reason"] for event in floor_.events(E.LLM_ABSTAINED)] == ["wrong_symbol"]
    assert floor_.events(E.ORDER_INTENT) == []
    assert len(server.asked) == 2


ENDINGS = {End.REFUSAL: "refused", End.MAX_TOKENS: "truncated", End.EMPTY: "empty", End.PAUSE: "paused"}


@pytest.mark.parametrize(("end", "reason"), ENDINGS.items())
def test_an_imperfect_ending_abstains_and_is_paid(stage, server, end, reason):
    """Fault 38: nothing of it is read."""
    server.script(Behaviour(end=end, tokens=Tokens(1_000, 0)))
    floor_ = ran(stage())
    assert [event.payload["reason"] for event in floor_.events(E.LLM_ABSTAINED)] == [reason]
    assert floor_.row("model_spend")["spent"] >= Decimal("0.001")
    assert len(server.asked) == 1, "a refusal is no flaw to repair"


def test_a_passing_trouble_is_tried_once_more(stage, server):
    """Fault 37: at most one more call."""
    server.script(rate_limited("0"), Behaviour(reply=reply()))
    floor_ = ran(stage())
    [responded] = floor_.events(E.LLM_RESPONDED)
    assert responded.payload["calls"] == 2
    assert floor_.events(E.LLM_ACTION_GENERATED)


def test_two_troubles_are_an_abstention_that_cost_nothing(stage, server):
    server.script(rate_limited("0"), rate_limited("0"))
    floor_ = ran(stage())
    assert [event.payload["reason"] for event in floor_.events(E.LLM_ABSTAINED)] == ["rate_limited"]
    assert floor_.row("model_spend")["spent"] == 0


def test_what_may_have_been_paid_counts_as_paid(stage, server):
    """63, fault 37: what nobody knows counts as the worst."""
    server.script(Behaviour(status=500), Behaviour(status=500))
    floor_ = ran(stage())
    [requested], [responded] = floor_.events(E.LLM_REQUESTED), floor_.events(E.LLM_RESPONDED)
    assert Decimal(responded.payload["cost"]) == Decimal(requested.payload["reserved"])


def test_a_misquoted_figure_is_shown(stage, server):
    said = reply(figures=[("close", 250.0), ("rsi_99", 3.0)])
    server.script(Behaviour(reply=said))
    floor_ = ran(stage(asking(mode=Mode.APPROVAL)))
    [signal] = floor_.events(E.LLM_ACTION_GENERATED)
    assert len(signal.payload["flags"]) == 2
    assert "250" in signal.payload["flags"][0]


def test_a_misquote_beyond_the_limit_abstains(stage, server):
    server.script(Behaviour(reply=reply(figures=[("close", 103.0)])))
    floor_ = ran(stage(asking(agent={"citation_abstain": Decimal("0.02")})))
    assert [event.payload["reason"] for event in floor_.events(E.LLM_ABSTAINED)] == ["misquoted"]


def test_a_bill_that_cannot_be_is_booked_not_believed_and_shown_to_a_person(stage, server):
    server.script(Behaviour(reply=reply(), tokens=Tokens(1_000_000_000, 1_000_000_000)))
    floor_ = ran(stage())
    assert [event.payload["reason"] for event in floor_.events(E.LLM_ABSTAINED)] == ["implausible_usage"]
    assert floor_.row("model_spend")["spent"] == 6_000
    assert floor_.row("strategies")["reason"].startswith("model: ")


def test_an_error_of_ours_in_the_midst_of_a_call_costs_nobody_else_the_answer(stage, server, monkeypatch):
    server.respond = lambda asked: Behaviour(reply=reply(action="HOLD", symbol=asked.symbol))
    floor_ = stage(asking(symbols=("AAPL", "IBM")))
    llm = floor_.desk.models.llms[Provider.ANTHROPIC]
    asked = type(llm).ask

    def breaking(self, request, timeout):
        if "IBM" in request.schema:
            raise KeyError("never seen")
        return asked(self, request, timeout)

    monkeypatch.setattr(type(llm), "ask", breaking)
    ran(floor_)
    assert [event.payload["symbol"] for event in floor_.events(E.LLM_ACTION_GENERATED)] == ["AAPL"]
    [abstained] = floor_.events(E.LLM_ABSTAINED)
    assert (abstained.payload["symbol"], abstained.payload["reason"]) == ("IBM", "bad_response")
