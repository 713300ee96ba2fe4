"""Cancels side by side: one change for all who wait, and an answer for each."""

import threading

import pytest

from tests.desks import Killed
from trading_pipeline.adapters.brokers.paper_cancels import GatheredCancels
from trading_pipeline.errors import BrokerNotReady


class Slowly:
    """A change that waits for its sign, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.raises: dict[int, BaseException] = {}

    def __call__(self, names) -> None:
        self.asked.append(sorted(names))
        self.begun.set()
        self.go.wait(5)
        if len(self.asked) in self.raises:
            raise self.raises[len(self.asked)]


def ask(gathered: GatheredCancels, name: str, ended: dict[str, str]) -> None:
    try:
        gathered.ask(name)
        ended[name] = "done"
    except (BrokerNotReady, Killed) as error:
        ended[name] = type(error).__name__


def together(change: Slowly) -> dict[str, str]:
    """One begins, three come while it is at work."""
    gathered, ended = GatheredCancels(change), {}
    threads = [threading.Thread(target=ask, args=(gathered, name, ended)) for name in "abcd"]
    threads[0].start()
    change.begun.wait(5)
    for each in threads[1:]:
        each.start()
    while len(gathered._waiting) < 3:
        pass
    change.go.set()
    for each in threads:
        each.join(5)
    return ended


def test_who_comes_while_one_is_at_work_is_served_by_one_change() -> None:
    change = Slowly()
    assert together(change) == dict.fromkeys("abcd", "done")
    assert change.asked == [["a"], ["b", "c", "d"]]


def test_what_went_wrong_is_told_to_each_whom_it_concerns() -> None:
    change = Slowly()
    change.raises = {2: BrokerNotReady("no session")}
    assert together(change) == {"a": "done", "b": "BrokerNotReady", "c": "BrokerNotReady", "d": "BrokerNotReady"}


def test_nobody_is_forgotten_when_the_one_at_work_dies() -> None:
    change = Slowly()
    change.raises = {2: Killed()}
    ended = together(change)
    assert sorted(ended.values()) == ["Killed", "done", "done", "done"]
    assert set(change.asked[2]) >= set("bcd") - {name for name, how in ended.items() if how == "Killed"}


def test_one_alone_is_served_at_once() -> None:
    served = []
    GatheredCancels(served.extend).ask("a")
    assert served == ["a"]
    with pytest.raises(BrokerNotReady):
        GatheredCancels(lambda _: (_ for _ in ()).throw(BrokerNotReady("no session"))).ask("a")
