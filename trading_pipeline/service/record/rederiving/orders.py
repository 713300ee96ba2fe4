"""What was sent: the gate's verdicts, intents with their children, the bytes submitted, denials; and what the account came to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal

from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.orders import OrderClass, OrderIntent
from trading_pipeline.domain.risk import Judgement
from trading_pipeline.ports import ticket_digest
from trading_pipeline.service.accounting import portfolio_of, snapshot_payload
from trading_pipeline.service.execution import parts_of
from trading_pipeline.service.judging.book import intent_of
from trading_pipeline.service.judging.outside import Outside
from trading_pipeline.service.orders.gaps import gaps
from trading_pipeline.service.orders.gate import denied_for, intents_of, judged, stored_intent, ticket_of
from trading_pipeline.service.orders.protection import orders_for
from trading_pipeline.service.record.rederiving.then import RULE, UNRECORDED, Finding, Then, compared
from trading_pipeline.service.steps import spec_of


class Orders:
    """From the release to the submission."""

    def __init__(self, then: Then) -> None:
        """Nothing is read yet."""
        self._then = then
        self._gates: dict[str, tuple[int, Judgement | None]] = {}
        """By client id: seq of the gate's verdicts, and those derived; None where they could not be."""
        self._parts: dict[str, list[OrderIntent]] = {}
        """By action: the orders it is cut into when its first one is written down."""
        self._expected: dict[str, NewEvent] = {}
        """By key: the children of an order."""

    @property
    def kinds(self) -> Mapping[EventType, Callable[[Event], Iterator[Finding]]]:
        """What is derived here, beside the gate's verdicts."""
        return {
            EventType.ORDER_INTENT: self._intent, EventType.ORDER_SUBMITTED: self._submission, EventType.ORDER_DENIED: self._denial,
            EventType.PORTFOLIO_SNAPSHOTTED: self._snapshot,
        }

    def missing(self) -> list[Finding]:
        """Stops and targets that had to be written down with their entry, and were not."""
        children = [each for each in self._expected.values() if each.payload.get("parent") is not None]
        return [Finding("intents", Difference(RULE, "nothing", each.key, each.cause)) for each in children]

    def evaluated(self, event: Event) -> Finding:
        """The verdicts at the gate."""
        data = event.payload
        name = data["client_id"]
        if "outside" not in data:
            self._gates[name] = event.seq, None
            return Finding("gates", underivable=UNRECORDED)
        intent = self._intent_of(name)
        book = self._then.book(decode(Outside, data["outside"]))
        judgement = judged(self._then.past, book, spec_of(book.strategies[intent.strategy]), intent)
        self._gates[name] = event.seq, judgement
        return compared(
            "gates", event,
            {
                **data, "action_id": intent.action_id, "client_id": intent.client_id, "strategy": intent.strategy,
                "symbol": intent.symbol, "side": intent.side.value, "order_class": intent.order_class.value,
                "passed": judgement.passed, "reason": judgement.reason, "verdicts": judgement.as_json(),
                **book.limits_versions(intent.strategy),
            },
        )

    def _intent(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        if event.key not in self._expected:
            self._expected.update((each.key, each) for each in self._family(event))
        expected = self._expected.pop(event.key, None)
        if expected is None:
            yield Finding("intents", Difference(RULE, event.key, "no such order", event.seq))
            return
        yield compared("intents", event, {**expected.payload, "cycle": data["cycle"], "session": data["session"]})

    def _family(self, event: Event) -> Sequence[NewEvent]:
        """The order that this event begins, with its children, as it follows from the action or from a position without its stop."""
        data = event.payload
        if data["order_class"] == OrderClass.PROTECTIVE.value:
            place = data["strategy"], data["symbol"]
            wanted = [gap for gap in gaps(self._then.past) if (gap.strategy, gap.symbol) == place]
            intents = [intent for gap in wanted for intent in orders_for(self._then.desk(event.at), self._then.past, gap)]
        else:
            action = self._then.past.get("actions", data["action_id"])
            assert action is not None
            if action["action_id"] not in self._parts:
                self._parts[action["action_id"]] = parts_of(self._then.past, intent_of(action))
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
        yield compared("submissions", event, derived)

    def _denial(self, event: Event) -> Iterator[Finding]:
        """A denial without verdicts at the gate is somebody's who withdrew the order; what it may follow from is the state machine's."""
        parent = self._parent(event.payload["client_id"])
        judgement, row = self._gates.get(parent, (None, None))[1], self._then.past.get("orders", parent)
        if judgement is not None and row is not None:
            yield compared("denials", event, {**event.payload, "reason": denied_for(judgement, row, event.at)})

    def _snapshot(self, event: Event) -> Iterator[Finding]:
        data = event.payload
        marks = {held["symbol"]: Decimal(held["mark"]) for held in data["positions"]["held"]}
        portfolio = portfolio_of(self._then.desk(event.at), self._then.past, marks)
        yield compared("snapshots", event, {**data, **snapshot_payload(self._then.past, portfolio, date.fromisoformat(data["session"]))})

    def _parent(self, client_id: str) -> str:
        row = self._then.past.get("orders", client_id)
        assert row is not None
        return str(row["parent"] or client_id)

    def _intent_of(self, client_id: str) -> OrderIntent:
        row = self._then.past.get("orders", client_id)
        action = None if row is None else self._then.past.get("actions", row["action_id"])
        assert row is not None
        assert action is not None
        return stored_intent(row, action)
