"""What goes wrong, and how often it did: a fuse that kills the process at any touch of ledger, broker or model; a line with weather.

A `Fuse` burns at every commit, before and after, and at every call of the broker or the model, before and after: a process that is
killed there leaves exactly what a `SIGKILL` would leave, and the next one has the same ledger, account and archive.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from tests.desks import Killed
from tests.evidence.hostile_replies import draw, perfect, written
from trading_pipeline.adapters.brokers.paper_book import Execution
from trading_pipeline.adapters.brokers.paper_faults import Call, CallFault, FaultPlan, RejectLater, SubmitFault
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.domain.replies import parse_reply
from trading_pipeline.errors import ServiceError
from trading_pipeline.ports import Answer, Question


@dataclass
class Fuse:
    """Kills at the nth touch from when it is lit."""

    struck: Counter[str]
    left: int | None = None

    def burn(self, where: str) -> None:
        """A touch."""
        if self.left is None:
            return
        self.left -= 1
        if self.left <= 0:
            self.left = None
            self.struck[f"killed {where}"] += 1
            raise Killed(where)


class MortalLedger:
    """A ledger whose user may die before, within and after each transaction."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """As the ledger's."""
        with self._inner.transaction() as tx:
            yield tx
            self._fuse.burn("before a commit")
        self._fuse.burn("after a commit")


class MortalBroker:
    """A broker whose user may die before and after each call."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in {call.value for call in Call}:
            return found

        def called(*args: Any, **kwargs: Any) -> Any:
            self._fuse.burn(f"before broker.{name}")
            answer = found(*args, **kwargs)
            self._fuse.burn(f"after broker.{name}")
            return answer

        return called


class Line(FaultPlan):
    """A fault plan that counts what it did.

    Args:
        ended: Whether the broker takes the order of this client id and ends it at once, whatever the weather.
    """

    def __init__(self, struck: Counter[str], ended: Callable[[str], bool]) -> None:
        super().__init__()
        self.late: dict[str, int] = {}
        """Orders whose executions come later than their ends, and for how many turns yet."""
        self._struck, self._ended = struck, ended
        self._seen: set[str] = set()

    def of_submit(self, client_id: str) -> tuple[SubmitFault, ...]:
        """As the plan says; an order asks several times and is counted once."""
        found = (RejectLater(timedelta()),) if self._ended(client_id) else super().of_submit(client_id)
        if found and client_id not in self._seen:
            self._struck.update(f"submit: {type(fault).__name__}" for fault in found)
        self._seen.add(client_id)
        return found

    def next_of(self, call: Call) -> CallFault | None:
        """As the plan says."""
        found = super().next_of(call)
        if found is not None:
            self._struck[f"{call}: {type(found).__name__}"] += 1
        return found

    def delivered(self, executions: Sequence[Execution]) -> list[Execution]:
        """As the plan says."""
        found = super().delivered(executions)
        if found != list(executions):
            self._struck.update(f"executions: {type(fault).__name__}" for fault in self._deliveries)
        in_time = [each for each in found if each.fill.client_id not in self.late]
        if in_time != found:
            self._struck["executions: late for turns"] += 1
        return in_time

    def clear(self) -> None:
        """Another turn: nothing is wrong, but for executions that are on their way still."""
        self.on_every_submit().on_executions()
        self._calls.clear()
        self.late = {name: turns - 1 for name, turns in self.late.items() if turns > 1}

    def settle(self) -> None:
        """Everything has come."""
        self.late.clear()
        self.clear()


@dataclass
class Model:
    """A decision maker with a temper; every reply of the hostile ones goes through the parser."""

    persona: str
    dice: Random
    fuse: Fuse
    provider: str = "simulated"
    _rules: RulesAgent = field(default_factory=RulesAgent)

    @property
    def needs(self) -> Any:
        """As the rules agent's."""
        return self._rules.needs

    def decide(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer a question, unless it does not answer at all."""
        self.fuse.burn("before the model")
        if self.dice.random() < 0.01:
            self.fuse.struck["model: no answer"] += 1
            raise ServiceError("The model does not answer.", rule="a model answers", remedy="ask again")
        answers = [self._answer(question) for question in questions]
        self.fuse.burn("after the model")
        return answers

    def _answer(self, question: Question) -> Answer:
        persona = self.persona if self.persona != "mixed" else self.dice.choice(("rules", "hostile", "garbled"))
        if persona == "rules":
            return self._rules.decide([question])[0]
        universe = (question.symbol, "IBM")
        if persona == "garbled":
            raw: str | bytes = draw(self.dice).text
            self.fuse.struck["model: garbled reply"] += 1
        else:
            fields = perfect(self.dice) | {"symbol": question.symbol, "confidence": self.dice.choice((1, 0.9, 0.85))}
            if question.bars_held is None and self.dice.random() < 0.8:
                fields = {"action": "BUY", "symbol": question.symbol, "confidence": 1, "rationale": "All in.", "figures": []}
            raw = written(fields, self.dice)
        text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
        return Answer(parse_reply(raw, question.symbol, universe), self.provider, persona, text.encode("utf-8", "replace").decode())
