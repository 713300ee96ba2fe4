"""`trading backtest` and `--backtest`: real bars of October 2012, a real server, and the home's own ledger left as it was."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.conftest import connect, execute
from tests.faces.conftest import Shell
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres

WEEK = ("--from", "2012-10-15", "--to", "2012-10-19")


@pytest.fixture
def shell(trading: Shell, postgres: EmbeddedPostgres) -> Iterator[Shell]:
    """A home on a server whose owner may create databases, as one's own server is to be set up for backtests."""
    owner = postgres.owner_url().username
    execute(postgres.superuser_url(), f"ALTER ROLE {owner} CREATEDB")
    yield trading
    with closing(connect(postgres.superuser_url())) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{trading.database}.",))
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        cursor.execute(f"ALTER ROLE {owner} NOCREATEDB")


@pytest.fixture
def stored(shell: Shell) -> Shell:
    """A home with a backtest of a strategy that proposes GOOG and FB each morning."""
    assert shell("backtest", shell.strategy(), *WEEK, "--name", "week").code == 0
    return shell


def test_a_strategy_of_the_home_is_run_stored_and_told_in_figures(shell: Shell) -> None:
    shell("strategy", "create", shell.strategy())
    before = shell.events()
    said = shell("backtest", "steady", *WEEK, "--symbols", "goog", "--cash", "50,000", "--provider", "rules")
    assert said.code == 0, said.err
    assert "steady on 1d bars of GOOG, 2012-10-15 to 2012-10-19, 5 sessions." in said.out
    for words in ("equity", "Return", "Win rate", "survivorship", "approved at once"):
        assert words in said.out
    [listed] = shell("backtests", "list", "--json").json()
    assert f"Stored as {listed['name']}" in said.err
    assert listed["plan"]["cash"] == "50000"
    assert (listed["sessions"], listed["complete"]) == (5, True)
    assert shell.events() == before, "the home's ledger has no fact more"


def test_a_file_needs_no_home_and_json_has_every_figure(shell: Shell) -> None:
    told = shell("backtest", shell.strategy(mode="autonomous"), *WEEK, "--json", "--engine", "stepped").json()
    assert told["name"].startswith("bt-")
    assert told["engine"] == "stepped"
    assert told["figures"]["sessions"] == 5
    assert told["figures"]["cash"] == 100_000
    assert told["figures"]["trades"]["open"] == 2
    assert len(told["assumptions"]) == 7


def test_what_is_stored_already_is_not_computed_again_unless_it_is_asked_for(shell: Shell) -> None:
    first = shell("backtest", shell.strategy(), *WEEK, "--json").json()
    second = shell("backtest", shell.strategy(), *WEEK)
    assert "stored already" in second.err
    third = shell("backtest", shell.strategy(), *WEEK, "--json", "--again").json()
    assert third == first
    assert len(shell("backtests", "list", "--json").json()) == 1


def test_figures_alone_are_printed_and_nothing_is_kept(shell: Shell) -> None:
    said = shell("backtest", shell.strategy(), *WEEK, "--no-store")
    assert said.code == 0
    assert "Stored" not in said.err
    assert "None is stored" in shell("backtests", "list").out


@pytest.mark.parametrize(
    ("arguments", "value", "rule"),
    [
        (["nobody", *WEEK], "nobody", "file as TOML"),
        (["FILE", "--from", "2012-10-15", "--to", "yesterday"], "yesterday", "2024-01-02"),
        (["FILE", "--from", "2012-10-19", "--to", "2012-10-15"], "2012-10-19..2012-10-15", "first session to its last"),
        (["FILE", "--from", "2012-10-20", "--to", "2012-10-21"], "2012-10-20..2012-10-21", "closed"),
        (["FILE", *WEEK, "--symbols", "TSLA"], "TSLA 1d", "samples has AAPL"),
        (["FILE", "--from", "2012-05-01", "--to", "2012-10-19"], "FB 1d", "first session to the last"),
        (["FILE", *WEEK, "--symbols", "AAPL,b@d"], "AAPL,b@d", "separated by commas"),
        (["FILE", *WEEK, "--provider", "oracle"], "oracle", "rules, cassette, record"),
        (["FILE", *WEEK, "--engine", "warp"], "warp", "auto, stepped, columnar"),
        (["FILE", *WEEK, "--cash", "none"], "none", "above zero"),
        (["FILE", *WEEK, "--cash", "-5"], "-5", "above zero"),
        (["FILE", *WEEK, "--cash", "1e30"], "1000000000000000000000000000000", "$1,000,000,000,000.00"),
        (["FILE", *WEEK, "--cash", "0.001"], "0.001", "whole cents"),
        (["FILE", "FILE", *WEEK], "steady", "names of their own"),
        (["FILE", *WEEK, "--name", "No Name"], "No Name", "a-z"),
        (["FILE", *WEEK, "--name", ""], "", "a-z"),
        (["FILE", *WEEK, "--data", "nowhere"], "nowhere", "SYMBOL"),
        (["FILE", *WEEK, "--provider", "record"], "no terminal", "confirmation"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_rule_and_remedy(shell: Shell, arguments: list[str], value: str, rule: str) -> None:
    file = str(shell.strategy())
    said = shell("backtest", *(file if each == "FILE" else each for each in arguments), "--json")
    assert said.code == 2
    error = said.error()
    assert value in error["value"]
    assert rule in error["rule"]
    assert error["remedy"]


READING = [
    ["status"], ["orders", "--all"], ["events", "-n", "5"], ["verify"], ["verify", "--invariants"], ["costs"], ["limits"],
    ["approvals", "--all"], ["strategy", "list"], ["strategy", "show", "steady"], ["replay", "--session", "2012-10-17"],
    ["report", "model"], ["report", "approvals"],
]  # fmt: skip


def test_every_command_that_reads_a_live_ledger_reads_a_backtests(stored: Shell) -> None:
    for command in READING:
        said = stored(*command, "--backtest", "we")
        assert said.code == 0, (command, said.err)
        assert said.out.strip(), command
    status = stored("--backtest", "week", "status", "--json").json()
    assert (status["environment"], status["now"]) == ("backtest", "2012-10-19T20:00:00+00:00")
    assert {position["symbol"] for position in status["positions"]} == {"GOOG", "FB"}
    assert Decimal(status["equity"]) != Decimal(100_000)
    assert "BACKTEST" in stored("status", "--backtest", "week").out
    order = stored("orders", "--all", "--json", "--backtest", "week").json()[0]
    why = stored("why", order["client_id"], "--backtest", "week").out
    assert "approved" in why
    assert "backtest:person" in why


def test_its_own_ledger_is_what_is_read_without_the_option(stored: Shell) -> None:
    assert stored("status", "--json").json()["environment"] == "paper"
    assert stored("orders", "--all", "--json").json() == []


@pytest.mark.parametrize(
    "command",
    [
        ["approve", "ABC"], ["reject", "ABC"], ["rebuild", "--yes"], ["run"], ["strategy", "pause", "steady"], ["stop", "--yes"],
        ["limits", "confirm"], ["limits", "grant", "500"], ["orders", "release", "ABC"],
    ],
)
def test_a_command_that_writes_refuses_a_backtest(trading: Shell, command: list[str]) -> None:
    """None has to be there for that."""
    error = trading(*command, "--backtest", "week", "--json").error()
    assert error["error"] == "PermissionRequired"
    assert "history" in error["rule"]
    assert "leave --backtest out" in error["remedy"]


def test_an_unknown_backtest_is_named_with_those_there_are(stored: Shell) -> None:
    said = stored("status", "--backtest", "year", "--json")
    assert said.code == 2
    assert "week" in said.error()["remedy"]


def test_a_name_is_not_taken_from_another_plan_unawares(stored: Shell) -> None:
    arguments = ["backtest", stored.strategy(), "--from", "2012-10-15", "--to", "2012-10-16", "--name", "week"]
    refused = stored(*arguments, "--json")
    assert refused.code == 2
    assert "2012-10-15 to 2012-10-19" in refused.error()["message"]
    assert "is replaced" in stored(*arguments, "--again").err
    [listed] = stored("backtests", "list", "--json").json()
    assert (listed["name"], listed["sessions"]) == ("week", 2)


def test_one_is_shown_again_and_deleted(stored: Shell) -> None:
    shown = stored("backtests", "show", "week")
    assert "steady on 1d bars of FB, GOOG" in shown.out
    assert "Return" in shown.out
    assert stored("backtests", "rm", "week", "--json").code == 2, "nobody can be asked"
    assert stored("backtests", "rm", "week", "--yes").code == 0
    assert stored("backtests", "list", "--json").json() == []


def test_what_is_shown_again_is_what_was_told_when_it_ran(shell: Shell) -> None:
    """Three symbols are held at the end, and the ledger alone does not say what each is worth."""
    told = shell("backtest", "trend", "--from", "2012-06-01", "--to", "2013-02-28", "--name", "trend", "--json").json()
    assert told["figures"]["trades"]["open"] == 3
    assert shell("backtests", "show", "trend", "--json").json()["figures"] == told["figures"]


def test_figures_alone_are_not_validated_and_the_page_says_why(shell: Shell) -> None:
    page = shell.project / "report.html"
    told = shell("backtest", shell.strategy(), *WEEK, "--no-store")
    assert told.out.startswith("NOT VALIDATED: nothing here tells skill from luck")
    judged = shell("backtest", shell.strategy(), *WEEK, "--no-store", "--html", page)
    reason = judged.out.splitlines()[0]
    assert reason.startswith("NOT VALIDATED: ") and "at least 30 are needed" in reason
    assert reason in page.read_text().replace("&#x27;", "'").replace("&amp;", "&")
    assert f"trading backtest {shell.strategy()} --from 2012-10-15 --to 2012-10-19" in page.read_text()


def test_a_page_that_cannot_be_written_is_told_of_with_its_option(shell: Shell) -> None:
    said = shell("backtest", shell.strategy(), *WEEK, "--no-store", "--html", shell.project / "nowhere" / "report.html", "--json")
    assert said.code == 4
    assert "--html" in said.error()["remedy"]
    assert said.error()["message"].startswith("A file cannot be written there"), "before anything is run"


def test_what_is_held_has_its_price_when_the_bars_are_gone(shell: Shell) -> None:
    folder = shell.project / "bars"
    folder.mkdir()
    days = [day for number in range(46) if (day := date(2012, 9, 4) + timedelta(days=number)).weekday() < 5]
    rows = [f"{day}" + 4 * f",{100 + number}" + ",100000" for number, day in enumerate(days)]
    (folder / "GOOG.csv").write_text("\n".join(["date,open,high,low,close,volume", *rows]))
    arguments = ["backtest", shell.strategy(mode="autonomous"), *WEEK, "--symbols", "GOOG", "--data", folder, "--name", "week"]
    assert shell(*arguments).code == 0
    there = shell("status", "--backtest", "week", "--json").json()
    shutil.rmtree(folder)
    gone = shell("status", "--backtest", "week", "--json").json()
    assert gone["positions"] == there["positions"] != []
    assert gone["equity"] == there["equity"]
