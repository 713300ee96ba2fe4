"""`make backtest-2024 DATA=DIR`: the backtest that the founding documents ask for, and `docs/backtest_results.md` made of it.

AAPL, SPY, QQQ, TSLA and NVDA from 2024-01-01 to 2025-01-01, decided by the analyzer's rules with the documents' sizing and limits, held
against their four targets. Three runs: by itself with the documents' 0.8 of confidence, with a person who approves whatever scores BUY,
and on 5-minute bars where there are some. Nothing is tuned here. Each is run by the engine that `trading backtest` would choose.
`HTML=DIR` also writes each report there; the last line is `RESULT {json}`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from trading_pipeline.adapters.backtest_html import page
from trading_pipeline.adapters.backtest_png import equity_png
from trading_pipeline.adapters.chart_png import thumbnail
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.backtests import BacktestPlan, BacktestResult
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.performance import Performance, performance_of
from trading_pipeline.domain.performance.report import BacktestReport, dollars, fraction
from trading_pipeline.domain.strategies import AnalyzerAgent, Lifetime, Mode, StrategySpec
from trading_pipeline.errors import TradingError
from trading_pipeline.service.backtests.engines import run
from trading_pipeline.service.backtests.report import holding_of, report_of_backtest
from trading_pipeline.service.backtests.report_markdown import months_of, plain, table_of
from trading_pipeline.service.backtests.results import result_of_backtest
from trading_pipeline.service.backtests.validating import validate_backtest
from trading_pipeline.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE, PICTURE = ROOT / "docs/backtest_results.md", ROOT / "docs/images/backtest-2024.png"
COMMAND = "make backtest-2024 DATA=DIR"
PICTURE_BYTES = 60_000
ADJUSTED = (
    "AAPL, NVDA and TSLA come from bars/1d: adjusted for splits by their source, so that NVDA is on the scale after its ten for one of "
    "2024-06-10, and not for dividends. SPY and QQQ come from bars/1d_adjusted, because no consolidated unadjusted file of them covers the "
    "year: their dividends are in the prices, which are lower than what was traded."
)
"""Said in the report, from the README of the data."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the three."""

    title: str
    name: str
    symbols: tuple[str, ...]
    interval: Interval
    first: date
    last: date
    mode: Mode
    folders: tuple[str, ...]
    note: str = ""
    files: str = ""
    """How the names of the files end that are used, where a folder has others of the same symbols and other years."""

    @property
    def plan(self) -> BacktestPlan:
        """With every setting as it is by default, which is the founding documents'."""
        spec = StrategySpec(
            name=self.name, symbols=self.symbols, mode=self.mode, interval=self.interval, agent=AnalyzerAgent(), lifetime=Lifetime.OPEN,
        )
        return BacktestPlan((spec,), self.first, self.last)


FIVE, YEAR = ("AAPL", "SPY", "QQQ", "TSLA", "NVDA"), (date(2024, 1, 1), date(2025, 1, 1))
DAILY = ("bars/1d", "bars/1d_adjusted")
RUNS = (
    Run("daily, autonomous", "analyzer-autonomous", FIVE, Interval.DAY1, *YEAR, Mode.AUTONOMOUS, DAILY, ADJUSTED),
    Run("daily, approved", "analyzer-approved", FIVE, Interval.DAY1, *YEAR, Mode.APPROVAL, DAILY, ADJUSTED),
    Run("5-minute, autonomous", "analyzer-5-minute", ("AAPL", "SPY", "QQQ"), Interval.MIN5, date(2024, 8, 12), YEAR[1], Mode.AUTONOMOUS,
        ("bars/5min",), "AAPL, SPY and QQQ alone, from 2024-08-12: of the other two, and of earlier sessions, there are no 5-minute bars.",
        "_polygon.csv.gz"),
)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one."""

    run: Run
    report: BacktestReport
    result: BacktestResult
    own: Performance
    holding: Performance
    validated: bool


def backtest(wanted: Run, data: Path, home: Path, made_at: datetime, commit: str) -> Ran:
    """Run it, validate it, report on it."""
    plan = wanted.plan
    with open_bench(Settings(home=home), plan, data=_folders(wanted, data, home)) as bench:
        result = result_of_backtest(bench, run(bench, plan))
        holding = holding_of(bench, plan, result)
        verdict = validate_backtest(bench, plan, result)
        report = report_of_backtest(
            bench, plan, result, command=COMMAND, made_at=made_at, commit=commit, validation=verdict,
            title=f"The analyzer's rules, {wanted.title}", notes=(wanted.note,) if wanted.note else (),
        )
    return Ran(wanted, report, result, performance_of(result), performance_of(holding), verdict.passed)


def _folders(wanted: Run, data: Path, home: Path) -> list[Path]:
    """Those of the data, or one of links to the files that are used."""
    if not wanted.files:
        return [data / each for each in wanted.folders]
    chosen = home / wanted.name
    chosen.mkdir()
    for folder in wanted.folders:
        for symbol in wanted.symbols:
            (chosen / f"{symbol}{wanted.files}").symlink_to((data / folder / f"{symbol}{wanted.files}").resolve())
    return [chosen]


def page_of(ran: Sequence[Ran], made_at: datetime, commit: str) -> str:
    """docs/backtest_results.md."""
    parts = [
        "# What the founding documents' backtest came to",
        f"Made by `{COMMAND}` on {made_at:%Y-%m-%d} at commit {commit}; DIR is a folder of bars with `bars/1d`, `bars/1d_adjusted` and "
        "`bars/5min`. The documents ask for AAPL, SPY, QQQ, TSLA and NVDA from 2024-01-01 to 2025-01-01 and name four targets. The "
        "analyzer's rules decided, with the documents' sizing, limits and exits as they are by default: nothing was tuned to these bars.",
        "\n".join(f"- **{each.run.title}**: {plain(each.report.headline)}" for each in ran),
        _targets(ran),
        "\n".join((
            "- *daily, autonomous*: a signal is acted on from 0.80 of confidence on, the documents' Mode 2.",
            "- *daily, approved*: a person approves every proposal at once, from a score of 60 (BUY) on, the documents' Mode 1.",
            "- *5-minute, autonomous*: " + RUNS[2].note,
        )),
        f"![Equity of the autonomous run beside buying and holding](images/{PICTURE.name})",
        "## What that says",
        *(_sentence(each) for each in ran),
        "The year was chosen by the documents, and so were five symbols that everybody knew afterwards to have risen: holding them is the "
        "yardstick, not zero. One year of five related symbols is one sample; a target that is met in it is no proof of anything, which is "
        "why the verdict above stands first.",
    ]
    for each in ran:
        parts += [f"## {each.run.title[0].upper()}{each.run.title[1:]}", f"{each.report.about[0].upper()}{each.report.about[1:]}."]
        for table in each.report.figures:
            parts += [f"### {table.title}", table_of(table)]
        parts += ["### Months", months_of(each.report)]
        for section in each.report.validation:
            parts += [f"### {section.title}", section.markdown]
        for table in (*each.report.groups, *each.report.record):
            if table.name != "months":
                parts += [f"### {table.title}", table_of(table), table.note]
        parts += ["### Assumptions", "\n".join(f"- {plain(said)}" for said in each.report.assumptions)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _targets(ran: Sequence[Ran]) -> str:
    marks = {True: "met", False: "**missed**", None: "unknown"}
    head = f"| TARGET | AIM | {' | '.join(each.run.title.upper() for each in ran)} |"
    rows = [
        f"| {target.title} | {plain(target.aim)} | "
        + " | ".join(f"{each.report.targets[place].reached.text}, {marks[each.report.targets[place].met]}" for each in ran) + " |"
        for place, target in enumerate(ran[0].report.targets)
    ]
    more = [
        f"| Return | | {' | '.join(fraction(each.own.total_return or 0.0, signed=True) for each in ran)} |",
        f"| Return of buying and holding | | {' | '.join(fraction(each.holding.total_return or 0.0, signed=True) for each in ran)} |",
        f"| Trades closed | | {' | '.join(f'{each.own.trades.closed:,}' for each in ran)} |",
    ]
    return "\n".join((head, f"|---|---|{'---|' * len(ran)}", *rows, *more))


def _sentence(ran: Ran) -> str:
    """What came of a run beside buying and holding, in words that its figures choose."""
    own, held = ran.own, ran.holding
    missed = [target.title.lower().replace("sharpe", "Sharpe") for target in ran.report.targets if target.met is not True]
    listed = " and ".join(filter(None, (", ".join(missed[:-1]), *missed[-1:])))
    reached = f"it misses the target for {listed}" if missed else "all four targets are met"
    made, other = own.total_return or 0.0, held.total_return or 0.0
    beside = "less" if made < other else "more"
    return (
        f"**{ran.run.title[0].upper()}{ran.run.title[1:]}**: {reached}. It made {fraction(made, signed=True)} "
        f"({dollars(own.profit, signed=True)}) where buying and holding made {fraction(other, signed=True)}, {beside} by "
        f"{100 * abs(made - other):.1f} points, with {fraction(own.exposure or 0.0)} of the money invested on average. At worst it fell by "
        f"{fraction(own.max_drawdown)}, against {fraction(held.max_drawdown)}; its Sharpe ratio is {_ratio(own.sharpe)}, against "
        f"{_ratio(held.sharpe)}."
    )


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False,
    )
    return described.stdout.strip() or "unknown"


def main() -> int:
    """Exit code: 2 where there is no data."""
    if len(sys.argv) != 2 or not (data := Path(sys.argv[1])).is_dir() or not (data / "bars/1d").is_dir():
        given = f"{sys.argv[1]} has no folder bars/1d" if len(sys.argv) == 2 else "DATA names no folder"
        print(
            f"The bars of the backtest are missing: {given}.\nGive a folder with bars/1d (AAPL, NVDA, TSLA), bars/1d_adjusted (SPY, "
            f"QQQ) and bars/5min (AAPL, SPY, QQQ), as `trading bars import` reads them: {COMMAND.replace('DIR', '../shared/data')}",
            file=sys.stderr,
        )
        return 2
    made_at, commit = datetime.now(UTC), _commit()
    try:
        with tempfile.TemporaryDirectory() as home:
            ran = [backtest(each, data, Path(home), made_at, commit) for each in RUNS]
    except TradingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    PAGE.write_text(page_of(ran, made_at, commit), encoding="utf-8")
    PICTURE.write_bytes(thumbnail(equity_png(ran[0].report.lines), 900, PICTURE_BYTES))
    if os.environ.get("HTML"):
        folder = Path(os.environ["HTML"])
        folder.mkdir(parents=True, exist_ok=True)
        for each in ran:
            (folder / f"{each.run.name}.html").write_text(page(each.report), encoding="utf-8")
    print(f"RESULT {json.dumps({each.run.name: _figures(each) for each in ran})}")
    return 0


def _figures(ran: Ran) -> dict[str, object]:
    own = ran.own
    return {
        "win_rate": own.trades.win_rate, "profit_factor": own.trades.profit_factor, "sharpe": own.sharpe,
        "max_drawdown": own.max_drawdown, "total_return": own.total_return, "holding": ran.holding.total_return,
        "trades": own.trades.closed, "validated": ran.validated,
    }


if __name__ == "__main__":
    sys.exit(main())
