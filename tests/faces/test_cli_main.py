"""The command line as such: help that is quick, options everywhere, errors and exit codes, text that cannot do harm."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faces.conftest import Shell
from trading_pipeline.faces.cli.main import main
from trading_pipeline.faces.cli.output import Column, Output, duration, gain, new_york, plain, price

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
    assert not (tmp_path / "none").exists()


def test_a_setting_above_a_hard_limit_is_refused_by_every_command(trading: Shell) -> None:
    (trading.home / "trading.toml").write_text("[limits]\nmax_order_value = 100001\n")
    said = trading("status", "--json")
    assert said.code == 2
    assert said.error()["value"] == "100001"
    assert "INVARIANT_65" in said.error()["rule"]
    assert trading("doctor").code == 1


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
    assert [duration(each) for each in (5.9, 252, 7265)] == ["5 s", "4 min 12 s", "2 h 1 min"]


def test_colour_is_for_terminals_and_no_color_is_respected(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in trading("status").out
    assert "\x1b[32m" in trading.at_a_terminal(["status"], {}).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in trading.at_a_terminal(["status"], {}).out


def test_a_narrow_terminal_wraps_text_and_keeps_figures_whole(asked: Shell) -> None:
    shown = asked.at_a_terminal(["status"], {}, columns=50).out
    assert "$100,000.00" in shown
    assert max(len(line.rstrip()) for line in shown.replace("\r", "").splitlines() if "\x1b" not in line) <= 70
