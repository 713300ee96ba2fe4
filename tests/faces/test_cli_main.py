"""The command line as such: help that is quick, options everywhere, errors and exit codes, text that cannot do harm."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.faces.conftest import Shell
from trading_pipeline.errors import InputError
from trading_pipeline.faces.cli.main import main
from trading_pipeline.faces.cli.output import Column, Output, countdown, duration, gain, in_new_york, new_york, plain, price

HEAVY = ("pandas", "matplotlib", "dagster", "exchange_calendars", "pyarrow", "sqlalchemy", "numpy", "talib")
COMMANDS = (
    ["status"], ["approvals"], ["approve"], ["reject"], ["demo"], ["up"], ["run"], ["doctor"], ["events"], ["why"], ["verify"], ["rebuild"],
    *(["strategy", each] for each in ("create", "list", "show", "start", "pause", "resume", "finish", "revise")),
    *(["bars", each] for each in ("import", "fetch", "list")),
)


@pytest.mark.parametrize("arguments", [["--help"], ["events", "--help"], ["nonsense"]])
def test_help_and_mistakes_import_nothing_heavy(arguments: list[str]) -> None:
    said = f"print([m for m in {HEAVY!r} if m in sys.modules])"
    code = f"import sys; from trading_pipeline.faces.cli.main import main; main({arguments!r}); {said}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_the_global_options(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--home", "--json", "--quiet"):
        assert option in shown


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: trading" in capsys.readouterr().out


def test_a_mistyped_command_exits_with_2_and_the_nearest_name(trading: Shell) -> None:
    said = trading("statsu")
    assert said.code == 2
    assert "status" in said.err
    said = trading("approve", "--json")
    assert said.code == 2
    assert said.error()["error"] == "InputError"


@pytest.mark.parametrize("arguments", [["--days", "0"], ["--days=0"], ["--days", "3", "--days", "0"]])
def test_an_option_of_the_wrong_kind_is_refused_with_what_was_given(trading: Shell, arguments: list[str]) -> None:
    refused = trading("costs", *arguments, "--json")
    assert (refused.code, refused.error()["value"], refused.out) == (2, "0", "")
    assert "--days" in refused.error()["message"]
    by = trading("costs", "--by", "colour")
    assert (by.code, by.out) == (2, "")
    assert "'colour' is not one of 'strategy', 'provider', 'model', 'prompt'" in by.err
    assert "(value:" not in by.err


@pytest.mark.parametrize(("value", "sentence"), [
    (True, "limits.cool_off_minutes = true is refused."), (["a"], 'symbols = ["a"] is refused.'),
    (Decimal(150_000), "max_order_value = $150,000.00 is above the hard limit."), (1_234, "There are 1,234 of them."),
    (datetime(2024, 8, 28, 13, 30, tzinfo=UTC), "There is nothing to replay from 2024-08-28 13:30 UTC."),
    ("agent.form", "The agent has no form."), ("FB, GOOG", "symbols names GOOG and FB more than once."),
])
def test_a_value_that_the_sentence_names_is_not_said_again(value: object, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    Output().error(InputError(sentence, value=value, rule="it is right", remedy="mend it"))
    assert "(value:" not in capsys.readouterr().err
    Output().error(InputError("Something is wrong.", value=value, rule="it is right", remedy="mend it"))
    assert "(value:" in capsys.readouterr().err


def test_demo_hands_its_options_on_to_the_demo_under_the_same_interpreter(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _path, arguments: begun.append(arguments))
    trading("demo", "--bars", "folder", "--sessions", "3")
    trading("--json", "demo", "--from=2012-11-01", "--home", trading.project / "mine")
    mine = str(trading.project / "mine")
    assert begun == [
        [sys.executable, "-P", "-m", "trading_pipeline.demo", "--bars", "folder", "--sessions", "3"],
        [sys.executable, "-P", "-m", "trading_pipeline.demo", "--home", mine, "--json", "--from=2012-11-01"],
    ]


def test_looking_at_a_home_that_does_not_exist_makes_none(trading: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADING_DATABASE_URL")
    said = trading("status", "--home", tmp_path / "none")
    assert said.code == 2
    assert "There is no home" in said.err
    assert "run `trading up`, which makes it" in " ".join(said.err.split())
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [["strategy", "create"], ["bars", "fetch", "AAPL"], ["run"]], ids=" ".join)
def test_what_needs_a_home_leaves_no_half_of_one_and_names_what_makes_it(trading: Shell, tmp_path: Path, command: list[str]) -> None:
    file = [str(trading.strategy())] if command[0] == "strategy" else []
    said = trading("--home", tmp_path / "none", *command, *file, "--json")
    assert said.code == 2
    assert "`trading up`" in said.error()["remedy"]
    assert "create a strategy" not in said.error()["remedy"]
    assert not (tmp_path / "none").exists()


def test_a_setting_above_a_hard_limit_is_refused_by_every_command(trading: Shell) -> None:
    (trading.home / "trading.toml").write_text("[limits]\nmax_order_value = 100001\n")
    said = trading("status", "--json")
    assert said.code == 2
    assert said.error()["value"] == "100001"
    assert "INVARIANT_65" in said.error()["rule"]
    assert trading("doctor").code == 1


def test_a_limit_that_can_be_off_says_so_where_it_is_refused(trading: Shell) -> None:
    for name, told in (("max_day_risk", True), ("max_day_loss", False)):
        (trading.home / "trading.toml").write_text(f'[limits]\n{name} = "never"\n')
        assert trading("status", "--json").error()["remedy"].endswith('or set it to "off"') is told


def test_an_unknown_setting_is_named(trading: Shell) -> None:
    (trading.home / "trading.toml").write_text("[paper]\ncahs = 5\n")
    said = trading("status")
    assert said.code == 2
    assert "paper.cahs" in said.err


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("buy\x1b[2J\x07now", "buy[2Jnow"), ("a\u202etext\u2066b", "atextb"), ("two\nlines\u2028three", "two lines three"),
        ("[bold red]x[/]", "[bold red]x[/]"), ("\ud800lone", "lone"), ("\u200bzero\ufeff", "zero"), ("é 東 ✓", "é 東 ✓"),
    ],
)
def test_foreign_text_cannot_command_the_terminal(foreign: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    """83, T4."""
    assert plain(foreign) == shown
    output = Output()
    output.line(foreign)
    output.table([Column("TEXT")], [[foreign]])
    output.pairs({"text": foreign})
    assert [line.removeprefix("  text  ") for line in capsys.readouterr().out.splitlines()] == [shown, "TEXT", shown, shown]


def test_figures_read_as_traders_write_them() -> None:
    assert new_york("2012-10-15T13:30:00.000000Z") == "2012-10-15 09:30:00"
    assert [str(gain(each)) for each in ("12.5", "-3", "0")] == ["+$12.50", "-$3.00", "$0.00"]
    assert [price(each) for each in ("65", "65.1025", "1234.5", None)] == ["$65.00", "$65.1025", "$1,234.50", ""]
    assert [str(gain(each)) for each in ("-0.001", "-0.00", "0.004")] == ["$0.00"] * 3
    assert [countdown(each) for each in (5.9, 252, 36_065)] == ["00:00:05", "00:04:12", "10:01:05"]
    assert [duration(each) for each in (5.9, 252, 7265)] == ["5 s", "4 min 12 s", "2 h 1 min"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("until 2012-10-12 20:00 UTC", "until 2012-10-12 16:00"), ("5min@2024-08-28T14:00Z", "5min@2024-08-28 10:00"),
        ("orders@2012-11-13T21:00:05.000000Z", "orders@2012-11-13 16:00:05"), ("sent from 09:30:06 New York", "sent from 09:30:06"),
        ("at 2012-10-15 09:30:05.000 New York", "at 2012-10-15 09:30:05.000"), ("New York", "New York"), ("2012-10-12", "2012-10-12"),
    ],
)
def test_sentences_come_in_one_time_zone(said: str, shown: str) -> None:
    assert in_new_york(said) == shown
    if "UTC" in said:
        assert in_new_york(said, said=False) == f"{shown} New York"


def test_a_table_leaves_out_what_can_be_spared_and_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    columns = [
        Column("SYMBOL"), Column("SHARES", right=True), Column("SPARE", spare=2), Column("LESS SPARE", spare=1),
        Column("REMARK", wrap=True), Column("NOTHING", wrap=True),
    ]
    row = ["GOOGL", "1,234,567", "s" * 12, "less spare", "words that go on for long enough to be wrapped"]

    def shown(width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        Output().table(columns, [[*row, ""]])
        return capsys.readouterr().out.splitlines()

    assert shown(120)[0].split() == ["SYMBOL", "SHARES", "SPARE", "LESS", "SPARE", "REMARK"]
    assert shown(55)[0].split() == ["SYMBOL", "SHARES", "LESS", "SPARE", "REMARK"]
    assert shown(40)[0].split() == ["SYMBOL", "SHARES", "REMARK"]
    for width in (120, 55, 40):
        assert max(map(len, shown(width))) <= width
        text = " ".join(" ".join(shown(width)).split())
        assert "GOOGL 1,234,567 " in text
        assert set(row[4].split()) <= set(text.split())
    assert "1,234,567" in "\n".join(shown(10)), "what decides stays, though the terminal has to wrap the line"


def test_a_name_lines_up_on_a_pipe_and_is_not_said_again_where_it_wraps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    long, short = "a model of a very long name · with a prompt · and a picture, without dates", "rules"
    columns = [Column("WHO", wrap=True, name=True), Column("WHEN")]
    rows = [[long, "1 bar"], [long, "5 bars"], [short, "1 bar"], [long, "1 bar"]]
    monkeypatch.delenv("COLUMNS", raising=False)
    Output().table(columns, rows)
    piped = capsys.readouterr().out.splitlines()
    assert {line.index(row[1]) for line, row in zip(piped[1:], rows, strict=True)} == {len(long) + 2}
    monkeypatch.setenv("COLUMNS", "40")
    Output().table(columns, rows)
    narrow = " ".join(capsys.readouterr().out.split())
    assert narrow.count("a model of a very") == 2, "the second row is still about the first one's"
    assert narrow.count("bar") == 4


def test_an_error_is_broken_between_words_and_a_path_is_left_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    path = "/a/very/long/path/that/no/terminal/of/forty/columns/has/room/for"
    monkeypatch.setenv("COLUMNS", "40")
    Output().error(InputError("There is something wrong with what was given here.", rule=f"see {path} for it", remedy="mend it"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error   There is something wrong with", "        what was given here.", "rule    see", f"        {path}", "        for it",
        "remedy  mend it",
    ]


def test_colour_is_for_terminals_and_no_color_is_respected(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in trading("status").out
    assert "\x1b[32m" in trading.at_a_terminal(["status"], {}).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in trading.at_a_terminal(["status"], {}).out


def test_a_narrow_terminal_wraps_text_and_keeps_figures_whole(asked: Shell) -> None:
    shown = asked.at_a_terminal(["status"], {}, columns=50).out
    assert "$100,000.00" in shown
    assert max(len(line.rstrip()) for line in shown.replace("\r", "").splitlines() if "\x1b" not in line) <= 70
