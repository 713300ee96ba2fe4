"""A real record to be forged: events as the export gives them, changed, and chained again so that only the meaning is wrong.

Chained with the ledger's own hash: that the oracle then finds the chain in order holds the two hashes against each other.
"""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from trading_pipeline.domain.approvals import proposal_hash
from trading_pipeline.domain.events import GENESIS, canonical_payload, event_hash
from trading_pipeline.ports import Ledger
from trading_pipeline.service.record.judgement import exported

Fact = dict[str, Any]


def record(ledger: Ledger) -> list[Fact]:
    """The export, as a reader of the JSONL has it."""
    return [json.loads(json.dumps(exported(event))) for event in ledger.scan()]


class Forgery:
    """A copy of a record to be changed."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.facts = deepcopy(list(facts))

    def find(self, type_: str, number: int = 0, **equals: Any) -> Fact:
        """The nth fact of a type whose payload has these values."""
        found = [
            fact for fact in self.facts
            if fact["type"] == type_ and all(fact["payload"].get(name) == value for name, value in equals.items())
        ]
        return found[number]

    def edit(self, type_: str, number: int = 0, *, where: Mapping[str, Any] | None = None, **changes: Any) -> "Forgery":
        """Change the payload of one fact."""
        self.find(type_, number, **(where or {}))["payload"].update(changes)
        return self

    def drop(self, fact: Fact) -> "Forgery":
        """Leave a fact out."""
        self.facts.remove(fact)
        return self

    def add(self, after: Fact, type_: str, key: str, *, before: bool = False, actor: str = "desk", **payload: Any) -> Fact:
        """Put a fact of the same stream and instant behind another one, or before it."""
        made = {**deepcopy(after), "type": type_, "key": key, "actor": actor, "cause": None, "payload": payload}
        self.facts.insert(self.facts.index(after) + (0 if before else 1), made)
        return made

    def again(self, fact: Fact, key: str, **changes: Any) -> Fact:
        """Put a copy of a fact behind the last one."""
        made = {**deepcopy(fact), "key": key}
        made["payload"].update(changes)
        self.facts.append(made)
        return made

    def chained(self) -> list[Fact]:
        """The facts with seqs, stream seqs, causes and hashes that fit, and what the payloads say of those."""
        moved = {fact["seq"]: number for number, fact in reversed(list(enumerate(self.facts, start=1)))}
        hashes: dict[str, str] = {}
        streams: dict[str, int] = {}
        previous, done = GENESIS, []
        for seq, fact in enumerate(self.facts, start=1):
            streams[fact["stream"]] = stream_seq = streams.get(fact["stream"], 0) + 1
            payload = self._told(fact["payload"], moved, hashes)
            cause = moved.get(fact["cause"] or 0, seq)
            cause = cause if cause < seq else None
            hashed = event_hash(
                previous, seq, fact["stream"], stream_seq, fact["key"], fact["type"], fact["schema"], cause, fact["actor"],
                datetime.fromisoformat(fact["at"]), canonical_payload(payload),
            )
            hashes[fact["hash"]] = hashed.hex()
            previous = hashed
            done.append(fact | {"seq": seq, "stream_seq": stream_seq, "cause": cause, "payload": payload, "hash": hashed.hex()})
        return done

    @staticmethod
    def _told(payload: Fact, moved: dict[int, int], hashes: dict[str, str]) -> Fact:
        """A payload that names facts by seq or hash, naming them as they are now."""
        told = dict(payload)
        if payload.get("verdict_seq") in moved:
            told["verdict_seq"] = moved[payload["verdict_seq"]]
        shown = payload.get("shown")
        if shown is not None and proposal_hash(shown) == payload["hash"]:
            told["shown"] = shown | {"verdict_hash": hashes.get(shown["verdict_hash"], shown["verdict_hash"])}
            told["hash"] = hashes[payload["hash"]] = proposal_hash(told["shown"])
        elif "hash" in payload:
            told["hash"] = hashes.get(payload["hash"], payload["hash"])
        return told


def later(fact: Fact, seconds: float) -> None:
    """Move a fact in time."""
    fact["at"] = (datetime.fromisoformat(fact["at"]) + timedelta(seconds=seconds)).isoformat()


def at(fact: Fact, text: str) -> None:
    """Put a fact at an instant."""
    fact["at"] = datetime.fromisoformat(text).isoformat()
