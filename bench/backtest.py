"""`make bench-backtest`: our backtest beside the libraries people would otherwise use, on one strategy and the same bars.

The peers' harness (`PEERS=DIR`, by default `../shared/bench`) says what is traded and how each library says it; `bench/backtest.toml` and
`bench/backtest_account.toml` say it in our words. Everybody runs in turns, a process each, `ROUNDS=5` times, nautilus_trader twice because
it is slow; figures are medians, and speeds are bars per CPU second of the run, without imports and loading, as each process measures it.
Five symbols are five independent accounts, as backtesting.py has them. The last line is `RESULT {json}`; what could not be measured is
null there, and why stands above it. Without the harness: exit 2.
"""

import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.peers import BTPY, NAUTILUS, RAPTOR, VBT, Harness, NotMeasured, Run, TradeLine, read_trades, run_process

ROOT = Path(__file__).parents[1]
NAUTILUS_ROUNDS = 2
OURS_BOUND_S = 180
FILES = ("bench/backtest.toml", "bench/backtest_account.toml")


class Bench:
    """What is measured, by name, and what was."""

    def __init__(self, harness: Harness, rounds: int) -> None:
        """Measure so many rounds with a harness."""
        self.harness, self.rounds = harness, rounds
        self.runs: dict[str, list[Run]] = {}
        self.reasons: dict[str, str] = {}
        """Why something was not measured."""
        self.sessions: dict[str, str] = {}
        """The first and the last."""

    def lanes(self) -> Iterator[tuple[str, int, Callable[[], Run]]]:
        """Name, rounds and one run of each, in the order of a round: whoever is compared stands beside the other."""
        yield "btpy_1", self.rounds, lambda: self.harness.run(BTPY, 1)
        yield "ledger_1", self.rounds, lambda: self.ours("ledger", 1)
        yield "told_1", self.rounds, lambda: self.ours("told", 1)
        yield "results_1", self.rounds, lambda: self.ours("results", 1)
        yield "vbt_1", self.rounds, lambda: self.harness.run(VBT, 1)
        yield "every_bar_1", self.rounds, lambda: self.ours("every-bar", 1)
        yield "raptor_1", self.rounds, lambda: self.harness.run(RAPTOR, 1)
        yield "process_1", self.rounds, self.whole_process
        yield "btpy_5", self.rounds, lambda: self.harness.run(BTPY, 5)
        yield "ledger_5", self.rounds, lambda: self.ours("ledger", 5)
        yield "told_5", self.rounds, lambda: self.ours("told", 5)
        yield "results_5", self.rounds, lambda: self.ours("results", 5)
        yield "nautilus_5", min(self.rounds, NAUTILUS_ROUNDS), lambda: self.harness.run(NAUTILUS, 5)
        yield "steps_1", 1, lambda: self.ours("steps", 1)
        yield "grid_1", 1, lambda: self.ours("grid", 1)

    def measure(self) -> None:
        """Run everybody in turns."""
        for turn in range(self.rounds):
            for name, rounds, run in self.lanes():
                if turn >= rounds or name in self.reasons:
                    continue
                try:
                    self.runs.setdefault(name, []).append(run())
                except NotMeasured as why:
                    self.reasons[name] = str(why)
                    self.runs.pop(name, None)
                    say(f"{name}: not measured: {why}")
                else:
                    say(f"round {turn + 1}, {name}: {_shown(self.runs[name][-1])}")

    def ours(self, mode: str, symbols: int) -> Run:
        """One of our runs in a process of its own."""
        environment = os.environ | {"BENCH_ROOT": str(self.harness.root)}
        return run_process([sys.executable, "-m", "bench.ours", mode, str(symbols)], environment, OURS_BOUND_S)

    def whole_process(self) -> Run:
        """The command as a person gives it, from the shell to the figures of the report."""
        trading, home = str(Path(sys.executable).with_name("trading")), str(self.harness.root / "home")
        sessions = ["--from", self.sessions["first"], "--to", self.sessions["last"]]
        # With its bytecode, as everything that is installed.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return run_process([trading, "--home", home, "backtest", str(ROOT / FILES[0]), *sessions, "--no-store"], environment, OURS_BOUND_S)

    def prepare(self) -> None:
        """Write the bars into the archive of our home; NotMeasured where that fails."""
        self.sessions = dict(self.ours("prepare", 0).result)

    def median(self, name: str, of: Callable[[Run], float]) -> float | None:
        """Over the rounds; None where it was not measured."""
        runs = self.runs.get(name)
        return statistics.median(of(run) for run in runs) if runs else None

    def speed(self, name: str) -> float | None:
        """Bars per CPU second of the run."""
        return self.median(name, lambda run: run.result["bars"] / run.result["run_cpu"] if "run_cpu" in run.result else float("nan"))

    def ratio(self, ours: str, theirs: str) -> float | None:
        """How many times as fast we are."""
        one, other = self.speed(ours), self.speed(theirs)
        return None if one is None or other is None else one / other

    def trades(self, mode: str, symbols: int) -> list[TradeLine]:
        """Ours, as the last run of that mode wrote them."""
        return read_trades(self.harness.root / "out" / f"trades_ours_{mode}_{symbols}.csv")

    def equal_trades(self, symbols: int) -> tuple[int, int] | None:
        """How many of backtesting.py's trades are ours too, of how many that either has; of all our ways to make them the worst."""
        modes = [mode for mode in ("ledger", "told", "results", "every-bar") if f"{mode.replace('-', '_')}_{symbols}" in self.runs]
        if not modes or f"btpy_{symbols}" not in self.runs:
            return None
        theirs = Counter(self.harness.trades_of(BTPY, symbols))
        counted = [Counter(self.trades(mode, symbols)) for mode in modes]
        return min(((ours & theirs).total(), (ours | theirs).total()) for ours in counted)

    def figures(self) -> dict[str, float | int | None]:
        """What the last line says, unrounded."""
        equal = {symbols: self.equal_trades(symbols) for symbols in (1, 5)}
        return {
            "ratio_btpy_1": self.ratio("ledger_1", "btpy_1"),
            "ratio_btpy_5": self.ratio("ledger_5", "btpy_5"),
            "ratio_btpy_1_told": self.ratio("told_1", "btpy_1"),
            "ratio_btpy_5_told": self.ratio("told_5", "btpy_5"),
            "ratio_btpy_grid": self.ratio("results_1", "btpy_1"),
            "ratio_vbt_grid": self.ratio("results_1", "vbt_1"),
            "ratio_nautilus_5": self.ratio("ledger_5", "nautilus_5"),
            "ratio_btpy_every_bar": self.ratio("every_bar_1", "btpy_1"),
            "ratio_nautilus_every_bar": self.ratio("every_bar_1", "nautilus_5"),
            "trades_equal_1": None if equal[1] is None else equal[1][0],
            "trades_equal_5": None if equal[5] is None else equal[5][0],
            "cost_5_to_1": self.ratio("ledger_1", "ledger_5"),
            "process_cpu_s": self.median("process_1", lambda run: run.cpu_s),
            "process_btpy_cpu_s": self.median("btpy_1", lambda run: run.cpu_s),
            "mb_5": self.median("ledger_5", lambda run: run.peak_mb),
            "mb_5_told": self.median("told_5", lambda run: run.peak_mb),
            "grid_100_s": self.median("grid_1", lambda run: run.result["wall_s"]),
        }


ASKED = {
    "ratio_btpy_1": ("with the ledger, one symbol: times backtesting.py", "6, aim 10"),
    "ratio_btpy_5": ("with the ledger, five accounts: times backtesting.py", "5, aim 8"),
    "ratio_btpy_1_told": ("the same put into words, one symbol", ""),
    "ratio_btpy_5_told": ("the same put into words, five accounts", ""),
    "ratio_btpy_grid": ("results only: times backtesting.py", "20"),
    "ratio_vbt_grid": ("results only: times vectorbt's warm run", "0.67"),
    "ratio_nautilus_5": ("with the ledger: times nautilus_trader", "30"),
    "ratio_btpy_every_bar": ("asked at every bar, results only: times backtesting.py", "0.6"),
    "ratio_nautilus_every_bar": ("asked at every bar: times nautilus_trader", "5"),
    "trades_equal_1": ("trades equal to backtesting.py's, one symbol", "all"),
    "trades_equal_5": ("five symbols", "all"),
    "cost_5_to_1": ("cost of a bar with five symbols: times that with one", "1.2 at most"),
    "process_cpu_s": ("whole process from the shell to the report's data, CPU s", "under backtesting.py's, aim under raptorbt's"),
    "process_btpy_cpu_s": ("the same of backtesting.py", ""),
    "mb_5": ("peak MB, 491,400 bars", "250, aim 150"),
    "mb_5_told": ("the same where each ledger is read", ""),
    "grid_100_s": ("100-point grid, two cores, s", "15"),
}
TITLES = {
    "btpy": BTPY.title, "vbt": VBT.title, "nautilus": NAUTILUS.title, "raptor": RAPTOR.title, "ledger": "ours, with the ledger",
    "told": "ours, with the ledger put into words, and read",
    "results": "ours, results only", "every_bar": "ours, asked at every bar, results only", "process": "`trading backtest`, whole process",
    "grid": "ours, 100-point grid", "steps": "ours, asked at every bar with the ledger: the stepped engine over 1,170 bars",
}


def tables(bench: Bench, figures: dict[str, float | int | None]) -> str:
    """Everything that was measured, as Markdown."""
    lines = ["| engine | symbols | k bars per CPU s | CPU s of the run | process CPU s | peak MB | trades |", "|---" * 7 + "|"]
    for name, runs in bench.runs.items():
        title, symbols = name.rsplit("_", 1)
        result = runs[-1].result
        speed, run_cpu = bench.speed(name), bench.median(name, lambda run: run.result.get("run_cpu", float("nan")))
        lines.append(
            f"| {TITLES[title]} | {symbols} | {_number(None if speed is None else speed / 1000)} | {_number(run_cpu)} | "
            f"{_number(bench.median(name, lambda run: run.cpu_s))} | {_number(bench.median(name, lambda run: run.peak_mb))} | "
            f"{result.get('trades', '')} |"
        )
    lines += ["", "| figure | measured | asked |", "|---|---|---|"]
    for name, (words, asked) in ASKED.items():
        lines.append(f"| {words} | {_number(figures[name])}{_of_all(bench, name)} | {asked} |")
    return "\n".join(lines)


def _of_all(bench: Bench, name: str) -> str:
    equal = bench.equal_trades(int(name[-1])) if name.startswith("trades_equal") else None
    return "" if equal is None else f" of {equal[1]:,}"


def _number(value: float | int | None) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value != value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _shown(run: Run) -> str:
    words = [f"{run.result['run_cpu']} CPU s in the run"] if "run_cpu" in run.result else []
    return ", ".join([*words, f"{run.cpu_s:.2f} CPU s and {run.peak_mb:.0f} MB in all"])


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def say(words: str) -> None:
    """To whoever waits."""
    print(words, file=sys.stderr, flush=True)


def main() -> int:
    """Measure and print."""
    try:
        harness = Harness(Path(os.environ.get("PEERS") or ROOT.parent / "shared" / "bench"))
        digest = harness.data()
    except NotMeasured as why:
        print(f"bench-backtest: {why}.", file=sys.stderr)
        return 2
    bench = Bench(harness, max(1, int(os.environ.get("ROUNDS") or 5)))
    for peer in (BTPY, VBT, RAPTOR, NAUTILUS):
        try:
            harness.python(peer, say)
        except NotMeasured as why:
            say(f"{peer.title}: {why}")
    bench.prepare()
    bench.measure()
    figures = bench.figures()
    for name in FILES:
        print(f"{name}:\n{(ROOT / name).read_text('utf-8')}")
    print(f"Bars: sha256 {digest}, {bench.rounds} rounds, load average {os.getloadavg()[0]:.1f}.\n")
    print(tables(bench, figures))
    for name, reason in bench.reasons.items():
        print(f"\nNot measured: {name}: {reason}.")
    print("RESULT " + json.dumps({name: _rounded(value) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
