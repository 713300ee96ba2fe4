"""The crash sweep: real processes, real SIGKILL, a real PostgreSQL, and a broker whose own book is the oracle (INVARIANTS 3.2).

    make crash-sweep N=1000          so many kills; the last line is RESULT {json}
    SEED=17 make crash-sweep         one round again, by the seed that a failing one printed

A round is one seed: a market, a broker of one of three kinds, and a handful of kills. The next process takes up what was left,
and every other one is killed once more while it does. In the end time passes until there is nothing left to ask, and broker and
ledger are compared row by row. What SIGKILL does not test is a power cut: pages that the kernel held survive it.
"""

import itertools
import os
import signal
import sys
import time
from pathlib import Path

from tests.desks import calendar
from tests.evidence import report
from tests.evidence.crashing.controls import CONTROLS, Control
from tests.evidence.crashing.house import PROFILES
from tests.evidence.crashing.oracle import DUPLICATED, LOST, ORPHANED, PHANTOM
from tests.evidence.crashing.points import POINTS
from tests.evidence.crashing.rounds import POSTMASTER, RANDOM, RECOVERING, RESTORED, Sweep, play_restored_round, play_round, server
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres

RESTORED_EVERY = 15
"""Every so many rounds the ledger is put back to an older copy while the broker goes on (C14)."""
CONTROL_ROUNDS = 6
COUNTED = (DUPLICATED, LOST, ORPHANED, PHANTOM)


def controls_fail(server: EmbeddedPostgres, folder: Path) -> dict[str, bool]:
    """Whether the sweep sees each of the wrong order paths fail, within a bounded number of rounds."""
    return {control.name: _fails(server, folder, control) for control in CONTROLS}


def _fails(server: EmbeddedPostgres, folder: Path, control: Control) -> bool:
    for seed in range(CONTROL_ROUNDS):
        found = play_round(server, folder, seed, Sweep(), control)
        if any(found.count(box) for box in COUNTED):
            report.progress(f"control {control.name!r} failed as it should: {found.summary()}")
            return True
    report.progress(f"FAIL control {control.name!r}: nothing wrong was seen in {CONTROL_ROUNDS} rounds")
    return False


def sweep(kills: int, only: int | None) -> tuple[Sweep, dict[str, bool]]:
    """Rounds until there were so many kills, then the controls; or the round of one seed and no control."""
    told, began = Sweep(), time.monotonic()
    calendar()
    with server() as (running, folder):
        for seed in itertools.count() if only is None else (only,):
            play_one = play_restored_round if seed % RESTORED_EVERY == RESTORED_EVERY - 1 else play_round
            found = play_one(running, folder, seed, told)
            told.rounds += 1
            told.found.update({box: len(sentences) for box, sentences in found.boxes.items()})
            for box, sentences in found.boxes.items():
                for sentence in sentences[:5]:
                    report.progress(f"FAIL {box}: {sentence}")
            if found.boxes:
                report.progress(f"FAIL again with: SEED={seed} python -m tests.evidence.crash_sweep")
            if told.rounds % 10 == 0:
                seconds = time.monotonic() - began
                report.progress(f"{told.kills} of {kills} kills in {seconds:.0f} s, found: {dict(told.found) or 'nothing'}")
            if told.kills >= kills:
                break
        return told, controls_fail(running, folder) if only is None else {}


def notes(told: Sweep, controls: dict[str, bool], seconds: float) -> list[str]:
    """What the page says beside the figures."""
    every = (*POINTS, RECOVERING, RESTORED, RANDOM, POSTMASTER)
    points = "\n".join(f"| {point} | {told.points[point]} | {told.missed[point]} |" for point in every)
    profiles = "\n".join(f"| {profile} | {told.profiles[profile]} |" for profile in PROFILES)
    ends = "\n".join(f"| {state} | {many:,} |" for state, many in told.orders.most_common())
    wrong = "\n".join(f"| {name} | {'yes' if failed else 'no'} |" for name, failed in controls.items())
    return [
        "Real processes that play bar cycles, approvals, releases and pauses, killed with SIGKILL at the points of INVARIANTS 3.2 and at"
        f" random, and every other one once more while it takes up what was left; {told.desks} of them were the desk's process, while a run"
        f" waited for it. {told.rounds} rounds, each with a fresh database, {seconds:.0f} s. After each round the paper broker's own book,"
        " which commits in its own transactions, is compared row by row with the ledger, the ledger verifies, and the oracle finds no"
        " invariant broken. SIGKILL is no power cut: what the kernel had in its pages survives it.",
        f"| killed at | times | never came by |\n|---|---|---|\n{points}",
        f"| the broker | kills |\n|---|---|\n{profiles}",
        f"| orders ended as | |\n|---|---|\n{ends}",
        f"Wrong order paths in the same harness, which it has to see fail:\n\n| control | failed |\n|---|---|\n{wrong}",
    ]


def main() -> int:
    """Play and tell; 0 when nothing was found and every control failed."""
    # Whoever ends the sweep does not leave its server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    kills, seed = report.size(1_000), os.environ.get("SEED")
    began = time.monotonic()
    told, controls = sweep(kills, int(seed) if seed else None)
    figures: report.Figures = {"kills": told.kills} | {box: told.found[box] for box in COUNTED}
    figures["controls_failed_as_they_should"] = bool(controls) and all(controls.values())
    said = notes(told, controls, time.monotonic() - began)
    report.progress("\n\n".join(said[1:]))
    report.finish(
        "crash-sweep", "Crash sweep: kill -9 at every step of an order", figures, dict.fromkeys(COUNTED, told.kills), said,
        command=f"make crash-sweep N={kills}",
    )
    return 0 if all(controls.values()) and not told.found else 1


if __name__ == "__main__":
    sys.exit(main())
