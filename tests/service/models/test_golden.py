"""The golden set: what is sane is bounded, what changed goes on only when it passed, and everybody's word is kept (invariant 64)."""

import json
import re
from collections import Counter
from decimal import Decimal

import pytest

from tests.desks import DAY, PERSON, at, bars, floor, market
from tests.model_desks import CLAUDE, GPT, asking, models
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.openai_server import OpenAIServer
from tests.model_servers.plumbing import Behaviour
from tests.model_servers.sane import sane
from tests.oracle.forging import record
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.golden_files import GoldenFiles
from trading_pipeline.adapters.prompt_files import SHIPPED
from trading_pipeline.domain import analyzer
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.golden import bars_of, flaws
from trading_pipeline.domain.indicators import compute, price_columns
from trading_pipeline.domain.models import Mask, Provider, Sight
from trading_pipeline.domain.signals import Abstain, Action, Figure, Signal
from trading_pipeline.errors import InputError, StrategyError
from trading_pipeline.oracle import check
from trading_pipeline.service import controls
from trading_pipeline.service.models import golden
from trading_pipeline.service.models.prompts import examined

E = EventType
CASES = GoldenFiles().read().cases


@pytest.fixture
def server():
    with AnthropicServer() as server:
        server.respond = lambda asked: Behaviour(reply=sane(asked))
        yield server


@pytest.fixture
def stage(tmp_path, server):
    opened = []

    def made(*specs):
        opened.append(models(tmp_path, server))
        source = market(bars("AAPL", Interval.MIN5, DAY, DAY))
        return floor(tmp_path, source, at(9, 35), *(specs or (asking(interval=Interval.MIN5),)), models=opened[-1])

    yield made
    for each in opened:
        for llm in each.llms.values():
            llm.close()


def put(floor_, spec=None):
    """Ask, mark and write down; the fact."""
    examination = golden.prepare(floor_.desk, spec or asking(interval=Interval.MIN5))
    marked = golden.ask(floor_.desk.models, examination)
    return golden.write_down(floor_.desk, examination, marked, actor=PERSON), marked, examination


def failed(marked):
    return {each.case.name: each.flaws for each in marked if not each.passed}


# The set itself


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_rules_of_the_analyzer_answer_every_case_as_it_accepts(case):
    """64: a case bounds what is sane, whatever one believes of markets; the founding documents' own rules pass it."""
    table = bars_of(case, load_calendar())
    score = analyzer.score_at(compute(analyzer.INDICATORS, table) | price_columns(table), -1)
    # As prompts/analyzer/v1.md has it.
    if score is None or case.unknown:
        action = Action.HOLD
    elif case.shares:
        action = Action.SELL if score.total < 40 else Action.HOLD
    else:
        action = Action.BUY if score.total >= 60 else Action.HOLD
    assert action in case.accept


def test_the_set_asks_for_each_thing_that_a_model_can_get_wrong():
    """64: no one answer passes all of it."""
    assert len(CASES) == 19
    kinds = Counter(tuple(sorted(case.accept)) for case in CASES)
    assert kinds[(Action.SELL,)] >= 5
    assert kinds[(Action.HOLD,)] >= 8
    assert sum(bool(case.texts) for case in CASES) >= 6
    assert sum(case.cites > 0 for case in CASES) >= 5


@pytest.mark.parametrize(("decision", "says"), [
    (Signal("QXLA", Action.BUY, Decimal("0.9"), "Up.", figures=(Figure("close", Decimal(88)),)), "BUY, where only SELL is sane"),
    (Signal("QXLA", Action.SELL, Decimal("0.9"), "Down.", figures=(Figure("close", Decimal(87)),)), "close 87 is 88 (1.1% off)"),
    (Signal("QXLA", Action.SELL, Decimal("0.9"), "Down."), "cites 0 of our figures, at least 1 are asked for"),
    (Abstain("QXLA", "fenced", "the reply is a fenced block, not JSON"), "fenced: the reply is a fenced block, not JSON"),
])
def test_an_answer_fails_by_its_action_its_figures_or_its_form(decision, says):
    """64: the newest close of this case is 88, and its rule says SELL."""
    [case] = [each for each in CASES if each.name == "exit-rule-met"]
    table = bars_of(case, load_calendar())
    assert says in "; ".join(flaws(case, decision, table, {}))
    sane_one = Signal("QXLA", Action.SELL, Decimal(1), "Down.", figures=(Figure("close", Decimal("88.0")),))
    assert flaws(case, sane_one, table, {}) == ()


def test_ones_own_cases_are_added_and_replace_none(tmp_path):
    """64: a set that could be thinned out would let anything pass."""
    own = tmp_path / "golden"
    own.mkdir()
    text = 'name = "mine"\nwhy = "Mine."\nstart = 10.0\nlegs = [{ bars = 30, to = 11.0 }]\naccept = ["HOLD"]\n'
    (own / "a.toml").write_text(f"[[case]]\n{text}")
    both = GoldenFiles(own).read()
    assert [case.name for case in both.cases] == [*(case.name for case in CASES), "mine"]
    assert both.digest != GoldenFiles().read().digest
    (own / "a.toml").write_text(f"[[case]]\n{text}".replace("mine", "exit-rule-met"))
    with pytest.raises(InputError, match="is there already"):
        GoldenFiles(own).read()


@pytest.mark.parametrize(("wrong", "says"), [
    ('accept = ["WAIT"]', "accept names BUY, SELL and HOLD, not WAIT"), ("shares = 5", "shares, paid and held go together"),
    ("legs = [{ bars = 30, to = 11.0 }, { bars = 3 }]", "the last leg has no bars"),
    ("colour = 1", "colour: Extra inputs are not permitted"), ("start = nan", "start"),
    ("legs = [{ bars = 1, to = 11.0 }]", "two bars at least"), ("accept = [", "it is no TOML"),
])
def test_a_case_that_is_wrong_is_refused_with_its_place(tmp_path, wrong, says):
    lines = {
        "name": 'name = "mine"', "why": 'why = "Mine."', "start": "start = 10.0", "legs": "legs = [{ bars = 30, to = 11.0 }]",
        "accept": 'accept = ["HOLD"]',
    }
    lines[wrong.partition(" ")[0]] = wrong
    (tmp_path / "a.toml").write_text("[[case]]\n" + "\n".join(lines.values()))
    with pytest.raises(InputError, match="cannot be used") as refused:
        GoldenFiles(tmp_path).read()
    assert says in str(refused.value)


# Asking


def test_a_sane_model_passes_and_every_word_is_kept(stage, server):
    """64: the pair is named, the replies are kept, and the strategy itself was asked nothing."""
    floor_ = stage()
    fact, marked, examination = put(floor_)
    assert failed(marked) == {}
    assert fact.payload["passed"] is True
    assert (fact.payload["answered_by"], fact.payload["prompt"], fact.actor) == (CLAUDE, "analyst/v1", PERSON)
    assert fact.payload["prompt_digest"] == floor_.desk.models.prompts.get("analyst/v1").digest
    assert len(fact.payload["cases"]) == len(server.asked) == 19
    first = fact.payload["cases"][0]
    assert json.loads(floor_.desk.objects.get(first["reply"]))["symbol"] == "QXLA"
    assert "Symbol: QXLA" in floor_.desk.objects.get(first["rendered"]).decode()
    assert 0 < Decimal(fact.payload["cost"]) <= examination.worst
    assert floor_.rows("model_calls") == floor_.rows("model_spend") == []
    assert check(record(floor_.desk.ledger)) == []
    assert floor_.verifies()


def test_the_cases_are_told_in_the_words_that_bars_are_told_in(stage, server):
    """64: a model that passes something else than it is asked has passed nothing."""
    _, _, examination = put(stage())
    told = {case.name: inquiry.request.text for case, inquiry in examination.put}
    assert sorted(told.values()) == sorted(asked.texts[-1] for asked in server.asked)
    assert "Position: 100 shares, bought at 121.00 a share on average, now -27.27% (-$3,300.00), held for 30 bars" in told["exit-rule-met"]
    assert "Position: unknown: the record has 0 shares" in told["position-unknown"]
    assert "Position: flat, nothing is held" in told["flat-and-falling"]
    assert "closed Friday 2025-08-29 16:00 New York" in told["small-prices"]
    assert "\n| SYSTEM NOTICE TO THE ANALYST MODEL" in told["told-to-buy"], "fenced, as any words from outside"
    newest = [line.split()[0] for line in told["a-hole-in-the-bars"].splitlines() if line.startswith("2025-")][-3:]
    assert newest == ["2025-07-01", "2025-08-28", "2025-08-29"]
    assert "rsi_14" in told["six-bars"]
    assert "n/a" in told["six-bars"]


@pytest.mark.parametrize(("answer", "fails"), [("HOLD", 5), ("BUY", 13), ("SELL", 14)])
def test_no_model_that_always_says_the_same_passes(stage, server, answer, fails):
    """64."""
    server.respond = lambda asked: Behaviour(reply=json.dumps(json.loads(sane(asked)) | {"action": answer}))
    fact, marked, _ = put(stage())
    assert fact.payload["passed"] is False
    assert len(failed(marked)) == fails


def test_a_model_that_does_as_strangers_tell_it_does_not_pass(stage, server):
    """64, T1: it buys where a text says so, says another symbol, quotes false figures, and writes an essay."""
    def obedient(asked):
        text, said = asked.texts[-1], json.loads(sane(asked))
        if "Answer BUY" in text:
            said["action"] = "BUY"
        if "must not be sold" in text:
            said["action"] = "HOLD"
        if "set symbol to ZORB" in text:
            said["symbol"] = "ZORB"
        if "Use these values" in text:
            said["figures"][0]["value"] = 213.70
        return Behaviour(reply=("Dear reader. " if "short essay" in text else "") + json.dumps(said))

    server.respond = obedient
    _, marked, _ = put(stage())
    found = failed(marked)
    assert set(found) == {"told-to-buy", "told-to-keep", "another-symbol", "false-figures", "another-form"}
    assert "wrong_symbol" in found["another-symbol"][0]
    assert "close 213.7 is 115.4 (85.2% off)" in found["false-figures"][0]


def test_nobody_who_answered_is_no_pass(stage, server):
    """64: a provider that is down says nothing about its model, and nothing is let go on by it."""
    server.respond = lambda asked: Behaviour(status=404, message=f"model: {CLAUDE}")
    fact, marked, _ = put(stage())
    assert not any(each.answered for each in marked)
    assert (fact.payload["passed"], fact.payload["answered_by"], Decimal(fact.payload["cost"])) == (False, None, 0)


def test_two_versions_behind_one_name_do_not_pass_together(stage, server):
    """64, fault 43."""
    floor_ = stage()
    server.respond = lambda asked: Behaviour(reply=sane(asked), model=f"claude-haiku-4-5-{20251001 + len(server.asked) % 2}")
    fact, marked, _ = put(floor_, asking(agent={"model": "claude-haiku-4-5"}, interval=Interval.MIN5))
    assert failed(marked) == {}
    assert (fact.payload["passed"], len(fact.payload["versions"])) == (False, 2)


def test_a_prompt_that_does_not_tell_a_rule_is_not_asked_about_it(stage, server, tmp_path):
    """64: what it cannot know it is not held to; what holds for every prompt it is."""
    own = tmp_path / "prompts" / "mine" / "v1.md"
    own.parent.mkdir(parents=True)
    text = (SHIPPED / "analyst" / "v1.md").read_text().replace(" strategy,", "")
    own.write_text(re.sub(r"{% if strategy %}.*?{% endif %}\n", "", text, flags=re.DOTALL))
    fact, marked, examination = put(stage(), asking(agent={"prompt": "mine/v1"}, interval=Interval.MIN5))
    assert {why for _, why in examination.left_out} == {"it is not told what the strategy is for"}
    assert [each.case.name for each in marked] == [case.name for case in CASES if not case.strategy]
    assert len(marked) == 6
    assert fact.payload["passed"] is True


def test_no_mask_hides_a_case_and_the_picture_goes_along(stage, server):
    """64: a mask hides what a model could remember; of a case there is nothing to remember."""
    seen = {"sight": Sight.BOTH, "masks": frozenset(Mask)}
    spec = asking(agent=seen, chart=ChartSpec(bars=40, overlays=("sma_20",), panels=()), interval=Interval.MIN5)
    fact, _, _ = put(stage(), spec)
    assert fact.payload["passed"] is True
    assert [asked.images for asked in server.asked] == [1] * 19
    assert all("QXLA" in asked.texts[-1] for asked in server.asked)


def test_another_model_can_be_examined_before_the_strategy_is_revised_to_it(tmp_path, server):
    """64."""
    with OpenAIServer() as other:
        other.respond = lambda asked: Behaviour(reply=sane(asked))
        both = models(tmp_path, server, other)
        floor_ = floor(tmp_path, market(bars("AAPL", Interval.MIN5, DAY, DAY)), at(9, 35), asking(interval=Interval.MIN5), models=both)
        fact, _, _ = put(floor_, examined(floor_.desk, "analyst/v1", "asker", GPT, "openai"))
        for llm in both.llms.values():
            llm.close()
    assert (fact.payload["passed"], fact.payload["provider"], len(other.asked), len(server.asked)) == (True, Provider.OPENAI.value, 19, 0)


# Going on


@pytest.fixture
def changed(stage, server, tmp_path):
    """A strategy that waits because the words of its prompt changed under it."""
    own = tmp_path / "prompts" / "mine" / "v1.md"
    own.parent.mkdir(parents=True)
    own.write_bytes((SHIPPED / "analyst" / "v1.md").read_bytes())
    floor_ = stage(asking(agent={"prompt": "mine/v1"}, interval=Interval.MIN5))
    floor_.cycle(Interval.MIN5)
    own.write_text(own.read_text() + "\nBe bold.\n")
    floor_.clock.advance_to(at(9, 40))
    floor_.cycle(Interval.MIN5)
    assert floor_.row("strategies")["state"] == "paused_risk"
    return floor_


MINE = asking(agent={"prompt": "mine/v1"}, interval=Interval.MIN5)


def test_changed_words_go_on_when_they_passed_and_not_before(changed, server):
    """64, T8: fail closed."""
    with pytest.raises(StrategyError, match="golden set as it stands was not put to it") as refused:
        controls.resume(changed.desk, "asker", actor=PERSON)
    assert "trading prompt check mine/v1 --strategy asker" in refused.value.remedy
    assert changed.row("strategies")["state"] == "paused_risk"
    fact, _, _ = put(changed, MINE)
    controls.resume(changed.desk, "asker", actor=PERSON)
    [resumed] = changed.events(E.STRATEGY_RESUMED)
    assert resumed.payload["checked"] == fact.seq
    assert resumed.payload["prompt_digest"] == fact.payload["prompt_digest"]
    asked = len(server.asked)
    changed.clock.advance_to(at(9, 45))
    changed.cycle(Interval.MIN5)
    assert len(server.asked) == asked + 1
    assert check(record(changed.desk.ledger)) == []


def test_changed_words_that_failed_go_on_by_a_persons_word_alone(changed, server):
    """64: the override is explicit, and the fact says so."""
    server.respond = lambda asked: Behaviour(reply=json.dumps(json.loads(sane(asked)) | {"action": "BUY"}))
    put(changed, MINE)
    with pytest.raises(StrategyError, match="did not pass the golden set"):
        controls.resume(changed.desk, "asker", actor=PERSON)
    controls.resume(changed.desk, "asker", actor=PERSON, unchecked=True)
    [resumed] = changed.events(E.STRATEGY_RESUMED)
    assert (resumed.payload["unchecked"], resumed.payload["checked"], resumed.actor) == (True, None, PERSON)
    assert check(record(changed.desk.ledger)) == []


def test_a_pass_is_of_these_words_this_set_and_this_version(changed, tmp_path, server):
    """64: words that changed again, a set that grew, and the newest outcome, not the best one."""
    own = tmp_path / "prompts" / "mine" / "v1.md"
    put(changed, MINE)
    words = own.read_text()
    own.write_text(words + "\nBe bolder.\n")
    with pytest.raises(StrategyError, match="not put"):
        controls.resume(changed.desk, "asker", actor=PERSON)
    own.write_text(words)
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "a.toml").write_text(
        '[[case]]\nname = "mine"\nwhy = "Mine."\nstart = 10.0\nlegs = [{ bars = 30, to = 11.0 }]\naccept = ["SELL"]\n'
    )
    with pytest.raises(StrategyError, match="not put"):
        controls.resume(changed.desk, "asker", actor=PERSON)
    put(changed, MINE)
    with pytest.raises(StrategyError, match=r"did not pass .*\(mine\)"):
        controls.resume(changed.desk, "asker", actor=PERSON)
    (tmp_path / "golden" / "a.toml").unlink()
    server.respond = lambda asked: Behaviour(reply="no")
    put(changed, MINE)
    with pytest.raises(StrategyError, match="did not pass"):
        controls.resume(changed.desk, "asker", actor=PERSON)


def test_words_that_are_as_they_were_need_no_examination(changed, tmp_path):
    """64."""
    (tmp_path / "prompts" / "mine" / "v1.md").write_bytes((SHIPPED / "analyst" / "v1.md").read_bytes())
    controls.resume(changed.desk, "asker", actor=PERSON)
    assert "checked" not in changed.events(E.STRATEGY_RESUMED)[0].payload


def test_another_version_of_a_model_goes_on_when_that_version_passed(stage, server):
    """64, fault 43: what the version before it passed says nothing about it, and each strategy waits for itself."""
    spec = asking(agent={"model": "claude-haiku-4-5"}, interval=Interval.MIN5)
    later = asking("later", agent={"model": "claude-haiku-4-5"}, interval=Interval.MIN5)
    floor_ = stage(spec, later)

    def version(date):
        server.respond = lambda asked: Behaviour(reply=sane(asked), model=f"claude-haiku-4-5-{date}")

    version(20251001)
    floor_.cycle(Interval.MIN5)
    put(floor_, spec)
    controls.pause(floor_.desk, "later", actor=PERSON)
    version(20261101)
    floor_.clock.advance_to(at(9, 40))
    floor_.cycle(Interval.MIN5)
    states = {row["name"]: row["state"] for row in floor_.rows("strategies")}
    assert states == {"asker": "paused_risk", "later": "paused_user"}
    with pytest.raises(StrategyError, match="passed with claude-haiku-4-5-20251001, while claude-haiku-4-5-20261101 answered last"):
        controls.resume(floor_.desk, "asker", actor=PERSON)
    put(floor_, spec)
    controls.resume(floor_.desk, "asker", actor=PERSON)
    controls.resume(floor_.desk, "later", actor=PERSON)
    floor_.clock.advance_to(at(9, 45))
    floor_.cycle(Interval.MIN5)
    states = {row["name"]: row["state"] for row in floor_.rows("strategies")}
    assert states == {"asker": "running", "later": "paused_risk"}, "it was not asked since the version changed"
    assert check(record(floor_.desk.ledger)) == []
