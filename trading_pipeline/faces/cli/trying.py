"""`trading try-models`: one small real question to each provider that is set up, to see that key, address, model and price are right.

It costs a little real money, so it says how much at most and asks first. It is bounded by that alone: no ledger is opened, and a day's
budget neither hinders nor counts it. The calls are in the log of calls as others are; no reply is taken from a cassette or kept in one.
"""

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trading_pipeline.errors import InputError, SettingsError, UnknownName
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, plain, word

if TYPE_CHECKING:
    from trading_pipeline.domain.models import ModelFailure, ModelReply, ModelRequest, Provider
    from trading_pipeline.ports import LLM, Prices
    from trading_pipeline.settings import Settings

MODELS: Final = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna", "claude-code": "haiku"}
"""The cheapest of each when nobody names another."""
SYMBOL: Final = "AAPL"
_SYSTEM: Final = "You answer with one JSON object and nothing around it: no words, no code fence."
_TEXT: Final = (
    f"This is a test of the connection, nothing is traded. Symbol {SYMBOL}, last close 213.40, rsi_14 51.2. "
    "Answer HOLD with confidence 0.5, a rationale of five words, no figures, no hints."
)

ProviderOption = Annotated[list[str] | None, typer.Option("--provider", help="Only this one; may be repeated.")]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", help="Another model: anthropic=claude-opus-5-5; may be repeated.", metavar="PROVIDER=MODEL"),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")]


@dataclass(frozen=True, slots=True)
class _Trial:
    llm: "LLM"
    request: "ModelRequest"
    worst: Decimal


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "try-models", panel=panel)(try_models)


def try_models(call: Invocation, provider: ProviderOption = None, model: ModelOption = None, yes: YesOption = False) -> None:
    """One small real question to each provider with a key: what it says, how long it takes, what it costs."""
    from trading_pipeline.adapters.prices import load_prices

    settings = _asking(call.settings())
    chosen = MODELS | _named(model or ())
    prices = load_prices(call.home, settings.model.claude_code.max_cost_per_call)
    with ExitStack() as stack:
        llms = _set_up(call, settings, stack, provider)
        trials = [_trial(llm, chosen[llm.provider], prices) for llm in llms.values()]
        worst = sum((trial.worst for trial in trials), Decimal(0))
        asked = ", ".join(f"{trial.request.model} of {trial.request.provider}" for trial in trials)
        if yes:
            call.output.note(f"Asking {asked}, for {worst:.4f} USD at most.")
        elif not call.confirm(f"Ask {asked}, for {worst:.4f} USD at most?", yes=False):
            return
        rows = []
        for trial in trials:
            with call.output.working(f"Asking {trial.request.model} of {trial.request.provider}"):
                rows.append(_row(trial, trial.llm.ask(trial.request, settings.model.timeout_seconds), prices))
    call.output.answer(rows, lambda: _show(call, rows))
    if not all(row["usable"] for row in rows):
        raise typer.Exit(1)


def _asking(settings: "Settings") -> "Settings":
    """Nothing from a cassette, nothing into it.

    Raises:
        SettingsError: The home is not to ask anybody.
    """
    from trading_pipeline.domain.models import CassetteMode

    if settings.model.cassette is CassetteMode.REPLAY_OR_FAIL:
        raise SettingsError(
            "Nobody is asked in this home.", value=settings.model.cassette.value, rule='model.cassette = "replay-or-fail" asks nobody',
            remedy="set another mode, or use another home",
        )
    return settings.model_copy(update={"model": settings.model.model_copy(update={"cassette": CassetteMode.LIVE})})


def _named(given: Iterable[str]) -> dict[str, str]:
    named = {}
    for each in given:
        provider, equals, name = each.partition("=")
        if not equals or not name or provider not in MODELS:
            raise InputError(
                f"{each} names no model of a provider.", value=each, rule="it is written PROVIDER=MODEL",
                remedy=f"write one such as anthropic={MODELS['anthropic']}; the providers are {', '.join(MODELS)}",
            )
        named[provider] = name
    return named


def _set_up(call: Invocation, settings: "Settings", stack: ExitStack, wanted: list[str] | None) -> "Mapping[Provider, LLM]":
    from trading_pipeline.adapters.llm.providers import open_providers
    from trading_pipeline.current_home import made_at
    from trading_pipeline.ports import Home

    for each in wanted or ():
        if each not in MODELS:
            raise UnknownName(
                f"There is no provider {each}.", value=each, rule=f"providers are {', '.join(MODELS)}", remedy="name one of them",
            )
    # Where there is no home yet none is begun: the log of the calls goes with this folder.
    home = call.home if made_at(call.home) is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
    found = open_providers(settings, Home(home))
    for llm in found.values():
        stack.callback(llm.close)
    llms = {name: llm for name, llm in found.items() if not wanted or name.value in wanted}
    missing = sorted(set(wanted or ()) - {name.value for name in found})
    if missing or not llms:
        raise SettingsError(
            f"{', '.join(missing)} cannot be asked here: there is no key." if missing else "There is no provider to ask: no key is set.",
            value=", ".join(missing), rule="a provider needs its key, Claude Code its program",
            remedy="set ANTHROPIC_API_KEY or OPENAI_API_KEY, or install Claude Code and log in (docs/models.md)",
        )
    return llms


def _trial(llm: "LLM", model: str, prices: "Prices") -> _Trial:
    """The question and its bound.

    Raises:
        InputError: Its price is not known: nothing is asked then (invariant 63).
    """
    from trading_pipeline.domain.events import canonical_payload
    from trading_pipeline.domain.models import ModelRequest
    from trading_pipeline.domain.replies import reply_schema
    from trading_pipeline.service.models.purse import budget_day

    request = ModelRequest(llm.provider, model, _SYSTEM, _TEXT, canonical_payload(reply_schema(SYMBOL)))
    worst = prices.worst(request, budget_day())
    if worst is None:
        raise InputError(
            f"Nobody knows what {plain(model)} of {llm.provider} costs.", value=model, rule="an unknown price is no call (invariant 63)",
            remedy=f"add its price to prices.toml in the home (a local model costs 0), or name another with --model {llm.provider}=...",
        )
    return _Trial(llm, request, worst)


def _row(trial: _Trial, outcome: "ModelReply | ModelFailure", prices: "Prices") -> dict[str, Any]:
    from trading_pipeline.domain.models import Ending, ModelFailure
    from trading_pipeline.domain.outside_text import one_line
    from trading_pipeline.domain.replies import parse_reply
    from trading_pipeline.domain.signals import Abstain
    from trading_pipeline.service.models.purse import budget_day

    request = trial.request
    row: dict[str, Any] = {"provider": request.provider.value, "asked": request.model, "seconds": round(outcome.seconds, 2)}
    if isinstance(outcome, ModelFailure):
        nothing = {"model": None, "input_tokens": None, "output_tokens": None}
        return row | nothing | {
            "usable": False, "outcome": outcome.trouble.value, "cost": "0" if outcome.free else None,
            "reply": one_line(outcome.detail, 300),
        }
    read = parse_reply(outcome.text, SYMBOL, [SYMBOL]) if outcome.ending is Ending.COMPLETE else None
    cost = outcome.cost if outcome.cost is not None else prices.cost(request.provider, request.model, outcome.usage, budget_day())
    flaw = f"{read.reason}: {read.detail}" if isinstance(read, Abstain) and read.detail else ""
    return row | {
        "model": outcome.model, "input_tokens": outcome.usage.total_in, "output_tokens": outcome.usage.output_tokens,
        "usable": read is not None and not flaw, "outcome": outcome.ending.value if not flaw else "unreadable",
        "cost": None if cost is None else str(cost), "reply": one_line(flaw or outcome.text, 300),
    }


def _show(call: Invocation, rows: list[dict[str, Any]]) -> None:
    columns = [
        Column("PROVIDER"), Column("MODEL"), Column("OUTCOME"), Column("IN", right=True), Column("OUT", right=True),
        Column("USD", right=True), Column("SECONDS", right=True), Column("REPLY", wrap=True),
    ]
    call.output.table(columns, [
        [
            row["provider"], row["model"] or row["asked"], word(row["outcome"]), _count(row["input_tokens"]), _count(row["output_tokens"]),
            "unknown" if row["cost"] is None else f"{Decimal(row['cost']):.6f}", f"{row['seconds']:.2f}", row["reply"],
        ]
        for row in rows
    ])


def _count(tokens: int | None) -> str:
    return "" if tokens is None else f"{tokens:,}"
