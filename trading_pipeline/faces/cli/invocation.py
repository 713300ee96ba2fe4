"""One call of the command line: its home, its output, and what becomes of its errors.

`command` gives every command the global options, so that they may stand before or after its name. Every TradingError becomes
three lines and its exit code; anything else is our fault: one line, and the traceback in a file.
"""

import inspect
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from trading_pipeline.current_home import current_home, made_at, named_home
from trading_pipeline.errors import PermissionRequired, SettingsError, TradingError
from trading_pipeline.faces.cli.output import NEW_YORK, Output, plain

if TYPE_CHECKING:
    from trading_pipeline.service.desk import Desk
    from trading_pipeline.service.record.past_desk import Record
    from trading_pipeline.settings import Settings

P = ParamSpec("P")
INTERRUPTED = 130
"""As a shell reports SIGINT."""

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the installation (TRADING_HOME, or the newest under .trading).", rich_help_panel="Everywhere"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, for scripts.", rich_help_panel="Everywhere")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.", rich_help_panel="Everywhere")]
_BACKTEST = "--backtest", "Read this stored backtest instead of the home's own ledger; its name, or a beginning of it."
BacktestOption = Annotated[str | None, typer.Option(_BACKTEST[0], metavar="NAME", help=_BACKTEST[1], rich_help_panel="Everywhere")]
_HiddenBacktestOption = Annotated[str | None, typer.Option(_BACKTEST[0], hidden=True)]


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command is handed: where it works and where it writes."""

    home: Path
    output: Output
    home_given: bool = False
    """Whether the person named the home."""
    home_picked: bool = False
    """Whether nobody named it, not even the environment."""
    backtest: str | None = None
    """The stored backtest that is read in the place of the home's own ledger."""

    def say_home(self) -> None:
        """Which home is meant, where nobody named one."""
        if self.home_picked:
            here = Path.cwd()
            shown = self.home.relative_to(here) if self.home.is_relative_to(here) else self.home
            self.output.note(f"home {shown}, the newest; another with --home", style="dim")

    def settings(self, **given: Any) -> "Settings":
        """The settings of the home."""
        from trading_pipeline.settings import Settings

        return Settings.load(self.home, **given)

    @contextmanager
    def desk(self, *, create: bool = False) -> Iterator["Desk"]:
        """The desk of the home, or of the stored backtest that is to be read, closed afterwards.

        Args:
            create: Make the home when there is none; otherwise that is an error, so that a look around leaves nothing behind.

        Raises:
            SettingsError: There is no home.
        """
        settings = self.settings() if create else self.made()
        self.say_home()
        if self.backtest is not None:
            from trading_pipeline.stored_backtests import open_stored

            with open_stored(settings, self.backtest) as desk:
                yield desk
            return
        from trading_pipeline.bootstrap import open_desk

        with open_desk(settings) as desk:
            yield desk

    @contextmanager
    def record(self) -> Iterator["Record"]:
        """What a replay of the home, or of a stored backtest, reads, closed afterwards: no broker, no market, no model.

        Raises:
            SettingsError: There is no home.
        """
        settings = self.made()
        self.say_home()
        if self.backtest is not None:
            from trading_pipeline.stored_backtests import open_stored_record

            with open_stored_record(settings, self.backtest) as record:
                yield record
            return
        from trading_pipeline.bootstrap import open_record

        with open_record(settings) as record:
            yield record

    def made(self) -> "Settings":
        """The settings of a home that is there; SettingsError where there is none."""
        settings = self.settings()
        if settings.database_url is None and made_at(self.home) is None:
            raise SettingsError(
                f"There is no home at {self.home}.", value=str(self.home), rule="looking at a home makes none",
                remedy="run `trading up`, which makes it, or `trading demo`, or name another with --home",
            )
        return settings

    def refuse_backtest(self, what: str) -> None:
        """Raise PermissionRequired where a stored backtest is named, for what would change it."""
        if self.backtest is not None:
            raise PermissionRequired(
                f"`{what}` does not work on the backtest {self.backtest}.", value=self.backtest,
                rule="a stored backtest is history: it is read, and written by the backtest alone",
                remedy="leave --backtest out; status, orders, events, why, verify, replay, costs and report read one",
            )

    def confirm(self, question: str, *, yes: bool, about: Sequence[str] = ()) -> bool:
        """Whether the person says yes; `yes` answers for them, and is needed where nobody can be asked.

        Args:
            about: Lines that they must see first, whatever --quiet and --json leave out.

        Raises:
            PermissionRequired: No terminal and no --yes.
        """
        if yes:
            return True
        if not self.output.interactive:
            raise PermissionRequired(
                "Nobody can be asked here: this is no terminal.", value="no terminal", rule="this needs a person's confirmation",
                remedy="run it at a terminal, or add --yes",
            )
        return self.output.ask(f"{question} [y/N]", about).lower() in ("y", "yes")

    def retype(self, about: str, changes: Sequence[str]) -> None:
        """Have the person at the terminal type every loosened value again (D17).

        Args:
            about: Whose values they are, as a heading.
            changes: As `max_order_value from 1000 to 2000` or `symbols by IBM`.

        Raises:
            PermissionRequired: No terminal, or something else was typed.
        """
        if not self.output.interactive:
            raise PermissionRequired(
                f"Nobody at a terminal confirms {', '.join(changes)}.", value="no terminal",
                rule="limits are tightened at once and loosened only by a person who confirms it at a terminal (D17)",
                remedy="run it at a terminal, and type the new values again",
            )
        heading = [about]
        for change in changes:
            name, _, values = change.partition(" ")
            old, _, new = values.removeprefix("from ").rpartition(" to ")
            new = new.removeprefix("by ")
            shown = f"  {name}: {old} becomes {new}" if old else f"  {name}: {new} is added"
            typed, heading = self.output.ask(f"Type the new {name} again:", [*heading, shown]), []
            if _bare(typed) != _bare(new):
                raise PermissionRequired(
                    f"{typed!r} is not the new {name}, {new}.", value=typed, rule="a limit is loosened by typing its new value again (D17)",
                    remedy="nothing was changed; run the command again if you mean it",
                )


def _bare(value: str) -> str:
    """A value without what people write for legibility."""
    return value.replace(",", "").replace(" ", "").removeprefix("$")


def command(
    app: typer.Typer, name: str, *, panel: str | None = None, reads: bool = False, **settings: Any,
) -> Callable[[Callable[Concatenate[Invocation, P], None]], Callable[Concatenate[Invocation, P], None]]:
    """Register a function of an Invocation as a command with the global options.

    Args:
        reads: It reads a ledger, and does so of a stored backtest too; others refuse the option.
    """

    def register(function: Callable[Concatenate[Invocation, P], None]) -> Callable[Concatenate[Invocation, P], None]:
        def run(*, ctx: typer.Context, **given: Any) -> None:
            outer: dict[str, Any] = ctx.find_root().obj or {}
            as_json, quiet, home, backtest = (given.pop(name) or outer.get(name) for name in ("as_json", "quiet", "home", "backtest"))
            output = Output(as_json=bool(as_json), quiet=bool(quiet))
            try:
                chosen = home.expanduser() if home else current_home()
                picked = home is None and named_home() is None
            except SettingsError as error:
                output.error(error)
                raise typer.Exit(error.exit_code) from None
            call = Invocation(chosen.absolute(), output, home is not None, picked, backtest)
            if not reads:
                _guarded(call, lambda: call.refuse_backtest(ctx.command_path))
            _guarded(call, lambda: function(call, **given))  # type: ignore[call-arg]

        own = list(inspect.signature(function).parameters.values())[1:]
        parameter = inspect.Parameter
        everywhere = [
            parameter("home", parameter.KEYWORD_ONLY, annotation=HomeOption, default=None),
            parameter("as_json", parameter.KEYWORD_ONLY, annotation=JsonOption, default=False),
            parameter("quiet", parameter.KEYWORD_ONLY, annotation=QuietOption, default=False),
            parameter("backtest", parameter.KEYWORD_ONLY, annotation=BacktestOption if reads else _HiddenBacktestOption, default=None),
        ]
        context = parameter("ctx", parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        declared = [context, *(each.replace(kind=parameter.KEYWORD_ONLY) for each in own), *everywhere]
        run.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in declared}
        run.__doc__ = function.__doc__
        app.command(name, rich_help_panel=panel, **settings)(run)
        return function

    return register


def _guarded(call: Invocation, work: Callable[[], None]) -> None:
    try:
        work()
    except TradingError as error:
        call.output.error(error)
        raise typer.Exit(error.exit_code) from None
    except (typer.Exit, typer.Abort, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise typer.Exit(_unexpected(call, error)) from None
        raise
    except Exception as error:  # noqa: BLE001 -- the one broad except of this face: it records and answers
        raise typer.Exit(_unexpected(call, error)) from None


def _unexpected(call: Invocation, error: Exception) -> int:
    saved = _save_traceback(call.home, error)
    shown = f"{type(error).__name__}: {plain(error)[:300]}"
    call.output.error(
        TradingError(f"Something unforeseen broke: {shown}", rule="this is a fault of the program", remedy=f"report it with {saved}")
    )
    return TradingError.exit_code


def _save_traceback(home: Path, error: Exception) -> str:
    """Write the traceback into the home's logs, or where temporary files go when there is no home yet."""
    text = "".join(traceback.format_exception(error))
    for folder in ([home / "logs"] if home.is_dir() else []) + [Path(tempfile.gettempdir())]:
        try:
            folder.mkdir(exist_ok=True)
            # mkstemp: nobody else can read it, and no name is taken.
            descriptor, path = tempfile.mkstemp(prefix=f"cli-{datetime.now(NEW_YORK):%Y%m%d-%H%M%S}-", suffix=".log", dir=folder)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return path
    return "its traceback, which could not be saved anywhere"
