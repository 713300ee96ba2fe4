"""`trading replay`: derive a session again from its ledger, and name the first difference.

Not the replay of a market, which is a clock: that one belongs to `trading up` and stands in `replay`.
"""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipeline.errors import InputError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import counted

if TYPE_CHECKING:
    from trading_pipeline.service.record.rederivation import Rederivation


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "replay", panel=panel, reads=True)(replay)


def replay(
    call: Invocation,
    session: Annotated[str, typer.Option("--session", metavar="DATE", help="The session, such as 2012-10-15.")],
    strategy: Annotated[str | None, typer.Option("--strategy", metavar="NAME", help="Only what this strategy decided.")] = None,
) -> None:
    """Derive every verdict, order and state of a session again from the ledger, without a network, and name the first difference."""
    from trading_pipeline.service.record.rederivation import rederive

    day = _day(session)
    with call.record() as record, call.output.working("Deriving the session again"):
        found = rederive(record, day, strategy)
    call.output.answer(found.as_json(), lambda: _tell(call, found))
    if not found.ok:
        raise typer.Exit(1)


def _tell(call: Invocation, found: "Rederivation") -> None:
    total = sum(found.derived.values())
    whose = f" of {found.strategy}" if found.strategy else ""
    made = f"{counted(total, 'decision')}{whose} derived again as stored"
    call.output.line(f"Session {found.session}, events {found.first_seq} to {found.last_seq}: {made}.")
    call.output.pairs({kind: f"{many:,}" for kind, many in found.derived.items()})
    for reason, kinds in found.underivable.items():
        call.output.line(f"Not derivable, {reason}: {', '.join(f'{many:,} {kind}' for kind, many in kinds.items())}.")
    agree = "as stored" if found.head_hash == found.stored_hash else f"stored {found.stored_hash or 'not compared'}"
    call.output.pairs({"state": found.state_hash or None, "tables": f"{found.head_hash} after event {found.head_seq}, {agree}"})
    if found.difference is not None:
        call.output.line(f"{counted(found.differences, 'difference')}. The first: {found.difference}.", style="red")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{text!r} is no date.", value=text, rule="a session is named by its date", remedy="write it as 2012-10-15"
        ) from None
