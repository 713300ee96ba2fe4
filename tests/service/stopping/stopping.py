"""How tests press the emergency stop and clear it, what it leaves of protective orders, and a ledger that has gone."""

from decimal import Decimal

from tests.desks import PERSON, Floor
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.errors import LedgerUnavailable
from trading_pipeline.ports import Stop
from trading_pipeline.service.stopping import emergency

PROTECTED = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.02"), target=Decimal("0.03"))


def stop(stage: Floor, **given) -> emergency.Report:
    """As a person presses it, for everything unless something else is given."""
    return emergency.stop(stage.desk, **({"reason": "enough", "actor": PERSON} | given))


def clear(stage: Floor, **given) -> tuple[Stop, ...]:
    """As a person clears the account's latch; what holds it still."""
    return emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1", **given)


def shown(stage: Floor) -> list[str]:
    """Whose stops a person is shown before they clear them."""
    return [each.actor for each in emergency.held(stage.desk, stage.desk.ledger).stops]


def states(stage: Floor) -> set[str]:
    """Those of all protective orders."""
    return {row["state"] for row in stage.rows("orders") if row["order_class"] == "P"}


class Gone:
    """A ledger whose server has gone: every call says so."""

    def __init__(self, error=None):
        self._error = error or LedgerUnavailable("gone")

    def __getattr__(self, name):
        def refuse(*_args, **_kwargs):
            raise self._error

        return refuse
