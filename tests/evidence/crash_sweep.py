"""The crash sweep: real processes, real SIGKILL, a real PostgreSQL, and a broker whose own book is the oracle (INVARIANTS 3.2).

    make crash-sweep N=1000          so many kills; the last line is RESULT {json}
    SEED=17 make crash-sweep         one round again, by the seed that a failing one printed
    JOBS=1 make crash-sweep          one worker; without it one for each core, each with a PostgreSQL of its own
    KEEP=FILE make crash-sweep       goes on where it was interrupted; what was played stands in the file
    FIRST=1000 make crash-sweep      other seeds: from that one on

A round is one seed: a market, a broker of one of three kinds, and a handful of kills. The next process takes up what was left,
and every other one is killed once more while it does. In the end time passes until there is nothing left to ask, and broker and
ledger are compared row by row. What SIGKILL does not test is a power cut: pages that the kernel held survive it.
"""

import os
import sys
from contextlib import closing
from pathlib import Path

from tests.evidence import report
from tests.evidence.crashing import workers
from tests.evidence.crashing.controls import CONTROLS, Control
from tests.evidence.crashing.house import PROFILES
from tests.evidence.crashing.keeping import Kept, kept
from tests.evidence.crashing.oracle import DUPLICATED, LOST, ORPHANED, PHANTOM
from tests.evidence.crashing.points import POINTS
from tests.evidence.crashing.rounds import POSTMASTER, RANDOM, RECOVERING, RESTORED, Sweep, play_round
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.errors import SettingsError

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


def sweep(kills: int, jobs: int, rounds: Kept, first: int = 0) -> None:
    """Rounds of seeds from the first on until there were so many kills, beside what was kept."""
    for seed, wrong in rounds.played.items():
        _tell(seed, wrong)
    told = rounds.told
    with closing(workers.rounds(jobs, frozenset(rounds.played), lambda: told.kills >= kills, first)) as ends:
        for played in ends:
            rounds.add(played)
            _tell(played.seed, played.wrong)
            if told.rounds % 10 == 0:
                report.progress(f"{told.kills} of {kills} kills in {rounds.seconds:.0f} s, found: {dict(told.found) or 'nothing'}")


def _tell(seed: int, wrong: list[str]) -> None:
    for sentence in wrong:
        report.progress(f"FAIL {sentence}")
    if wrong:
        report.progress(f"FAIL again with: SEED={seed} python -m tests.evidence.crash_sweep")


def notes(rounds: Kept, controls: dict[str, bool], jobs: int) -> list[str]:
    """What the page says beside the figures."""
    told = rounds.told
    took = f"{rounds.seconds:.0f} s" + (f" by {jobs} workers side by side" if jobs > 1 else "")
    if rounds.runs > 1:
        took += f", in {rounds.runs} runs, each of which went on where the one before it was interrupted"
    every = (*POINTS, RECOVERING, RESTORED, RANDOM, POSTMASTER)
    points = "\n".join(f"| {point} | {told.points[point]} | {told.missed[point]} |" for point in every)
    profiles = "\n".join(f"| {profile} | {told.profiles[profile]} |" for profile in PROFILES)
    ends = "\n".join(f"| {state} | {many:,} |" for state, many in told.orders.most_common())
    wrong = "\n".join(f"| {name} | {'yes' if failed else 'no'} |" for name, failed in controls.items())
    return [
        "Real processes that play bar cycles, approvals, releases and pauses, killed with SIGKILL at the points of INVARIANTS 3.2 and at"
        f" random, and every other one once more while it takes up what was left; {told.desks} of them were the desk's process, while a run"
        f" waited for it. {told.rounds} rounds, each with a fresh database, {took}. After each round the paper broker's own book, which"
        " commits in its own transactions, is compared row by row with the ledger, the ledger verifies, and the oracle finds no"
        " invariant broken. SIGKILL is no power cut: what the kernel had in its pages survives it.",
        f"| killed at | times | never came by |\n|---|---|---|\n{points}",
        f"| the broker | kills |\n|---|---|\n{profiles}",
        f"| orders ended as | |\n|---|---|\n{ends}",
        f"Wrong order paths in the same harness, which it has to see fail:\n\n| control | failed |\n|---|---|\n{wrong}",
    ]


def again(kills: int, jobs: int, first: int = 0, *, keeps: bool) -> str:
    """The command that makes the same figures."""
    settings = [*(["KEEP=FILE"] if keeps else []), *([f"JOBS={jobs}"] if jobs > 1 else []), *([f"FIRST={first}"] if first else [])]
    return " ".join((*settings, f"make crash-sweep N={kills}"))


def main() -> int:
    """Play and tell; 0 when nothing was found and every control failed."""
    # Whoever ends the sweep does not leave its server behind.
    workers.leave_on_sigterm()
    kills, jobs, first = report.size(1_000), max(1, report.size(os.cpu_count() or 1, "JOBS")), report.size(0, "FIRST")
    seed, keep = os.environ.get("SEED"), os.environ.get("KEEP")
    controls: dict[str, bool] = {}
    try:
        with kept(Path(keep) if keep and not seed else None, report.commit()) as rounds:
            if seed:
                with workers.ground() as (running, folder):
                    rounds.add(workers.play(running, folder, int(seed)))
                _tell(int(seed), rounds.played[int(seed)])
            else:
                sweep(kills, jobs, rounds, first)
                with workers.ground() as (running, folder):
                    controls = controls_fail(running, folder)
    except SettingsError as refused:
        report.progress(str(refused))
        return 2
    told = rounds.told
    figures: report.Figures = {"kills": told.kills, **{box: told.found[box] for box in COUNTED}}
    figures["controls_failed_as_they_should"] = bool(controls) and all(controls.values())
    said = notes(rounds, controls, jobs)
    report.progress("\n\n".join(said[1:]))
    report.finish(
        "crash-sweep", "Crash sweep: kill -9 at every step of an order", figures, dict.fromkeys(COUNTED, told.kills), said,
        command=again(kills, jobs, first, keeps=rounds.file is not None),
    )
    return 0 if all(controls.values()) and not told.found else 1


if __name__ == "__main__":
    sys.exit(main())
