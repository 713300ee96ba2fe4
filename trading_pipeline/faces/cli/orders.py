"""`trading orders`: what is under way at the broker and what a person has to look at; `release` ends a quarantine."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, price, word


class Act(StrEnum):
    """What to do with orders."""

    SHOW = "show"
    RELEASE = "release"


ActArgument = Annotated[Act, typer.Argument(help="`release ID`: an order that was set aside is over; its symbol is typed at a terminal.")]
IdArgument = Annotated[str, typer.Argument(help="The order's id, or a beginning of it, for `release`.")]
AllOption = Annotated[bool, typer.Option("--all", help="Also those that are over.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "orders", panel=panel, reads=True)(orders)


def orders(call: Invocation, act: ActArgument = Act.SHOW, name: IdArgument = "", everything: AllOption = False) -> None:
    """Orders under way, in doubt and set aside; `release` frees the symbol of one that is over."""
    from trading_pipeline.domain.orders import WORKING, OrderState
    from trading_pipeline.service.desk import user_actor
    from trading_pipeline.service.orders.releasing import find, release

    if act is Act.RELEASE:
        call.refuse_backtest("trading orders release")
    with call.desk() as desk:
        if act is Act.RELEASE:
            row = find(desk.ledger, name)
            about = f"{row['client_id']} of {row['strategy']} is {word(row['state'])}: {row['reason']}"
            typed = call.output.ask(f"Type {row['symbol']} to say that it is over:", [about]) if call.output.interactive else ""
            release(desk, row["client_id"], actor=user_actor(), typed=typed.strip())
        states = tuple(state.value for state in (*WORKING, OrderState.INTENT, OrderState.QUARANTINED))
        rows = desk.ledger.find("orders", order_by="intent_seq") if everything else desk.ledger.find("orders", state=states)
    data = [_as_json(row) for row in sorted(rows, key=lambda row: row["intent_seq"])]
    call.output.answer(data, lambda: _show(call, data))


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    names = ("client_id", "strategy", "symbol", "side", "part", "quantity", "filled_quantity", "state", "reason", "session")
    prices = {name: None if row[name] is None else str(row[name]) for name in ("limit_price", "stop_price")}
    return {name: row[name] for name in names} | prices


def _show(call: Invocation, data: list[dict[str, Any]]) -> None:
    columns = [
        Column("ID"), Column("STRATEGY"), Column("ORDER"), Column("FILLED", right=True), Column("LIMIT OR STOP", right=True),
        Column("STATE"), Column("REASON", wrap=True),
    ]
    rows = [
        [
            row["client_id"][:6], row["strategy"], f"{row['part']}: {row['side'].upper()} {row['quantity']:,} {row['symbol']}",
            f"{row['filled_quantity']:,}", price(at) if (at := row["stop_price"] or row["limit_price"]) else "", word(row["state"]),
            row["reason"] or "",
        ]
        for row in data
    ]
    call.output.table(columns, rows, empty="None under way.")
