"""`trading approvals`, `approve`, `reject`: a person decides on exactly what was judged.

What is shown is the proposal as it was hashed, and the hash goes back with the approval; so nobody approves anything else than what
they saw (invariant 45). There is no approval of several at once (T12).
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.errors import StorageError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, duration, money, new_york, plain, price, word

if TYPE_CHECKING:
    from trading_pipeline.service.desk import Desk

IdArgument = Annotated[str, typer.Argument(help="The proposal's id, or a beginning that only it has.", metavar="ID")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    command(app, "approvals", panel=panel)(approvals)
    command(app, "approve", panel=panel)(approve)
    command(app, "reject", panel=panel)(reject)


def approvals(call: Invocation, everything: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False) -> None:
    """Proposals that wait for a person."""
    from trading_pipeline.service import queries

    with call.desk() as desk:
        rows = queries.pending(desk, everything=everything)
    columns = [
        Column("ID"), Column("STRATEGY"), Column("ORDER"), Column("ABOUT", right=True), Column("CONFIDENCE", right=True), Column("STATE"),
        Column("ASKED (NEW YORK)"), Column("TIME LEFT", right=True),
    ]
    if everything:
        columns += [Column("BY"), Column("REASON", wrap=True)]

    def cells(row: dict[str, Any]) -> list[object]:
        shown = row["shown"]
        order = Text.assemble(word(shown["side"]), f" {shown['quantity']:,} {plain(shown['symbol'])}")
        decided = [row["decided_by"] or "", row["reason"] or ""] if everything else []
        return [
            row["action_id"], row["strategy"], order, money(shown["estimated_value"]), _confidence(shown), word(row["state"]),
            new_york(row["requested_at"]), _time_left(row), *decided,
        ]

    empty = "There was no proposal yet." if everything else "Nothing waits for a decision."
    call.output.answer(rows, lambda: call.output.table(columns, [cells(row) for row in rows], empty=empty))
    if rows and not everything:
        call.output.note("Look at one and decide: trading approve ID, or trading reject ID")


def approve(call: Invocation, proposal: IdArgument, yes: YesOption = False) -> None:
    """Show a proposal with every risk check, and approve it."""
    from trading_pipeline.service import approvals as service
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        row = _find(desk, proposal)
        if row["state"] == "pending" and row["seconds_left"] > 0:
            if not call.output.as_json:
                _show(call, desk, row)
            if not call.confirm("Approve exactly this?", yes=yes):
                call.output.note("Not approved; it still waits. Reject it with: trading reject ", row["action_id"])
                raise typer.Exit(1)
        event = service.approve(desk, row["action_id"], actor=user_actor(), shown_hash=row["hash"])
    release, over = event.payload["not_before"], event.payload["expires_at"]
    sent = f"It may be sent from {new_york(release, date=False)} until {new_york(over, date=False)} New York"
    call.output.answer(
        {
            "action_id": row["action_id"], "state": "approved", "seq": event.seq, "actor": event.actor, "hash": row["hash"],
            "not_before": release, "expires_at": over,
        },
        lambda: call.output.line(Text("Approved", "green"), f" by {event.actor}. {sent}, and every rule is judged again then."),
    )
    call.output.note(f"`trading up` sends it; without it, `trading run` does. What became of it: trading why {row['action_id']}")


def reject(
    call: Invocation, proposal: IdArgument, reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")] = "",
) -> None:
    """Reject a proposal."""
    from trading_pipeline.service import approvals as service
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        row = _find(desk, proposal)
        event = service.reject(desk, row["action_id"], actor=user_actor(), reason=reason)
    shown = row["shown"]
    order = f"{shown['side'].upper()} {shown['quantity']:,} {shown['symbol']}"
    call.output.answer(
        {"action_id": row["action_id"], "state": "rejected", "seq": event.seq, "actor": event.actor, "reason": reason},
        lambda: call.output.line(f"Rejected by {event.actor}: {order} is not sent."),
    )


def _find(desk: "Desk", proposal: str) -> dict[str, Any]:
    from trading_pipeline.service import approvals as service
    from trading_pipeline.service import queries

    name = service.find(desk.ledger, proposal)["action_id"]
    return next(row for row in queries.pending(desk, everything=True) if row["action_id"] == name)


def _time_left(row: dict[str, Any]) -> str:
    if row["state"] != "pending":
        return ""
    return duration(row["seconds_left"]) if row["seconds_left"] > 0 else "over"


def _show(call: Invocation, desk: "Desk", row: dict[str, Any]) -> None:
    """The proposal as it was judged; what would be sent stands last, beside the question."""
    out, shown = call.output, row["shown"]
    out.line(Text("Risk checks", "bold"))
    out.table(
        [Column("RULE"), Column("VERDICT"), Column("MEASURED", wrap=True), Column("LIMIT", wrap=True), Column("DETAIL", wrap=True)],
        [[v["rule"].replace("_", " "), word(v["outcome"]), v["measured"], v["limit"], v["detail"]] for v in shown["verdicts"]],
    )
    out.heading("Model text")
    label = f"{shown['label']}, " if shown["label"] else ""
    out.line(f"  {label}confidence {_confidence(shown)}: “{shown['rationale']}”", style="italic")
    out.heading(f"Proposal {row['action_id']}")
    left = f"{duration(row['seconds_left'])} left, until {new_york(row['expires_at'], date=False)} New York"
    out.line(
        word(shown["side"]), Text(f" {shown['quantity']:,} {plain(shown['symbol'])}", "bold"),
        f"  about {money(shown['estimated_value'])}  for {shown['strategy']}  in {shown['environment']} account {shown['account']}",
    )
    kinds = {"E": "entry", "X": "exit", "P": "protective"}
    limit = f", no worse than {price(shown['limit_price'])}" if shown["limit_price"] else ""
    out.pairs({
        "order": f"{kinds[shown['order_class']]}, {shown['order_type']}, {shown['time_in_force']}, regular hours only",
        "price": f"{price(shown['reference'])} when judged{limit}",
        "void outside": f"{price(shown['price_low'])} to {price(shown['price_high'])}",
        "protection": "; ".join(_bracket(each) for each in shown["brackets"]) or None,
        "bar closed": f"{new_york(shown['bar_end'])} New York",
        "limits": f"version {shown['limits_version']}, as measured above",
        "chart": _chart(desk, shown["chart"]),
        "risk checks": _passed(shown["verdicts"]),
        "to decide": left,
    })


def _passed(verdicts: list[dict[str, Any]]) -> str:
    """`43 rules, none against; 4 of them do not apply`."""
    against = [v["rule"].replace("_", " ") for v in verdicts if v["outcome"] in ("deny", "halt")]
    idle = sum(1 for v in verdicts if v["outcome"] == "not_applicable")
    return f"{len(verdicts)} rules, {', '.join(against) or 'none'} against" + (f"; {idle} do not apply" if idle else "")


def _confidence(shown: dict[str, Any]) -> str:
    return f"{Decimal(shown['confidence']):.2f}" if shown["confidence"] is not None else "unknown"


def _bracket(bracket: dict[str, Any]) -> str:
    target = f", target {price(bracket['target'])}" if bracket["target"] else ""
    return f"{bracket['quantity']:,} shares: stop {price(bracket['stop'])}{target}"


def _chart(desk: "Desk", digest: str | None) -> str | None:
    if not digest:
        return None
    try:
        return desk.objects.locate(digest)
    except StorageError:
        return f"{digest[:12]}, which is gone"
