"""`trading limits`: the account's limits as they are recorded, configured and in force; `confirm` lets looser ones be in force.

Tighter limits need no command: the settings are enough. The rules stand in `service.account_limits`.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column

if TYPE_CHECKING:
    from trading_pipeline.service.account_limits import Standing

UNCONFIRMED = "looser limits are configured and not confirmed"


class Act(StrEnum):
    """What to do with the limits."""

    SHOW = "show"
    CONFIRM = "confirm"


ActArgument = Annotated[Act, typer.Argument(help="`confirm`: let the looser ones be in force, by typing them again at a terminal.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "limits", panel=panel)(limits)


def limits(call: Invocation, act: ActArgument = Act.SHOW) -> None:
    """The account's limits: recorded, configured, in force; and confirm looser ones."""
    from trading_pipeline.service import account_limits
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        standing = account_limits.standing(desk, desk.ledger)
        if act is Act.CONFIRM:
            if standing.unconfirmed:
                call.output.note("The account would allow more than before:")
                call.retype(standing.unconfirmed)
            account_limits.confirm(desk, actor=user_actor(), confirmed=standing.unconfirmed)
            standing = account_limits.standing(desk, desk.ledger)
    call.output.answer(_as_json(standing), lambda: _show(call, standing))


def _show(call: Invocation, standing: "Standing") -> None:
    from trading_pipeline.service.account_limits import text

    data = _as_json(standing)
    recorded, configured, effective = data["recorded"] or {}, data["configured"], data["effective"]
    columns = [Column("LIMIT"), *(Column(title, right=True) for title in ("RECORDED", "CONFIGURED", "IN FORCE"))]
    call.output.table(columns, [[name, *(text(each.get(name)) for each in (recorded, configured, effective))] for name in effective])
    if standing.version is None:
        call.output.line("Nothing is recorded yet: the first judgement records what is configured then.")
    else:
        call.output.line(f"Version {standing.version} is recorded; tighter limits in the settings are in force at once.")
    if standing.unconfirmed:
        call.output.line(Text(f"{UNCONFIRMED}: {', '.join(standing.unconfirmed)}", "yellow"))
        call.output.note("Let them be in force, at a terminal, with: trading limits confirm")


def _as_json(standing: "Standing") -> dict[str, Any]:
    from trading_pipeline.domain.codec import encode

    configured, effective = ({k: v for k, v in encode(each).items() if k != "type"} for each in (standing.configured, standing.effective))
    recorded = None if standing.recorded is None else {name: value for name, value in standing.recorded.items() if name != "type"}
    return {
        "version": standing.version, "recorded": recorded, "configured": configured, "effective": effective,
        "unconfirmed": standing.unconfirmed,
    }
