"""What the assets of a session have in common: their partitions, what a backfill of them is, which code computes them, and what happens to
work of theirs that is missed (A7): a tag to search by, a sentence to read.
"""

from typing import TypedDict

import dagster as dg

from assets.partitions import SESSIONS
from trading_pipeline.adapters.code_version import code_version
from trading_pipeline.domain.missed_work import MISSED_WORK

ONE_RUN = dg.BackfillPolicy.single_run()
"""State carries from session to session: a range is one ordered run."""


class BySession(TypedDict):
    """Arguments of an asset's decorator."""

    partitions_def: dg.PartitionsDefinition
    backfill_policy: dg.BackfillPolicy
    owners: list[str]
    code_version: str
    """Of all that computes: other code marks what was computed with it as stale (A6)."""
    tags: dict[str, str]
    metadata: dict[str, str]


def by_session(asset: str) -> BySession:
    """Those of an asset that `domain.missed_work` has a policy for."""
    work = MISSED_WORK[asset]
    return {
        "partitions_def": SESSIONS, "backfill_policy": ONE_RUN, "owners": ["team:desk"], "code_version": code_version(),
        "tags": {"when_missed": work.treatment.value}, "metadata": {"when_missed": f"{work.treatment.value}: {work.says}"},
    }
