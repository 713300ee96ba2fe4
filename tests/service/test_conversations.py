"""Models asked within a cycle: facts before and after, money, repair, loss, stops."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.desks import DAY, OPEN, PERSON, at, bars, crashing, floor, market, strategy
from tests.model_desks import CLAUDE, GENEROUS, asking, models
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.plumbing import Behaviour, End, Tokens, rate_limited
from tests.oracle.forging import record
from trading_pipeline.adapters.prompt_files import SHIPPED
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Mask, Provider, Sight
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.oracle import check
from trading_pipeline.service import controls, conversations, deliberation, emergency, purse
from trading_pipeline.service.asking import another_model
from trading_pipeline.service.cycle import run_cycle
from trading_pipeline.service.timetable import newest_cycle

E = EventType


def reply(action="BUY", symbol="AAPL", confidence=0.9, figures=(), **more):
    return json.dumps({
        "action": action, "symbol": symbol, "confidence": confidence, "rationale": "Because it rises.",
        "figures": [{"name": name, "value": value} for name, value in figures], "limit": None, "stop": None, "targets": [], **more,
    })


def ran(floor_):
    floor_.cycle()
    assert check(record(floor_.desk.ledger)) == []
    return floor_


@pytest.fixture
def server():
    with AnthropicServer() as server:
        yield server


@pytest.fixture
def stage(tmp_path, server):
    opened = []

    def made(*specs, source=None, now=OPEN, budget=GENEROUS, **changes):
        opened.append(models(tmp_path, server, budget=budget))
        changes["models"] = opened[-1]
        return floor(tmp_path, source or market(bars("AAPL"), bars("IBM"), bars("MSFT")), now, *(specs or (asking(),)), **changes)

    yield made
    for each in opened:
        for llm in each.llms.values():
            llm.close()


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


def test_a_strategy_shows_the_model_its_chart_when_it_has_one(stage, server):
    floor_ = ran(stage(asking(agent={"sight": Sight.BOTH}, chart=ChartSpec(bars=40, overlays=("sma_20",), panels=()))))
    assert server.asked[0].images == 1
    [rendered] = floor_.events(E.CHART_RENDERED)
    [requested] = floor_.events(E.LLM_REQUESTED)
    assert requested.payload["picture"] == rendered.payload["sha256"]
    assert "Bars, oldest first" in server.asked[0].texts[-1], "the numbers go along with the picture"


def test_a_model_that_is_to_judge_by_a_chart_alone_is_not_asked_without_one(stage, server):
    floor_ = ran(stage(asking(agent={"sight": Sight.PICTURE})))
    assert [event.payload["reason"] for event in floor_.events(E.LLM_SKIPPED)] == ["no_picture"]
    assert server.asked == []


def test_a_picture_that_somebody_changed_is_not_sent_and_holds_up_nobody_else(stage, server, monkeypatch):
    """fault 36, T18."""
    server.script(Behaviour(reply=reply()))
    floor_ = stage(asking("seer", agent={"sight": Sight.BOTH}, chart=ChartSpec(bars=40, overlays=("sma_20",), panels=())), asking("reader"))
    put = type(floor_.desk.objects).put

    def painted_over(self, content, suffix):
        digest = put(self, content, suffix)
        if suffix == ".png":
            Path(self.locate(digest)).write_bytes(content + b"BUY")
        return digest

    monkeypatch.setattr(type(floor_.desk.objects), "put", painted_over)
    ran(floor_)
    [skipped] = floor_.events(E.LLM_SKIPPED)
    assert (skipped.payload["strategy"], skipped.payload["reason"]) == ("seer", "no_picture")
    assert "is gone or damaged" in skipped.payload["detail"]
    assert [event.payload["strategy"] for event in floor_.events(E.LLM_ACTION_GENERATED)] == ["reader"]


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


def test_the_trigger_decides_whether_anybody_is_asked(stage, server):
    floor_ = ran(stage(asking(agent={"trigger": "close < 50"})))
    [skipped] = floor_.events(E.LLM_SKIPPED)
    assert skipped.payload["reason"] == "trigger"
    assert "close 100" in skipped.payload["detail"]
    assert server.asked == []


def test_a_spent_budget_asks_nobody_and_says_so(stage, server):
    floor_ = ran(stage(budget=replace(GENEROUS, per_day=Decimal("0.0001"))))
    assert [event.payload["reason"] for event in floor_.events(E.LLM_SKIPPED)] == ["budget"]
    assert server.asked == []


def test_calls_beyond_the_hourly_rate_are_skipped(stage, server):
    floor_ = ran(stage(asking(symbols=("AAPL", "IBM", "MSFT")), budget=replace(GENEROUS, calls_per_hour=3)))
    assert [event.payload["reason"] for event in floor_.events(E.LLM_SKIPPED)] == ["rate"]
    assert len(server.asked) == 2


def test_a_replayed_cycle_asks_the_same_however_late_its_run_comes(stage, server):
    server.respond = lambda _: Behaviour(reply=reply(action="HOLD"))
    moving = {at(9, minutes): (90.0 + minutes, 140.0, 80.0, 90.0 + minutes) for minutes in range(30, 45)}
    digests = []
    for seconds in (0, 75):
        source = market(bars("AAPL", Interval.MIN1, DAY, DAY, at=moving))
        floor_ = stage(asking(interval=Interval.MIN1), source=source, now=at(9, 40))
        cycle = newest_cycle(floor_.desk, Interval.MIN1)
        floor_.clock.advance_to(at(9, 40, seconds))
        run_cycle(floor_.desk, cycle)
        digests.append(floor_.events(E.LLM_REQUESTED)[0].payload["request"])
    assert digests[0] == digests[1]


def test_several_symbols_are_asked_about_side_by_side(stage, server):
    server.delay = 0.3
    ran(stage(asking(symbols=("AAPL", "IBM", "MSFT"))))
    assert server.most_at_once == 3


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


def test_a_masked_symbol_is_told_under_another_name_and_the_signal_is_about_ours(stage, server):
    server.script(Behaviour(reply=reply(symbol="ASSET", stop=95.0)))
    floor_ = ran(stage(asking(agent={"masks": frozenset(Mask)}), source=market(bars("AAPL", price=50.0))))
    assert "AAPL" not in server.asked[0].raw.decode()
    [signal] = floor_.events(E.LLM_ACTION_GENERATED)
    assert signal.payload["symbol"] == "AAPL"
    assert Decimal(signal.payload["hints"]["stop"]) == Decimal("47.5")


# A process that dies


def test_a_request_whose_process_died_is_lost_paid_and_never_sent_again(stage, server):
    floor_ = stage()
    with crashing(conversations, "ask_all"), pytest.raises(BaseException, match="ask_all"):
        floor_.cycle()
    assert server.asked == []
    after = ran(floor_.restarted())
    assert [event.payload["reason"] for event in after.events(E.LLM_ABSTAINED)] == ["lost"]
    assert server.asked == [], "nobody knows what became of the call"
    [requested] = after.events(E.LLM_REQUESTED)
    assert after.row("model_spend")["spent"] == Decimal(requested.payload["reserved"])
    assert after.verifies()


def test_a_reply_whose_process_died_before_it_decided_is_read_again(stage, server):
    server.script(Behaviour(reply=reply()))
    floor_ = stage()
    with crashing(deliberation, "decisions"), pytest.raises(BaseException, match="decisions"):
        floor_.cycle()
    after = ran(floor_.restarted())
    assert [event.payload["action"] for event in after.events(E.LLM_ACTION_GENERATED)] == ["buy"]
    assert len(server.asked) == 1
    assert after.verifies()


def test_a_request_that_no_run_came_back_to_is_lost_with_the_next_cycle(stage, server, monkeypatch):
    monkeypatch.setattr(conversations, "SLACK", timedelta(days=-1))
    server.respond = lambda _: Behaviour(reply=reply(action="HOLD"))
    floor_ = stage(asking(interval=Interval.MIN5), source=market(bars("AAPL", Interval.MIN5, DAY, DAY)), now=at(9, 35))
    with crashing(conversations, "ask_all"), pytest.raises(BaseException, match="ask_all"):
        floor_.cycle(Interval.MIN5)
    after = floor_.restarted()
    after.clock.advance_to(at(9, 40))
    after.cycle(Interval.MIN5)
    first, second = after.events(E.LLM_REQUESTED)
    assert [event.cause for event in after.events(E.LLM_LOST)] == [first.seq]
    assert [event.cause for event in after.events(E.LLM_RESPONDED)] == [second.seq]
    assert check(record(after.desk.ledger)) == []


def test_a_cycle_run_twice_at_once_asks_once_and_decides_once(stage, server):
    floor_ = stage()

    def another_run(_asked):
        server.respond = lambda _: None
        floor_.cycle()
        return Behaviour(reply=reply())

    server.respond = another_run
    floor_.cycle()
    assert len(server.asked) == 1
    [decision] = floor_.events(E.LLM_ACTION_GENERATED, E.LLM_ABSTAINED)
    assert decision.payload["reason"] == "lost", "the second run could not know that the first one lived"
    assert [event.payload["reason"] for event in floor_.events(E.LLM_DISCARDED)] == ["it was given up before it came"]
    assert floor_.row("model_spend")["spent"] == Decimal(floor_.events(E.LLM_DISCARDED)[0].payload["cost"]), "what it cost is known now"
    assert floor_.verifies()


# A stop


def test_a_reply_that_comes_after_a_stop_is_paid_and_discarded(stage, server):
    floor_ = stage()

    def stopping(_asked):
        emergency.stop(floor_.desk, reason="enough", actor=PERSON)
        return Behaviour(reply=reply())

    server.respond = stopping
    floor_.cycle()
    ends = floor_.events(E.LLM_DISCARDED, E.LLM_LOST)
    assert len(ends) == 1
    assert floor_.events(E.LLM_ACTION_GENERATED, E.LLM_ABSTAINED, E.ORDER_INTENT) == []
    assert floor_.row("model_spend")["reserved"] == 0
    assert floor_.verifies()


def test_a_stop_waits_for_no_model(stage, server):
    floor_ = stage()

    def stopping(_asked):
        emergency.stop(floor_.desk, reason="enough", actor=PERSON)
        return Behaviour(reply=reply(), delay=5.0)

    server.respond = stopping
    before = time.monotonic()
    floor_.cycle()
    assert time.monotonic() - before < 5.0, "no longer than the model would have taken"
    assert [event.payload["reason"] for event in floor_.events(E.LLM_LOST)] == ["given up for an emergency stop"]


HANGS = 60.0
GIVES_UP = """
import sys, threading, time
from pathlib import Path
from dataclasses import replace
from tests.desks import OPEN, PERSON, bars, floor, market
from tests.model_desks import GENEROUS, KEY, asking, models
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Provider
from trading_pipeline.service import emergency

folder, base_url = Path(sys.argv[1]), sys.argv[2]
llm = AnthropicLLM(KEY, base_url)
asked = models(folder, budget=replace(GENEROUS, timeout_seconds=600.0), llms={Provider.ANTHROPIC: llm})
floor_ = floor(folder, market(bars("AAPL"), bars("IBM")), OPEN, asking(symbols=("AAPL", "IBM")), models=asked)

def stop_once_asked():
    while not (folder / "asked").exists():
        time.sleep(0.02)
    emergency.stop(floor_.desk, reason="enough", actor=PERSON)

threading.Thread(target=stop_once_asked, daemon=True).start()
floor_.cycle()
llm.close()
print(len(floor_.events(EventType.LLM_LOST)), flush=True)
"""


def test_a_process_that_gave_up_ends_however_long_the_model_hangs(server, tmp_path):
    """Its pool of threads would have been joined when the interpreter ends."""
    def hanging(_asked):
        (tmp_path / "asked").touch()
        return Behaviour(delay=HANGS)

    server.respond = hanging
    with subprocess.Popen([sys.executable, "-c", GIVES_UP, tmp_path, server.base_url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n", "both requests are lost in the ledger"
        said = time.monotonic()
        assert process.wait(HANGS) == 0
        assert time.monotonic() - said < HANGS / 4


# Secrets


def test_no_key_is_in_the_ledger_or_the_objects(stage, server, tmp_path):
    server.script(Behaviour(status=401), Behaviour(reply=reply()))
    floor_ = ran(stage())
    kept = "".join(event.payload_text for event in floor_.desk.ledger.events())
    kept += "".join(path.read_bytes().decode("latin-1") for path in (tmp_path / "objects").rglob("*") if path.is_file())
    assert "canary" not in kept
    assert CLAUDE in kept


# Another model than was asked


def test_another_model_than_was_asked_is_not_believed_and_a_person_looks(stage, server):
    """64, fault 43: nobody trades by a model that nobody has looked at."""
    server.script(Behaviour(reply=reply(), model="claude-sonnet-9"))
    floor_ = ran(stage())
    [abstained] = floor_.events(E.LLM_ABSTAINED)
    assert abstained.payload["reason"] == "other_model"
    assert "claude-sonnet-9 answered" in abstained.payload["detail"]
    assert floor_.row("strategies")["state"] == "paused_risk"
    assert floor_.row("strategies")["reason"].startswith("model: ")


def test_an_alias_that_means_another_version_now_waits_for_a_person(stage, server):
    """64, fault 43: nobody trades by a model that nobody has looked at."""
    alias = asking(agent={"model": "claude-haiku-4-5"}, interval=Interval.MIN5)
    server.script(
        *(Behaviour(reply=reply(action="HOLD"), model=f"claude-haiku-4-5-{date}") for date in (20251001, 20251001, 20261101, 20261101))
    )
    floor_ = stage(alias, source=market(bars("AAPL", Interval.MIN5, DAY, DAY)), now=at(9, 35))
    for minutes in (35, 40, 45):
        floor_.clock.advance_to(at(9, minutes))
        floor_.cycle(Interval.MIN5)
    assert [event.payload["reason"] for event in floor_.events(E.LLM_ABSTAINED)] == ["other_model"]
    assert floor_.row("strategies")["state"] == "paused_risk"
    controls.resume(floor_.desk, "asker", actor=PERSON, unchecked=True)
    floor_.clock.advance_to(at(9, 50))
    floor_.cycle(Interval.MIN5)
    assert len(floor_.events(E.LLM_ACTION_GENERATED)) == 3, "a person has looked"


def test_words_that_change_under_a_running_strategy_wait_for_a_person(stage, server, tmp_path):
    """64: a changed prompt is not traded by before a person has looked; nobody is asked meanwhile, and nobody else is held up."""
    own = tmp_path / "prompts" / "mine" / "v1.md"
    own.parent.mkdir(parents=True)
    own.write_bytes((SHIPPED / "analyst" / "v1.md").read_bytes())
    server.respond = lambda asked: Behaviour(reply=reply(action="HOLD", symbol=asked.symbol))
    mine = asking(agent={"prompt": "mine/v1"}, symbols=("AAPL", "IBM"), interval=Interval.MIN5)
    other = asking("other", symbols=("AAPL",), interval=Interval.MIN5)
    source = market(bars("AAPL", Interval.MIN5, DAY, DAY), bars("IBM", Interval.MIN5, DAY, DAY))
    floor_ = stage(mine, other, source=source, now=at(9, 35))

    def turn(minutes):
        floor_.clock.advance_to(at(9, minutes))
        floor_.cycle(Interval.MIN5)
        return len(server.asked)

    def state():
        return next((row["state"], row["reason"]) for row in floor_.rows("strategies") if row["name"] == "asker")

    assert (turn(35), turn(40)) == (3, 6)
    own.write_text(own.read_text() + "\nBe bold.\n")
    assert turn(45) == 7
    skipped = floor_.events(E.LLM_SKIPPED)
    assert {(event.payload["strategy"], event.payload["symbol"], event.payload["reason"]) for event in skipped} == {
        ("asker", "AAPL", "prompt_changed"), ("asker", "IBM", "prompt_changed"),
    }
    why = "model: the words of mine/v1 are not those it was asked with last: check them, or write a new version"
    assert state() == ("paused_risk", why)
    assert turn(50) == 8
    controls.resume(floor_.desk, "asker", actor=PERSON, unchecked=True)
    assert turn(55) == 11, "a person has looked"
    own.write_text(own.read_text() + "\nBe bolder.\n")
    floor_.clock.advance_to(at(10, 0))
    floor_.cycle(Interval.MIN5)
    assert (len(server.asked), state()[0]) == (12, "paused_risk"), "at these words nobody has looked"
    own.write_bytes((SHIPPED / "analyst" / "v1.md").read_bytes())
    assert check(record(floor_.desk.ledger)) == []


def test_a_model_that_is_gone_waits_for_a_person(stage, server):
    server.script(Behaviour(status=404, message=f"model: {CLAUDE}"))
    floor_ = ran(stage())
    assert floor_.row("strategies")["state"] == "paused_risk"


@pytest.mark.parametrize("wrong", [None, "---\nschema: nonsense\n---\n"], ids=["gone", "spoilt"])
def test_a_prompt_that_is_gone_or_spoilt_keeps_its_own_strategy_waiting_and_nobody_else(stage, server, tmp_path, wrong):
    own = tmp_path / "prompts" / "mine" / "v1.md"
    own.parent.mkdir(parents=True)
    own.write_bytes((SHIPPED / "analyst" / "v1.md").read_bytes())
    floor_ = stage(asking(agent={"prompt": "mine/v1"}), strategy("ruler"))
    own.unlink()
    if wrong is not None:
        own.write_text(wrong)
    ran(floor_)
    [skipped] = floor_.events(E.LLM_SKIPPED)
    assert (skipped.payload["strategy"], skipped.payload["reason"]) == ("asker", "no_prompt")
    assert "mine/v1" in skipped.payload["detail"]
    assert [event.payload["strategy"] for event in floor_.events(E.LLM_ACTION_GENERATED)] == ["ruler"]
    assert server.asked == []


def test_a_question_that_midnight_overtakes_counts_for_the_day_it_is_paid_on(stage, server, monkeypatch):
    """63."""
    server.script(Behaviour(reply=reply()))
    floor_ = stage()
    monkeypatch.setattr(conversations, "budget_day", lambda _now: purse.budget_day() - timedelta(days=1))
    ran(floor_)
    [requested], [responded] = floor_.events(E.LLM_REQUESTED), floor_.events(E.LLM_RESPONDED)
    assert responded.payload["day"] == requested.payload["day"] == floor_.row("model_spend")["day"]


@pytest.mark.parametrize(
    ("asked", "answered", "believed"),
    [
        ("gpt-5", "gpt-5-2025-08-07", True), ("gpt-5", "gpt-5", True), ("gpt-4", "gpt-4-0613", True), ("llama3.1", "llama3.1:8b", True),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001", True), ("gpt-5-chat-latest", "gpt-5-chat-latest", True),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022", True), ("gpt-5", "gpt-5-mini-2025-08-07", False),
        ("o3", "o3-mini", False), ("gpt-4", "gpt-4.1", False), ("claude-opus-4", "claude-opus-4-1-20250805", False),
        ("gpt-5", "gpt-4", False), ("gpt-5", "", False),
    ],
)
def test_a_smaller_model_of_a_longer_name_is_another_one(asked, answered, believed):
    """64."""
    agent = asking(agent={"provider": Provider.OPENAI, "model": asked}).agent
    said = another_model(agent, {"symbol": "AAPL", "asked_model": asked, "model": answered, "expected_model": None})
    assert (said is None) is believed


def test_a_question_that_waits_for_its_turn_is_not_taken_for_lost(stage, server, monkeypatch):
    """Sixteen one after the other may need sixteen times what one needs; another cycle begins meanwhile."""
    monkeypatch.setattr(conversations, "SLACK", timedelta(0))
    monkeypatch.setattr(conversations, "LONGEST_WAIT", 0.0)
    symbols = tuple(f"A{chr(ord('A') + number)}" for number in range(16))
    server.policy = lambda asked: reply("HOLD", symbol=asked.symbol)
    slow = replace(GENEROUS, timeout_seconds=0.5, concurrency=1)
    floor_ = stage(asking(symbols=symbols), source=market(*map(bars, symbols)), budget=slow)
    other = replace(floor_.due(), cycle_id="5m@another")
    take, swept = server.answer, []

    def answer(*given):
        time.sleep(0.1)
        if len(server.asked) == len(symbols):
            conversations.sweep(floor_.desk, floor_.desk.models, other)
            swept.append(len(server.asked))
        return take(*given)

    monkeypatch.setattr(server, "answer", answer)
    ran(floor_)
    assert swept == [len(symbols)]
    assert floor_.events(E.LLM_LOST) == []
    assert len(floor_.events(E.LLM_ACTION_GENERATED)) == len(symbols)


# What a reply gives back, and what cannot be


def test_a_question_without_room_waits_for_what_the_others_give_back(stage, server):
    """63: what is reserved is several times what is spent; nobody is left out for it who can be paid in the end."""
    server.respond = lambda _: Behaviour(reply=reply(action="HOLD"), tokens=Tokens(1_000, 100))
    floor_ = stage(asking(symbols=("AAPL", "IBM", "MSFT")))
    reserved = max(row["reserved"] for row in ran(floor_).rows("model_calls"))
    server.asked.clear()
    server.respond = lambda asked: Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))
    narrow = ran(stage(asking("narrow", symbols=("AAPL", "IBM", "MSFT")), budget=replace(GENEROUS, per_day=reserved * 2)))
    assert len(server.asked) == 3
    assert server.most_at_once <= 3
    assert narrow.events(E.LLM_SKIPPED) == []
    assert narrow.row("strategies")["state"] == "running"


def narrow_budget(stage, server):
    """What two symbols' questions reserve, less a little: the second waits for what the first gives back."""
    server.respond = lambda asked: Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))
    reserved = min(row["reserved"] for row in ran(stage(asking(symbols=("AAPL", "IBM")))).rows("model_calls"))
    server.asked.clear()
    return replace(GENEROUS, per_day=reserved * Decimal("1.9"))


def test_a_strategy_that_paused_while_a_question_waited_is_not_asked_again(stage, server):
    """57: nor does the question vanish."""
    floor_ = stage(asking("narrow", symbols=("AAPL", "IBM")), budget=narrow_budget(stage, server))

    def pausing(asked):
        controls.pause(floor_.desk, "narrow", actor=PERSON)
        return Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))

    server.respond = pausing
    ran(floor_)
    assert len(server.asked) == 1
    [skipped] = floor_.events(E.LLM_SKIPPED)
    assert (skipped.payload["reason"], skipped.payload["detail"]) == ("held_back", "the strategy is paused_user")


def test_a_question_that_waited_over_midnight_counts_for_the_day_it_is_asked_on(stage, server, monkeypatch):
    """63: reserved, priced and settled on one day."""
    floor_ = stage(asking("narrow", symbols=("AAPL", "IBM")), budget=narrow_budget(stage, server))
    today = purse.budget_day()

    def midnight(asked):
        monkeypatch.setattr(purse, "budget_day", lambda _now=None: today + timedelta(days=1))
        return Behaviour(reply=reply(action="HOLD", symbol=asked.symbol), tokens=Tokens(1_000, 100))

    server.respond = midnight
    ran(floor_)
    days = [(event.payload["day"], event.type) for event in floor_.events(E.LLM_REQUESTED, E.LLM_RESPONDED)]
    tomorrow = (today + timedelta(days=1)).isoformat()
    both = (E.LLM_REQUESTED, E.LLM_RESPONDED)
    assert days == [(day, type_) for day in (today.isoformat(), tomorrow) for type_ in both]


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


def test_nobody_is_asked_again_once_a_stop_has_fallen(stage, server):
    floor_ = stage()

    def stopping(_asked):
        emergency.stop(floor_.desk, reason="enough", actor=PERSON)
        return rate_limited("3")

    server.respond = stopping
    floor_.cycle()
    for llm in floor_.desk.models.llms.values():
        llm.close()
    assert len(server.asked) == 1
