"""`trading events`, `why`, `verify`, `rebuild`: reading the record, and checking it."""

import difflib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipeline.errors import InputError, LedgerCorrupt, UnknownName
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Journal

if TYPE_CHECKING:
    from trading_pipeline.domain.events import Event, EventType
    from trading_pipeline.ports import Reader
    from trading_pipeline.service.record.tracing import Cause

POLL_SECONDS = 0.5


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    command(app, "events", panel=panel, reads=True)(events)
    command(app, "why", panel=panel, reads=True)(why)
    command(app, "verify", panel=panel, reads=True)(verify)
    command(app, "rebuild", panel=panel)(rebuild)


def events(
    call: Invocation,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as facts come, until Ctrl-C.")] = False,
    types: Annotated[list[str] | None, typer.Option("--type", "-t", help="Only this type, such as order.filled; may be repeated.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only this stream: market, account, system, strategy:NAME.")] = None,
    after: Annotated[int | None, typer.Option("--after", min=0, metavar="SEQ", help="From the first event after this seq on.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many; by default the newest 50.")] = None,
) -> None:
    """Facts of the ledger, oldest first; with --json one object a line."""
    wanted = _types(types or [])
    journal = Journal(call.output)
    with call.desk() as desk:
        reader = desk.ledger
        if after is None:
            found = _newest(reader, wanted, stream, limit or 50)
            seen = max(reader.head()[0] if not found else found[-1].seq, 0)
        else:
            found = reader.events(after=after, types=wanted, stream=stream, limit=limit)
            seen = found[-1].seq if found else after
        for event in found:
            _write(call, journal, event)
        if not found and not follow and not call.output.as_json:
            call.output.line("No such event.")
        while follow:
            for event in reader.events(after=seen, types=wanted, stream=stream, limit=500):
                _write(call, journal, event)
                seen = event.seq
            time.sleep(POLL_SECONDS)


def why(
    call: Invocation,
    ident: Annotated[str, typer.Argument(metavar="ORDER|FILL|ACTION|SEQ", help="Its id, or a beginning that only it has.")],
) -> None:
    """The walk from the bar to a fill, an order or a proposal, and on to what became of it."""
    from trading_pipeline.service.record import tracing

    with call.desk() as desk:
        causes = tracing.why(desk, ident)
    call.output.answer(
        [{"seq": c.seq, "type": c.type, "at": c.at, "booked_at": c.booked_at, "actor": c.actor, "says": c.says} for c in causes],
        lambda: _tell(Journal(call.output), causes),
    )


def _tell(journal: Journal, causes: "list[Cause]") -> None:
    for cause in causes:
        journal.write(cause.seq, cause.at, cause.type, cause.says, cause.actor, cause.booked_at)


def verify(
    call: Invocation,
    invariants: Annotated[
        bool, typer.Option("--invariants", help="Hold what the events say against the invariants, by an oracle that shares no code.")
    ] = False,
    first: Annotated[int | None, typer.Option("--from", min=1, metavar="SEQ", help="With --invariants: the first event judged.")] = None,
    last: Annotated[int | None, typer.Option("--to", min=1, metavar="SEQ", help="With --invariants: the last event judged.")] = None,
) -> None:
    """Recompute the hash chain and every table and hold the chain against its anchors; name the first difference."""
    if invariants:
        _judge(call, first or 1, last)
        return
    if first is not None or last is not None:
        raise InputError(
            "The whole chain is verified, or nothing is.", value=first or last, rule="--from and --to choose what --invariants judges",
            remedy="add --invariants, or leave them out",
        )
    from trading_pipeline.service.record.verification import verify as check

    with call.desk() as desk, call.output.working("Verifying the ledger"):
        anchors = [(anchor.seq, anchor.hash) for anchor in desk.anchors.all()]
        report = check(desk.ledger, anchors)

    def text() -> None:
        found = report.difference
        if found is None:
            call.output.line(f"Verified: {report.events:,} events and {report.rows:,} rows of the {report.environment} ledger agree.")
        call.output.pairs({"head": f"{report.head_seq} {report.head_hash}", "anchors": f"{len(anchors):,}"})

    call.output.answer(report.as_json() | {"anchors": len(anchors)}, text)
    if report.difference is not None:
        raise LedgerCorrupt(
            f"The ledger does not verify: {report.difference}.", value=report.difference.seq, rule=report.difference.rule,
            remedy="a table alone is mended by `trading rebuild`; events are not: restore a backup",
        )


def _judge(call: Invocation, first: int, last: int | None) -> None:
    from trading_pipeline.service.record.judgement import judge

    with call.desk() as desk, call.output.working("Judging the events"):
        newest = desk.ledger.head()[0]
        if first > newest:
            raise UnknownName(
                f"There is no event {first}.", value=first, rule=f"the ledger goes up to {newest}", remedy="begin with an earlier one"
            )
        found = judge(desk.ledger, first, last)

    def text() -> None:
        for violation in found.violations:
            call.output.line(str(violation))
        unseen = f"; nothing in them concerned {', '.join(map(str, found.unseen))}" if found.unseen else ""
        verdict = "Kept" if found.ok else f"{len(found.violations):,} violations"
        call.output.line(
            f"{verdict}: {found.events:,} events from {found.first} to {found.last}, {len(found.looked)} invariants, "
            f"{sum(found.looked.values()):,} checks{unseen}."
        )

    call.output.answer(found.as_json(), text)
    if not found.ok:
        raise typer.Exit(1)


def rebuild(call: Invocation, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Write every table anew from the events."""
    with call.desk() as desk:
        if not call.confirm("Write every table anew from the events? Writers wait meanwhile.", yes=yes):
            call.output.note("Nothing was changed.")
            raise typer.Exit(1)
        with call.output.working("Rebuilding the tables"):
            folded = desk.ledger.rebuild()
    call.output.answer({"events": folded}, lambda: call.output.line(f"The tables are rebuilt from {folded:,} events."))


def _newest(reader: "Reader", types: Sequence["EventType"], stream: str | None, count: int) -> list["Event"]:
    """The last `count` events that fit, found by looking back in growing windows."""
    head = reader.head()[0]
    window = count
    while True:
        after = max(0, head - window)
        found = reader.events(after=after, types=types, stream=stream)
        if len(found) >= count or after == 0:
            return found[-count:]
        window *= 8


def _types(names: list[str]) -> tuple["EventType", ...]:
    from trading_pipeline.domain.events import EventType

    known = {each.value: each for each in EventType}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise UnknownName(
                f"There is no event type {name!r}.", value=name, rule="event types have fixed names",
                remedy=f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(known)}",
            )
    return tuple(known[name] for name in names)


def _write(call: Invocation, journal: Journal, event: "Event") -> None:
    if call.output.as_json:
        from trading_pipeline.service.record.judgement import exported

        call.output.json(exported(event), compact=True)
        return
    from trading_pipeline.domain.lineage import happened_at, sentence

    kind, _, name = event.stream.partition(":")
    says = sentence(event)
    journal.write(
        event.seq, happened_at(event), event.type.value, says if kind != "strategy" or says.startswith(name) else f"{name}: {says}",
        booked=event.at,
    )
