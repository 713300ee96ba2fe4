"""`trading cassette ...`: the recorded replies of models counted, taken along, brought in and thrown away."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipeline.errors import InputError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, counted, money

if TYPE_CHECKING:
    from trading_pipeline.adapters.llm.cassette_exchange import Refused
    from trading_pipeline.adapters.llm.cassette_store import CassetteStore, Tally

app = typer.Typer(help="What models replied, recorded: count, export, import, prune.", no_args_is_help=True)

SHOWN_LINES = 20
"""Refused lines that are shown to people; --json has them all."""


@command(app, "stats")
def stats(call: Invocation) -> None:
    """What is recorded, by provider, model and month, and what replaying it saved."""
    from trading_pipeline.adapters.prices import load_prices

    settings = call.settings()
    call.say_home()
    store = _store(call)
    prices = load_prices(settings.home, settings.model.claude_code.max_cost_per_call)
    with call.output.working("Reading the cassette"):
        tallies, size = store.tallies(prices.cost), store.size()
    mode = settings.model.cassette.value
    data = {
        "path": str(store.path), "bytes": size, "mode": mode, "recordings": sum(tally.recordings for tally in tallies),
        "saved": str(sum((tally.saved for tally in tallies), Decimal(0))),
        "models": [asdict(tally) | {"cost": str(tally.cost), "saved": str(tally.saved)} for tally in tallies],
    }
    call.output.answer(data, lambda: _show_stats(call, tallies, size, mode))


def _show_stats(call: Invocation, tallies: "list[Tally]", size: int, mode: str) -> None:
    out = call.output
    out.table(
        [
            Column("PROVIDER", spare=1), Column("MODEL"), Column("MONTH (NEW YORK)"), Column("RECORDINGS", right=True),
            Column("COST", right=True, spare=2), Column("REPLAYS", right=True), Column("SAVED", right=True),
        ],
        [
            [
                tally.provider.value, tally.model, tally.month, f"{tally.recordings:,}", money(tally.cost), f"{tally.replays:,}",
                money(tally.saved),
            ]
            for tally in tallies
        ],
        empty=f"Nothing is recorded yet. Replies are kept as they come, in every mode but live; this home's is {mode}.",
    )
    if tallies:
        many, saved = sum(tally.recordings for tally in tallies), sum((tally.saved for tally in tallies), Decimal(0))
        out.line(f"{counted(many, 'recording')}, {size / 1e6:,.1f} MB; replaying saved {money(saved)}. Mode: {mode}.")
    if unpriced := sum(tally.unpriced for tally in tallies):
        out.note(f"{counted(unpriced, 'recording')} left out of the money: the price is not known.")


@command(app, "export")
def export(
    call: Invocation,
    file: Annotated[Path, typer.Argument(help="JSON lines, made anew.", metavar="FILE", dir_okay=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file that is there.")] = False,
) -> None:
    """Write every recording to a file: the question, the reply, and what shows that they are whole. It tells of your positions."""
    from trading_pipeline.adapters.llm.cassette_exchange import export_recordings

    call.say_home()
    if not file.absolute().parent.is_dir():
        raise InputError(
            f"There is no folder {file.parent}.", value=str(file.parent), rule="an export is written into a folder that is there",
            remedy="make the folder, or correct the path",
        )
    if file.exists() and not replace:
        raise InputError(f"There is {file} already.", value=str(file), rule="an export writes over nothing", remedy="add --replace")
    store = _store(call)
    with call.output.progress("Exporting", store.count()) as step:
        many = export_recordings(store, file, step)
    call.output.answer(
        {"file": str(file), "recordings": many}, lambda: call.output.line(f"{counted(many, 'recording')} exported to {file}.")
    )


@command(app, "import")
def import_(
    call: Invocation,
    file: Annotated[Path, typer.Argument(help="As `trading cassette export` writes it.", metavar="FILE", dir_okay=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Also where another reply to the same request is recorded.")] = False,
) -> None:
    """Bring in recordings of another home: all lines of a file, or none."""
    from trading_pipeline.adapters.llm.cassette_exchange import check_recordings, import_recordings
    from trading_pipeline.adapters.llm.cassette_store import Taken

    call.say_home()
    if not file.exists():
        raise InputError(
            f"There is no file {file}.", value=str(file), rule="an import reads what `trading cassette export` wrote",
            remedy=f"correct the path, or run `trading cassette export {file.name}` in the home that has the recordings",
        )
    with call.output.working(f"Checking {file}"):
        checked = check_recordings(file)
    if checked.refused:
        call.output.answer(
            {"file": str(file), "refused": [asdict(each) for each in checked.refused]}, lambda: _show_refused(call, checked.refused)
        )
        first = checked.refused[0]
        lines = counted(len(checked.refused), "line")
        raise InputError(
            f"Nothing was imported: {lines} of {file} refused. Line {first.line}: {first.why}", value=f"line {first.line}",
            rule="every line is a recording as it was exported", remedy="export it again where it comes from, or take those lines out",
        )
    with call.output.progress("Importing", checked.recordings) as step:
        outcome = import_recordings(_store(call), file, replace=replace, step=step)
    data: dict[str, object] = {"file": str(file), "refused": []} | {each.value: outcome[each] for each in Taken}

    def text() -> None:
        call.output.line(f"{counted(outcome[Taken.ADDED], 'recording')} added, {outcome[Taken.UNCHANGED]:,} there already.")
        if outcome[Taken.REPLACED]:
            call.output.line(f"{counted(outcome[Taken.REPLACED], 'recording')} replaced.")
        if outcome[Taken.LEFT]:
            call.output.line(f"{counted(outcome[Taken.LEFT], 'request')} with another reply here: left as they are.")
            call.output.note("Take the imported ones with --replace.")

    call.output.answer(data, text)


def _show_refused(call: Invocation, refused: "tuple[Refused, ...]") -> None:
    rows = [[each.line, each.why] for each in refused[:SHOWN_LINES]]
    call.output.table([Column("LINE", right=True), Column("REFUSED BECAUSE", wrap=True)], rows)
    if len(refused) > SHOWN_LINES:
        call.output.line(f"and {counted(len(refused) - SHOWN_LINES, 'more line')}; --json names them all")


@command(app, "prune")
def prune(
    call: Invocation,
    older_than: Annotated[int | None, typer.Option("--older-than", min=0, max=36_500, metavar="DAYS", help="Recorded so long ago.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Asked of this model.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete recordings for good; with both options those that meet both."""
    if older_than is None and model is None:
        raise InputError(
            "Which recordings?", value="", rule="what is deleted is named", remedy="add --older-than DAYS, --model MODEL or both",
        )
    call.say_home()
    store = _store(call)
    before = None if older_than is None else datetime.now(UTC) - timedelta(days=older_than)
    many = store.count(before=before, model=model)
    if many and not call.confirm(f"Delete {counted(many, 'recording')}? What they answered is paid for again, or not answered.", yes=yes):
        call.output.note("Nothing was changed.")
        raise typer.Exit(1)
    gone = 0
    if many:
        with call.output.progress("Deleting", many) as step:
            for some in store.prune(before=before, model=model):
                gone += some
                for _ in range(some):
                    step()
    call.output.answer({"deleted": gone}, lambda: call.output.line(f"{counted(gone, 'recording')} deleted."))


def _store(call: Invocation) -> "CassetteStore":
    from trading_pipeline.adapters.llm.cassette_store import CassetteStore
    from trading_pipeline.ports import Home

    return CassetteStore(Home(call.home).cassette)
