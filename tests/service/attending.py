"""The desk's process at work in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.desks import Floor
from tests.waiting import until
from trading_pipeline.service.submitter import handover
from trading_pipeline.service.submitter.desk_process import attend


@contextmanager
def attended(stage: Floor, *, ready: bool = True) -> Iterator[list[str]]:
    """A desk at work in a thread of its own, once it is ready unless that is never to be; what it says."""
    stop, said = threading.Event(), []
    thread = threading.Thread(target=attend, args=(stage.desk, stop.is_set, said.append))
    thread.start()
    try:
        if ready:
            until(lambda: handover.attended(stage.desk), "the desk is ready")
        yield said
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
