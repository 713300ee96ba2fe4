"""Enters the facts of a lane that is alone in a register: columns that are sealed at once, and put into words when somebody reads them.

The first sessions are written as always, until every kind of fact was written that is to come: forms are learnt of them. Before the
register is sealed one of its last sessions is simulated: each order has to be told the same, and the first of each kind be judged so.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import instant_of
from trading_pipeline.domain.sessions import Session
from trading_pipeline.errors import ServiceError
from trading_pipeline.service.backtests.columnar.alone import RoundTrips
from trading_pipeline.service.backtests.columnar.ground import Grid
from trading_pipeline.service.backtests.columnar.holdings import Held
from trading_pipeline.service.backtests.columnar.incidents import Filled
from trading_pipeline.service.backtests.columnar.judging import Waiting
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.sizes import Entry
from trading_pipeline.service.backtests.columnar.units import priced, usd
from trading_pipeline.service.backtests.columnar.writing.copyist import Copyist, Draft
from trading_pipeline.service.backtests.columnar.writing.figures import Shape
from trading_pipeline.service.backtests.columnar.writing.measures import Gauge, Measures
from trading_pipeline.service.backtests.columnar.writing.reckoning import Reckoning, first_session
from trading_pipeline.service.backtests.columnar.writing.register import Inside, Register
from trading_pipeline.service.backtests.columnar.writing.tellings import Teller
from trading_pipeline.service.backtests.stepping import Progress
from trading_pipeline.service.desk import Desk


class Registrar(Copyist):
    """A simulation's witness that knows beforehand which trades will come.

    Args:
        trades: Those.
    """

    def __init__(
        self, desk: Desk, plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid, sessions: Sequence[Session], stopped: Mapping[str, int],
        progress: Progress | None, trades: RoundTrips,
    ) -> None:
        super().__init__(desk, plan, lanes, grid, sessions, stopped, progress)
        self._trades = trades
        self._register: Register | None = None
        self._as_quoted = False

    def _run(self, sim: Simulation) -> None:
        first = first_session(self._trades, sim)
        if first is not None:
            reckoning = Reckoning(sim, self._trades, self._gauges[0], self._sessions)
            sim.run(int(self._grid.session_of.searchsorted(first)))
            while self._sessions[self._session].day < self._grid.days[first]:
                self._close()
            register, proving = reckoning.register(first), reckoning.proving_session(first)
            if register is not None and proving is not None and (many := self._facts_in(register)) is not None:
                self._prove(register, reckoning, proving)
                self._keep(register, many)
                return
        super()._run(sim)

    def _facts_in(self, register: Register) -> int | None:
        """How many facts it makes; None where a form is missing."""
        selling, left = register.orders.selling, len(self._sessions) - self._session
        shapes: dict[Shape, int] = {
            ("opened", *self._names): left, ("closed", *self._names): left,
            ("hit", 0, "stop_1"): int((register.executions.order < 0).sum()),
        }
        for rows in (np.flatnonzero(~selling), np.flatnonzero(selling)):
            if len(rows):
                shapes[self._expected(register, rows.item(0)).shape] = len(rows)
        sizes = [(many, self._letters.size(shape)) for shape, many in shapes.items() if many]
        return sum(many * size for many, size in sizes) if all(size for _, size in sizes) else None

    def _expected(self, register: Register, row: int) -> Draft:
        """An order's draft, before it is known by which name its stop is withdrawn."""
        if (register.orders.stop >= 0).any():
            self._legs[0] = {"stop_1": "", "stop_1_seq": ""}
        try:
            return self._drafted_from(self._measures(register, row))
        finally:
            self._legs.clear()

    def _prove(self, register: Register, reckoning: Reckoning, session: int) -> None:
        """Simulate a session of the register.

        Raises:
            ServiceError: Something else comes of it, or the rulebook says something else.
        """
        inside = register.of_session(self._grid, session)
        proof = _Proof(self, register, inside, self._sessions[register.orders.session.item(inside.orders.start)])
        self.sim = sim = reckoning.simulation_at(session, proof)
        self._teller = Teller(sim, self._needs, self._window)
        proof.gauge = Gauge(sim, 0, self._needs[self._lanes[0].spec.name], self._window)
        sim.run(int(self._grid.session_of.searchsorted(session + 1)))
        proof.complete()

    def _keep(self, register: Register, many: int) -> None:
        self._register = register
        self._ledger.keep(lambda: hashlib.sha256(self._letters.digest() + register.digest()).digest(), self._write_out, many)
        progress, self._progress = self._progress, None
        if progress is not None:
            days: Sequence[date] = [session.day for session in self._sessions]
            for number, day in enumerate(days[self._session :], start=self._session + 1):
                progress(number, len(days), day)

    def _write_out(self) -> None:
        """Put the register into words."""
        register = self._register
        assert register is not None
        for row, known, fill, as_quoted in register.filled():
            self._as_quoted = as_quoted
            self._to(instant_of(known))
            if row < 0:
                self._book_hits([(known, fill.bar > fill.step, self._lanes[0].symbol, fill, 1)])
                continue
            measured = self._measures(register, row)
            self._draft = self._drafted_from(measured)
            if fill.shares > 0:
                self._covered[0] = bool(measured.parts)
            self.filled(fill, 0)
        while self._session < len(self._sessions):
            self._close()

    def _measures(self, register: Register, row: int) -> Measures:
        return register.measures(row, self._gauges[0], self._lanes[0].symbol, self._sessions)

    def _drafted_from(self, measured: Measures) -> Draft:
        # Of what an exit sells the stops and targets are known already.
        return self._draft_of(0, measured, Held(measured.shares, 0, [], 0) if measured.selling else None)

    def _quoted(self, fill: Filled) -> Decimal:
        if self._register is None:
            return super()._quoted(fill)
        return priced(fill.price) if self._as_quoted else usd(fill.price)

    def _mark(self, lane: int, number: int) -> int:
        return super()._mark(lane, number) if self._register is None else self._register.marks.item(number)


class _Proof:
    """A witness to whom nothing may happen but what a register has."""

    gauge: Gauge

    def __init__(self, registrar: Registrar, register: Register, inside: Inside, session: Session) -> None:
        self._registrar, self._register, self._session = registrar, register, session
        self._orders, self._executions = iter(inside.orders), iter(inside.filled)
        self._judged: set[bool] = set()

    def decided(self, bar: int, due: Sequence[tuple[int, bool]]) -> None:
        """What was decided is seen when it is sent."""

    def judged(self, number: int, bar: int, entry: Entry | str | None, denial: str, waiting: Sequence[Waiting]) -> None:
        """The same."""

    def sent(self, number: int, bar: int, entry: Entry | None, at: int, denial: str, left: Sequence[Waiting]) -> None:  # noqa: ARG002
        """Hold the register's order to what is measured here, and to what the rulebook says."""
        row = next(self._orders, None)
        self._same("no order" if row is None else self._register.orders.bar.item(row), bar)
        assert row is not None
        registrar, sim = self._registrar, self._registrar.sim
        measured = self.gauge.measured(bar, entry, sim.held[number], self._session)
        told = None if measured is None else registrar._figures[0].told(measured)
        self._same(registrar._figures[0].told(registrar._measures(self._register, row)), told)
        if (entry is None) not in self._judged:
            self._judged.add(entry is None)
            draft = registrar._expected(self._register, row)
            registrar._letters.hold(draft.shape, draft.values, registrar._payloads(number, bar, entry, at=at))

    def filled(self, fill: Filled, bracket: int) -> None:  # noqa: ARG002
        """Hold the register's execution to it."""
        self._same(next(self._executions, None), fill)

    def complete(self) -> None:
        """Nothing of the register may be left."""
        self._same((next(self._orders, None), next(self._executions, None)), (None, None))

    def _same(self, entered: object, seen: object) -> None:
        if entered != seen:
            raise ServiceError(
                f"A session of the backtest was entered as {str(entered)[:300]}, and simulated as {str(seen)[:300]}.",
                value=self._session.day, rule="what is reckoned is what would have happened",
                remedy="run it with --engine stepped, and report it",
            )
