"""The command `trading`: one Typer application, one module a family of commands.

Heavy libraries are imported inside the commands that use them: `trading --help` stays fast. Usage errors look like every other
error and exit with 2; what happens to errors within a command stands in `invocation`.
"""

import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer

from trading_pipeline.errors import InputError
from trading_pipeline.faces.cli import (
    approvals,
    backtests,
    bars,
    cassettes,
    comparing,
    costs,
    doctor,
    limits,
    orders,
    prompts,
    record,
    replay_session,
    report,
    running,
    status,
    stopping,
    strategies,
    trying,
    validating,
)
from trading_pipeline.faces.cli.invocation import INTERRUPTED, BacktestOption, HomeOption, JsonOption, QuietOption
from trading_pipeline.faces.cli.output import Output

PROGRAM = "trading"

app = typer.Typer(
    name=PROGRAM, help="An LLM proposes trades, a rulebook it cannot touch judges them, and you decide.", pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(strategies.app, name="strategy", rich_help_panel="Trading")
status.register(app, "Trading")
approvals.register(app, "Trading")
orders.register(app, "Trading")
limits.register(app, "Trading")
costs.register(app, "Trading")
stopping.register(app, "Trading")
running.register(app, "Running")
doctor.register(app, "Running")
trying.register(app, "Running")
record.register(app, "Record")
replay_session.register(app, "Record")
backtests.register(app, "Backtests")
validating.register(app, "Backtests")
comparing.register(app, "Backtests")
app.add_typer(bars.app, name="bars", rich_help_panel="Market data")
app.add_typer(prompts.app, name="prompt", rich_help_panel="Models")
app.add_typer(cassettes.app, name="cassette", rich_help_panel="Models")
app.add_typer(report.app, name="report", rich_help_panel="Models")


def _version(wanted: bool) -> None:
    if wanted:
        from trading_pipeline import __version__

        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback()
def everywhere(
    ctx: typer.Context, home: HomeOption = None, as_json: JsonOption = False, quiet: QuietOption = False, backtest: BacktestOption = None,
    _version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Options that every command takes, before or after its name."""
    ctx.obj = {"home": home, "as_json": as_json, "quiet": quiet, "backtest": backtest}


def main(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        code = _program().main(args=arguments or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        Output(as_json="--json" in arguments).error(_usage(error, arguments))
        return InputError.exit_code
    return code if isinstance(code, int) else 0


@cache
def _program() -> Any:
    """The tree of commands, which takes a while to build."""
    return typer.main.get_command(app)


def _usage(error: Any, arguments: Sequence[str]) -> InputError:
    """Typer's complaint about the command line in our form, with the value. Its classes are no public names, hence Any."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message = " ".join(str(error.format_message()).replace("Value error, ", "").split())
    usage = " ".join(context.command.collect_usage_pieces(context)) if context is not None else "[OPTIONS] COMMAND"
    option = re.match(r"Invalid value for '(?:-\w' / ')?(--[\w-]+)'", message)
    given = _given(option[1], arguments) if option is not None else None
    return InputError(message, value=given, rule=f"{path} {usage}", remedy=f"see {path} --help")


def _given(option: str, arguments: Sequence[str]) -> str | None:
    """What an option was given last."""
    given = None
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            given = value if equals else next(iter(arguments[number + 1 : number + 2]), None)
    return given
