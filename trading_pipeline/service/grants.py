"""Granting a loss: a person lets one session lose more than its limit, never more than once by itself (D12).

A grant adds to the limit of the account or of one strategy, for the session that is open; the next session has the limit alone.
It lets nothing go on: what paused is resumed by a person too.
"""

from decimal import Decimal

from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.money import usd
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import Conflict, InputError, PermissionRequired
from trading_pipeline.ports import Reader
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Desk, is_person


def grant_loss(desk: Desk, amount: Decimal, *, strategy: str | None = None, actor: str, confirmed: Decimal | None = None) -> Event:
    """Let the open session lose this much more.

    Args:
        amount: USD above zero, to the cent; adds to what was granted before.
        strategy: Whose limit; the account's when None.
        actor: The person.
        confirmed: The amount as they typed it again at a terminal.

    Raises:
        InputError: No amount.
        UnknownName: No such strategy.
        Conflict: No session is open.
        PermissionRequired: No person, or nobody typed the amount again.
    """
    if not (amount.is_finite() and amount > 0 and amount == amount.quantize(Decimal("0.01"))):
        raise InputError(
            f"{amount} is no amount to grant.", value=str(amount), rule="a grant is above $0.00, in whole cents", remedy="give such as 500",
        )
    if strategy is not None:
        controls.require(desk.ledger, strategy)
    session = desk.calendar.at(desk.now())
    if session is None:
        raise Conflict(
            "No session is open.", value=str(amount), rule="a loss is granted for the session that is open", remedy="wait for the next one",
        )
    if confirmed != amount or not is_person(actor):
        raise PermissionRequired(
            f"Nobody at a terminal confirms that {strategy or 'the account'} may lose {usd(amount)} more.", value=str(amount),
            rule="a person grants a loss, typing the amount again at a terminal (D12, D17)",
            remedy="run `trading limits grant` at a terminal",
        )
    account, day = desk.broker.account_id, session.day.isoformat()
    scope = "account" if strategy is None else f"strategy:{strategy}"
    with desk.ledger.transaction() as tx:
        before = tx.get("grants", scope, day)
        key = f"loss.granted:{scope}:{day}:{before['last_seq'] if before else 0}"
        payload = {"account": account, "strategy": strategy, "session": day, "amount": amount}
        stream = "account" if strategy is None else scope
        [event] = tx.append(NewEvent(EventType.LOSS_GRANTED, stream, key, payload, desk.now(), actor))
    return event


def granted(desk: Desk, reader: Reader) -> list[Row]:
    """What has been granted for the session of now, by scope."""
    return reader.find("grants", session=desk.today().isoformat())
