"""Writes plain orders, stops and sessions by form, and everything else as the scribe does.

What is plain is said in `figures`; how a form comes to be trusted, in `letters`. Whatever the scribe wrote is read back from the ledger
where a form needs it.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.backtests import ExitReason
from trading_pipeline.domain.bars import instant_ns, instant_of
from trading_pipeline.domain.events import Event, canonical_payload
from trading_pipeline.domain.orders import OrderState, client_id
from trading_pipeline.domain.sessions import Session
from trading_pipeline.service.backtests.columnar.holdings import Held
from trading_pipeline.service.backtests.columnar.incidents import Filled
from trading_pipeline.service.backtests.columnar.judging import Waiting
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.sizes import Entry
from trading_pipeline.service.backtests.columnar.units import price_steps
from trading_pipeline.service.backtests.columnar.writing import words
from trading_pipeline.service.backtests.columnar.writing.blanks import blanks_of, session_blanks
from trading_pipeline.service.backtests.columnar.writing.daybook import DayBook
from trading_pipeline.service.backtests.columnar.writing.figures import Figures, Shape, moment_of
from trading_pipeline.service.backtests.columnar.writing.forms import Blanks, Values
from trading_pipeline.service.backtests.columnar.writing.letters import Letters, Quick, Use
from trading_pipeline.service.backtests.columnar.writing.measures import Gauge, Measures
from trading_pipeline.service.backtests.columnar.writing.scribe import PARTS, Hit, Scribe

_LEG = re.compile(r"(stop|target)_\d+")


@dataclass(slots=True)
class Draft:
    """An order on its way."""

    shape: Shape
    values: Values
    legs: Mapping[str, str]
    """By client id, the names of its stops and targets."""
    after: int | None = None
    """The seq before it, where the scribe writes it; None: it is written by form."""
    expected: Sequence[str] = ()
    """What the rulebook says of it, where that is compared: see `Letters.write`."""


class Copyist(Scribe):
    """A simulation's witness that is quick where it can be."""

    def play(self, sim: Simulation) -> None:
        """Let the simulation run, and write down what it does."""
        ledger = self._desk.ledger
        assert isinstance(ledger, Quick)
        self._ledger, self._letters = ledger, Letters(ledger)
        self._gauges = [Gauge(sim, number, self._needs[lane.spec.name], self._window) for number, lane in enumerate(sim.lanes)]
        self._figures = [Figures(sim.plan, lane) for lane in sim.lanes]
        self._names = list(sim.tracks)
        self._undisturbed = not self._stops
        """No loss stops a strategy."""
        self._daybook = DayBook(sim)
        self._asked: tuple[int, Sequence[tuple[int, bool]]] | None = None
        """A lane that decides alone, until it is known how that ends."""
        self._draft: Draft | None = None
        self._covered: dict[int, bool] = {}
        """By lane, whether its stops protect all that it bought."""
        self._legs: dict[int, Values] = {}
        """By lane, the stops and targets that work for it: their client ids, and the seq of their newest facts, by name."""
        super().play(sim)

    # Orders

    def decided(self, bar: int, due: Sequence[tuple[int, bool]]) -> None:
        """Write what was filled by now; the signal of a lane that decides alone waits for what comes of it."""
        self._arrive(bar)
        if len(due) == 1 and self._limited and not self._grid.daily:
            self._asked = bar, due
        else:
            self._signals(bar, due)

    def judged(self, number: int, bar: int, entry: Entry | str | None, denial: str, waiting: Sequence[Waiting]) -> None:
        """Write the verdicts on what is denied, or was decided beside others; what passes waits for its order."""
        draft = None
        if self._asked is not None and not isinstance(entry, str):
            if not denial:
                return
            draft = self._drafted(number, bar, entry, denial)
        use = Use.HAND if draft is None else self._letters.use(draft.shape)
        if draft is not None and use is not Use.HAND:
            assert not isinstance(entry, str)
            self._asked = None
            self._letters.write(draft.shape, draft.values, self._payloads(number, bar, entry, denial) if use is Use.AUDIT else ())
            return
        after = self._ledger.head()[0]
        self._tell_signals()
        super().judged(number, bar, entry, denial, waiting)
        if draft is not None:
            self._letters.learn(draft.shape, draft.values, after, {}, _blanks_of({}))

    def _tell_signals(self) -> None:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._signals(*asked)

    def sent(self, number: int, bar: int, entry: Entry | None, at: int, denial: str, left: Sequence[Waiting]) -> None:
        """Make ready what is written when the order fills, or let the scribe write it."""
        if entry is not None:
            self._covered[number] = sum(shares for shares, _, _ in entry.parts) == entry.shares
        draft = None
        if self._asked is not None and not denial:
            draft = self._drafted(number, bar, entry)
        use = Use.HAND if draft is None else self._letters.use(draft.shape)
        if use is Use.HAND:
            alone = self._asked is not None
            after = self._ledger.head()[0]
            self._tell_signals()
            if alone:
                super().judged(number, bar, entry, "", ())
            super().sent(number, bar, entry, at, denial, left)
            if draft is not None:
                draft.after = after
        elif use is Use.AUDIT and draft is not None:
            draft.expected = self._payloads(number, bar, entry, at=at)
        self._asked, self._draft = None, draft

    def _payloads(self, number: int, bar: int, entry: Entry | None, denial: str = "", at: int | None = None) -> list[str]:
        """What the scribe would tell of a proposal, and of its order at the gate at an instant."""
        held, now = self.sim.held[number], instant_of(self.sim.instant(bar))
        runs_in = next(session for session in self._sessions[self._session :] if session.close >= now)
        signal, measured = self._teller.signal(self._cycle(bar, runs_in), number, bar, None if held is None else held.entered)
        proposal, intent = self._teller.proposal(number, bar, entry, denial, (), signal, measured, now)
        told = [signal, proposal]
        if at is not None and intent is not None:
            told.append(self._teller.gate(number, bar, intent, at, "", ()))
        return [canonical_payload(each) for each in told]

    def _drafted(self, number: int, bar: int, entry: Entry | None, denial: str = "") -> Draft | None:
        """A proposal, and its order where it is not denied, by form; None where it is not plain."""
        held = self.sim.held[number] if entry is None else None
        now, name = self.sim.instant(bar), self._lanes[number].spec.name
        if (entry is None) == (held is None) or self.sim.next_release(name, now, ()) != now:
            return None
        measured = self._gauges[number].measured(bar, entry, held, self._sessions[self._session])
        return None if measured is None else self._draft_of(number, measured, held, denial)

    def _draft_of(self, number: int, measured: Measures, held: Held | None, denial: str = "") -> Draft:
        shape, values = self._figures[number].told(measured)
        if denial:
            return Draft(("denied", number, denial, *shape), values, {})
        legs = values
        if held is not None:
            legs = self._legs_of(number, held)
            values |= legs | {"bought_by": self._actions[number]}
        named = {legs[leg]: leg for leg in legs if _LEG.fullmatch(leg)}
        values["number"] = str(self._orders + 1)
        # An order's stops and targets are written in the order of their names.
        return Draft(("order", number, *(leg for _, leg in sorted(named.items())), *shape), values, named)

    def _legs_of(self, number: int, held: Held) -> Values:
        """The stops and targets that work for a lane, and the seqs of their newest facts."""
        if number not in self._legs:
            found: Values = {}
            for part in held.parts:
                for kind in ("stop",) if part.target is None else ("stop", "target"):
                    name = client_id(self._actions[number], f"{kind}-{part.number}")
                    row = self._desk.ledger.get("orders", name)
                    assert row is not None
                    found |= {f"{kind}_{part.number}": name, f"{kind}_{part.number}_seq": str(row["last_seq"])}
            self._legs[number] = found
        return self._legs[number]

    def filled(self, fill: Filled, bracket: int) -> None:
        """Write an order with its execution, or put down an execution for when it is learnt of."""
        draft, self._draft = self._draft, None
        if bracket:
            super().filled(fill, bracket)
            return
        self._daybook.book(fill)
        if draft is None:
            super().filled(fill, bracket)
            self._legs.pop(fill.lane, None)
            return
        values = draft.values
        values |= self._fill_values(fill)
        if draft.after is None:
            newest = self._letters.write(draft.shape, values, draft.expected)
            self._count(fill, values, draft.legs)
        else:
            super().filled(fill, bracket)
            newest = self._letters.learn(draft.shape, values, draft.after, draft.legs, _blanks_of(draft.legs))
        self._legs.pop(fill.lane, None)
        if fill.shares > 0 and newest:
            self._legs[fill.lane] = {name: values[name] for name in newest} | {f"{name}_seq": str(seq) for name, seq in newest.items()}

    def _fill_values(self, fill: Filled) -> Values:
        grid = self._grid
        return {
            "commission": words.exact(fill.commission), "execution": str(self._executions + 1), "filled_at": moment_of(fill.at).instant,
            "filled_price": format(self._quoted(fill), "f"), "filled_shares": str(abs(fill.shares)),
            "filled_session": grid.days[grid.session_of.item(fill.bar)].isoformat(),
        }

    def _quoted(self, fill: Filled) -> Decimal:
        return fill.quoted(self._lanes[fill.lane])

    def _count(self, fill: Filled, values: Values, legs: Mapping[str, str]) -> None:
        """Keep the scribe's books of what was written without it."""
        self._executions += 1
        if not fill.reason or fill.reason is ExitReason.SIGNAL:
            self._orders += 1
            self._numbers[values["order"]] = self._orders
            self._sent[fill.lane] = values["order"]
        if fill.shares > 0:
            for name in legs:
                self._orders += 1
                self._numbers[name] = self._orders
            self._actions[fill.lane], self._entered[fill.lane] = values["action"], fill.bar

    # Stops and targets

    def _book_hits(self, due: list[Hit]) -> None:
        """Book what a bar's range or an open reached."""
        for _, _, _, fill, _ in due:
            self._daybook.book(fill)
        now = instant_ns(self._desk.now())
        if len(due) > 1 or now % words.MINUTE or due[0][3].at % words.MINUTE:
            super()._book_hits(due)
            for _, _, _, fill, _ in due:
                self._legs.pop(fill.lane, None)
            return
        [(_, _, _, fill, bracket)] = due
        assert fill.reason is not None
        leg = f"{PARTS[fill.reason]}_{bracket}"
        pair = f"{'target' if leg.startswith('stop') else 'stop'}_{bracket}"
        after = self._ledger.head()[0]
        working = self._working(fill.lane, leg, pair)
        legs = {working[name]: name for name in (leg, pair) if name in working}
        values: Values = working | self._fill_values(fill)
        values |= {"instant": moment_of(now).instant, "bought_by": self._actions[fill.lane]}
        shape: Shape = ("hit", fill.lane, *legs.values())
        if self._letters.use(shape) is not Use.HAND:
            self._letters.write(shape, values)
            self._executions += 1
        else:
            super()._book_hits(due)
            self._letters.learn(shape, values, after, legs, _blanks_of(legs))
        if fill.lane in self._legs:
            over = {leg, pair, f"{leg}_seq", f"{pair}_seq"}
            self._legs[fill.lane] = {name: value for name, value in working.items() if name not in over}

    def _working(self, number: int, *legs: str) -> Values:
        if number in self._legs:
            return self._legs[number]
        found: Values = {}
        for leg in legs:
            row = self._desk.ledger.get("orders", client_id(self._actions[number], leg.replace("_", "-")))
            if row is not None and row["state"] == OrderState.ACCEPTED.value:
                found |= {leg: row["client_id"], f"{leg}_seq": str(row["last_seq"])}
        return found

    # Sessions

    def _open_session(self, session: Session) -> None:
        values = None if self._daybook.closing is None else {"session": session.day.isoformat(), **self._daybook.closing}
        self._by_form(("opened", *self._names), values, lambda: super(Copyist, self)._open_session(session))

    def _close_session(self, session: Session) -> None:
        # Of a session without bars the newest close is an earlier one's.
        number = bisect_right(self._grid.days, session.day) - 1
        covered = all(self._covered.get(lane, False) for lane, shares in self._daybook.held.items() if shares)
        values = None
        if number >= 0 and covered and self._undisturbed:
            values = {"session": session.day.isoformat(), "early": "true" if session.early_close else "false"}
            values |= self._daybook.close({lane: self._mark(lane, number) for lane in self._daybook.held})
        self._by_form(("closed", *self._names), values, lambda: super(Copyist, self)._close_session(session))
        if values is None:
            event = self._desk.ledger.event_by_key(f"session.closed:{session.day}")
            assert event is not None
            self._daybook.read(event.payload)
        self._daybook.begin()

    def _mark(self, lane: int, number: int) -> int:
        """The closing price of a session of the grid."""
        return price_steps(self._lanes[lane].prices.close.item(self._grid.last_of.item(number)))

    def _by_form(self, shape: Shape, values: Values | None, by_hand: Callable[[], Any]) -> None:
        if values is not None:
            values["instant"] = moment_of(instant_ns(self._desk.now())).instant
        if values is not None and self._letters.use(shape) is not Use.HAND:
            self._letters.write(shape, values)
            return
        after = self._ledger.head()[0]
        by_hand()
        if values is not None:
            self._letters.learn(shape, values, after, {}, lambda facts: session_blanks(facts, self._names))


def _blanks_of(legs: Mapping[str, str]) -> Callable[[Sequence[Event]], list[Blanks]]:
    return lambda facts: blanks_of(facts, legs)
