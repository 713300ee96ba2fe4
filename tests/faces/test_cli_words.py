"""What is written about the command line is true of it: every option in the manual, and no remedy that names one that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from trading_pipeline.faces.cli.main import app

ROOT = Path(__file__).parents[2]
EVERYWHERE = {"--home", "--json", "--quiet", "--backtest", "--help", "--yes", "--reason"}
"""Of many commands, and explained once; --yes and --reason mean what they say."""


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
    if path and getattr(command, "invoke_without_command", True):
        shown = [each for each in command.params if not getattr(each, "hidden", False)]
        yield " ".join(path), {option for each in shown for option in (*each.opts, *each.secondary_opts) if option.startswith("--")}


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _manual() -> Iterator[tuple[str, str]]:
    """Each command of the manual's table with its options and what is said: `trading cassette stats` / `export FILE [--replace]`."""
    for row in (ROOT / "docs/cli.md").read_text().splitlines():
        if row.startswith("| `trading "):
            cells = row.split(" | ")
            group: list[str] = []
            for segment in re.findall("`([^`]+)`", cells[0]):
                words = re.match(r"(?:[a-z][a-z-]*(?: |$))*", segment)
                assert words is not None
                path = words[0].split()
                if path[0] == "trading":
                    path, group = path[1:], path[1:-1]
                else:
                    path = [*group, *path]
                yield " ".join(path), f"{segment} {' '.join(cells[1:])}"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_has_every_option_of_a_command(command: str) -> None:
    told = [text for path, text in _manual() if path == command or (path not in COMMANDS and path.startswith(f"{command} "))]
    assert told, "the manual does not know it"
    assert COMMANDS[command] - set(re.findall(r"--[a-z-]+", " ".join(told))) <= EVERYWHERE


def _named() -> Iterator[tuple[str, str]]:
    """Commands with options as remedies name them: `trading bars import --stamp end`."""
    for file in sorted((ROOT / "trading_pipeline").rglob("*.py")):
        text = re.sub(r'"\s*\n\s*f?"', "", file.read_text())
        yield from re.findall(r"`trading ((?:[a-z-]+ )+)((?:[^`\n]* )?--[^`\n]*)`", text)


def test_whatever_names_a_command_with_options_names_such_as_it_has() -> None:
    named = list(_named())
    assert named
    for words, options in named:
        if words.startswith("demo "):
            continue  # It hands its options on.
        found = [path for path in COMMANDS if f"{words} ".startswith(f"{path} ")]
        assert found, words
        assert set(re.findall(r"--[a-z-]+", options)) <= COMMANDS[max(found, key=len)], f"{words}{options}"


@pytest.mark.parametrize("file", sorted((ROOT / "trading_pipeline/adapters/market_data").glob("*.py")), ids=lambda file: str(file.stem))
def test_what_reads_files_names_no_option_without_its_command(file: Path) -> None:
    """It serves several commands, and only one of them has options that say more of a file."""
    text = re.sub(r'"\s*\n\s*f?"', "", file.read_text()).replace('remedy="correct --column"', "")
    assert re.findall(r"--[a-z-]+", re.sub(r"`trading [^`\n]*`", "", text)) == []
