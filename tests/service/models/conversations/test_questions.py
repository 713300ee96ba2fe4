"""What a model is asked, and whether it is asked at all: charts, pictures, masks, triggers, prompts, and no secret among them."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.desks import DAY, at, bars, market, strategy
from tests.model_desks import CLAUDE, asking
from tests.model_servers.plumbing import Behaviour
from tests.service.models.conversations.exchanges import ran, reply
from trading_pipeline.adapters.prompt_files import SHIPPED
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.models import Mask, Sight
from trading_pipeline.service.cycle import run_cycle
from trading_pipeline.service.timetable import newest_cycle

E = EventType


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


def test_the_trigger_decides_whether_anybody_is_asked(stage, server):
    floor_ = ran(stage(asking(agent={"trigger": "close < 50"})))
    [skipped] = floor_.events(E.LLM_SKIPPED)
    assert skipped.payload["reason"] == "trigger"
    assert "close 100" in skipped.payload["detail"]
    assert server.asked == []


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


def test_a_masked_symbol_is_told_under_another_name_and_the_signal_is_about_ours(stage, server):
    server.script(Behaviour(reply=reply(symbol="ASSET", stop=95.0)))
    floor_ = ran(stage(asking(agent={"masks": frozenset(Mask)}), source=market(bars("AAPL", price=50.0))))
    assert "AAPL" not in server.asked[0].raw.decode()
    [signal] = floor_.events(E.LLM_ACTION_GENERATED)
    assert signal.payload["symbol"] == "AAPL"
    assert Decimal(signal.payload["hints"]["stop"]) == Decimal("47.5")


def test_no_key_is_in_the_ledger_or_the_objects(stage, server, tmp_path):
    server.script(Behaviour(status=401), Behaviour(reply=reply()))
    floor_ = ran(stage())
    kept = "".join(event.payload_text for event in floor_.desk.ledger.events())
    kept += "".join(path.read_bytes().decode("latin-1") for path in (tmp_path / "objects").rglob("*") if path.is_file())
    assert "canary" not in kept
    assert CLAUDE in kept


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
