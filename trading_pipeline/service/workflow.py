"""What the pipeline does now, in one word and what belongs to it: read from the ledger and the calendar, of whatever process does it.

A cycle is under way from its first completed step to its last; one that stays there was interrupted, and its step says where. Whether
a process is there that goes on with it is not said here: `handover.present` and the watchdog know.
"""

from enum import StrEnum
from typing import Any

from trading_pipeline.service.cycle import STEPS
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.steps import completed
from trading_pipeline.service.stopping.stop_review import stops
from trading_pipeline.service.timetable import due_cycles, running_intervals, unfinished


class Doing(StrEnum):
    """Of several that hold, the first of these."""

    STOPPED = "stopped"
    """An emergency stop of the account is in force."""
    CYCLE_RUNNING = "cycle_running"
    CYCLE_DUE = "cycle_due"
    SENDING = "sending"
    """Admitted actions are to be sent, or orders are on their way to the broker."""
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    NO_STRATEGY = "no_strategy"
    """None runs, so that no close is waited for."""
    IDLE = "idle"
    """Until the next bar closes."""


def doing(desk: Desk) -> dict[str, Any]:
    """`state`, one of `Doing`; of a cycle its name and the step that is next; how many proposals wait. None where there is none."""
    still = unfinished(desk)
    told: dict[str, Any] = {"cycle": None, "step": None, "proposals": still.proposals}
    steps = {cycle.cycle_id: [step for step in STEPS if completed(desk.ledger, cycle, step) is None] for cycle in due_cycles(desk)}
    begun = [name for name, left in steps.items() if len(left) < len(STEPS)]
    for name in (*begun, *steps)[:1]:
        told |= {"cycle": name, "step": steps[name][0]}
    if any(stop.strategy is None for stop in stops(desk)):
        state = Doing.STOPPED
    elif steps:
        state = Doing.CYCLE_RUNNING if begun else Doing.CYCLE_DUE
    elif still.unsent:
        state = Doing.SENDING
    elif still.proposals:
        state = Doing.WAITING_FOR_APPROVAL
    else:
        state = Doing.IDLE if running_intervals(desk) else Doing.NO_STRATEGY
    return {"state": state.value} | told
