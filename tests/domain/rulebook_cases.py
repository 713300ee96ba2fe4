"""An order that passes everything, of each class, and the context it passes in; tests break one thing at a time."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import OrderClass, OrderIntent, OrderType, Side
from trading_pipeline.domain.risk import Quote, RiskContext, Verdict, World
from trading_pipeline.domain.round_trips import RoundTrip
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import Mode, StrategyState
from trading_pipeline.domain.volatility import Volatility

NEW_YORK = ZoneInfo("America/New_York")


def at(day: str, clock: str) -> datetime:
    """An instant by New York's wall clock."""
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NEW_YORK).astimezone(UTC)


def session(day: str, close: str = "16:00") -> Session:
    """A session from 09:30."""
    return Session(date.fromisoformat(day), at(day, "09:30"), at(day, close))


HARD = ["hard_order_value", "penny_stock", "trading_hours", "cooldown", "duplicate_action"]
"""The hard limits, in the order of the book."""
CALM = Volatility(Decimal("1.00"), False, None)
NOW = at("2012-10-16", "11:00:00")


def quote(last: str = "100.00", bid: str = "99.99", ask: str = "100.01", when: datetime = NOW, symbol: str = "IBM") -> Quote:
    """A quote of now."""
    return Quote(symbol, Decimal(bid), Decimal(ask), Decimal(last), when)


def trips(*results: str, ago: float = 0) -> tuple[RoundTrip, ...]:
    """Round trips in MSFT with these results, a minute apart, the newest closed so many seconds ago."""
    newest = NOW - timedelta(seconds=ago)
    many = len(results)
    return tuple(
        RoundTrip("MSFT", newest - timedelta(minutes=many - 1 - number), Decimal(result)) for number, result in enumerate(results)
    )


def order(order_class: OrderClass = OrderClass.ENTRY, **changes: Any) -> OrderIntent:
    """Fifty shares of IBM at $100: bought as an entry, sold as an exit or to protect."""
    buying = order_class is OrderClass.ENTRY
    intent = OrderIntent(
        action_id="a-1", part="entry" if buying else "exit", account="paper-1", environment="paper", strategy="trend", symbol="IBM",
        side=Side.BUY if buying else Side.SELL, order_class=order_class, quantity=50, order_type=OrderType.MARKETABLE,
        reference=Decimal("100.00"), limit_price=Decimal("102.00") if buying else Decimal("98.00"),
    )
    return replace(intent, **changes)


def context(**changes: Any) -> RiskContext:
    """A quiet Tuesday morning, 5-minute bars, 200 shares held, all inputs known."""
    return replace(
        RiskContext(
            now=NOW, world=World.REPLAY, session=session("2012-10-16"), mode=Mode.APPROVAL, strategy_state=StrategyState.RUNNING,
            latched=False, account_limits=AccountLimits(), strategy_limits=StrategyLimits(max_position_value=Decimal(40_000)),
            universe=frozenset({"IBM"}), equity=Decimal(200_000), buying_power=Decimal(150_000), account_day_pnl=Decimal(0),
            strategy_day_pnl=Decimal(0), quote=quote(), interval=Interval.MIN5, bar_end=NOW, bar_expected_end=NOW,
            average_day_volume=Decimal(1_000_000), short_history=False, halted=None, position=200, open_exit_quantity=0,
            symbol_exposure=Decimal(20_000), strategy_symbol_exposure=Decimal(20_000), sector=None, sector_exposure=None,
            last_trade_at=None, last_action_at=None, last_account_order_at=None, orders_last_hour=0, open_orders=0,
            day_notional=Decimal(0), consecutive_rejects=0, open_action=None, unknown_order=None, volatility=CALM,
            account_open_risk=Decimal(0), strategy_open_risk=Decimal(0),
        ),
        **changes,
    )


def live(**changes: Any) -> RiskContext:
    """The same on the live market, with what only that can and must supply."""
    known = {"world": World.LIVE, "halted": False, "clock_offset": timedelta(0), "contract_id": "8314"}
    return context(**(known | changes))


def verdict_of(rule: str, intent: OrderIntent, situation: RiskContext) -> Verdict:
    """One rule's verdict out of the whole judgement."""
    [found] = [verdict for verdict in judge(intent, situation).verdicts if verdict.rule == rule]
    return found
