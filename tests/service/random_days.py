"""Trading days that nobody has written: prices, people, pauses, limits and the broker's line take a seeded turn every minute."""

import random
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from tests.desks import OPEN, PERSON, Floor, bars, floor, market, strategy
from trading_pipeline.adapters.brokers.paper_faults import Call, CancelAfter, DropReply, LoseRequest, NotReady, Refuse
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode, RiskSizing
from trading_pipeline.errors import BrokerNotReady, Conflict, PermissionRequired, StrategyError
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.steps import spec_of
from trading_pipeline.service.stopping import emergency

SYMBOLS = ("AAPL", "MSFT", "GOOG")


def walk(symbol: str, dice: random.Random) -> BarTable:
    """Minutes of three sessions at prices that wander, and leap now and then."""
    flat = bars(symbol, Interval.MIN1, date(2024, 8, 27), date(2024, 8, 29))
    steps = np.random.default_rng(dice.randrange(2**32))
    moves = steps.normal(0, 0.001, len(flat)) + (steps.random(len(flat)) < 0.01) * steps.normal(0, 0.02, len(flat))
    close = np.round(100 * np.exp(np.cumsum(moves)), 2)
    start = np.concatenate(([100.0], close[:-1]))
    reach = np.round(np.abs(steps.normal(0, 0.05, len(flat))), 2)
    return replace(flat, open=start, high=np.maximum(start, close) + reach, low=np.minimum(start, close) - reach, close=close)


def random_day(folder: Path, seed: int, minutes: int) -> Floor:
    """The first minutes of such a day."""
    dice = random.Random(seed)
    minute = {"interval": Interval.MIN1, "symbols": SYMBOLS}
    stage = floor(
        folder, market(*(walk(symbol, dice) for symbol in SYMBOLS)), OPEN,
        strategy(
            "alone", agent=ExpressionAgent("rsi_14 < 50", "rsi_14 > 55"),
            sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.004"), target=Decimal("0.004")), **minute,
        ),
        strategy(
            "asks", agent=ExpressionAgent("close > sma_20", "close < sma_20"), mode=Mode.APPROVAL, sizing=RiskSizing(), **minute,
        ),
    )
    for number in range(1, minutes + 1):
        now = OPEN + timedelta(minutes=number, seconds=dice.choice((0, 0, 0, 5, 130)))
        if now < stage.clock.now() or dice.random() < 0.03:
            continue
        stage.go(now)
        stage = _turn(stage, dice, OPEN + timedelta(minutes=number + 1))
    return stage


def _turn(stage: Floor, dice: random.Random, until: datetime) -> Floor:
    """What happens around one close."""
    ailing = dice.choice(((), (), (), (), (LoseRequest(),), (DropReply(),), (Refuse("not today"),), (CancelAfter(dice.randrange(1, 9)),)))
    stage.faults.on_every_submit(*ailing)
    if dice.random() < 0.05:
        stage.faults.on_call(Call.POSITIONS, NotReady())
    if dice.random() < 0.05:
        stage = stage.restarted(limits=replace(stage.desk.limits, max_order_value=Decimal(dice.randrange(2_000, 9_000))))
    _control(stage, dice)
    stage.cycle(Interval.MIN1)
    for row in stage.rows("approvals", state="pending"):
        if dice.random() < 0.8:
            decide = approvals.approve if dice.random() < 0.8 else approvals.reject
            with suppress(Conflict):
                decide(stage.desk, row["action_id"], actor=PERSON)
    for _ in range(4):
        due = approvals.next_instant(stage.desk)
        if due is None or due >= until:
            break
        stage.go(due)
        with suppress(BrokerNotReady):
            stage.release()
    return stage


def _control(stage: Floor, dice: random.Random) -> None:
    """A person pauses, resumes, revises or stops, rarely."""
    name, chance = dice.choice(("alone", "asks")), dice.random()
    with suppress(Conflict, BrokerNotReady, StrategyError, PermissionRequired):
        if chance < 0.04:
            controls.pause(stage.desk, name, actor=PERSON, reason="lunch")
        elif chance < 0.16:
            controls.resume(stage.desk, name, actor=PERSON)
        elif chance < 0.19:
            spec = spec_of(stage.row("strategies", name=name))
            controls.revise(stage.desk, replace(spec, limits=replace(spec.limits, max_position_value=Decimal(9_000))), actor=PERSON)
        elif chance < 0.195:
            emergency.stop(stage.desk, strategy=name, reason="enough", actor=PERSON)
