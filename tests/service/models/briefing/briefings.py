"""What a model would be told about the newest cycle of a desk, and words from outside for it."""

from dataclasses import replace
from datetime import UTC, datetime

from tests.desks import floor, samples, strategy
from trading_pipeline.adapters.prompt_files import PromptFiles
from trading_pipeline.adapters.text_files import TextFiles
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.models import Mask, Provider
from trading_pipeline.domain.strategies import ModelAgent
from trading_pipeline.ports import Question
from trading_pipeline.service import market as market_step
from trading_pipeline.service.desk import Models
from trading_pipeline.service.models.briefing import brief
from trading_pipeline.service.steps import spec_of

ALL = frozenset(Mask)
BEGAN = datetime(2012, 10, 15, 13, 30, tzinfo=UTC)
CHART = ChartSpec(bars=60, overlays=("sma_20",), panels=("rsi_14",))


def stage_of(folder, source=None, now=BEGAN, fault=None, **changes):
    """A desk with prompts and texts, its one strategy running, and its newest cycle run; orders meet the fault."""
    models = Models({}, PromptFiles(folder / "prompts"), None, TextFiles(folder / "texts"))
    stage = floor(folder, source or samples(), now, strategy(**({"chart": CHART} | changes)), models=models)
    if fault is not None:
        stage.faults.on_every_submit(fault)
    stage.cycle(changes.get("interval") or Interval.DAY1)
    return stage


def asked(stage, *, symbol="AAPL", **agent):
    """The question a model would be asked about the newest cycle."""
    spec = spec_of(stage.row("strategies"))
    agent = ModelAgent(Provider.ANTHROPIC, "some-model", "analyst/v1", **agent)
    cycle = stage.due(spec.interval)
    view = market_step.views(stage.desk, cycle, (replace(spec, agent=agent),))[symbol]
    drawn = {event.payload["symbol"]: event.payload["sha256"] for event in stage.events() if event.type == "chart.rendered"}
    held = stage.desk.ledger.get("positions", spec.name, symbol)
    return cycle, Question(spec.name, agent, symbol, view.bars, view.columns, 3 if held and held["quantity"] else None, drawn.get(symbol))


def briefed(stage, **agent):
    """What goes along with that question."""
    cycle, question = asked(stage, **agent)
    return brief(stage.desk, stage.desk.ledger, cycle, question)


def told(stage, **agent):
    """The words of it, by the variables of the prompt."""
    return briefed(stage, **agent).values


def write(stage, tmp_path, name, words):
    """A text about AAPL in the folder that is read from."""
    folder = tmp_path / "texts" / "AAPL"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(words)
