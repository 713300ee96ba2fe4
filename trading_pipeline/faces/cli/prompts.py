"""`trading prompt ...`: the words that models are asked with. How a prompt's file is written: docs/prompts.md."""

import difflib
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipeline.current_home import made_at
from trading_pipeline.domain.prompts import NAME
from trading_pipeline.errors import PromptError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, new_york, word

if TYPE_CHECKING:
    from trading_pipeline.adapters.prompt_files import PromptFiles
    from trading_pipeline.service.models.golden import Examination, Marked
    from trading_pipeline.service.models.prompts import Use

app = typer.Typer(help="See the prompts that models are asked with, try and check them, write new versions.", no_args_is_help=True)

PromptArgument = Annotated[str, typer.Argument(help="A prompt's version, such as analyst/v1.", metavar="PROMPT")]


@command(app, "list")
def list_(call: Invocation) -> None:
    """Every prompt: whose it is, what it asks for, when it was used last."""
    prompts = _prompts(call)
    uses = _uses(call, prompts.names())
    data: list[dict[str, Any]] = []
    rows: list[list[object]] = []
    for name in prompts.names():
        try:
            version = prompts.get(name)
        except PromptError as error:
            data.append({"name": name, "error": error.as_json()})
            rows.append([name, "", "", "", "", error.message])
            continue
        use = uses.get(name)
        changed = use is not None and use.digest != version.digest
        data.append({
            "name": name, "source": version.source, "schema": version.schema, "personas": list(version.personas),
            "variables": list(version.variables), "description": version.description, "digest": version.digest,
            "used": None if use is None else use.at.isoformat(), "changed_since": changed,
        })
        said = "CHANGED since it was used: write a new version instead. " if changed else ""
        used = "" if use is None else new_york(use.at)
        rows.append([name, version.source, version.schema, ", ".join(version.personas), used, f"{said}{version.description}"])
    columns = [
        Column("PROMPT"), Column("SOURCE", spare=1), Column("ASKS FOR"), Column("PERSONAS", spare=3), Column("USED (NEW YORK)", spare=2),
        Column("DESCRIPTION", wrap=True),
    ]
    call.output.answer(data, lambda: call.output.table(columns, rows))


@command(app, "show")
def show(call: Invocation, prompt: PromptArgument) -> None:
    """A prompt's file, word for word."""
    prompts = _prompts(call)
    version, source = prompts.get(prompt), prompts.source(prompt)
    data = {
        "name": version.name, "source": version.source, "path": str(prompts.path(prompt)), "schema": version.schema,
        "personas": list(version.personas), "variables": list(version.variables), "description": version.description,
        "digest": version.digest, "text": source,
    }

    def text() -> None:
        call.output.verbatim(str(prompts.path(prompt)))
        call.output.line(f"{version.source}, digest {version.digest}")
        call.output.line()
        _verbatim(call, source)

    call.output.answer(data, text)


@command(app, "render")
def render(
    call: Invocation, prompt: PromptArgument,
    strategy: Annotated[str, typer.Option("--strategy", help="Whose bars, indicators, limits and masks.")],
    symbol: Annotated[str, typer.Option("--symbol", help="One of its symbols.")],
) -> None:
    """What a model would be told about a symbol's newest bar; nobody is asked."""
    from trading_pipeline.adapters.text_files import TextFiles
    from trading_pipeline.service.models.prompts import preview

    texts = TextFiles(call.home / "texts")
    with call.desk() as desk:
        briefing, rendered = preview(desk, _prompts(call), texts, prompt, strategy, symbol)
    size = len(rendered.system.encode()) + len(rendered.text.encode())
    left_out = texts.left_out(symbol)
    data = {
        "prompt": prompt, "prompt_digest": rendered.prompt.digest, "digest": rendered.digest, "bytes": size, "system": rendered.system,
        "user": rendered.text, "picture": briefing.chart, "left_out": left_out,
    }

    def text() -> None:
        call.output.heading("System")
        _verbatim(call, rendered.system)
        call.output.heading("User")
        _verbatim(call, rendered.text)
        call.output.line()
        call.output.line(f"{size:,} bytes, digest {rendered.digest}", style="dim")

    call.output.answer(data, text)
    for why in left_out:
        call.output.note(f"Left out: {why}.")


@command(app, "check")
def check(
    call: Invocation, prompt: PromptArgument,
    strategy: Annotated[str, typer.Option("--strategy", help="Whose model, sight and indicators.")],
    model: Annotated[str, typer.Option("--model", help="Another model than the strategy's.")] = "",
    provider: Annotated[str, typer.Option("--provider", help="Another provider than the strategy's.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
) -> None:
    """Put the golden set to the model: is every answer one of those that are sane?"""
    from trading_pipeline.service.desk import user_actor
    from trading_pipeline.service.models import golden
    from trading_pipeline.service.models.prompts import examined

    with call.desk() as desk:
        examination = golden.prepare(desk, examined(desk, prompt, strategy, model, provider))
        agent = examination.agent
        asked = f"{agent.model} of {agent.provider} about {len(examination.put)} cases"
        if examination.worst == 0 or yes:
            call.output.note(f"Asking {asked}, for {examination.worst:.4f} USD at most; {examination.recorded} replies are recorded.")
        elif not call.confirm(f"Ask {asked}, for {examination.worst:.4f} USD at most?", yes=False):
            call.output.note("Nobody was asked.")
            raise typer.Exit(1)
        assert desk.models is not None
        with call.output.working(f"Asking {asked}"):
            marked = golden.ask(desk.models, examination)
        outcome = golden.write_down(desk, examination, marked, actor=user_actor()).payload
    call.output.answer(outcome, lambda: _show_marks(call, marked, examination, outcome))
    if not outcome["passed"]:
        raise typer.Exit(1)


def _show_marks(call: Invocation, marked: "list[Marked]", examination: "Examination", outcome: Mapping[str, Any]) -> None:
    from trading_pipeline.domain.golden import accepted
    from trading_pipeline.domain.signals import Abstain

    def said(each: "Marked") -> str:
        decision = each.answer.decision
        return "" if isinstance(decision, Abstain) else f"{decision.action.value.upper()} {decision.confidence:.2f}"

    columns = [Column("CASE"), Column("OUTCOME"), Column("ANSWER"), Column("SANE", spare=1), Column("WHY", wrap=True)]
    rows: list[list[object]] = [
        [
            each.case.name, word("passed" if each.passed else "failed" if each.answered else "unanswered"), said(each), accepted(each.case),
            "; ".join(each.flaws) or each.case.why,
        ]
        for each in marked
    ]
    rows += [[case.name, word("not put"), "", accepted(case), why] for case, why in examination.left_out]
    call.output.table(columns, rows)
    call.output.line()
    good, name = sum(each.passed for each in marked), outcome["strategy"]
    by = ", ".join(outcome["versions"]) or "nobody"
    told = f": {good} of {len(marked)} cases, answered by {by}, for {Decimal(outcome['cost']):.4f} USD."
    call.output.line(word("passed" if outcome["passed"] else "failed"), told)
    if outcome["passed"]:
        call.output.note(f"Where {name} waits for this, it goes on with: trading strategy resume {name}")


@command(app, "diff")
def diff(call: Invocation, before: PromptArgument, after: PromptArgument) -> None:
    """What two versions say differently."""
    prompts = _prompts(call)
    one, other = prompts.source(before).splitlines(), prompts.source(after).splitlines()
    lines = list(difflib.unified_diff(one, other, before, after, lineterm=""))
    styles = {"+": "green", "-": "red", "@": "dim"}

    def text() -> None:
        for line in lines:
            call.output.line(line, style=styles.get(line[:1], ""))
        if not lines:
            call.output.line(f"{before} and {after} say the same.")

    call.output.answer({"before": before, "after": after, "diff": lines}, text)


@command(app, "new")
def new(
    call: Invocation, name: Annotated[str, typer.Argument(help="A prompt's name, without a version.", metavar="NAME")],
    source: Annotated[str, typer.Option("--from", help="The version to begin with; by default its own newest, or analyst/v1.")] = "",
) -> None:
    """Write the next version of a prompt into the home's own folder, to be edited before it is used."""
    prompts = _prompts(call)
    own_name = name.partition("/")[0]
    if name != own_name or not NAME.fullmatch(f"{name}/v1"):
        better = own_name.strip().lower().replace(" ", "-").replace("_", "-")
        raise PromptError(
            f"{name!r} cannot name a prompt.", value=name,
            rule="it has small letters, digits and dashes, begins with a letter, and gets its version by itself",
            remedy=f"write {better}" if NAME.fullmatch(f"{better}/v1") else "choose a name such as my-analyst",
        )
    versions = [int(known.partition("/v")[2]) for known in prompts.names() if known.partition("/")[0] == name]
    version = f"{name}/v{max(versions, default=0) + 1}"
    origin = source or (f"{name}/v{max(versions)}" if versions else "analyst/v1")
    path = prompts.write(version, prompts.source(origin))
    call.output.answer(
        {"name": version, "from": origin, "path": str(path)}, lambda: call.output.line(f"{version} is {origin}, to be edited: {path}")
    )
    call.output.note(f"Try it with: trading prompt render {version} --strategy NAME --symbol SYMBOL")


def _prompts(call: Invocation) -> "PromptFiles":
    from trading_pipeline.adapters.prompt_files import PromptFiles

    return PromptFiles(call.home / "prompts")


def _uses(call: Invocation, names: list[str]) -> "dict[str, Use]":
    """When each was used; nothing where there is no home yet."""
    from trading_pipeline.service.models.prompts import last_uses

    if call.settings().database_url is None and made_at(call.home) is None:
        return {}
    with call.record() as record:
        return last_uses(record.ledger, names)


def _verbatim(call: Invocation, text: str) -> None:
    for line in text.splitlines():
        call.output.verbatim(line)
