"""`trading approvals`, `approve`, `reject`: a person decides on exactly what was judged.

What is shown is the proposal as it was hashed, and the hash goes back with the approval; so nobody approves anything else than what
they saw (invariant 45). Of the rules it shows those that failed or were passed only just, and all of them on request. There is no
approval of several at once (T12), and outside the demo none without a terminal: a script is no person (D17).
"""

import re
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.errors import PermissionRequired, StorageError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, countdown, duration, in_new_york, money, new_york, plain, price, word

if TYPE_CHECKING:
    from trading_pipeline.service.desk import Desk

IdArgument = Annotated[str, typer.Argument(help="The proposal's id, or a beginning that only it has.", metavar="ID")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Outside environment demo a terminal is needed all the same.")]
ChecksOption = Annotated[bool, typer.Option("--all-checks", help="Every rule with its numbers, passed or not.")]

CLOSE_CALL = Decimal("0.9")
"""A rule that used at least this share of its limit is shown although it passed."""


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    command(app, "approvals", panel=panel, reads=True)(approvals)
    command(app, "approve", panel=panel)(approve)
    command(app, "reject", panel=panel)(reject)


def approvals(call: Invocation, everything: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False) -> None:
    """Proposals that wait for a person."""
    from trading_pipeline.service import queries

    with call.desk() as desk:
        rows = _timed(call, desk, queries.pending(desk, everything=everything))
    columns = [
        Column("ID"), Column("ORDER"), Column("ABOUT", right=True), Column("CONFIDENCE", right=True, spare=4), Column("STRATEGY", spare=1),
    ]
    if everything:
        columns += [Column("STATE"), Column("ASKED (NEW YORK)", spare=2), Column("BY", spare=3), Column("REASON", wrap=True, spare=5)]
    else:
        columns += [Column("ASKED (NY)", spare=3), Column("TIME LEFT", right=True)]

    def cells(row: dict[str, Any]) -> list[object]:
        shown = row["shown"]
        order = Text.assemble(word(shown["side"]), f" {shown['quantity']:,} {plain(shown['symbol'])}")
        first = [row["short_id"], order, money(shown["estimated_value"]), _confidence(shown), row["strategy"]]
        if everything:
            asked = new_york(row["requested_at"])[:16]
            return [*first, word(row["state"]), asked, row["decided_by"] or "", row["reason"] or ""]
        asked = new_york(row["requested_at"], date=False)
        return [*first, asked, countdown(_left(row)) if row["seconds_left"] > 0 else "over"]

    empty = "There was no proposal yet." if everything else "Nothing waits for a decision."
    call.output.answer(rows, lambda: call.output.table(columns, [cells(row) for row in rows], empty=empty))
    if rows and not everything:
        call.output.note("Look at one and decide: trading approve ID, or trading reject ID")


def approve(call: Invocation, proposal: IdArgument, yes: YesOption = False, all_checks: ChecksOption = False) -> None:
    """Show a proposal and what the rules measured, and approve it."""
    from trading_pipeline.service import approvals as service
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        row, actor = _find(call, desk, proposal), user_actor()
        if row["state"] == "pending" and row["seconds_left"] > 0:
            if not call.output.as_json:
                _show(call, desk, row, all_checks=all_checks)
            if not call.output.attended:
                actor = _script(desk, row)
            if not _agreed(call, row, yes=yes):
                call.output.note("Not approved; it still waits. Reject it with: trading reject ", row["short_id"])
                raise typer.Exit(1)
        event = service.approve(desk, row["action_id"], actor=actor, shown_hash=row["hash"])
    release, over = event.payload["not_before"], event.payload["expires_at"]
    sent = f"It may be sent from {new_york(release, date=False)} until {new_york(over, date=False)} New York"
    call.output.answer(
        {
            "action_id": row["action_id"], "state": "approved", "seq": event.seq, "actor": event.actor, "hash": row["hash"],
            "not_before": release, "expires_at": over,
        },
        lambda: call.output.line(Text("Approved", "green"), f" by {event.actor}. {sent}, and every rule is judged again then."),
    )
    call.output.note(f"`trading up` sends it; without it, `trading run` does. What became of it: trading why {row['short_id']}")


def _script(desk: "Desk", row: dict[str, Any]) -> str:
    """Who approves where nobody is at a terminal: the demo's person in the demo, elsewhere nobody."""
    from trading_pipeline.service.approvals import DEMO_PERSON

    if desk.environment == "demo":
        return DEMO_PERSON
    raise PermissionRequired(
        f"Nobody at a terminal approves {row['short_id']}.", value="no terminal",
        rule="a person approves at a terminal, as the user that the operating system names; scripts approve in environment demo only (D17)",
        remedy=f"run `trading approve {row['short_id']}` at a terminal, or reject it; nothing was decided",
    )


def _agreed(call: Invocation, row: dict[str, Any], *, yes: bool) -> bool:
    order = row["shown"]
    told = f"{word(order['side'])} {order['quantity']:,} {order['symbol']} for {row['strategy']}, about {money(order['estimated_value'])}."
    try:
        # With --json the proposal itself has not been shown.
        return call.confirm("Approve exactly this?", yes=yes, about=[told] if call.output.as_json else [])
    except KeyboardInterrupt:
        call.output.note()
        call.output.note("Nothing was decided; the proposal still waits.")
        raise


def reject(
    call: Invocation, proposal: IdArgument, reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")] = "",
) -> None:
    """Reject a proposal."""
    from trading_pipeline.service import approvals as service
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        row = _find(call, desk, proposal)
        event = service.reject(desk, row["action_id"], actor=user_actor(), reason=reason)
    shown = row["shown"]
    order = f"{shown['side'].upper()} {shown['quantity']:,} {shown['symbol']}"
    call.output.answer(
        {"action_id": row["action_id"], "state": "rejected", "seq": event.seq, "actor": event.actor, "reason": reason},
        lambda: call.output.line(f"Rejected by {event.actor}: {order} is not sent."),
    )


def _find(call: Invocation, desk: "Desk", proposal: str) -> dict[str, Any]:
    from trading_pipeline.service import approvals as service
    from trading_pipeline.service import queries

    name = service.find(desk.ledger, proposal)["action_id"]
    return next(row for row in _timed(call, desk, queries.pending(desk, everything=True)) if row["action_id"] == name)


def _timed(call: Invocation, desk: "Desk", rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the real time left as well: None where market time says it."""
    from trading_pipeline.adapters.clocks import real_seconds_left

    patience = call.settings().market.decision_seconds
    return [
        row | {"real_seconds_left": real_seconds_left(desk.clock, datetime.fromisoformat(row["expires_at"]), patience)} for row in rows
    ]


def _left(row: dict[str, Any]) -> float:
    """Seconds that the person has; a replay's clock runs otherwise than theirs."""
    real: float | None = row["real_seconds_left"]
    return real if real is not None else float(row["seconds_left"])


def _show(call: Invocation, desk: "Desk", row: dict[str, Any], *, all_checks: bool) -> None:
    """The proposal as it was judged, what would be sent first."""
    out, shown = call.output, row["shown"]
    out.line(
        word(shown["side"]), Text(f" {shown['quantity']:,} {plain(shown['symbol'])}", "bold"),
        f"  about {money(shown['estimated_value'])}  for {shown['strategy']}  in {shown['environment']} account {shown['account']}",
    )
    kinds = {"E": "entry", "X": "exit", "P": "protective"}
    of = " of real time" if row["real_seconds_left"] is not None else ""
    label = f"{shown['label']}, " if shown["label"] else ""
    out.pairs({
        "order": f"{kinds[shown['order_class']]}, {shown['order_type']}, {shown['time_in_force']}, regular hours only",
        "price": f"{price(shown['reference'])} when judged{_limit(shown)}",
        "void outside": f"{price(shown['price_low'])} to {price(shown['price_high'])}, looked at when it is sent{_unbanded(shown)}",
        "protection": "; ".join(_bracket(each) for each in shown["brackets"]) or None,
        "worst loss": _worst_loss(shown),
        "model text": Text(f"{label}confidence {_confidence(shown)}: “{plain(shown['rationale'])}”", "italic"),
        "figures": Text("; ".join(map(plain, shown["flags"])), "yellow") if shown.get("flags") else None,
        "model would like": _hints(shown.get("hints")),
        "bar closed": f"{new_york(shown['bar_end'])} New York",
        "risk checks": f"{_passed(shown['verdicts'])}; limits version {shown['limits_version']}",
        "to decide": f"{duration(_left(row))}{of} left, until {new_york(row['expires_at'], date=False)}",
        "proposal": row["action_id"],
    })
    chart = _chart(desk, shown["chart"])
    if chart is not None:
        out.line("  chart", style="dim")
        out.verbatim(chart)
    verdicts = [verdict for verdict in shown["verdicts"] if all_checks or _matters(verdict)]
    if verdicts:
        out.heading("Every risk check" if all_checks else "Risk checks that failed or came close; all with --all-checks")
        out.table(
            [Column("RULE"), Column("VERDICT"), *(Column(title, wrap=True) for title in ("MEASURED", "LIMIT", "DETAIL"))],
            [
                [v["rule"].replace("_", " "), word(v["outcome"]), *(in_new_york(v[name]) for name in ("measured", "limit", "detail"))]
                for v in verdicts
            ],
        )


def _hints(hints: dict[str, Any] | None) -> str | None:
    """Prices the model named, which nothing is sent by."""
    if hints is None:
        return None
    named = [f"{name} {price(hints[name])}" for name in ("limit", "stop") if hints[name] is not None]
    named += [f"targets {', '.join(price(target) for target in hints['targets'])}"] if hints["targets"] else []
    return f"{', '.join(named)}; not what is sent"


def _matters(verdict: dict[str, Any]) -> bool:
    """Whether a rule failed, was set aside, or has little left of its limit."""
    if verdict["outcome"] not in ("allow", "not_applicable"):
        return True
    measured, limit = _QUANTITY.fullmatch(verdict["measured"]), _QUANTITY.fullmatch(verdict["limit"].removeprefix("below "))
    if verdict["outcome"] != "allow" or measured is None or limit is None or (measured[1], measured[3]) != (limit[1], limit[3]):
        return False
    used, most = (Decimal(each[2].replace(",", "")) for each in (measured, limit))
    # What lies above its limit and passed is measured against a least, not a most.
    return CLOSE_CALL * most <= used <= most and used > 0


_QUANTITY = re.compile(r"(\$?)([\d,]+(?:\.\d+)?)(%| s| shares)?")


def _passed(verdicts: list[dict[str, Any]]) -> str:
    """`43 rules, none against, 4 do not apply`."""
    against = [v["rule"].replace("_", " ") for v in verdicts if v["outcome"] in ("deny", "halt")]
    idle = sum(1 for v in verdicts if v["outcome"] == "not_applicable")
    return f"{len(verdicts)} rules, {', '.join(against) or 'none'} against" + (f", {idle} do not apply" if idle else "")


def _confidence(shown: dict[str, Any]) -> str:
    return f"{Decimal(shown['confidence']):.2f}" if shown["confidence"] is not None else "unknown"


def _bracket(bracket: dict[str, Any]) -> str:
    target = f", target {price(bracket['target'])}" if bracket["target"] else ""
    return f"{bracket['quantity']:,} shares: stop {price(bracket['stop'])}{target}"


def _limit(shown: dict[str, Any]) -> str:
    """`, no worse than $558.76, 3.95 % above`; empty without a limit."""
    if not shown["limit_price"]:
        return ""
    reference, limit = Decimal(shown["reference"]), Decimal(shown["limit_price"])
    return f", no worse than {price(limit)}, {abs(limit / reference - 1) * 100:.2f} % {'above' if limit >= reference else 'below'}"


def _unbanded(shown: dict[str, Any]) -> str:
    """What still bounds the fill once the order is out of the band's reach."""
    return "; what it fills at after that is bounded by “no worse than” alone" if shown["limit_price"] else "; after that nothing bounds it"


def _worst_loss(shown: dict[str, Any]) -> str | None:
    """`$163.80 at the stop from the worst price, $61.20 from the price shown`; None for what is no entry."""
    if shown["order_class"] != "E":
        return None
    brackets = shown["brackets"]
    if sum(each["quantity"] for each in brackets) < shown["quantity"]:
        whole = shown["quantity"] * Decimal(shown["limit_price"] or shown["reference"])
        return f"all of it, {money(whole)}: not every share has a stop"

    def at_the_stop(bought: str) -> str:
        return money(sum((each["quantity"] * (Decimal(bought) - Decimal(each["stop"])) for each in brackets), Decimal(0)))

    worst = f"{at_the_stop(shown['limit_price'])} from the worst price, " if shown["limit_price"] else ""
    return f"at the stop {worst}{at_the_stop(shown['reference'])} from the price shown, before costs; more if the price jumps over the stop"


def _chart(desk: "Desk", digest: str | None) -> str | None:
    if not digest:
        return None
    try:
        return desk.objects.locate(digest)
    except StorageError:
        return f"{digest[:12]}, which is gone"
