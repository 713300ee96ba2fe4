"""What commands that run backtests share: their options, the plan that these ask for, and the files that they write."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipeline.errors import InputError, StorageError, UnknownName
from trading_pipeline.faces.cli.invocation import Invocation

if TYPE_CHECKING:
    from trading_pipeline.domain.backtests import BacktestPlan
    from trading_pipeline.domain.strategies import StrategySpec

FromOption = Annotated[str, typer.Option("--from", metavar="DATE", help="The first session, such as 2024-01-02.")]
ToOption = Annotated[str, typer.Option("--to", metavar="DATE", help="The last session.")]
SymbolsOption = Annotated[str | None, typer.Option("--symbols", metavar="A,B", help="These instead of the strategy's own.")]
CashOption = Annotated[str | None, typer.Option("--cash", metavar="USD", help="What the account begins with; else as the paper account.")]
DataOption = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="DIR", help="A folder of bars files instead of the home's market; may be repeated, the first has it."),
]


def plan_of(
    call: Invocation, strategies: Sequence[str], first: date, last: date, symbols: str | None, provider: str, cash: str | None,
) -> "BacktestPlan":
    """What the options of a command ask for, with the costs and limits of the home's settings."""
    from trading_pipeline.bootstrap_backtests import home_plan
    from trading_pipeline.domain.backtests import Replies

    settings = call.settings()
    specs = [_shaped(spec, symbols, provider) for spec in _specs(call, strategies)]
    replies = Replies.RECORD if provider == "record" else Replies.CASSETTE
    return home_plan(settings, specs, first, last, cash=None if cash is None else _usd(cash), replies=replies)


def _specs(call: Invocation, strategies: Sequence[str]) -> "list[StrategySpec]":
    """Files are read, names looked up in the home."""
    from trading_pipeline.adapters.strategy_files import read_strategy

    files = {each: Path(each).expanduser() for each in strategies}
    of_home = [each for each, file in files.items() if file.suffix != ".toml" and not file.is_file()]
    known = _of_home(call, of_home) if of_home else {}
    specs = [known[each] if each in known else read_strategy(files[each]) for each in strategies]
    twice = sorted({spec.name for spec in specs if [other.name for other in specs].count(spec.name) > 1})
    if twice:
        raise InputError(
            f"Two strategies are called {twice[0]}.", value=twice[0], rule="strategies that are run together have names of their own",
            remedy="leave one out, or rename it",
        )
    return specs


def _of_home(call: Invocation, names: Sequence[str]) -> "dict[str, StrategySpec]":
    """Of the home, else of the package."""
    from trading_pipeline.bootstrap import open_record
    from trading_pipeline.current_home import made_at
    from trading_pipeline.homes import known_strategies

    settings = call.settings()
    if settings.database_url is not None or made_at(call.home) is not None:
        call.say_home()
        with open_record(settings) as record:
            known = known_strategies(record.ledger)
    else:
        known = known_strategies()
    for name in names:
        if name not in known:
            raise UnknownName(
                f"There is no strategy {name!r}, and no such file.", value=name,
                rule=f"a strategy is one of the home or of the package, or a file as TOML; the home {call.home} has"
                f" {', '.join(sorted(known))}",
                remedy="name one of those, or give the path of a file",
            )
    return {name: known[name] for name in names}


def _shaped(spec: "StrategySpec", symbols: str | None, provider: str) -> "StrategySpec":
    """With the symbols and the agent that were asked for."""
    from trading_pipeline.domain.bars import SYMBOL
    from trading_pipeline.domain.strategies import AnalyzerAgent, ModelAgent

    if symbols is not None:
        chosen = tuple(dict.fromkeys(each.strip().upper() for each in symbols.split(",") if each.strip()))
        wrong = [each for each in chosen if not SYMBOL.fullmatch(each)]
        if wrong or not chosen:
            raise InputError(
                f"{(wrong or [symbols])[0]!r} is no symbol.", value=symbols, rule="symbols are separated by commas, as AAPL,BRK.B",
                remedy="correct --symbols",
            )
        spec = replace(spec, symbols=chosen)
    if provider == "rules" and isinstance(spec.agent, ModelAgent):
        spec = replace(spec, agent=AnalyzerAgent())
    return spec


def date_of(text: str, option: str) -> date:
    """A date as it is written in ISO 8601; InputError names the option."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no date.", value=text, rule="a date is written 2024-01-02", remedy=f"correct {option}") from None


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text.replace("$", "").replace(",", "").replace("_", ""))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise InputError(f"{text!r} is no account.", value=text, rule="an account begins with USD above zero", remedy="correct --cash")
    return amount


# Files


def require_writable(path: Path | None, option: str) -> None:
    """Refuse a file that could not be written before hours are spent on what is to stand in it."""
    if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise StorageError(
            f"A file cannot be written there: {path}.", value=str(path), rule="the folder exists and may be written",
            remedy=f"name another file with {option}",
        )


def write_file(path: Path, content: str | bytes, option: str) -> None:
    """Write what an option asked for; StorageError names the option."""
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", value=str(path), rule="the folder exists and may be written",
            remedy=f"name another file with {option}",
        ) from error
