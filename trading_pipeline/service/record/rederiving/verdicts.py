"""What the rulebook said of proposals, and what followed: releases, what a person was shown, their approval, expiry."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trading_pipeline.domain.codec import decode
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.limits import APPROVED_TTL
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.outside import Outside
from trading_pipeline.service.record.rederiving.then import RULE, UNRECORDED, Finding, Then, compared
from trading_pipeline.service.steps import spec_of
from trading_pipeline.service.trading import Measured, Proposed, evaluated_payload, propose, ready_payload, requested_payload


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A proposal that passed: what follows from it comes next."""

    book: Book
    cycle: Cycle
    spec: StrategySpec
    row: Row
    proposed: Proposed
    evaluated: Event


class Verdicts:
    """From the signal to the release."""

    def __init__(self, then: Then) -> None:
        """Nothing is read yet."""
        self._then = then
        self._admitted: dict[str, _Admitted] = {}

    @property
    def kinds(self) -> Mapping[EventType, Callable[[Event], Iterator[Finding]]]:
        """What is derived here, beside the verdicts themselves."""
        return {
            EventType.ACTION_READY: self._release, EventType.APPROVAL_REQUESTED: self._proposal,
            EventType.APPROVAL_APPROVED: self._approval, EventType.APPROVAL_EXPIRED: self._expiry, EventType.ACTION_EXPIRED: self._expiry,
        }

    def missing(self) -> list[Finding]:
        """Proposals that passed and that nothing followed."""
        return [
            Finding("releases", Difference(RULE, "nothing", f"what follows from the passed proposal {name}", each.evaluated.seq))
            for name, each in self._admitted.items()
        ]

    def evaluated(self, event: Event) -> Iterator[Finding]:
        """The verdicts on a proposal."""
        data = event.payload
        if "outside" not in data:
            yield Finding("verdicts", underivable=UNRECORDED)
            return
        row = self._then.past.get("actions", data["action_id"])
        assert row is not None
        book = self._then.book(decode(Outside, data["outside"]))
        spec, cycle = spec_of(book.strategies[row["strategy"]]), self._then.cycle(row["cycle_id"], event.at, row["session"])
        assert cycle is not None
        measured = decode(Measured, data["measured"])
        proposed = propose(book, cycle, spec, row, measured)
        if proposed.judgement.passed:
            self._admitted[row["action_id"]] = _Admitted(book, cycle, spec, row, proposed, event)
        yield compared("verdicts", event, evaluated_payload(book, cycle, spec, row, measured, proposed))

    def _release(self, event: Event) -> Iterator[Finding]:
        admitted = self._admitted.pop(event.payload["action_id"], None)
        if admitted is None:
            yield self._without_proposal("releases", event)
            return
        yield compared("releases", event, ready_payload(admitted.book, admitted.cycle, admitted.row, admitted.proposed))

    def _proposal(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        admitted = self._admitted.pop(data["action_id"], None)
        if admitted is None:
            yield self._without_proposal("proposals", event)
            return
        generated = self._then.past.event(admitted.row["generated_seq"])
        assert generated is not None
        derived = requested_payload(
            admitted.book, admitted.cycle, admitted.spec, admitted.row, admitted.proposed, generated.payload, admitted.evaluated, event.at,
            data["nonce"],
        )
        yield compared("proposals", event, derived)

    def _without_proposal(self, kind: str, event: Event) -> Finding:
        """Of an action whose verdicts were not derivable, or that did not pass."""
        row = self._then.past.get("actions", event.payload["action_id"])
        evaluated = self._then.past.event(row["verdict_seq"]) if row is not None and row["verdict_seq"] is not None else None
        if evaluated is not None and "outside" not in evaluated.payload:
            return Finding(kind, underivable=UNRECORDED)
        return Finding(kind, Difference(RULE, event.key, "nothing: the proposal does not pass", event.seq))

    def _approval(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        row = self._then.past.get("approvals", data["action_id"])
        assert row is not None
        if event.at >= row["expires_at"]:
            difference = Difference(RULE, event.at.isoformat(), f"before {row['expires_at'].isoformat()}", event.seq, column="at")
            yield Finding("approvals", difference)
        elif "outside" not in data:
            yield Finding("approvals", underivable=UNRECORDED)
        else:
            release = self._then.book(decode(Outside, data["outside"])).next_release(row["strategy"])
            named = {name: row[name] for name in ("action_id", "strategy", "symbol", "hash", "nonce")}
            yield compared("approvals", event, {**data, **named, "not_before": release, "expires_at": release + APPROVED_TTL})

    def _expiry(self, event: Event) -> Iterator[Finding]:
        row = self._then.past.get("actions", event.payload["action_id"])
        assert row is not None
        due = row["expires_at"]
        early = due is None or event.at < due
        wanted = "no expiry" if due is None else f"{due.isoformat()} or later"
        yield Finding("expiries", Difference(RULE, event.at.isoformat(), wanted, event.seq, column="at") if early else None)
