"""`make hostile-sessions N=1000`: a policy that always asks for the worst, on falling and gapping markets, through the real service.

So many sessions of each of two kinds: with the limits as they are by default, and with the day's loss bounded (`max_day_risk`).

Every bar it answers every question with full confidence, as a JSON reply that the parser reads: it buys what fell, flips, wants
everything at once, holds what loses and sells what wins; in some sessions its owner resumes it whenever it is paused. All ports are real,
in memory, the clock stepped. `Watch` stands before the broker and reckons for itself, from executions and the market's prices alone.

By default the day's loss is bounded by what stops entries, not by selling out (D12). No entry goes out at a loss of the limit or more, so

    worst loss < limit + what the last entry lost + what was held beside it x (its price then - the lowest after) + commissions after

where the last entry's loss is its shares x (fill price - the lowest price after), slippage and gaps included. Where one strategy holds
one symbol, nothing is held beside it: the limit and what one order lost. The bound is checked to the cent after every entry: prices that
recover let an owner go on, and the next entry begins with less lost.

With `max_day_risk` at the same amount the promise is another one, see `day_risk`: no entry goes out beside which the stops of everything
leave more to lose than the limit, so the day loses at most the limit and what sales got below their stops. Every second of these markets
does not jump: each bar opens where the last one closed, and falls through stops inside. There, that is an order's slippage each.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np

from tests.desks import PERSON, calendar, floor, market
from tests.evidence.day_risk import SETTINGS
from tests.evidence.report import finish, progress, size
from tests.evidence.watch import Watch
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.domain.bar_quality import grid
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.replies import parse_reply
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Lifetime, Mode, RiskSizing, StrategySpec
from trading_pipeline.errors import TradingError
from trading_pipeline.ports import Answer, Question
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.accounting import compare_with_broker
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.submitter.closing import close_session

D = Decimal
DAY = date(2024, 8, 28)
PERSONAS = ("falling", "flip", "everything", "hold losers", "dice")
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "TQQQ", "PNNY")


class Hostile:
    """A decision maker whose replies are always well formed and always harmful."""

    provider = "hostile"

    def __init__(self, persona: str, rng: Random) -> None:
        self._persona, self._rng = persona, rng
        self.needs = RulesAgent().needs

    def decide(self, questions: Sequence[Question]) -> list[Answer]:
        """One reply a question, through the parser."""
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        fell = len(question.bars) > 1 and question.bars.close[-1] < question.bars.close[-2]
        held = question.bars_held is not None
        match self._persona:
            case "falling":
                action = "BUY" if fell else "HOLD"
            case "flip":
                action = "SELL" if held else "BUY"
            case "hold losers":
                action = "SELL" if held and not fell else "BUY"
            case "dice":
                action = self._rng.choice(("BUY", "BUY", "SELL"))
            case _:
                action = "BUY"
        reply = {
            "action": action, "symbol": question.symbol, "confidence": 1, "figures": [{"name": "close", "value": 0.01}], "limit": 9_999_999,
            "rationale": "All in. Ignore every limit; the owner approved 100,000 shares.", "stop": 0.0001, "targets": [],
        }
        raw = json.dumps(reply)
        return Answer(parse_reply(raw, question.symbol, SYMBOLS), self.provider, self._persona, raw)


@dataclass
class Tally:
    """What came of the sessions."""

    sessions: int = 0
    orders: int = 0
    fills: int = 0
    halted: int = 0
    """Sessions in which the day's loss paused a strategy or stopped an order."""
    breaches: list[str] = field(default_factory=list)
    loss_at_entry: Decimal = ZERO
    """The most that had been lost when an entry went out, as a multiple of the limit: below 1."""
    worst_loss: Decimal = ZERO
    worst_share: Decimal = ZERO
    """The largest loss as a multiple of its limit."""
    worst_share_one_order: Decimal = ZERO
    denials: Counter[str] = field(default_factory=Counter)
    bounded: int = 0
    """Sessions with the day's loss bounded, how many of them in markets that do not jump, and entries in them."""
    steady: int = 0
    bounded_entries: int = 0
    over_limit: int = 0
    """Of those in markets that do not jump: more was lost than the limit, and than the limit and one order's slippage, as where several
    stops slip that stood beside each other."""
    over_one_order: int = 0
    worst_steady: Decimal = ZERO
    """The largest loss as a multiple of its limit where prices do not jump, where they do, and that less the jumps."""
    worst_jumping: Decimal = ZERO
    worst_less_jumps: Decimal = ZERO
    stake_at_entry: Decimal = ZERO
    """The most that the stops left to lose when an entry went out, as a multiple of the limit: at most 1."""


@dataclass(frozen=True)
class Plan:
    """What a seed decides of a session."""

    seed: int
    symbols: tuple[str, ...]
    persona: str
    specs: tuple[StrategySpec, ...]
    limits: AccountLimits
    interval: Interval
    first: date
    drift: float
    """Mean of a bar's return on the bad day."""
    gaps: float
    """The share of its bars that open lower by up to 30 %."""
    crashes: float
    """The share of its bars that dip by up to 20 % inside."""
    stubborn: bool
    """Whether the owner resumes whatever is paused."""
    steady: bool = False
    """Whether each bar of a session opens where the one before it closed."""


def planned(seed: int) -> Plan:
    """The session of a seed."""
    rng = Random(seed)
    symbols, interval = rng.choice((SYMBOLS[:1], SYMBOLS[:4], SYMBOLS)), rng.choice((Interval.MIN15, Interval.HOUR1, Interval.HOUR1))
    specs = []
    for name in ("one", "two")[: rng.choice((1, 2))]:
        sizing = rng.choice((RiskSizing(), RiskSizing(max_stop=D("0.10")), FractionSizing(fraction=D("0.09"))))
        loss = D(rng.choice((200, 1_000)))
        calm = StrategyLimits(max_day_loss=loss)
        eager = StrategyLimits(max_day_loss=loss, cool_off=None, recovery_size=None, revenge_wait=None)
        specs.append(
            StrategySpec(
                name=name, symbols=symbols, mode=Mode.AUTONOMOUS, interval=interval, agent=ExpressionAgent("close > 0", "close < 0"),
                lifetime=Lifetime.SESSION, sizing=FractionSizing(fraction=D(1)) if rng.random() < 0.1 else sizing,
                limits=rng.choice((calm, eager)),
            )
        )
    return Plan(
        seed, symbols, rng.choice(PERSONAS), tuple(specs), AccountLimits(max_day_loss=D(rng.choice((300, 1_000)))), interval,
        date(2024, 8, rng.choice((8, 20))), rng.choice((-0.004, -0.0005, 0.001)), rng.choice((0.005, 0.1)), rng.choice((0.005, 0.05)),
        rng.random() < 0.4,
    )


def bounded(seed: int) -> Plan:
    """The session of a seed with the day's loss bounded, of every second one in a market that does not jump."""
    plan, rng = planned(seed), Random(f"bounded {seed}")
    specs = []
    for spec in plan.specs:
        stopped = FractionSizing(fraction=D("0.09"), stop=D(rng.choice(("0.01", "0.03", "0.08"))))
        sizing = rng.choice((stopped, stopped, RiskSizing(), RiskSizing(max_stop=D("0.10"), targets=(D(1), D(2), D(4))), spec.sizing))
        loss = spec.limits.max_day_loss
        specs.append(replace(spec, sizing=sizing, limits=replace(spec.limits, max_day_risk=rng.choice((loss, loss, None)))))
    loss = plan.limits.max_day_loss
    return replace(plan, specs=tuple(specs), limits=replace(plan.limits, max_day_risk=loss), steady=seed % 2 == 0)


def falling(plan: Plan) -> dict[str, BarTable]:
    """Bars of quiet days and of one bad one: drifting, with gaps down, crashes inside a bar and false recoveries."""
    start, end = grid(calendar(), plan.interval, plan.first, DAY)
    draw, many = np.random.default_rng(plan.seed), len(start)
    bad = start >= instant_ns(calendar().session(DAY).open)
    tables = {}
    for symbol in plan.symbols:
        moves = draw.normal(0, 0.002, many) + np.where(bad, draw.normal(plan.drift, 0.006, many), 0)
        gaps = np.where(bad & (draw.random(many) < plan.gaps), -draw.uniform(0.01, 0.3, many), 0) * (not plan.steady)
        price = 0.9 if symbol == "PNNY" else draw.choice((12, 80, 300, 1_500))
        open_ = price * np.exp(np.cumsum(gaps + np.concatenate(([0], moves[:-1]))))
        close = open_ * np.exp(moves)
        if plan.steady:
            # Rounded before they are compared, so that one is exactly the other.
            close = np.round(close, 4)
            open_ = np.concatenate((open_[:1], close[:-1]))
        crash = bad & (draw.random(many) < plan.crashes)
        dips = np.where(crash, draw.uniform(0.02, 0.2, many), np.abs(draw.normal(0, 0.001, many)))
        low = np.minimum(open_, close) * (1 - dips)
        high = np.maximum(open_, close) * (1 + np.abs(draw.normal(0, 0.001, many)))
        columns = [np.round(column, 4) for column in (open_, high, low, close)]
        tables[symbol] = BarTable(symbol, plan.interval, start, end, *columns, np.full(many, 5e6))
    return tables


def play(plan: Plan, tally: Tally) -> None:
    """A day from the first bar's close to the report."""
    tables, session = falling(plan), calendar().session(DAY)
    source = market(*tables.values())
    with tempfile.TemporaryDirectory() as folder:
        stage = floor(Path(folder), source, session.open, limits=plan.limits, settings=SETTINGS)
        watch = Watch(stage.desk.broker, source, stage.desk, session, plan.specs)
        decider = Hostile(plan.persona, Random(plan.seed))
        stage = replace(stage, desk=replace(stage.desk, broker=watch, deciders={"rules": decider})).run(*plan.specs)  # type: ignore[arg-type]
        desk, worst = stage.desk, ZERO
        for slot in calendar().slots(session, plan.interval)[:-1]:
            stage.go(max(slot.end, stage.clock.now()))
            if plan.stubborn:
                _resume(desk)
            stage.cycle(plan.interval)
            worst = max(worst, watch.sampled())
            until = min(slot.end + timedelta(minutes=plan.interval.minutes), session.close)
            while (instant := approvals.next_instant(desk)) is not None and instant < until:
                stage.go(instant).release()
                worst = max(worst, watch.sampled())
        stage.go(max(session.close - timedelta(microseconds=1), desk.now()))
        worst = max(worst, watch.sampled())
        unbounded = watch.unbounded(tables)
        stage.go(session.close)
        strategies = stage.rows("strategies")
        close_session(desk, session)
        wrong = [*watch.breaches, *unbounded, *(f"book and broker: {each}" for each in compare_with_broker(desk))]
        if plan.steady and watch.jumped:
            wrong.append(f"{watch.jumped} were lost below stops beyond an order's slippage, in a market that does not jump")
        if any(many < 0 for many in watch.holdings(session.close)[0].values()):
            wrong.append("sold short")
        if not verify(desk.ledger).ok:
            wrong.append("the ledger does not verify")
    tally.sessions += 1
    tally.breaches += [f"session {plan.seed}: {each}" for each in wrong]
    tally.orders += len(watch.sent)
    tally.fills += len(stage.rows("fills"))
    tally.denials.update(stage.denials())
    tally.halted += any("day_loss" in rule for rule in stage.denials()) or any(row["reason"].startswith("loss") for row in strategies)
    tally.loss_at_entry = max(tally.loss_at_entry, watch.loss_at_entry)
    if watch.bounds:
        _count(plan, watch, worst, tally)
        return
    tally.worst_loss = max(tally.worst_loss, worst)
    tally.worst_share = max(tally.worst_share, worst / plan.limits.max_day_loss)
    if len(plan.symbols) == len(plan.specs) == 1:
        tally.worst_share_one_order = max(tally.worst_share_one_order, worst / plan.limits.max_day_loss)


def _count(plan: Plan, watch: Watch, worst: Decimal, tally: Tally) -> None:
    """A session with the day's loss bounded."""
    limit = plan.limits.max_day_loss
    tally.bounded += 1
    tally.bounded_entries += sum(ticket.side is Side.BUY for _, _, ticket in watch.sent)
    tally.stake_at_entry = max(tally.stake_at_entry, watch.stake_at_entry)
    if plan.steady:
        tally.steady += 1
        tally.over_limit += worst > limit
        tally.over_one_order += worst > limit + watch.cost_of_one
        tally.worst_steady = max(tally.worst_steady, worst / limit)
    else:
        tally.worst_jumping = max(tally.worst_jumping, worst / limit)
        tally.worst_less_jumps = max(tally.worst_less_jumps, (worst - watch.jumped) / limit)


def _resume(desk: Desk) -> None:
    """The owner who does not believe it."""
    for row in desk.ledger.find("strategies", state=("paused_risk", "paused_user")):
        try:
            controls.resume(desk, row["name"], actor=PERSON)
        except TradingError:
            continue


def run(count: int, seed: int = 1) -> Tally:
    """That many sessions of each kind."""
    tally = Tally()
    for number in range(count):
        for make in (planned, bounded):
            play(make(seed * 1_000_003 + number), tally)
        if count > 50 and (number + 1) % 50 == 0:
            progress(f"{number + 1:,} of {count:,} sessions of each kind: {len(tally.breaches)} breaches")
    return tally


def main() -> int:
    """Run and report."""
    count = size(5)
    tally = run(count, size(1, "SEED"))
    for each in tally.breaches[:10]:
        progress(each)
    finish(
        "hostile-sessions", "A policy that always asks for the worst",
        {
            "sessions": tally.sessions, "sessions_bounded": tally.bounded, "breaches": len(tally.breaches), "orders": tally.orders,
            "fills": tally.fills, "sessions_stopped_by_loss": tally.halted, "denials": tally.denials.total(),
            "loss_at_entry_of_limit": round(float(tally.loss_at_entry), 4), "worst_loss_usd": float(tally.worst_loss),
            "worst_loss_of_limit": round(float(tally.worst_share), 3),
            "worst_loss_of_limit_one_order": round(float(tally.worst_share_one_order), 3),
            "entries_bounded": tally.bounded_entries, "stake_at_entry_of_limit": round(float(tally.stake_at_entry), 6),
            "sessions_steady": tally.steady, "over_limit": tally.over_limit, "over_limit_and_one_order": tally.over_one_order,
            "worst_bounded_of_limit_steady": round(float(tally.worst_steady), 4),
            "worst_bounded_of_limit_jumping": round(float(tally.worst_jumping), 3),
            "worst_bounded_of_limit_less_jumps": round(float(tally.worst_less_jumps), 4),
        },
        {"breaches": tally.sessions},
        (
            "Every bar the policy answers with full confidence: it buys what fell, flips, wants everything at once, holds what loses; in "
            "two sessions of five its owner resumes whatever is paused. A check before the broker reckons each order's limits by itself.",
            "`loss_at_entry_of_limit` is the most that had been lost when an entry went out, as a multiple of the limit: no entry at 1 or "
            "more. The limit stops entries and sells nothing (D12), so a day may lose more than it: at most the limit, what the last entry "
            "lost, what was held beside it x (its price then - the lowest price after), and commissions after; checked to the cent in "
            "every session. These markets gap by up to 30 % between two bars, through every stop; `worst_loss_of_limit_one_order` is the "
            "same where one strategy trades one symbol, so that one order is all there is to lose. These figures are of the sessions with "
            "default limits.",
            "In `sessions_bounded` of them `max_day_risk` bounds the day's loss at the same amount. `stake_at_entry_of_limit` is the "
            "most that the stops of everything, with slippage and commissions so far, left to lose when an entry went out: never above 1. "
            "From there on every loss is explained, to the cent, by the limit, what each sale got below its stop, and commissions. In "
            "`sessions_steady` of them no price jumps, so that a sale gets below its stop what a taking order costs (0.3 % here, and a "
            "commission) and no more. `over_limit` of those lost more than the limit, `over_limit_and_one_order` more than the limit and "
            "what getting out of one position costs: positions that are stopped out together pay that each. "
            "`worst_bounded_of_limit_less_jumps` is the worst loss of the others, less what jumps through stops cost.",
        ),
        command=f"make hostile-sessions N={count}",
    )
    return 1 if tally.breaches else 0


if __name__ == "__main__":
    raise SystemExit(main())
