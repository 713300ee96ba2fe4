"""Which attempt a run would be: a run key alone would bar a second attempt for good, also of a run that died.

Dagster's own record is asked, by tag; that no order goes out twice is the ledger's business, not this count's.
"""

import dagster as dg

MOST_ATTEMPTS = 3
MOST_RELEASES = 60
"""Of the same actions: a broker may not be ready, or still cancel what an exit replaces. They expire by themselves."""
REASON_TAG = "reason"
"""What a follow-up is for: the same actions or the same news again are another attempt."""
UNFINISHED = (
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def given_up(instance: dg.DagsterInstance, tag: str, value: str) -> bool:
    """Whether enough runs that carry the tag have been made and none is under way."""
    runs = instance.get_runs(dg.RunsFilter(tags={tag: value}), limit=MOST_ATTEMPTS)
    return len(runs) >= MOST_ATTEMPTS and all(run.status not in UNFINISHED for run in runs)


def next_attempt(instance: dg.DagsterInstance, tag: str, value: str, *, most: int = MOST_ATTEMPTS) -> int | None:
    """The number of the next run that carries the tag; None while one is under way, or when enough have failed.

    Args:
        most: Runs altogether: more than may fail, where one that did well may leave something for the next.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={tag: value}), limit=most)
    failed = [run for run in runs if run.status is not dg.DagsterRunStatus.SUCCESS]
    if len(runs) >= most or len(failed) >= MOST_ATTEMPTS or any(run.status in UNFINISHED for run in runs):
        return None
    return len(runs) + 1
