"""What is told of a decision, a proposal and an order at the gate: their payloads, by the code that tells them live.

Verdicts are the rulebook's own, on contexts gathered from the simulated account; nothing here writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from trading_pipeline.domain.agents import rule
from trading_pipeline.domain.bars import instant_of
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, action_id
from trading_pipeline.domain.indicators import IndicatorSpec, compute
from trading_pipeline.domain.money import price_of
from trading_pipeline.domain.orders import OrderClass, OrderIntent
from trading_pipeline.domain.risk import Judgement, Outcome, Verdict, World
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.sizing import EntryPlan, NoEntry
from trading_pipeline.service.backtests.columnar.judging import Waiting, agree, decided
from trading_pipeline.service.backtests.columnar.simulation import Simulation
from trading_pipeline.service.backtests.columnar.sizes import Entry, newest
from trading_pipeline.service.backtests.columnar.units import priced
from trading_pipeline.service.judging.outside import Outside
from trading_pipeline.service.trading import Measured

Payload = dict[str, Any]


class Teller:
    """Tells what a simulation decides.

    Args:
        needs: By strategy, the indicators that live computes of it.
        window: Over how many bars it does.
    """

    def __init__(self, sim: Simulation, needs: Mapping[str, tuple[IndicatorSpec, ...]], window: int) -> None:
        self._sim, self._needs, self._window = sim, needs, window

    def signal(self, cycle: Cycle, number: int, bar: int, entered: int | None) -> tuple[Payload, Measured]:
        """What the rules say of a bar, and what sizing reads of it.

        Args:
            entered: The bar that was bought in, where the lane holds.
        """
        sim, lane = self._sim, self._sim.lanes[number]
        row = lane.prices.first + bar + 1
        # What is told is computed as live computes it, over as many bars: to the last digit of a sentence.
        bars = lane.prices.table.rows(max(0, row - self._window), row)
        columns = compute(self._needs[lane.spec.name], bars)
        signal = decided(rule(lane.spec.agent, bars, columns, None if entered is None else bar - entered + 1).decision)
        payload = {
            "cycle": cycle.cycle_id, "strategy": lane.spec.name, "symbol": lane.symbol, "session": cycle.session,
            "action_id": action_id(lane.spec.name, cycle.cycle_id, lane.symbol), "action": signal.action.value,
            "confidence": signal.confidence, "rationale": signal.rationale, "score": signal.score, "label": signal.label,
            "bar_end": cycle.bar_end, "close": format(lane.prices.close.item(bar), ".10g"), "chart": None,
        }
        measured = Measured(
            newest(columns["atr_14"]), sim.sizers[number].support(bar), newest(columns["sma_20"]), price_of(lane.prices.close[bar]),
        )
        return payload, measured

    def proposal(
        self, number: int, bar: int, entry: Entry | str | None, denial: str, waiting: Sequence[Waiting], signal: Mapping[str, Any],
        measured: Measured, now: datetime,
    ) -> tuple[Payload, OrderIntent | None]:
        """The verdicts on a proposal, and the order that was judged; none where sizing found no shares.

        Raises:
            ServiceError: The rulebook says something else than was played.
        """
        sim, lane, named = self._sim, self._sim.lanes[number], signal["action_id"]
        intent: OrderIntent | None = None
        if isinstance(entry, str):
            none = sim.sizers[number].planned(sim, bar, sim.quote(number, bar))
            assert isinstance(none, NoEntry)
            judgement = Judgement((Verdict("sizing", Outcome.DENY, "0 shares", "at least 1 share", f"{none.reason}: {none.detail}"),))
        else:
            intent = replace(sim.judge.intent(number, bar, entry), action_id=named)
            if entry is not None:
                planned = sim.sizers[number].planned(sim, bar, entry.reference)
                assert isinstance(planned, EntryPlan)
                intent = replace(intent, limit_price=planned.limit_price, brackets=planned.brackets)
            judgement = sim.judge.judgement(number, bar, entry, intent, waiting)
        agree(judgement, denial, named)
        order_class = OrderClass.EXIT if signal["action"] == "sell" else OrderClass.ENTRY
        payload = {
            "cycle": signal["cycle"], "stage": "proposal", "action_id": named, "strategy": lane.spec.name, "symbol": lane.symbol,
            "side": signal["action"], "order_class": order_class.value, "passed": judgement.passed, "reason": judgement.reason,
            "intent": encode(intent) if intent is not None else None, "verdicts": judgement.as_json(), "account_limits_version": 1,
            "limits_version": 1, "outside": encode(self._outside(number, bar, now)), "measured": encode(measured),
        }
        return payload, intent

    def gate(self, number: int, bar: int, intent: OrderIntent, at: int, denial: str, left: Sequence[Waiting]) -> Payload:
        """The verdicts on an order about to be sent, nanoseconds UTC.

        Raises:
            ServiceError: The rulebook says something else than was played.
        """
        judgement = judge(intent, self._sim.judge.context(number, bar, intent, left, at))
        agree(judgement, denial, intent.action_id)
        return {
            "stage": "gate", "action_id": intent.action_id, "client_id": intent.client_id, "strategy": intent.strategy,
            "symbol": intent.symbol, "side": intent.side.value, "order_class": intent.order_class.value, "passed": judgement.passed,
            "reason": judgement.reason, "intent": None, "verdicts": judgement.as_json(), "account_limits_version": 1, "limits_version": 1,
            "outside": encode(self._outside(number, bar, instant_of(at))),
        }

    def _outside(self, number: int, bar: int, now: datetime) -> Outside:
        """What verdicts are told from outside the ledger."""
        sim, lane = self._sim, self._sim.lanes[number]
        quote = sim.judge.quote(number, bar, now)
        volume = lane.prices.average_volume(bar)
        volatility = lane.prices.volatility(bar, sim.plan.limits)
        held = {sim.lanes[other].symbol: priced(sim.quote(other, bar)) for other, each in enumerate(sim.held) if each is not None}
        return Outside(
            now, {lane.symbol: quote} if quote is not None else {}, dict(sorted(held.items())), {},
            {lane.symbol: instant_of(sim.grid.end[bar])}, {} if volume is None else {lane.symbol: volume},
            {} if volatility is None else {lane.symbol: volatility}, frozenset(), World.BACKTEST,
        )
