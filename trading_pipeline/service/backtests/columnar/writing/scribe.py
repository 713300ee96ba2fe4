"""Writes the ledger of a backtest from what the columns say, fact by fact as the steps of the pipeline would have written it.

Verdicts are the rulebook's own, on contexts gathered from the simulated account; payloads are made by the code that makes them live,
wherever it takes values rather than a desk. Sessions are opened and closed by the real services, on a broker that states what the
simulation holds. Left out are facts that only tell that a close was looked at: bars, indicators, holds, steps, snapshots.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime

from trading_pipeline.domain.backtests import BacktestPlan, ExitReason
from trading_pipeline.domain.bars import instant_ns, instant_of
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, bar_cycle, follow_up
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.indicators import history
from trading_pipeline.domain.orders import OrderIntent, Side, client_id
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.sessions import BarSlot, Session
from trading_pipeline.domain.strategies import PauseReason
from trading_pipeline.errors import ServiceError
from trading_pipeline.ports import Transaction, ticket_digest
from trading_pipeline.service.account_limits import in_force
from trading_pipeline.service.backtests.bench import Stepped
from trading_pipeline.service.backtests.columnar.ground import Grid
from trading_pipeline.service.backtests.columnar.incidents import Filled
from trading_pipeline.service.backtests.columnar.judging import Waiting
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.sizes import Entry
from trading_pipeline.service.backtests.columnar.units import usd
from trading_pipeline.service.backtests.columnar.writing.booked_account import BookedAccount
from trading_pipeline.service.backtests.columnar.writing.tellings import Teller
from trading_pipeline.service.backtests.stepping import Progress, begin
from trading_pipeline.service.controls import pause_by_itself
from trading_pipeline.service.day_baseline import open_session
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.causes import cause_of, whole_book
from trading_pipeline.service.market import HISTORY, needed_indicators
from trading_pipeline.service.orders.adoption import fill_payload
from trading_pipeline.service.orders.gate import denials, family_of, intents_of, ticket_of
from trading_pipeline.service.orders.order_facts import order_event
from trading_pipeline.service.submitter.closing import close_session
from trading_pipeline.service.submitter.handover import lease_name
from trading_pipeline.service.trading import Measured

_NEVER = 1 << 62
Hit = tuple[int, bool, str, Filled, int]
"""When a fill is learnt of, whether an open made it, of which symbol, the fill and its bracket."""
PARTS = {ExitReason.STOP: "stop", ExitReason.TARGET: "target", ExitReason.SIGNAL: "exit"}


class Scribe:
    """A simulation's witness, and the ledger it writes.

    Args:
        desk: With an empty ledger, and its clock at the beginning.
        stopped: From which bar on a loss has stopped which strategy.
    """

    def __init__(
        self, desk: Desk, plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid, sessions: Sequence[Session], stopped: Mapping[str, int],
        progress: Progress | None = None,
    ) -> None:
        assert isinstance(desk.clock, Stepped)
        self._desk, self._clock = replace(desk, broker=BookedAccount(desk, plan.cash)), desk.clock
        self._plan, self._lanes, self._grid = plan, lanes, grid
        self._sessions, self._progress = list(sessions), progress
        self._stops = sorted((grid.start.item(bar + 1) if grid.daily else grid.end.item(bar), name) for name, bar in stopped.items())
        self._over = max(stopped.values()) if len(stopped) == len(plan.strategies) else None
        """From which bar on no strategy runs any more: nothing is looked at then."""
        needs = [needed_indicators(desk, spec) for spec in plan.strategies]
        self._window = max(HISTORY, *(history(each) for each in needs))
        self._needs = {spec.name: each for spec, each in zip(plan.strategies, needs, strict=True)}
        self._intents: dict[int, OrderIntent] = {}
        self._measured: dict[int, Measured] = {}
        self._session = 0
        """How many sessions are over."""
        self._opened, self._looked = -1, False
        self._hits: list[Hit] = []
        self._actions: dict[int, str] = {}
        """By lane, the action that bought what it holds."""
        self._executions = self._orders = 0
        self._numbers: dict[str, int] = {}
        """By order, its number at the broker."""
        self._generated: dict[int, Event] = {}
        self._ready: dict[int, tuple[str, Event]] = {}
        self._entered: dict[int, int] = {}
        self._sent: dict[int, str] = {}
        """By lane, its newest order."""
        self._limited = False
        self.sim: Simulation

    def play(self, sim: Simulation) -> None:
        """Let the simulation run, and write down what it does."""
        self.sim = sim
        self._teller = Teller(sim, self._needs, self._window)
        begin(self._desk, self._plan)
        with self._desk.ledger.lease(lease_name(self._desk)) as fence:
            self._token = fence.token
            self._run(sim)

    def _run(self, sim: Simulation) -> None:
        sim.run()
        while self._session < len(self._sessions):
            self._close()

    # Time

    def _pass(self, until: int, *, hits: bool = True) -> None:
        """Write down what happens up to an instant, nanoseconds UTC: losses that stop a strategy, and what fills; a loss is seen first.

        Args:
            hits: False: up to that instant without what fills at it.
        """
        while True:
            stop, hit = self._stops[0][0] if self._stops else _NEVER, self._hits[0][0] if self._hits else _NEVER
            if stop <= hit and stop <= until:
                self._to(instant_of(stop))
                self._pause([name for at, name in self._stops if at == stop])
                self._stops = [each for each in self._stops if each[0] != stop]
            elif hit < until or (hits and hit == until):
                self._to(instant_of(hit))
                self._book_hits([each for each in self._hits if each[0] == hit])
                self._hits = [each for each in self._hits if each[0] != hit]
            else:
                return

    def _pause(self, names: Sequence[str]) -> None:
        """Pause strategies as a review would, because of the loss that was played: the book has to have it."""
        book = whole_book(self._desk)
        for row in self._desk.ledger.find("strategies", name=tuple(names), order_by="name"):
            cause = cause_of(self._desk, book, row)
            if cause is None or cause.why is not PauseReason.LOSS:
                raise ServiceError(
                    f"A loss stopped {row['name']}, and its book says {cause.words if cause else 'there is none'}.", value=row["name"],
                    rule="a loss stops a strategy where its book has it", remedy="run it with --engine stepped, and report it",
                )
            pause_by_itself(self._desk, row["name"], cause.why, cause.words, measured=cause.measured, limit=cause.limit)

    def _to(self, at: datetime) -> None:
        """Go to an instant, through the sessions that open and close on the way."""
        while at > self._sessions[self._session].close:
            self._close()
        self._open_if_due(at)
        if at > self._clock.now():
            self._settle_limits()
            self._clock.advance_to(at)

    def _open_if_due(self, at: datetime) -> None:
        """Open the session as the first close in it does that is looked at, or else as its own close does."""
        session = self._sessions[self._session]
        first = self._first_look(session)
        due = first or session.close
        if self._opened == self._session or due > at:
            return
        self._opened, self._looked = self._session, self._looked or first is not None
        self._clock.advance_to(max(due, self._clock.now()))
        self._open_session(session)

    def _open_session(self, session: Session) -> None:
        open_session(self._desk, session.day)

    def _settle_limits(self) -> None:
        """The first cycle of all writes down which limits are in force, at the latest when its orders are sent."""
        if self._looked and not self._limited:
            self._limited = True
            with self._desk.ledger.transaction() as tx:
                in_force(self._desk, tx)

    def _close(self) -> None:
        """Close the session that is open, or was never opened because nobody had a bar."""
        session = self._sessions[self._session]
        self._pass(instant_ns(session.close))
        self._to(session.close)
        self._close_session(session)
        self._session += 1
        if self._progress is not None:
            self._progress(self._session, len(self._sessions), session.day)

    def _close_session(self, session: Session) -> None:
        close_session(self._desk, session)

    def _first_look(self, session: Session) -> datetime | None:
        number = bisect_left(self._grid.days, session.day)
        if number >= len(self._grid.days) or self._grid.days[number] != session.day:
            return None
        if not self._looked_at(number):
            return None
        return session.open if self._grid.daily else instant_of(self._grid.end[self._grid.session_of.searchsorted(number)])

    def _looked_at(self, number: int) -> bool:
        """Whether a strategy still runs when a session begins; of one that none runs in only the close is looked at."""
        return self._over is None or int(self._grid.session_of.searchsorted(number)) - self._grid.daily <= self._over

    # What the simulation tells

    def decided(self, bar: int, due: Sequence[tuple[int, bool]]) -> None:
        """Write what was filled by now, and the signals, in the order of strategies and symbols."""
        self._arrive(bar)
        self._signals(bar, due)

    def _arrive(self, bar: int) -> None:
        self._pass(self.sim.instant(bar))
        self._to(instant_of(self.sim.instant(bar)))

    def _signals(self, bar: int, due: Sequence[tuple[int, bool]]) -> None:
        cycle = self._cycle(bar)
        self._generated.clear()
        self._ready.clear()
        with self._desk.ledger.transaction() as tx:
            for number, sells in sorted(due):
                [self._generated[number]] = tx.append(self._signal(cycle, number, bar, sells))
        self._settle_limits()

    def _signal(self, cycle: Cycle, number: int, bar: int, sells: bool) -> NewEvent:
        lane = self._lanes[number]
        payload, self._measured[number] = self._teller.signal(cycle, number, bar, self._entered[number] if sells else None)
        key = f"{EventType.LLM_ACTION_GENERATED.value}:{cycle.cycle_id}:{lane.spec.name}:{lane.symbol}"
        return NewEvent(EventType.LLM_ACTION_GENERATED, f"strategy:{lane.spec.name}", key, payload, self._desk.now(), "model:rules")

    def judged(self, number: int, bar: int, entry: Entry | str | None, denial: str, waiting: Sequence[Waiting]) -> None:
        """Write the verdicts on a proposal, and whether it may go out."""
        sim, lane, generated = self.sim, self._lanes[number], self._generated[number]
        signal, measured = generated.payload, self._measured[number]
        payload, intent = self._teller.proposal(number, bar, entry, denial, waiting, signal, measured, self._desk.now())
        if intent is not None:
            self._intents[number] = intent
        named, stream = signal["action_id"], f"strategy:{lane.spec.name}"
        evaluated = NewEvent(
            EventType.RISK_EVALUATED, stream, f"risk.evaluated:{named}", payload, self._desk.now(), "rulebook", generated.seq,
        )
        with self._desk.ledger.transaction() as tx:
            [stored] = tx.append(evaluated)
            if not denial:
                released = instant_of(sim.next_release(lane.spec.name, sim.instant(bar), waiting))
                cycle = self._cycle(bar)
                expires = min(cycle.stale_at(), self._sessions[self._session].close)
                facts = {"cycle": cycle.cycle_id, "action_id": named, "not_before": released, "expires_at": expires}
                key = f"{EventType.ACTION_READY.value}:{named}"
                ready = NewEvent(EventType.ACTION_READY, stream, key, facts, self._desk.now(), "rulebook", stored.seq)
                [event] = tx.append(ready)
                self._ready[number] = (named, event)

    def _cycle(self, bar: int, runs_in: Session | None = None) -> Cycle:
        session = self._desk.calendar.session(self._grid.days[int(self._grid.session_of[bar])])
        start, end = instant_of(self._grid.start[bar]), instant_of(self._grid.end[bar])
        return bar_cycle(BarSlot(session, self._plan.interval, start, end), runs_in or self._sessions[self._session])

    def sent(self, number: int, bar: int, entry: Entry | None, at: int, denial: str, left: Sequence[Waiting]) -> None:
        """Write an order's way through the gate to the broker."""
        sim, lane = self.sim, self._lanes[number]
        self._clock.advance_to(instant_of(at))
        now, (named, ready) = self._desk.now(), self._ready[number]
        intent = self._intents[number]
        payload = self._teller.gate(number, bar, intent, at, denial, left)
        asked_by = ready.payload["cycle"] if at == sim.instant(bar) else follow_up((named,), self._day(), now, "release").cycle_id
        with self._desk.ledger.transaction() as tx:
            if entry is None:
                self._withdraw(tx, lane, named, now)
            tx.append(*intents_of(intent, asked_by, self._day(), now, ready.seq))
            row = tx.get("orders", intent.client_id)
            assert row is not None
            stream, key = f"strategy:{lane.spec.name}", f"risk.evaluated:gate:{intent.client_id}"
            [evaluated] = tx.append(NewEvent(EventType.RISK_EVALUATED, stream, key, payload, now, "rulebook", row["intent_seq"]))
            if denial:
                tx.append(*denials(tx, row, denial, now))
                return
            self._submit(tx, intent, row, evaluated, now)
        if entry is not None:
            self._actions[number] = named
            self._entered[number] = bar + 1
        self._sent[number] = intent.client_id

    def _submit(self, tx: Transaction, intent: OrderIntent, row: Row, evaluated: Event, now: datetime) -> None:
        ticket = ticket_of(intent)
        facts = {"digest": ticket_digest(ticket), "ticket": encode(ticket), "verdict_seq": evaluated.seq, "lease": self._token}
        family = family_of(tx, row)
        submitted = tx.append(*(order_event(EventType.ORDER_SUBMITTED, each, facts, now, "desk", evaluated.seq) for each in family))
        self._orders += 1
        number = self._orders
        self._numbers[intent.client_id] = number
        for child in ticket.children:
            self._orders += 1
            self._numbers[child.client_id] = self._orders
        told = {"broker_order_id": f"P-{intent.account}-{number}"}
        tx.append(
            *(
                order_event(EventType.ORDER_ACCEPTED, each, told if each is family[0] else {}, now, "broker:paper", submitted[0].seq)
                for each in family
            )
        )

    def _withdraw(self, tx: Transaction, lane: Lane, named: str, now: datetime) -> None:
        """Cancel what protects a position before it is sold."""
        working = tx.find("orders", strategy=lane.spec.name, symbol=lane.symbol, side=Side.SELL.value, state="accepted")
        for row in working:
            event = order_event(
                EventType.ORDER_CANCEL_REQUESTED, row, {"reason": f"the position is closed by action {named}"}, now, "cycle",
            )
            tx.append(replace(event, key=f"{event.key}:{row['last_seq']}"))
        self._canceled(tx, [row["client_id"] for row in working], "canceled on request", now)

    def _canceled(self, tx: Transaction, names: Sequence[str], reason: str, now: datetime) -> None:
        for name in sorted(names, key=self._numbers.__getitem__):
            row = tx.get("orders", name)
            assert row is not None
            tx.append(order_event(EventType.ORDER_CANCELED, row, {"reason": reason}, now, "broker:paper"))

    def filled(self, fill: Filled, bracket: int) -> None:
        """Write an execution at once, or put it down for when it is learnt of: a stop's or target's at the bar's close."""
        if not bracket:
            with self._desk.ledger.transaction() as tx:
                self._book(tx, fill, self._sent[fill.lane], self._desk.now())
            return
        # Of this close others may have been reached still, earlier than this one.
        self._pass(self._grid.end.item(fill.step), hits=False)
        self._hits.append((self._learnt(fill), fill.bar > fill.step, self._lanes[fill.lane].symbol, fill, bracket))
        self._hits.sort(key=lambda each: each[0])

    def _learnt(self, fill: Filled) -> int:
        """When it is learnt that a stop or target was reached: with the next close that is looked at."""
        grid, session = self._grid, self._grid.session_of.item(fill.bar)
        if not self._looked_at(session):
            return grid.end.item(grid.last_of[session])
        if grid.daily:
            return grid.start.item(fill.bar) if fill.bar > fill.step else grid.end.item(fill.bar)
        # What an open reaches is learnt of with the close that it follows; after a night, with the first close of the day.
        return grid.end.item(fill.bar if session > grid.session_of[fill.step] else fill.step)

    def _book_hits(self, due: list[Hit]) -> None:
        """Book what a bar's range, and then an open, reached; in the order in which the broker met it."""
        due.sort(key=lambda each: (each[3].at, each[1], each[2]))
        now, ended = self._desk.now(), []
        with self._desk.ledger.transaction() as tx:
            for _, _, _, fill, bracket in due:
                assert fill.reason is not None
                action = self._actions[fill.lane]
                name = client_id(action, f"{PARTS[fill.reason]}-{bracket}")
                self._book(tx, fill, name, now)
                other = client_id(action, f"{'target' if fill.reason is ExitReason.STOP else 'stop'}-{bracket}")
                if tx.get("orders", other) is not None:
                    ended.append(other)
            self._canceled(tx, ended, "the other order of its pair filled", now)

    def _book(self, tx: Transaction, fill: Filled, name: str, now: datetime) -> None:
        lane, row = self._lanes[fill.lane], tx.get("orders", name)
        assert row is not None
        self._executions += 1
        side = Side.BUY if fill.shares > 0 else Side.SELL
        told = Fill(
            f"{self._desk.broker.account_id}-{self._executions}", name, lane.symbol, side, abs(fill.shares), fill.quoted(lane),
            usd(fill.commission), instant_of(fill.at),
        )
        payload = fill_payload(self._desk, name, lane.spec.name, told) | {
            "action_id": row["action_id"], "order_class": row["order_class"], "part": row["part"],
        }
        stream, key = f"strategy:{lane.spec.name}", f"fill:{told.execution_id}"
        tx.append(NewEvent(EventType.ORDER_FILLED, stream, key, payload, now, "broker:paper", row["last_seq"]))

    def _day(self) -> date:
        return self._sessions[self._session].day
