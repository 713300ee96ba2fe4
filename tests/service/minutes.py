"""Minute markets, bracketed strategies and half-done cycles that tests of orders and of protection share."""

from datetime import date
from decimal import Decimal

from tests.desks import PERSON, Floor, bars, market, strategy
from trading_pipeline.adapters.market_data.table_market import TableMarket
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.strategies import FractionSizing, StrategySpec
from trading_pipeline.service import approvals
from trading_pipeline.service.cycle import STEPS
from trading_pipeline.service.judging.book import intent_of
from trading_pipeline.service.orders.gate import intents_of

MINUTES = {"interval": Interval.MIN1}


def minute_bars(*symbols: str, **options: object) -> TableMarket:
    """Three sessions of minutes at one price, but for the options."""
    first, last = date(2024, 8, 27), date(2024, 8, 29)
    return market(*(bars(symbol, Interval.MIN1, first, last, **options) for symbol in symbols or ("AAPL",)))  # type: ignore[arg-type]


def bracketed(**changes: object) -> StrategySpec:
    """Stop 5 % below, target 5 % above."""
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.05"))
    return strategy(**({"sizing": sizing, **MINUTES} | changes))


def approved(stage: Floor) -> str:
    """Approve what waits; its action id."""
    name: str = stage.row("approvals", state="pending")["action_id"]
    approvals.approve(stage.desk, name, actor=PERSON)
    return name


def decided(stage: Floor, interval: Interval = Interval.MIN1) -> Cycle:
    """The newest cycle up to its verdicts: what it decided waits to be sent."""
    cycle = stage.due(interval)
    for step in ("bars", "indicators", "charts", "signals", "verdicts"):
        STEPS[step](stage.desk, cycle)
    return cycle


def intended(stage: Floor, cycle: Cycle, **equals: str) -> None:
    """As a process leaves them that dies before its gate: the intents of what the cycle decided, of the action described."""
    row = stage.row("actions", **equals)
    with stage.desk.ledger.transaction() as tx:
        tx.append(*intents_of(intent_of(row), cycle.cycle_id, cycle.session, stage.clock.now(), row["last_seq"]))


def stops(stage: Floor) -> list[tuple[str, str, int, Decimal]]:
    """(part, state, shares, stop price) of every stop, as they were meant."""
    rows = stage.rows("orders", order_type="stop", order_by="intent_seq")
    return [(row["part"], row["state"], row["quantity"], row["stop_price"]) for row in rows]
