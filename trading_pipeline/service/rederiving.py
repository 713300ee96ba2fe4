"""Every decision again: what the code makes of the state before an event and of what the event recorded from outside.

One method a kind of event, each calling the very function that made the event then and comparing the payload it gives with the one
that is stored, field by field. The desk that these functions see has the time and the limits of then, and nobody behind the other
ports: a function that asked a broker or a market would fail, not answer. What was recorded before its inputs were, and what follows
from bars that the archive no longer has, is told as not derivable, never as a difference.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType, NewEvent, canonical_payload
from trading_pipeline.domain.limits import APPROVED_TTL
from trading_pipeline.domain.orders import OrderClass, OrderIntent
from trading_pipeline.domain.partings import parting
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Judgement, World
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.errors import LedgerError, TradingError
from trading_pipeline.ports import Question, ticket_digest
from trading_pipeline.service import deliberation, market
from trading_pipeline.service.accounting import portfolio_of, snapshot_payload
from trading_pipeline.service.book import Book, intent_of
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.execution import parts_of
from trading_pipeline.service.gate import intents_of, judged, stored_intent, ticket_of
from trading_pipeline.service.outside import Outside
from trading_pipeline.service.past_desk import Record, desk_at
from trading_pipeline.service.protection import gaps, orders_for
from trading_pipeline.service.steps import due_strategies, spec_of
from trading_pipeline.service.trading import Measured, Proposed, evaluated_payload, propose, ready_payload, requested_payload

RULE = "a decision follows from the ledger before it and from what it recorded from outside"
UNRECORDED = "recorded before its inputs were"
OTHER_BARS = "the archive has other bars now"
BACKFILL = "a backfill's bars depend on the day it ran"
UNASKED = "nobody was asked, and the prices that spoke against it are not recorded"
MODEL = "a model's reply is taken as it came"
_BROKEN = (TradingError, ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one decision; with neither a difference nor a reason it is derived as it is stored."""

    kind: str
    difference: Difference | None = None
    underivable: str = ""


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A proposal that passed: what follows from it comes next."""

    book: Book
    cycle: Cycle
    spec: StrategySpec
    row: Row
    proposed: Proposed
    evaluated: Event


class Rederiver:
    """Derives one event after the other, each before it is added to the past."""

    def __init__(self, record: Record) -> None:
        """Nothing is read yet."""
        self._record, self._past = record, record.past
        self._seen: tuple[Cycle, tuple[StrategySpec, ...], dict[str, market.View]] | None = None
        self._asked: tuple[str, dict[str, Question]] = ("", {})
        self._other_bars: set[tuple[str, str]] = set()
        self._admitted: dict[str, _Admitted] = {}
        self._gates: dict[str, tuple[int, Judgement | None]] = {}
        """By client id: seq of the gate's verdicts, and those derived; None where they could not be."""
        self._parts: dict[str, list[OrderIntent]] = {}
        self._expected: dict[str, NewEvent] = {}
        """By key: what has to come."""
        self._kinds: dict[EventType, Callable[[Event], Iterator[Finding]]] = {
            EventType.INDICATORS_COMPUTED: self._indicators, EventType.LLM_REQUESTED: self._question,
            EventType.LLM_RESPONDED: self._reply, EventType.LLM_ACTION_GENERATED: self._signal, EventType.LLM_ABSTAINED: self._signal,
            EventType.RISK_EVALUATED: self._verdicts, EventType.ACTION_READY: self._release, EventType.APPROVAL_REQUESTED: self._proposal,
            EventType.APPROVAL_APPROVED: self._approval, EventType.APPROVAL_EXPIRED: self._expiry, EventType.ACTION_EXPIRED: self._expiry,
            EventType.ORDER_INTENT: self._intent, EventType.ORDER_SUBMITTED: self._submission, EventType.ORDER_DENIED: self._denial,
            EventType.PORTFOLIO_SNAPSHOTTED: self._snapshot,
        }

    def check(self, event: Event) -> list[Finding]:
        """Derive what the event decided; empty for an event that decides nothing."""
        derive = self._kinds.get(event.type)
        if derive is None:
            return []
        try:
            return list(derive(event))
        except LedgerError:
            raise
        except _BROKEN as error:
            # Whatever a wrong payload makes of our functions: it is the payload that is to be named.
            return [Finding("events", Difference(RULE, event.key, f"{type(error).__name__}: {error}", event.seq))]

    def missing(self) -> list[Finding]:
        """What had to follow from the events checked, and did not come."""
        found = [
            Finding("releases", Difference(RULE, "nothing", f"what follows from the passed proposal {name}", each.evaluated.seq))
            for name, each in self._admitted.items()
        ]
        children = [each for each in self._expected.values() if each.payload.get("parent") is not None]
        return found + [Finding("intents", Difference(RULE, "nothing", each.key, each.cause)) for each in children]

    # What was seen, and what the rules agent made of it

    def _indicators(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        cycle = self._cycle(data["cycle"], event.at)
        if cycle is None:
            yield Finding("indicators", underivable=BACKFILL)
            return
        desk = self._desk(event.at)
        view = self._views(desk, cycle, due_strategies(desk, cycle))[data["symbol"]]
        derived = market.computed_payload(cycle, view) if len(view.bars) else {}
        if "bars_digest" not in data:
            derived.pop("bars_digest", None)
        same = data["bars_digest"] == view.bars.digest() if "bars_digest" in data else canonical_payload(derived) == event.payload_text
        if same:
            yield _compared("indicators", event, derived)
        else:
            self._other_bars.add((data["cycle"], data["symbol"]))
            yield Finding("indicators", underivable=OTHER_BARS)

    def _question(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        cycle = self._cycle(data["cycle"], event.at)
        assert cycle is not None
        if cycle.cycle_id != self._asked[0]:
            desk = self._desk(event.at)
            specs = due_strategies(desk, cycle)
            asked = deliberation.questions(desk, self._past, cycle, specs, self._views(desk, cycle, specs))
            self._asked = cycle.cycle_id, {f"{each.strategy}:{each.symbol}": each for each in asked}
        if (data["cycle"], data["symbol"]) in self._other_bars:
            yield Finding("questions", underivable=OTHER_BARS)
            return
        asked_of = self._asked[1][_place(data)]
        yield _compared(
            "questions", event,
            {
                **data, "agent": encode(asked_of.agent), "bars": len(asked_of.bars), "bars_held": asked_of.bars_held,
                "bar_end": asked_of.bars.last_end if len(asked_of.bars) else None, "chart": asked_of.chart,
            },
        )

    def _reply(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        question = self._asked[1].get(_place(data)) if self._asked[0] == data["cycle"] else None
        decider = self._record.deciders.get(data["provider"])
        if question is None or decider is None or (data["cycle"], data["symbol"]) in self._other_bars:
            yield Finding("replies", underivable=UNASKED if data["provider"] == "none" else MODEL if decider is None else OTHER_BARS)
            return
        [answer] = decider.decide([question])
        cycle = self._cycle(data["cycle"], event.at)
        assert cycle is not None
        self._expect(deliberation.decisions(cycle, [question], [answer], [event], event.at))
        yield _compared(
            "replies", event,
            {
                **data, "provider": answer.provider, "model": answer.model, "raw": answer.raw, "tokens_in": answer.tokens_in,
                "tokens_out": answer.tokens_out, "cost": answer.cost,
            },
        )

    def _signal(self, event: Event) -> Iterator[Finding]:
        """Nothing where the reply was not derived: that has been told."""
        data = event.payload
        kinds = ("llm.action_generated", "llm.abstained")
        expected = [each for kind in kinds if (each := self._expected.pop(f"{kind}:{data['cycle']}:{_place(data)}", None)) is not None]
        if expected and expected[0].type is not event.type:
            difference = Difference(RULE, event.type.value, expected[0].type.value, event.seq, column="type")
            yield Finding("signals", difference)
        elif expected:
            yield _compared("signals", event, expected[0].payload)

    # What the rulebook said

    def _verdicts(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        if data["stage"] == "gate":
            yield self._gate(event)
            return
        if "outside" not in data:
            yield Finding("verdicts", underivable=UNRECORDED)
            return
        row = self._past.get("actions", data["action_id"])
        assert row is not None
        book = self._book(decode(Outside, data["outside"]))
        spec, cycle = spec_of(book.strategies[row["strategy"]]), self._cycle(row["cycle_id"], event.at, row["session"])
        assert cycle is not None
        measured = decode(Measured, data["measured"])
        proposed = propose(book, cycle, spec, row, measured)
        if proposed.judgement.passed:
            self._admitted[row["action_id"]] = _Admitted(book, cycle, spec, row, proposed, event)
        yield _compared("verdicts", event, evaluated_payload(book, cycle, spec, row, measured, proposed))

    def _gate(self, event: Event) -> Finding:
        data = event.payload
        name = data["client_id"]
        if "outside" not in data:
            self._gates[name] = event.seq, None
            return Finding("gates", underivable=UNRECORDED)
        intent = self._intent_of(name)
        book = self._book(decode(Outside, data["outside"]))
        judgement = judged(self._past, book, spec_of(book.strategies[intent.strategy]), intent)
        self._gates[name] = event.seq, judgement
        return _compared(
            "gates", event,
            {
                **data, "action_id": intent.action_id, "client_id": intent.client_id, "strategy": intent.strategy,
                "symbol": intent.symbol, "side": intent.side.value, "order_class": intent.order_class.value,
                "passed": judgement.passed, "reason": judgement.reason, "verdicts": judgement.as_json(),
                **book.limits_versions(intent.strategy),
            },
        )

    def _release(self, event: Event) -> Iterator[Finding]:
        admitted = self._admitted.pop(event.payload["action_id"], None)
        if admitted is None:
            yield self._without_proposal("releases", event)
            return
        yield _compared("releases", event, ready_payload(admitted.book, admitted.cycle, admitted.row, admitted.proposed))

    def _proposal(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        admitted = self._admitted.pop(data["action_id"], None)
        if admitted is None:
            yield self._without_proposal("proposals", event)
            return
        generated = self._past.event(admitted.row["generated_seq"])
        assert generated is not None
        derived = requested_payload(
            admitted.book, admitted.cycle, admitted.spec, admitted.row, admitted.proposed, generated.payload, admitted.evaluated, event.at,
            data["nonce"],
        )
        yield _compared("proposals", event, derived)

    def _without_proposal(self, kind: str, event: Event) -> Finding:
        """Of an action whose verdicts were not derivable, or that did not pass."""
        row = self._past.get("actions", event.payload["action_id"])
        evaluated = self._past.event(row["verdict_seq"]) if row is not None and row["verdict_seq"] is not None else None
        if evaluated is not None and "outside" not in evaluated.payload:
            return Finding(kind, underivable=UNRECORDED)
        return Finding(kind, Difference(RULE, event.key, "nothing: the proposal does not pass", event.seq))

    def _approval(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        row = self._past.get("approvals", data["action_id"])
        assert row is not None
        if event.at >= row["expires_at"]:
            difference = Difference(RULE, event.at.isoformat(), f"before {row['expires_at'].isoformat()}", event.seq, column="at")
            yield Finding("approvals", difference)
        elif "outside" not in data:
            yield Finding("approvals", underivable=UNRECORDED)
        else:
            release = self._book(decode(Outside, data["outside"])).next_release(row["strategy"])
            named = {name: row[name] for name in ("action_id", "strategy", "symbol", "hash", "nonce")}
            yield _compared("approvals", event, {**data, **named, "not_before": release, "expires_at": release + APPROVED_TTL})

    def _expiry(self, event: Event) -> Iterator[Finding]:
        row = self._past.get("actions", event.payload["action_id"])
        assert row is not None
        due = row["expires_at"]
        early = due is None or event.at < due
        wanted = "no expiry" if due is None else f"{due.isoformat()} or later"
        yield Finding("expiries", Difference(RULE, event.at.isoformat(), wanted, event.seq, column="at") if early else None)

    # Orders

    def _intent(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        if event.key not in self._expected:
            self._expect(self._family(event))
        expected = self._expected.pop(event.key, None)
        if expected is None:
            yield Finding("intents", Difference(RULE, event.key, "no such order", event.seq))
            return
        yield _compared("intents", event, {**expected.payload, "cycle": data["cycle"], "session": data["session"]})

    def _family(self, event: Event) -> Sequence[NewEvent]:
        """The order that this event begins, with its children, as it follows from the action or from a position without its stop."""
        data = event.payload
        if data["order_class"] == OrderClass.PROTECTIVE.value:
            place = data["strategy"], data["symbol"]
            wanted = [gap for gap in gaps(self._past) if (gap.strategy, gap.symbol) == place]
            intents = [intent for gap in wanted for intent in orders_for(self._desk(event.at), gap)]
        else:
            action = self._past.get("actions", data["action_id"])
            assert action is not None
            if action["action_id"] not in self._parts:
                self._parts[action["action_id"]] = parts_of(self._past, intent_of(action))
            intents = [part for part in self._parts[action["action_id"]] if part.part == data["part"]]
        session = date.fromisoformat(data["session"])
        return [each for intent in intents for each in intents_of(intent, data["cycle"], session, event.at, event.cause or 0)]

    def _submission(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        parent = self._parent(data["client_id"])
        seq, judgement = self._gates.get(parent, (None, None))
        if judgement is not None and not judgement.passed:
            yield Finding("submissions", Difference(RULE, event.key, f"denied: {judgement.reason}", event.seq))
            return
        ticket = ticket_of(self._intent_of(parent))
        derived = {**data, "digest": ticket_digest(ticket), "ticket": encode(ticket), "verdict_seq": seq}
        yield _compared("submissions", event, derived)

    def _denial(self, event: Event) -> Iterator[Finding]:
        """A denial without verdicts at the gate is somebody's who withdrew the order; what it may follow from is the state machine's."""
        judgement = self._gates.get(self._parent(event.payload["client_id"]), (None, None))[1]
        if judgement is not None:
            yield _compared("denials", event, {**event.payload, "reason": judgement.reason})

    def _snapshot(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        marks = {held["symbol"]: Decimal(held["mark"]) for held in data["positions"]["held"]}
        portfolio = portfolio_of(self._desk(event.at), self._past, marks)
        yield _compared("snapshots", event, {**data, **snapshot_payload(self._past, portfolio, date.fromisoformat(data["session"]))})

    # What these functions are given

    def _desk(self, at: datetime, world: World | None = None) -> Desk:
        return desk_at(self._record, at, world or World.REPLAY)

    def _book(self, outside: Outside) -> Book:
        return Book.read(self._desk(outside.now, outside.world), self._past, outside)

    def _views(self, desk: Desk, cycle: Cycle, specs: tuple[StrategySpec, ...]) -> dict[str, market.View]:
        if self._seen is None or self._seen[:2] != (cycle, specs):
            self._seen = cycle, specs, market.views(desk, cycle, specs)
        return self._seen[2]

    def _cycle(self, name: str, at: datetime, session: str | None = None) -> Cycle | None:
        """The turn by its name, as `cycles.bar_cycle` gives it; None for a backfill."""
        interval, _, end = name.partition("@")
        if interval not in tuple(Interval):
            return None
        runs_in = self._record.calendar.last_opened(at) if session is None else self._record.calendar.session(date.fromisoformat(session))
        assert runs_in is not None
        bar_end = datetime.fromisoformat(end)
        due_at = runs_in.open if Interval(interval).daily else bar_end
        return Cycle(name, CycleKind.BAR, runs_in.day, due_at, Interval(interval), bar_end)

    def _parent(self, client_id: str) -> str:
        row = self._past.get("orders", client_id)
        assert row is not None
        return str(row["parent"] or client_id)

    def _intent_of(self, client_id: str) -> OrderIntent:
        row = self._past.get("orders", client_id)
        action = None if row is None else self._past.get("actions", row["action_id"])
        assert row is not None
        assert action is not None
        return stored_intent(row, action)

    def _expect(self, events: Sequence[NewEvent]) -> None:
        self._expected.update((each.key, each) for each in events)


def _place(data: Mapping[str, Any]) -> str:
    return f"{data['strategy']}:{data['symbol']}"


def _compared(kind: str, event: Event, derived: Mapping[str, Any]) -> Finding:
    text = canonical_payload(derived)
    if text == event.payload_text:
        return Finding(kind)
    found = parting(event.payload, json.loads(text))
    return Finding(kind, None if found is None else Difference(RULE, found[1], found[2], event.seq, column=found[0]))
