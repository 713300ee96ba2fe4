"""`trading validate` and `trading compare` on real bars of 2011 and 2012: verdict first, and nothing is kept."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faces.conftest import Shell
from trading_pipeline import bootstrap_backtests
from trading_pipeline.faces.cli import comparing
from trading_pipeline.faces.cli.output import Output

YEAR = ("--from", "2012-01-03", "--to", "2012-10-31")
DIPS = """
name = "{name}"
symbols = ["GOOG"]
mode = "autonomous"
interval = "1d"
[agent]
form = "expression"
enter_when = "rsi_14 < 45"
exit_when = "rsi_14 > 55"
max_bars = 10
[sizing]
method = "fraction"
fraction = 0.1
"""
GRID = ("--grid", "rsi_14 < {40,45}", "--grid", "agent.max_bars=5,10")


@pytest.fixture
def dips(trading: Shell) -> Path:
    """A strategy that columns can compute."""
    return trading.strategy(DIPS.replace("{name}", "dips"))


def test_the_verdict_comes_first_and_why(trading: Shell, dips: Path) -> None:
    said = trading("validate", dips, *YEAR)
    assert said.code == 0, said.err
    assert said.out.startswith("NOT VALIDATED: ")
    assert "closed trades, at least 30 are needed" in said.out.splitlines()[0]
    for words in ("Is it evidence?", "How sure are the figures?", "Risk score", "deflated"):
        assert (words in said.out) is (words != "deflated")


def test_a_grid_is_tried_walked_over_and_drawn(trading: Shell, dips: Path) -> None:
    picture = trading.project / "heat.png"
    said = trading("validate", dips, *YEAR, *GRID, "--heat-map", picture, "--processes", "1")
    assert said.code == 0, said.err
    assert "4 settings." in said.out and "deflated Sharpe ratio" in said.out
    assert "Walking forward" in said.out
    assert "agent.max_bars 10 (its own)" in said.out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_shown_while_it_runs_goes_on_through_walking_forward(trading: Shell, dips: Path, monkeypatch) -> None:
    """Four settings over 209 sessions; then two windows of 42 and 41 after the first 126."""
    totals, moves = [], []

    @contextmanager
    def progress(_output, _what, total):
        totals.append(total)
        yield lambda: moves.append(1)

    monkeypatch.setattr(Output, "progress", progress)
    said = trading("validate", dips, *YEAR, *GRID, "--processes", "1")
    assert said.code == 0, said.err
    assert (totals, len(moves)) == ([6], 6)


@pytest.mark.slow
def test_two_processes_say_what_one_says(trading: Shell, dips: Path) -> None:
    one = trading("validate", dips, *YEAR, *GRID, "--processes", "1", "--json").json()
    assert trading("validate", dips, *YEAR, *GRID, "--json").json() == one
    assert (one["passed"], one["trials"]) == (False, 4)
    assert one["reasons"][0] in one["headline"]
    assert len(one["tables"]["grid"]) == 4


def test_a_strategy_that_was_paused_on_the_way_is_said_to_have_stood_still(trading: Shell) -> None:
    """Columns alone know its equity; why it stopped moving stands in the ledger."""
    text = DIPS.replace("{name}", "careful").replace("[sizing]", "[limits]\nmax_day_loss = 100\n[sizing]")
    careful, other = trading.strategy(text), trading.project / "other.toml"
    other.write_text(DIPS.replace("{name}", "other"))
    for command in (("validate", careful), ("compare", careful, other, "--markdown", trading.project / "c.md")):
        said = trading(*command, *YEAR)
        written = said.out if command[0] == "validate" else (trading.project / "c.md").read_text()
        assert "careful is paused by the system since" in " ".join(written.split()), command


@pytest.mark.slow
def test_the_look_ahead_check_is_among_what_has_to_hold(trading: Shell, dips: Path) -> None:
    checks = trading("validate", dips, *YEAR, "--check-lookahead", "--json").json()["tables"]["checks"]
    assert (checks[0]["WHAT"], checks[0][""]) == ("no look-ahead", "holds")
    assert "0 leaks at 4 instants" in checks[0]["FOUND"]


def test_a_grid_that_cannot_be_understood_says_how_one_is_written(trading: Shell, dips: Path) -> None:
    said = trading("validate", dips, *YEAR, "--grid", "rsi_21 < {20,30}", "--json")
    assert said.code == 2
    assert "stands nowhere in the expressions of dips" in said.error()["message"]


def test_two_strategies_are_run_and_told_apart_or_not(trading: Shell, dips: Path) -> None:
    other = trading.project / "other.toml"
    other.write_text(DIPS.replace("{name}", "later").replace("rsi_14 < 45", "rsi_14 < 40"))
    file, page = trading.project / "comparison.md", trading.project / "comparison.html"
    said = trading("compare", dips, other, *YEAR, "--markdown", file, "--html", page)
    assert said.code == 0, said.err
    assert said.out.startswith(("dips and later cannot be told apart: ", "dips made more", "later made more"))
    assert "Sharpe ratio" in said.out and "Profit factor" in said.out
    assert "| FIGURE | dips | later |" in file.read_text()
    assert "<th>FIGURE</th>" in page.read_text() and page.read_text().count("data:image/png") == 4, "equity and drawdown in both inks"
    [pair] = trading("compare", dips, other, *YEAR, "--json").json()["pairs"]
    assert pair["sentence"] in said.out.replace("\n", " ")
    assert pair["sessions"] == 209


def test_strategies_on_the_same_bars_read_them_once_and_come_to_what_each_comes_to_alone(
    trading: Shell, dips: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second is on other bars; the third, on those of the first, sees nothing of what the first did."""
    read: list[tuple[str, ...]] = []
    bars_of = bootstrap_backtests.bars_of

    def counted(settings, plan, *arguments):
        read.append(tuple(spec.name for spec in plan.strategies))
        return bars_of(settings, plan, *arguments)

    monkeypatch.setattr(bootstrap_backtests, "bars_of", counted)
    for name, symbol in (("second", "FB"), ("third", "GOOG")):
        text = DIPS.replace("{name}", name).replace("GOOG", symbol).replace("rsi_14 < 45", "rsi_14 < 40")
        (trading.project / f"{name}.toml").write_text(text)
    file = trading.project / "comparison.md"
    span = ("--from", "2012-09-04", "--to", "2012-10-31", "--markdown", file, "--json")
    said, written = trading("compare", dips, "second.toml", "third.toml", *span).json(), file.read_bytes()
    assert read == [("dips",), ("second",)]
    monkeypatch.setattr(comparing, "_needs", lambda plan: plan.name)
    assert trading("compare", dips, "second.toml", "third.toml", *span).json() == said
    assert file.read_bytes() == written
    assert read[2:] == [("dips",), ("second",), ("third",)]


@pytest.mark.parametrize(("arguments", "says"), [
    (("a", "a"), "a is named twice"),
    (("a", "b", "--symbols", "GOOG"), "have run already"),
    (("a", "b", "--from", "2012-01-03"), "One date is lacking"),
])
def test_what_cannot_be_compared_is_refused(trading: Shell, arguments: tuple[str, ...], says: str) -> None:
    said = trading("compare", *arguments, "--json")
    assert said.code == 2
    assert says in said.error()["message"]


def test_a_backtest_is_compared_with_another(trading: Shell, dips: Path) -> None:
    said = trading("compare", dips, *YEAR, "--json")
    assert (said.code, said.error()["message"]) == (2, "1 cannot be compared.")
