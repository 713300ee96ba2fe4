"""`trading limits`: the account's limits as they are recorded, configured and in force; `confirm` lets looser ones be in force,
`grant` lets the open session lose more than its limit.

Tighter limits need no command: the settings are enough. The rules stand in `service.account_limits` and `service.grants`.
"""

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column

if TYPE_CHECKING:
    from trading_pipeline.service.account_limits import Standing
    from trading_pipeline.service.desk import Desk

UNCONFIRMED = "looser limits are configured and not confirmed"


class Act(StrEnum):
    """What to do with the limits."""

    SHOW = "show"
    CONFIRM = "confirm"
    GRANT = "grant"


ActArgument = Annotated[
    Act,
    typer.Argument(
        help="`confirm`: let the looser ones be in force; `grant AMOUNT`: let this session lose so much more. Both are typed again at a "
        "terminal.",
    ),
]
AmountArgument = Annotated[str, typer.Argument(help="USD, for `grant`.")]
StrategyOption = Annotated[str, typer.Option("--strategy", help="For `grant`: this strategy's limit instead of the account's.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "limits", panel=panel, reads=True)(limits)


def limits(call: Invocation, act: ActArgument = Act.SHOW, amount: AmountArgument = "", strategy: StrategyOption = "") -> None:
    """The account's limits: recorded, configured, in force; confirm looser ones, and grant the open session a larger loss."""
    from trading_pipeline.service import account_limits
    from trading_pipeline.service.desk import user_actor
    from trading_pipeline.service.grants import granted

    _check_words(act, amount, strategy)
    if act is not Act.SHOW:
        call.refuse_backtest(f"trading limits {act.value}")
    with call.desk() as desk:
        standing = account_limits.standing(desk, desk.ledger)
        if act is Act.GRANT:
            _grant(call, desk, amount, strategy or None)
        if act is Act.CONFIRM:
            if standing.unconfirmed:
                call.retype("The account would allow more than before:", standing.unconfirmed)
            account_limits.confirm(desk, actor=user_actor(), confirmed=standing.unconfirmed)
            standing = account_limits.standing(desk, desk.ledger)
        grants = {row["scope"]: format(row["amount"], "f") for row in granted(desk, desk.ledger)}
    call.output.answer(_as_json(standing) | {"granted": grants}, lambda: _show(call, standing, grants))


def _check_words(act: Act, amount: str, strategy: str) -> None:
    from trading_pipeline.errors import InputError

    if act is Act.GRANT and not amount:
        raise InputError(
            "No amount to grant is given.", value="", rule="a grant is an amount in USD", remedy="give it, as `trading limits grant 500`",
        )
    if act is not Act.GRANT and (amount or strategy):
        raise InputError(
            f"`trading limits {act.value}` takes no amount and no strategy.", value=amount or strategy, rule="they belong to `grant`",
            remedy="leave them out, or say `trading limits grant AMOUNT`",
        )


def _grant(call: Invocation, desk: "Desk", text: str, strategy: str | None) -> None:
    """Ask the person to type the amount again, then write it down (D12)."""
    from trading_pipeline.domain.strategies import StrategyState
    from trading_pipeline.errors import InputError
    from trading_pipeline.service.desk import user_actor
    from trading_pipeline.service.grants import grant_loss

    try:
        amount = Decimal(text.replace("$", "").replace(",", ""))
    except InvalidOperation:
        raise InputError(
            f"{text!r} is no amount.", value=text, rule="a grant is an amount in USD", remedy="give it, as `trading limits grant 500`",
        ) from None
    about = f"{strategy or 'The account'} may lose ${amount:,.2f} more this session, and only this session:"
    call.retype(about, [f"amount by {amount:f}"])
    grant_loss(desk, amount, strategy=strategy, actor=user_actor(), confirmed=amount)
    paused = [row["name"] for row in desk.ledger.find("strategies", state=StrategyState.PAUSED_RISK.value)]
    for name in paused if strategy is None else [strategy]:
        call.output.note(f"It goes on by a person's word alone: trading strategy resume {name}")


def _show(call: Invocation, standing: "Standing", grants: dict[str, str]) -> None:
    from trading_pipeline.service.account_limits import told

    data = _as_json(standing)
    recorded, configured, effective = data["recorded"] or {}, data["configured"], data["effective"]
    columns = [Column("LIMIT"), *(Column(title, right=True) for title in ("RECORDED", "CONFIGURED", "IN FORCE"))]
    call.output.table(columns, [[name, *(told(each, name) for each in (recorded, configured, effective))] for name in effective])
    for scope, amount in grants.items():
        whose = "The account" if scope == "account" else scope.removeprefix("strategy:")
        call.output.line(f"{whose} may lose ${Decimal(amount):,.2f} more than its limit, this session.")
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
