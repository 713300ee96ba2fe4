"""The desk's process, for as long as it takes to come up."""

from tests.desks import Floor
from trading_pipeline.service.submitter.desk_process import attend


def booted(stage: Floor) -> list[str]:
    """Come up, take one turn, and end as if told to; what was said."""
    told: list[str] = []
    turns = iter([False, False, True, True])
    attend(stage.desk, lambda: next(turns), told.append)
    return told
