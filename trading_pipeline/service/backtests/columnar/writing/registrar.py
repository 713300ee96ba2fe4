"""Enters the facts of a lane that is alone in a register: columns that are sealed at once, and put into words when somebody reads them.

The first sessions are written as always, until every kind of fact was written that is to come: forms are learnt of them. What the
register has is held to the rulebook before it is sealed, at the newest order of each kind: its figures hang on all that came before.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import instant_of
from trading_pipeline.domain.sessions import Session
from trading_pipeline.service.backtests.columnar.alone import RoundTrips
from trading_pipeline.service.backtests.columnar.ground import Grid
from trading_pipeline.service.backtests.columnar.holdings import Held
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.sizes import Entry
from trading_pipeline.service.backtests.columnar.writing.copyist import Copyist, Draft
from trading_pipeline.service.backtests.columnar.writing.figures import Shape
from trading_pipeline.service.backtests.columnar.writing.measures import Measures
from trading_pipeline.service.backtests.columnar.writing.reckoning import Reckoning, first_session, stand
from trading_pipeline.service.backtests.columnar.writing.register import Register
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

    def _run(self, sim: Simulation) -> None:
        first = first_session(self._trades, sim)
        if first is not None:
            reckoning = Reckoning(sim, self._trades, self._gauges[0], self._sessions)
            sim.run(int(self._grid.session_of.searchsorted(first)))
            while self._sessions[self._session].day < self._grid.days[first]:
                self._close()
            register = reckoning.register(first)
            if register is not None and self._fits(sim, register):
                self._keep(register)
                return
        super()._run(sim)

    def _fits(self, sim: Simulation, register: Register) -> bool:
        """Whether all of it is written by forms that are known.

        Raises:
            ServiceError: The rulebook says something else.
        """
        shapes: list[Shape] = [("opened", *self._names), ("closed", *self._names)]
        if (register.executions.order < 0).any():
            shapes.append(("hit", 0, "stop_1"))
        newest = [rows.item(-1) for rows in map(np.flatnonzero, (~register.orders.selling, register.orders.selling)) if len(rows)]
        if (register.orders.stop >= 0).any():
            # An exit withdraws what protects; it is not known yet by which names.
            self._legs[0] = {"stop_1": "", "stop_1_seq": ""}
        measured = {row: self._measures(register, row) for row in newest}
        drafts = {row: self._drafted_from(each) for row, each in measured.items()}
        self._legs.clear()
        if not all(map(self._letters.knows, [*shapes, *(draft.shape for draft in drafts.values())])):
            return False
        for row, draft in drafts.items():
            stand(sim, register, row, measured[row])
            entry = None if measured[row].selling else _entry_of(measured[row])
            said = self._payloads(0, register.orders.bar.item(row), entry, at=measured[row].now)
            self._letters.hold(draft.shape, draft.values, said)
        return True

    def _keep(self, register: Register) -> None:
        self._register = register
        self._ledger.keep(lambda: hashlib.sha256(self._letters.digest() + register.digest()).digest(), self._write_out)
        progress, self._progress = self._progress, None
        if progress is not None:
            days: Sequence[date] = [session.day for session in self._sessions]
            for number, day in enumerate(days[self._session :], start=self._session + 1):
                progress(number, len(days), day)

    def _write_out(self) -> None:
        """Put the register into words."""
        register = self._register
        assert register is not None
        for row, known, fill in register.filled():
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

    def _mark(self, lane: int, number: int) -> int:
        return super()._mark(lane, number) if self._register is None else self._register.marks.item(number)


def _entry_of(measured: Measures) -> Entry:
    worst = measured.shares * max(measured.price, measured.limit)
    return Entry(measured.shares, measured.price, measured.limit, tuple(measured.parts), worst)
