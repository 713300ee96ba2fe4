"""Random sessions, each derived again from its ledger with every socket closed; and each forged in one place, which must be found.

The sessions are those of `random_days`: prices that wander, people who decide, pause and stop, limits that tighten, a broker that
loses requests, drops replies and refuses. Not the crash sweep: the process lives.
"""

import random
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.desks import Floor
from tests.evidence.report import finish, progress, size
from tests.service.random_days import random_day
from tests.service.replaying import Payload, forged, replayed
from trading_pipeline.domain.events import Event, EventType

MINUTES = 30
DECISIONS = (
    EventType.RISK_EVALUATED, EventType.ORDER_INTENT, EventType.ORDER_SUBMITTED, EventType.ACTION_READY, EventType.APPROVAL_REQUESTED,
    EventType.LLM_ACTION_GENERATED,
)


@dataclass
class Tally:
    """What came of it."""

    sessions: int = 0
    events: int = 0
    derived: Counter[str] = field(default_factory=Counter)
    underivable: int = 0
    differences: list[str] = field(default_factory=list)
    hashes: int = 0
    """Sessions whose state hash is that of the stored tables."""
    forged: int = 0
    missed: list[str] = field(default_factory=list)
    calls: int = 0
    """Connections tried while deriving."""


def run(count: int, seed: int) -> Tally:
    """Trade and derive so many sessions."""
    tally = Tally()
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as folder:
            stage = random_day(Path(folder), number, MINUTES)
            with watched(tally):
                found = replayed(stage)
            tally.sessions += 1
            tally.events += found.last_seq - found.first_seq + 1
            tally.derived.update(found.derived)
            tally.underivable += sum(sum(kinds.values()) for kinds in found.underivable.values())
            tally.hashes += found.state_hash == found.stored_hash
            if not found.ok:
                tally.differences.append(f"seed {number}: {found.difference}")
            _forge(stage, random.Random(number), number, tally)
        if count > 20 and tally.sessions % 20 == 0:
            found_out = f"{len(tally.differences)} differences, {len(tally.missed)} forgeries missed"
            progress(f"{tally.sessions:,} of {count:,} sessions: {found_out}")
    return tally


@contextmanager
def watched(tally: Tally) -> Iterator[None]:
    """Count every connection that is tried, and let none through."""
    connect = socket.socket.connect

    def refuse(_self: socket.socket, address: object) -> None:
        tally.calls += 1
        raise OSError(f"no connection to {address} from a replay")

    socket.socket.connect = refuse  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


def _forge(stage: Floor, dice: random.Random, number: int, tally: Tally) -> None:
    """Change one decision, seal the chain anew, and see whether that very event is named."""
    decisions = stage.events(*DECISIONS)
    if not decisions:
        return
    chosen = dice.choice(decisions)
    ledger = forged(stage, lambda event, payload: _changed(event, payload) if event.seq == chosen.seq else payload)
    difference = replayed(stage, ledger).difference
    tally.forged += 1
    if difference is None or difference.seq != chosen.seq:
        tally.missed.append(f"seed {number}: {chosen.type} {chosen.key} was changed, named was {difference}")


def _changed(event: Event, payload: Payload) -> Payload:
    """A figure a little other than it was, which no table's rules forbid."""
    match event.type:
        case EventType.RISK_EVALUATED:
            payload["verdicts"][-1]["measured"] += "0"
        case EventType.ORDER_INTENT:
            payload["reference"] += "1"
        case EventType.ORDER_SUBMITTED:
            payload["digest"] = payload["digest"][::-1]
        case EventType.ACTION_READY:
            payload["expires_at"] = payload["not_before"]
        case EventType.APPROVAL_REQUESTED:
            payload["shown"]["rationale"] += "!"
        case _:
            payload["confidence"] = "0.123"
    return payload


def main() -> int:
    """Trade, derive, report."""
    count, seed = size(1_000), size(1, "SEED")
    tally = run(count, seed)
    for each in [*tally.differences, *tally.missed][:10]:
        progress(each)
    finish(
        "replay-sessions", "Deriving sessions again from their ledger",
        {
            "sessions": tally.sessions, "events": tally.events, "decisions": tally.derived.total(), "differences": len(tally.differences),
            "state_hashes_equal": tally.hashes, "underivable": tally.underivable, "network_calls": tally.calls, "forged": tally.forged,
            "forged_missed": len(tally.missed),
        }
        | {f"derived: {kind}": many for kind, many in sorted(tally.derived.items())},
        {"differences": tally.sessions, "network_calls": tally.sessions, "forged_missed": tally.forged},
        (
            f"{MINUTES} minutes of three stocks each, from seed {seed} on, two strategies, one of them asking a person; prices that leap, "
            "people who decide, pause, revise and stop, limits that tighten, a broker that loses requests, drops replies, refuses and "
            "cancels. Each session is derived again with every socket closed, and its state hash compared with the stored tables. Then one "
            "decision of it is changed and the chain sealed anew: that event must be the one that is named.",
            "The same code derives and decided: a rule that is wrong in itself is the oracle's to find, not the replay's.",
        ),
        command=f"make replay-sessions N={count}",
    )
    return 1 if tally.differences or tally.missed or tally.calls else 0


if __name__ == "__main__":
    raise SystemExit(main())
