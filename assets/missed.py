"""How an asset's definition shows what happens to its missed work (A7): a tag to search by, a sentence to read."""

from typing import TypedDict

from trading_pipeline.domain.missed_work import MISSED_WORK


class WhenMissed(TypedDict):
    """Arguments of an asset's decorator."""

    tags: dict[str, str]
    metadata: dict[str, str]


def when_missed(asset: str) -> WhenMissed:
    """Tags and metadata of the policy that `domain.missed_work` has for the asset."""
    work = MISSED_WORK[asset]
    return {"tags": {"when_missed": work.treatment.value}, "metadata": {"when_missed": f"{work.treatment.value}: {work.says}"}}
