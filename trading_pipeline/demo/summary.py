"""What a trader likes to read at the end: trades, profit, positions, denials, approvals, one trade's whole story.

The profit stands beside what it is measured against: the same money in the same symbols, bought at the first open and held.
"""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trading_pipeline.adapters.calendar import unscheduled_closures
from trading_pipeline.demo.floor import Played
from trading_pipeline.domain.adjustments import split_adjusted
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.money import ZERO, to_cents, usd
from trading_pipeline.domain.portfolio import Portfolio
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.sessions import NEW_YORK, Session
from trading_pipeline.service import queries
from trading_pipeline.service.accounting import portfolio_of, strategy_pnl
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record import tracing
from trading_pipeline.service.record.verification import VerificationReport
from trading_pipeline.service.steps import spec_of


def figures_of(desk: Desk, played: Played, sessions: tuple[Session, ...], report: VerificationReport, seconds: float) -> dict[str, Any]:
    """The figures of the RESULT line."""
    types = Counter(event.type for event in desk.ledger.events())
    proposals = [event for event in desk.ledger.events(types=(EventType.RISK_EVALUATED,)) if event.payload["stage"] == "proposal"]
    return {
        "sessions": len(sessions),
        "symbols": len({symbol for row in queries.status(desk)["strategies"] for symbol in row["symbols"]}),
        "signals": types[EventType.LLM_ACTION_GENERATED] + types[EventType.LLM_ABSTAINED],
        "verdicts": len(proposals),
        "denied": sum(1 for event in proposals if not event.payload["passed"]),
        "approvals": types[EventType.APPROVAL_REQUESTED],
        "orders": sum(1 for row in desk.ledger.find("orders") if row["parent"] is None),
        "fills": len(desk.ledger.find("fills")),
        "snapshots": types[EventType.PORTFOLIO_SNAPSHOTTED],
        "events": report.events,
        "verified": report.ok,
        "runs": played.runs,
        "seconds": round(seconds, 1),
    }


def show(console: Console, desk: Desk, figures: dict[str, Any], home: Path) -> None:
    """Print the summary."""
    portfolio = portfolio_of(desk, desk.ledger)
    console.print()
    console.rule(Text("What happened", style="bold"))
    _trades(console, desk)
    _result(console, desk, portfolio)
    _decisions(console, desk)
    _story(console, desk)
    _next(console, figures, home)


def _trades(console: Console, desk: Desk) -> None:
    fills = desk.ledger.find("fills", order_by="seq")
    if not fills:
        console.print("Nothing was traded.")
        return
    parts = {row["client_id"]: row["part"] for row in desk.ledger.find("orders")}
    shown = fills[-10:]
    title = f"The last {len(shown)} of {len(fills)} fills" if len(fills) > len(shown) else "Fills"
    table = _table(f"{title}, New York time", "fill", "when", "strategy", "trade", "price>", "value>", "by")
    for row in shown:
        when = f"{row['at'].astimezone(NEW_YORK):%m-%d %H:%M}"
        table.add_row(
            row["execution_id"], when, row["strategy"], f"{row['side'].upper()} {row['quantity']:,} {row['symbol']}",
            f"{row['price']:,.2f}", usd(row["quantity"] * row["price"]), parts[row["client_id"]].rstrip("-0123456789"),
        )
    console.print(table)
    if any(spec_of(row).interval.daily for row in desk.ledger.find("strategies")):
        console.print("A daily bar does not tell when within its day a stop or target was reached: such a fill is timed at the close.")


def _result(console: Console, desk: Desk, portfolio: Portfolio) -> None:
    cash = desk.ledger.get("cash", portfolio.account)
    assert cash is not None
    total = portfolio.equity - cash["deposited"]
    console.print(
        f"Account {escape(portfolio.account)}: equity [bold]{usd(portfolio.equity)}[/], cash {usd(portfolio.cash)}, "
        f"profit and loss {_signed(total)} of {usd(cash['deposited'])} after {usd(cash['commissions'])} commissions."
    )
    held_instead = buy_and_hold(desk, cash["deposited"])
    if held_instead is not None:
        gain, sessions, symbols = held_instead
        console.print(
            f"The same money in {', '.join(symbols[:6])}{' ...' if len(symbols) > 6 else ''}, in equal parts, bought at the first open and "
            f"held: {_signed(gain)} over the same {_counted(sessions, 'session')}, reckoned with fractional shares and without costs."
        )
    for name, pnl in sorted(strategy_pnl(portfolio).items()):
        fills = desk.ledger.find("fills", strategy=name, order_by="seq")
        closed = closed_trades(fills)
        won = sum(1 for each in closed if each > 0)
        rate = f", {won} of {_counted(len(closed), 'closed trade')} won ({won / len(closed):.0%})" if closed else ""
        console.print(f"  {name}: {_signed(pnl)} in {_counted(len(fills), 'fill')}{rate}")
    held = [position for position in portfolio.positions if position.quantity]
    table = _table("Positions", "strategy", "symbol", "shares>", "cost>", "price>", "value>", "open P&L>")
    for position in held:
        mark = portfolio.marks[position.symbol]
        table.add_row(
            position.strategy, position.symbol, f"{position.quantity:,}", usd(position.cost), f"{mark:,.2f}", usd(position.quantity * mark),
            _signed(position.unrealised(mark)),
        )
    console.print(table if held else "No position is open.")
    first, last = _days(desk)
    closures = unscheduled_closures(desk.calendar, first, last)
    if closures:
        days = " and ".join(str(day) for day in closures)
        console.print(f"The exchange stayed closed on {days}, which no holiday announced: an unscheduled closure.")


def closed_trades(fills: Sequence[Row]) -> list[Decimal]:
    """USD that each closed trade made after commissions; a trade goes from no shares of a symbol back to none.

    Args:
        fills: Of one strategy, in order.
    """
    shares: Counter[str] = Counter()
    made: dict[str, Decimal] = {}
    closed = []
    for row in fills:
        symbol, sign = row["symbol"], 1 if row["side"] == "buy" else -1
        shares[symbol] += sign * row["quantity"]
        made[symbol] = made.get(symbol, ZERO) - sign * row["quantity"] * row["price"] - row["commission"]
        if not shares[symbol]:
            closed.append(made.pop(symbol))
    return closed


def buy_and_hold(desk: Desk, deposit: Decimal) -> tuple[Decimal, int, tuple[str, ...]] | None:
    """USD that the deposit had made, in equal parts in all symbols, from the first session's open to the last close by now.

    Returns:
        The gain, the sessions and the symbols that had bars from the first session on; None when none had.
    """
    specs = [spec_of(row) for row in desk.ledger.find("strategies")]
    first, last = _days(desk)
    opens = desk.calendar.session(first).open
    factors: dict[str, Decimal] = {}
    for spec in specs:
        for symbol, table in desk.market.closed_bars(spec.symbols, spec.interval, opens, desk.now()).items():
            if len(table) and table.bar(0).start.astimezone(NEW_YORK).date() == first:
                seen = split_adjusted(table, desk.splits.get(symbol, ()), last)
                factors[symbol] = Decimal(str(seen.close[-1])) / Decimal(str(seen.open[0]))
    if not factors:
        return None
    gain = to_cents(deposit * (sum(factors.values(), ZERO) / len(factors) - 1))
    return gain, len(desk.calendar.between(first, last)), tuple(sorted(factors))


def _days(desk: Desk) -> tuple[date, date]:
    """The first and the last session that was traded."""
    days = [date.fromisoformat(row["session"]) for row in desk.ledger.find("sessions", order_by="session")]
    return days[0], days[-1]


def _decisions(console: Console, desk: Desk) -> None:
    denied = queries.denials(desk.ledger)
    told = ", ".join(f"{rule.replace('_', ' ')} {count}" for rule, count in denied.rules.items())
    stopped = f"{_counted(denied.proposals, 'proposal')} and {_counted(denied.orders, 'order')} at the gate"
    console.print(f"Denied by the rulebook: {stopped}{f'. Rules that failed: {told}' if told else ''}.")
    states = Counter(row["state"] for row in desk.ledger.find("approvals"))
    asked = sum(states.values())
    outcome = {"consumed": "approved and sent", "rejected": "rejected", "expired": "expired", "voided": "voided", "approved": "approved"}
    told = ", ".join(f"{states[state]} {words}" for state, words in outcome.items() if states[state])
    console.print(f"Proposals to a person: {asked} ({told or 'none decided'}), all decided by the demo itself as demo:person.")
    young = Counter(
        (event.payload["symbol"], event.payload["detail"]) for event in desk.ledger.events(types=(EventType.LLM_ABSTAINED,))
    )
    by_symbol: dict[str, tuple[int, str]] = {}
    for (symbol, detail), count in young.items():
        by_symbol[symbol] = (by_symbol.get(symbol, (0, ""))[0] + count, detail)
    for symbol, (count, detail) in sorted(by_symbol.items()):
        console.print(f"No answer on {symbol} {_counted(count, 'time')}: {escape(detail)}")


def _story(console: Console, desk: Desk) -> None:
    fills = desk.ledger.find("fills", order_by="seq")
    approved = {row["action_id"] for row in desk.ledger.find("approvals", state="consumed")}
    orders = {row["client_id"]: row for row in desk.ledger.find("orders")}
    entries = [row for row in fills if orders[row["client_id"]]["part"] == "entry"]
    told = [row for row in entries if orders[row["client_id"]]["action_id"] in approved] or fills
    if not told:
        return
    table = _table(f"trading why {told[0]['execution_id']}: from the bar to the portfolio", "seq>", "fact", "says ")
    for cause in tracing.why(desk, told[0]["execution_id"]):
        table.add_row(str(cause.seq), cause.type, Text(cause.says))
    console.print(table)


def _next(console: Console, figures: dict[str, Any], home: Path) -> None:
    verified = "[green]verified[/]" if figures["verified"] else "[red]DO NOT VERIFY[/]"
    console.print(
        f"{figures['events']:,} facts in the ledger, chain and tables {verified}; "
        f"{figures['runs']} Dagster runs in {figures['seconds']} s. All of it lies in {escape(str(home))}."
    )
    console.print("Look next: [bold]make up[/] shows runs, lineage and charts at http://127.0.0.1:3000 and trades on from here.")


def _table(title: str, *columns: str) -> Table:
    """A table for 80 columns: a name that ends in `>` stands right, in a blank may wrap."""
    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, title_justify="left", show_edge=False, pad_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(name.rstrip("> ").upper(), justify="right" if name.endswith(">") else "left", no_wrap=not name.endswith(" "))
    return table


def _signed(amount: Decimal) -> str:
    text = usd(amount)
    return f"[green]+{text}[/]" if amount > 0 else f"[red]{text}[/]" if amount < 0 else text


def _counted(many: int, what: str) -> str:
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def result_line(figures: dict[str, Any]) -> str:
    """The last line, for scripts."""
    return "RESULT " + json.dumps(figures)
