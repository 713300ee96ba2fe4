"""`trading costs`: what models cost, what is left of the budgets, and what triggers and recorded replies saved."""

from decimal import ROUND_UP, Decimal
from typing import Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.domain.models import CostsBy
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, counted

DaysOption = Annotated[
    int | None,
    typer.Option("--days", min=1, max=3_660, help="The last so many days of New York, today among them; 1, of a stored backtest all."),
]
ByOption = Annotated[CostsBy, typer.Option("--by", help="What costs are summed up by.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "costs", panel=panel, reads=True)(costs)


def costs(call: Invocation, days: DaysOption = None, by: ByOption = CostsBy.STRATEGY) -> None:
    """What models cost: today's budget, and the last days by strategy, provider, model or prompt."""
    from trading_pipeline.service.models import costs as service

    with call.desk() as desk:
        data = service.costs(desk, days if days is not None or call.backtest is not None else 1, by)
    call.output.answer(data, lambda: _show(call, data))


def _show(call: Invocation, data: dict[str, Any]) -> None:
    out, by = call.output, data["by"]
    if call.backtest is None:
        _show_today(call, data["today"])
    out.heading(data["to"] if data["from"] == data["to"] else f"{data['from']} to {data['to']}")
    columns = [
        Column(by.upper()), *(Column(title, right=True) for title in ("SPENT", "RESERVED", "ASKED", "CALLS")),
        *(Column(title, right=True, spare=spare) for spare, title in enumerate(("TOKENS IN", "OUT", "RECORDED", "FAILED", "LOST"), 1)),
        Column("SKIPPED", wrap=True),
    ]
    rows = [[group[by], *_cells(group)] for group in data["groups"]]
    if len(rows) > 1:
        rows.append(["in all", *_cells(data["total"])])
    out.table(columns, rows, empty="No model was asked.")
    saved = data["total"]["saved_by_trigger"]
    if saved["questions"]:
        worth = "" if saved["usd"] is None else f", {fine(saved['usd'])} {saved['how']}"
        out.line(f"Triggers saved {counted(saved['questions'], 'question')}{worth}.")
    if replayed := data["total"]["replayed"]:
        out.line(f"{replayed:,} of the replies came from the cassette and cost nothing.")


def _show_today(call: Invocation, now: dict[str, Any]) -> None:
    out, spent = call.output, Decimal(now["left"]) == 0
    out.line(Text(f"Today, {now['day']} in New York: {told_budget(now)}", "bold red" if spent else ""))
    out.line(f"{counted(now['calls_last_hour'], 'call')} made or open within 60 minutes, of at most {now['calls_per_hour']}.")
    for each in now["providers"]:
        out.line(f"{each['provider']}: {fine(each['committed'])} spent or reserved of {fine(each['budget'])}.")


def told_budget(now: dict[str, Any]) -> str:
    """`$0.36 of $5.00 spent, $0.10 reserved, $4.54 left`."""
    reserved = f", {fine(now['reserved'])} reserved" if Decimal(now["reserved"]) else ""
    return f"{fine(now['spent'])} of {fine(now['budget'])} spent{reserved}, {fine(now['left'])} left"


def fine(amount: str | Decimal) -> str:
    """USD in cents, and below a dollar in hundredths of a cent, rounded up: a call costs less than a cent, and that is not nothing."""
    value = Decimal(amount)
    small = 0 < value < 1 and value != value.quantize(Decimal("0.01"))
    return f"${value.quantize(Decimal('0.0001' if small else '0.01'), ROUND_UP):,f}"


def _cells(group: dict[str, Any]) -> list[str]:
    skipped = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(group["skipped"].items()))
    counts = [f"{group[name]:,}" for name in ("questions", "calls", "tokens_in", "tokens_out", "replayed", "failed", "lost")]
    return [fine(group["spent"]), fine(group["reserved"]), *counts, skipped]
