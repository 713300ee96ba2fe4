"""What the ledger has of stops: the presses of the account's stop, which of them stand, and which somebody has cleared.

A press is a fact of its own and stands until the account is cleared after it; its row in `latches` has the newest alone.
"""

from trading_pipeline.domain.events import Event, EventType, NewEvent, instant_of_file, instant_text
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.ports import Reader, Stop
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk

LATCHED = "latched"
"""The state of a row of `latches` in force."""


def standing(desk: Desk, reader: Reader) -> list[Event]:
    """The facts of all presses of the account's stop since it was cleared, oldest first; none while none is in force."""
    account = desk.broker.account_id
    row = reader.get("latches", f"account:{account}")
    if row is None or row["state"] != LATCHED:
        return []
    found: list[Event] = []
    for fact in reader.events(types=(EventType.ACCOUNT_LATCHED, EventType.ACCOUNT_LATCH_CLEARED)):
        if fact.payload["account"] == account:
            found = [*found, fact] if fact.type is EventType.ACCOUNT_LATCHED else []
    return found


def recorded(desk: Desk, reader: Reader, strategy: str | None) -> Stop | None:
    """The stop that the ledger knows of, whatever the files say; of the account alone where no strategy is named.

    Of several presses the newest, and a person's before what recovery has found beside it.
    """
    if facts := standing(desk, reader):
        fact = next((fact for fact in reversed(facts) if fact.actor != RECOVERY), facts[-1])
        return Stop(None, fact.payload["reason"], fact.actor, fact.at)
    row = None if strategy is None else reader.get("strategies", strategy)
    if row is not None and row["state"] == StrategyState.EMERGENCY_STOPPED.value:
        return Stop(strategy, row["reason"], row["actor"], row["state_since"])
    return None


def press_of(fact: NewEvent | Event) -> Stop:
    """The stop in a fact of ledger or journal; of the account where somebody has made the journal say of nobody."""
    strategy = fact.payload.get("strategy") if fact.type is EventType.STRATEGY_EMERGENCY_STOPPED else None
    try:
        at = instant_of_file(fact.payload["pressed_at"])
    except (ValueError, KeyError, TypeError):
        at = fact.at
    reason = str(fact.payload.get("reason", "its line in the journal gives none"))
    return Stop(strategy if isinstance(strategy, str) else None, reason, fact.actor, at)


def is_on_record(reader: Reader, stop: Stop) -> bool:
    """Whether this very press is in the ledger, which no clock can tell: clocks are set."""
    identity = stop.actor, instant_text(stop.at)
    return any((fact.actor, fact.payload.get("pressed_at")) == identity for fact in reader.events(types=(EventType.ACCOUNT_LATCHED,)))


def is_cleared(desk: Desk, reader: Reader, stop: Stop) -> bool:
    """Whether this very press of the account's stop is in the ledger, and was cleared there: a file of it holds the account, no more."""
    return is_on_record(reader, stop) and not stands(desk, reader, stop)


def stands(desk: Desk, reader: Reader, stop: Stop) -> bool:
    """Whether this very press of the account's stop is in force by the ledger."""
    return any(is_same(press_of(fact), stop) for fact in standing(desk, reader))


def is_same(one: Stop, other: Stop) -> bool:
    """Whether two are one press; what recovery has found is one thing, however often and whenever it was written down."""
    return one == other or (one.actor == other.actor == RECOVERY and one.reason == other.reason)
