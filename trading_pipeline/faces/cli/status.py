"""`trading status`: the market, the account, the strategies, and what waits, on one page."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import typer
from rich.text import Text

from trading_pipeline.faces.cli.costs import told_budget
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.limits import UNCONFIRMED
from trading_pipeline.faces.cli.output import Column, counted, gain, in_new_york, money, new_york, price, word


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "status", panel=panel, reads=True)(status)


def status(call: Invocation) -> None:
    """Market, account, strategies, positions, and what waits for you."""
    from trading_pipeline.service import queries
    from trading_pipeline.service.account_limits import standing
    from trading_pipeline.service.stopping.stop_review import stops
    from trading_pipeline.service.watchdog import open_alarms

    with call.desk() as desk:
        data = queries.status(desk) | {"unconfirmed_limits": standing(desk, desk.ledger).unconfirmed, "alarms": open_alarms(desk)}
        if data["environment"] == "backtest":
            data["workflow"] = None
        data["stops"] = [{"strategy": each.strategy, "by": each.actor, "reason": each.reason, "at": _iso(each.at)} for each in stops(desk)]
    call.output.answer(data, lambda: _show(call, data))


def _show(call: Invocation, data: dict[str, Any]) -> None:
    out = call.output
    for stop in data["stops"]:
        if stop["strategy"] is None:
            told = f"  the account since {new_york(stop['at'])}, by {stop['by']}: {stop['reason']}. See: trading stop review"
            out.line(Text(" EMERGENCY STOP ", "bold white on red"), Text(in_new_york(told), "bold red"))
    replay = data["market"] == "REPLAY"
    if replay:
        out.line(Text(" REPLAY ", "bold black on yellow"), Text("  the market clock replays history; nothing here is live", "yellow"))
    history = data["environment"] == "backtest"
    if history:
        out.line(Text(" BACKTEST ", "bold black on cyan"), Text("  as far as it is stored; nothing here is live", "cyan"))
    out.line(_market(data))
    booked = Decimal(data["cash"]) != 0 or Decimal(data["equity"]) != 0
    pnl = Text.assemble("  today ", gain(data["day_pnl"]), "  open ", gain(data["unrealised"]))
    activity = f"{counted(data['trades_today'], 'fill')}, {counted(data['open_orders'], 'open order')}"
    out.pairs({
        "home": call.home, "environment": data["environment"], "bars from": data["source"],
        "pipeline": None if history else told_workflow(data["workflow"]),
        "next cycle": None if history else _next(data),
        "equity": Text.assemble(money(data["equity"]), pnl) if booked else None,
        "cash": money(data["cash"]) if booked else "not booked yet: the first cycle takes the broker's balance over",
        "today": activity,
        "models": told_budget(data["models"]),
        "ledger": f"{data['ledger_seq']:,} events",
        "desk": None if history else _desk(data["desk"]),
    })
    for missed in data["missed_today"]:
        out.line(Text(f"{_missed(missed)}: {missed['reason']}", "yellow"))
    for alarm in data["alarms"]:
        out.line(Text(f"ALARM {alarm['name']}: {alarm['says']}, noticed {new_york(alarm['noticed'])}", "bold red"))
    if data["unconfirmed_limits"]:
        out.line(Text(f"{UNCONFIRMED}: trading limits", "yellow"))
    if data["pending_approvals"]:
        some = "proposal waits" if data["pending_approvals"] == 1 else "proposals wait"
        out.line(Text(f"{data['pending_approvals']} {some} for you: trading approvals", "bold yellow"))
    out.heading("Strategies")
    out.table(
        [Column("NAME"), Column("STATE"), Column("MODE"), Column("BARS"), Column("SYMBOLS", wrap=True), Column("REASON", wrap=True)],
        [[s["name"], word(s["state"]), s["mode"], s["interval"], _symbols(s["symbols"]), s["reason"] or ""] for s in data["strategies"]],
        empty="None yet. Create one with: trading strategy create FILE",
    )
    out.heading("Positions")
    out.table(
        [Column("STRATEGY"), Column("SYMBOL"), Column("SHARES", right=True), Column("PRICE", right=True), Column("OPEN P&L", right=True)],
        [[p["strategy"], p["symbol"], f"{p['quantity']:,}", price(p["mark"]), gain(p["unrealised"])] for p in data["positions"]],
        empty="None.",
    )


def _desk(desk: dict[str, Any]) -> Text:
    """Who sends orders now, and what is in its way."""
    trouble = "".join(f"; {each}" for each in desk["trouble"])
    match desk["state"]:
        case "ready":
            return Text(f"ready, pid {desk['pid']}{trouble}", "yellow" if trouble else "")
        case "read_only":
            return Text(f"READ ONLY, nothing is sent{trouble}", "bold red")
        case "absent":
            return Text("none runs; `trading run` places orders by itself", "dim")
        case state:
            return Text(f"{state}{trouble}", "yellow")


def _missed(missed: dict[str, Any]) -> str:
    """`3 cycles of 5min bars were missed, 10:05 to 10:15`."""
    first, last = new_york(missed["first"])[:16], new_york(missed["last"])[:16]
    if last[:10] == first[:10]:
        last = last[11:]
    cycles = f"{counted(missed['cycles'], 'cycle')} of {missed['interval']} bars {'was' if missed['cycles'] == 1 else 'were'} missed"
    return f"{cycles}, {first}{f' to {last}' if missed['cycles'] > 1 else ''}"


def _market(data: dict[str, Any]) -> Text:
    """The market's time, and until when it is open or closed."""
    state = Text("open", "green") if data["open"] else Text("closed", "dim")
    early = Text(f", closes early, {new_york(data['close'])[11:16]}", "yellow") if data["early_close"] else ""
    return Text.assemble(f"{new_york(data['now'])} New York, market ", state, f" until {new_york(data['next_change'])[:16]}", early)


def told_workflow(workflow: dict[str, Any]) -> str:
    """What the pipeline does now, in words."""
    cycle = f"cycle {in_new_york(workflow['cycle'] or '')}"
    match workflow["state"]:
        case "stopped":
            return "stopped: nothing is sent until the emergency stop is cleared"
        case "cycle_running":
            return f"{cycle} is under way: {workflow['step'].replace('_', ' ')}"
        case "cycle_due":
            return f"{cycle} is due"
        case "sending":
            return "orders are on their way"
        case "waiting_for_approval":
            return f"waiting for your approval: {counted(workflow['proposals'], 'proposal')}"
        case "no_strategy":
            return "idle: no strategy runs"
        case _:
            return "idle until the next bar closes"


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _next(data: dict[str, Any]) -> str | None:
    cycle = data["next_cycle"]
    if cycle is None:
        return None
    overdue = datetime.fromisoformat(cycle["due"]) <= datetime.fromisoformat(data["now"])
    return f"{'due since ' if overdue else ''}{new_york(cycle['due'])}, {cycle['interval']} bars"


def _symbols(symbols: list[str]) -> str:
    return ", ".join(symbols[:8]) + (f" and {len(symbols) - 8} more" if len(symbols) > 8 else "")
