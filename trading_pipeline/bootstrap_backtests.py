"""The composition root of backtests: settings and a plan in, a bench out.

It knows one broker, the paper one over a book in memory, and there is no setting that would name another: whatever the home trades with
is out of reach. Models answer from the cassette; only a plan that says RECORD may ask one. Bars come from the home or from folders of
files, never from a network. What it stores, it stores under its own name.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path

from trading_pipeline.adapters.backtest_ports import NoAnchors, NoLatch
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_book import MemoryBook, PaperSettings
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.chart_png import PngCharts
from trading_pipeline.adapters.clocks import SteppedClock
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.adapters.market_data.memory_archive import MemoryArchive
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.backtest_bars import Bars, Tables, assumptions, bars_of, digest_of, places_of, require, seen
from trading_pipeline.domain.backtests import BacktestPlan, Replies
from trading_pipeline.domain.models import CassetteMode, ModelBudget
from trading_pipeline.domain.money import CENT, to_cents, usd
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.errors import InputError
from trading_pipeline.home_market import paper_costs
from trading_pipeline.ports import Home, Ledger, Prices
from trading_pipeline.service.backtests.bench import Bench, begins, sessions_of
from trading_pipeline.service.backtests.engines import asks_models
from trading_pipeline.service.desk import Desk, Models
from trading_pipeline.settings import Settings

ACCOUNT = "BACKTEST"
_UNPAID = ModelBudget(per_day=Decimal(1_000_000), calls_per_hour=1_000_000_000, concurrency=1)
"""Recordings cost nothing, and one after the other they come in the same order each time."""
MOST_CASH = Decimal(1_000_000_000_000)
"""USD. Money beyond it is a slip of the hand, and has more digits than its arithmetic keeps."""


@contextmanager
def open_bench(settings: Settings, plan: BacktestPlan, *, data: Path | Sequence[Path] | None = None) -> Iterator[Bench]:
    """Read the bars that a plan needs, and set a bench up around them; models that it asks are let go of on leaving.

    Args:
        data: Folders of bars files instead of the home's market; of a symbol the first that has it counts. Their `splits.csv` count too.

    Raises:
        InputError: No session, no bars of a symbol in the wanted interval over all of the sessions, a file that cannot be used.
    """
    calendar = load_calendar(settings.home / "cache")
    sessions = sessions_of(calendar, plan)
    folders = (data,) if isinstance(data, Path) else tuple(data or ())
    found = bars_of(settings, plan, calendar, folders)
    tables = seen(found, plan, sessions)
    with ExitStack() as stack:
        models = _models(settings, plan, stack) if asks_models(plan) else None

        def bench(bars: Bars, seen: Tables) -> Bench:
            def open_desk(wanted: BacktestPlan, ledger: Ledger) -> Desk:
                require(bars, wanted, sessions_of(calendar, wanted))
                return _desk(bars, settings, calendar, wanted, ledger, models)

            return Bench(
                calendar=calendar, tables=seen, splits=bars.splits, source=bars.source, digest=digest_of(seen, bars.splits),
                assumptions=said, open_ledger=_open_ledger, open_desk=open_desk,
                over=lambda other: bench(replace(bars, tables={**bars.tables, **other}), other),
            )

        said = assumptions(found, plan, sessions)
        yield bench(found, tables)


def home_plan(
    settings: Settings, specs: Sequence[StrategySpec], first: date, last: date, *, cash: Decimal | None = None,
    replies: Replies = Replies.CASSETTE,
) -> BacktestPlan:
    """Strategies over sessions in an account of the home: its limits, its costs, and its paper account's cash unless other is given."""
    cash = settings.paper.cash if cash is None else cash
    if not CENT <= cash <= MOST_CASH or cash != to_cents(cash):
        raise InputError(
            f"An account cannot begin with ${cash:f}.", value=f"{cash:f}",
            rule=f"it begins with {usd(CENT)} to {usd(MOST_CASH)}, in whole cents", remedy="give another amount",
        )
    return BacktestPlan(tuple(specs), first, last, cash, settings.limits.limits(), paper_costs(settings), replies)


def _open_ledger(opened_at: datetime) -> Ledger:
    return MemoryLedger("backtest", opened_at=opened_at)


def _desk(
    bars: Bars, settings: Settings, calendar: TradingCalendar, plan: BacktestPlan, ledger: Ledger, models: Models | None,
) -> Desk:
    clock = SteppedClock(begins(calendar, plan))
    splits = tuple(split for symbol in plan.symbols for split in bars.splits.get(symbol, ()))
    tables = [bars.tables[place] for place in places_of(plan)]
    market = TableMarket(bars.source, tables, calendar, splits=splits, spread=plan.costs.spread)
    costs, numbers = plan.costs, count(1)
    paper = PaperSettings(
        account=ACCOUNT, cash=plan.cash, spread=costs.spread, slippage=costs.slippage, commission_per_share=costs.commission_per_share,
        commission_minimum=costs.commission_minimum, commission_rate=costs.commission_rate, volume_share=costs.volume_share,
        max_bar_gap=plan.limits.max_bar_gap,
    )
    if models is not None and plan.replies is Replies.CASSETTE:
        models = replace(models, wall=clock.now)
    return Desk(
        environment="backtest", world=World.BACKTEST, limits=plan.limits, clock=clock, calendar=calendar, ledger=ledger,
        archive=MemoryArchive(), market=market, splits=bars.splits, objects=LocalObjects(Home(settings.home).objects), charts=PngCharts(),
        deciders={"rules": RulesAgent()}, latch=NoLatch(), anchors=NoAnchors(), models=models, costs=costs, draws=models is not None,
        broker=PaperBroker(MemoryBook(ACCOUNT, plan.cash), market, clock, calendar, paper, splits=bars.splits),
        nonce=lambda: f"{next(numbers):016x}",
    )


def prices_of(settings: Settings, plan: BacktestPlan) -> Prices | None:
    """Who knows when the training of a plan's models ended; nobody is needed where no model is asked."""
    if not asks_models(plan):
        return None
    from trading_pipeline.adapters.prices import load_prices

    return load_prices(settings.home, settings.model.claude_code.max_cost_per_call)


def _models(settings: Settings, plan: BacktestPlan, stack: ExitStack) -> Models:
    """Recordings, and nobody behind them unless the plan says so."""
    from trading_pipeline.adapters.llm.providers import open_providers
    from trading_pipeline.adapters.prices import load_prices
    from trading_pipeline.adapters.prompt_files import PromptFiles
    from trading_pipeline.adapters.text_files import TextFiles

    home, recorded = Home(settings.home), plan.replies is Replies.CASSETTE
    mode = CassetteMode.REPLAY_OR_FAIL if recorded else CassetteMode.REPLAY
    llms = open_providers(settings.model_copy(update={"model": settings.model.model_copy(update={"cassette": mode})}), home)
    for llm in llms.values():
        stack.callback(llm.close)
    prices = load_prices(home.root, settings.model.claude_code.max_cost_per_call)
    budget = _UNPAID if recorded else settings.model.budget()
    return Models(llms, PromptFiles(home.prompts), prices.timeless() if recorded else prices, TextFiles(home.texts), budget)
