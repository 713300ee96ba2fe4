"""Random situations on both sides of every limit, and what becomes of a signal in them: sized by code, then perhaps tampered with.

Most inputs are quiet and one or two are not, so that single rules decide; tampering stands for a sizer, a caller or a memory that is
wrong (ten times the quantity, a fraction of a share, a price off the collar): the rulebook must stop what sizing would never propose.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

from tests.domain.rulebook_cases import NOW, at, context, session
from tests.evidence.hostile_replies import UNIVERSE
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.day_risk import risk_left
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits, effective_collar
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderIntent, OrderType, Side, TimeInForce
from trading_pipeline.domain.risk import Quote, RiskContext, World
from trading_pipeline.domain.round_trips import RoundTrip, recovering
from trading_pipeline.domain.signals import Action, Signal
from trading_pipeline.domain.sizing import NoEntry, exit_slices, marketable_limit, size_entry
from trading_pipeline.domain.strategies import Entry, FractionSizing, Mode, RiskSizing, Sizing, StrategyState
from trading_pipeline.domain.volatility import Volatility

D = Decimal
NAN, INF = D("NaN"), D("Infinity")
S = timedelta(seconds=1)
SIZINGS: tuple[Sizing, ...] = (
    RiskSizing(), RiskSizing(max_stop=D("0.10"), targets=(D("1.5"), D(30))), RiskSizing(exposure_multiplier=D(3)),
    RiskSizing(entry=Entry.PULLBACK),
    RiskSizing(risk_per_trade=D(1), max_stop=D("0.001"), targets=()), FractionSizing(), FractionSizing(fraction=D(1)),
    FractionSizing(fraction=D("0.5"), stop=D("0.99"), target=D(20)), FractionSizing(stop=D("0.02"), entry=Entry.PULLBACK),
)
ACCOUNTS = (
    AccountLimits(), AccountLimits(), AccountLimits(max_order_value=D(5_000), max_concentration=D("0.05")),
    AccountLimits(price_collar=D("0.01"), max_spread=D("0.001"), forbidden_symbols=frozenset({"F"})),
    AccountLimits(max_position_value=D(500_000)), AccountLimits(max_day_risk=D(300)),
)
STRATEGIES = (
    StrategyLimits(), StrategyLimits(max_position_value=D(40_000)),
    StrategyLimits(max_order_value=D(100_000), max_position_value=D(1_000_000)),
    StrategyLimits(max_order_value=D(500), price_collar=D("0.002")), StrategyLimits(max_day_risk=D(1_000)),
)


def _trips(results: str, minutes: int) -> tuple[RoundTrip, ...]:
    """Won, lost and even ones, five minutes apart, the last of them so many minutes ago."""
    ends = [NOW - timedelta(minutes=minutes + 5 * (len(results) - 1 - number)) for number in range(len(results))]
    return tuple(RoundTrip("IBM", end, D({"W": 5, "L": -5, "0": 0}[each])) for each, end in zip(results, ends, strict=True))


AMOUNTS: dict[str, tuple[Any, ...]] = {
    "equity": (D(100), D(0), D(-1), NAN, INF, None), "buying_power": (D(0), D(-5), D(99), NAN, None),
    "account_day_pnl": (D("-999.99"), D(-1_000), D(-50_000), D(3), NAN, None), "strategy_day_pnl": (D("-999.99"), D(-1_000), -INF, None),
    "average_day_volume": (D(0), D(100), D(40_000), NAN, None), "symbol_exposure": (D(49_000), D(10) ** 9, D(-1), None),
    "strategy_symbol_exposure": (D(9_999), D(39_000), INF, None), "day_notional": (D(999_990), D(10) ** 7, NAN, D(-1)),
    "orders_last_hour": (9, 10, 11, -1), "open_orders": (9, 10, 500), "consecutive_rejects": (4, 5, 6), "position": (0, 1, -1, 10**6),
    "open_exit_quantity": (1, 200, 10**6), "last_trade_at": (NOW, NOW - 29.999 * S, NOW - 30 * S, NOW + S),
    "last_action_at": (NOW, NOW - 59.999 * S, NOW - 60 * S), "last_account_order_at": (NOW, NOW - 0.999 * S, NOW - S),
    "open_action": ("a-0",),
    "unknown_order": ("ABC",), "crossing_order": ("IBM sell",), "latched": (True, None),
    "volatility": (
        Volatility(D("2.99"), False, None), Volatility(D(3), False, None), Volatility(D("1.2"), True, NOW), Volatility(NAN, False, None),
        None,
    ),
    "account_loss_granted": (D(500), D(-1), NAN), "strategy_loss_granted": (D(500), None),
    "account_open_risk": (D(290), D("299.99"), D(0), None, NAN), "strategy_open_risk": (D(990), INF, D(-1), None),
    "last_losing_exit_at": (NOW, NOW - 1_799.999 * S, NOW - 1_800 * S),
    "round_trips": tuple(_trips(each, minutes) for each in ("LLL", "LLLL", "LLL0", "LLWLL", "LLLW", "LL0LL") for minutes in (29, 30, 60)),
    "strategy_state": tuple(StrategyState), "bar_end": (NOW - 300 * S, NOW - 301 * S, NOW + S, None),
    "bar_expected_end": (NOW + 300 * S, None),
    "universe": (frozenset(), frozenset({"IBM"})), "leveraged_symbols": (frozenset({"AAPL", "IBM"}),),
    "session": (None, session("2012-10-16", "10:59"), session("2012-10-17")),
    "at_release": (NOW + 30 * S, at("2012-10-16", "16:00:00"), NOW + 299 * S),
    "halted": (True, None), "clock_offset": (2 * S, 2.001 * S, -3 * S, None), "contract_id": ("", None),
    "sector_exposure": (D(10**6), D(0), None),
    "interval": (Interval.DAY1,),
    "now": (at("2012-10-16", "09:29:59.999"), at("2012-10-16", "09:30:00"), at("2012-10-16", "15:59:59.999"), at("2012-10-16", "16:00:00")),
}
QUOTES: tuple[dict[str, Any] | None, ...] = (
    {"bid": NAN}, {"last": D(0)}, {"ask": INF}, {"at": NOW - 5 * S}, {"at": NOW - 5.001 * S}, {"at": NOW + S}, {"symbol": "X"}, None,
)
LIVE = {
    "world": World.LIVE, "volatility": Volatility(D("0.8"), False, None), "halted": False, "clock_offset": timedelta(0),
    "contract_id": "8314",
}


def situation(symbol: str, rng: Random) -> RiskContext:
    """What is known when a signal for the symbol is judged."""
    price = D(str(round(rng.choice((0.5, 1, 3, 40, 200, 900)) * (1 + rng.random()), 4)))
    width = (rng.choice((D("0.0001"), D("0.019"), D("0.021"))) if rng.random() < 0.1 else D("0.0002")) * price
    around = Quote(symbol, price - width / 2, price + width / 2, price, NOW)
    quote: Quote | None = around
    changes: dict[str, Any] = {
        "universe": frozenset(UNIVERSE), "account_limits": rng.choice(ACCOUNTS), "strategy_limits": rng.choice(STRATEGIES),
        "mode": rng.choice(list(Mode)),
        "symbol_exposure": D(0), "strategy_symbol_exposure": D(0), "equity": D(rng.choice((20_000, 200_000, 5_000_000))), "position": 500,
        "buying_power": D(rng.choice((20_000, 200_000, 5_000_000))),
    }
    if rng.random() < 0.3:
        changes |= LIVE
    if rng.random() < 0.2:
        changes |= {"sector": "Technology", "sector_exposure": D(0)}
    for name in rng.sample(_NAMES, rng.choice((0, 0, 1, 1, 1, 2, 3))):
        changes[name] = rng.choice(AMOUNTS[name])
    if rng.random() < 0.1:
        spoilt = rng.choice(QUOTES)
        quote = None if spoilt is None else replace(around, **spoilt)
    elif "now" in changes:
        quote = replace(around, at=changes["now"])
        changes |= {"bar_end": changes["now"], "bar_expected_end": changes["now"]}
    return context(quote=quote, **changes)


_NAMES = tuple(AMOUNTS)


def proposed(signal: Signal, known: RiskContext, rng: Random) -> OrderIntent | NoEntry:
    """What code makes of the signal, as the step `verdicts` does: nothing of its hints, its figures or its words is read."""
    quote = known.quote
    if quote is None:
        return NoEntry("no_quote", signal.symbol)
    collar = effective_collar(known.account_limits, known.strategy_limits, autonomous=known.mode is Mode.AUTONOMOUS)
    common: dict[str, Any] = {
        "action_id": "a-1", "account": "paper-1", "environment": "paper", "strategy": "trend", "symbol": signal.symbol,
        "reference": quote.last,
    }
    if signal.action is Action.SELL:
        quantity = known.position
        if quantity >= 1 and quote.last.is_finite() and quote.last > 0:
            quantity = exit_slices(quantity, quote.last)[0]
            limit: Decimal | None = marketable_limit(Side.SELL, quote.last, collar)
        else:
            limit = quote.last
        return OrderIntent(
            part="exit", side=Side.SELL, order_class=OrderClass.EXIT, quantity=quantity, order_type=OrderType.MARKETABLE,
            limit_price=limit, **common,
        )
    around = (None, quote.last * D("0.97"), quote.last * D("0.5"), quote.last * 2, D(0), NAN)
    plan = size_entry(
        rng.choice(SIZINGS), price=quote.last, equity=_or_zero(known.equity), buying_power=_or_zero(known.buying_power),
        held_value=_or_zero(known.strategy_symbol_exposure), limits=known.account_limits, strategy_limits=known.strategy_limits,
        atr=rng.choice((None, quote.last * D("0.02"), D(0), NAN)), support=rng.choice(around), sma20=rng.choice(around), collar=collar,
        average_day_volume=known.average_day_volume, recovering=recovering(known.round_trips, known.strategy_limits.losing_streak),
        day_risk_left=_risk_left(known),
    )
    if isinstance(plan, NoEntry):
        return plan
    return OrderIntent(
        part="entry", side=Side.BUY, order_class=OrderClass.ENTRY, quantity=plan.quantity, order_type=plan.order_type,
        limit_price=plan.limit_price,
        brackets=plan.brackets, **common,
    )


def _risk_left(known: RiskContext) -> Decimal | None:
    account, strategy = known.account_limits.max_day_risk, known.strategy_limits.max_day_risk
    left = [
        risk_left(most, granted, pnl, open_risk)
        for most, granted, pnl, open_risk in (
            (account, known.account_loss_granted, known.account_day_pnl, known.account_open_risk),
            (strategy, known.strategy_loss_granted, known.strategy_day_pnl, known.strategy_open_risk),
        )
        if most is not None and all(each is not None and each.is_finite() for each in (granted, pnl, open_risk))
    ]
    return min(left, default=None)


def _or_zero(value: Decimal | None) -> Decimal:
    """The service never sizes with an unknown amount; absurd ones it may meet."""
    return D(0) if value is None else value


def later(known: RiskContext, rng: Random) -> RiskContext:
    """The situation at the gate: one thing has changed since the order was sized."""
    name = rng.choice(_NAMES)
    changes: dict[str, Any] = {name: rng.choice(AMOUNTS[name])}
    return replace(known, **changes)


def tampered(intent: OrderIntent, rng: Random) -> OrderIntent:
    """The same intent, and one thing of it wrong."""
    return rng.choice(TAMPERINGS)(intent, rng)


def _limit(by: str) -> Callable[[OrderIntent, Random], OrderIntent]:
    def change(intent: OrderIntent, rng: Random) -> OrderIntent:
        price = intent.limit_price
        return intent if price is None else replace(intent, limit_price=price * D(by))

    return change


def _with(*changes: dict[str, Any]) -> Callable[[OrderIntent, Random], OrderIntent]:
    return lambda intent, rng: replace(intent, **rng.choice(changes))


TAMPERINGS: tuple[Callable[[OrderIntent, Random], OrderIntent], ...] = (
    lambda intent, rng: replace(intent, quantity=intent.quantity * rng.choice((2, 10, 1_000, -1, 0))),
    _with(*({"quantity": many} for many in (0, -5, 1.5, True, D(3), None, 10**30))),
    _limit("1.04"), _limit("0.94"), _limit("0.88"), _limit("10"), _limit("0.1"), _limit("1.00001"), _limit("-1"),
    _with(*({"limit_price": price} for price in (None, NAN, INF, D(0))), {"reference": NAN}, {"reference": D(-1)}),
    _with({"symbol": "TQQQ"}, {"symbol": "GME"}, {"symbol": "\u0410APL"}, {"symbol": ""}),
    _with({"order_class": OrderClass.ENTRY}, {"order_class": OrderClass.EXIT}, {"order_class": OrderClass.PROTECTIVE}),
    _with({"side": Side.BUY}, {"side": Side.SELL}, {"side": Side.SELL, "order_class": OrderClass.PROTECTIVE, "brackets": ()}),
    _with({"time_in_force": TimeInForce.GTC}, {"environment": "live"}, {"environment": "prod"}, {"account": ""}),
    _with({"order_type": OrderType.STOP}, {"order_type": OrderType.STOP, "stop_price": D(90), "limit_price": None}),
    _with({"stop_price": D(10**6)}),
    lambda intent, rng: replace(
        intent, side=Side.SELL, order_class=OrderClass.PROTECTIVE, order_type=OrderType.STOP, stop_price=D(5), limit_price=None,
        brackets=(), time_in_force=TimeInForce.GTC, quantity=100,
    ),
    lambda intent, rng: replace(
        intent, brackets=rng.choice(
            (
                (Bracket(10**6, D("0.5"), None),), (Bracket(1, intent.reference * 2, None),), (Bracket(1, D("0.01"), D("0.02")),),
                (Bracket(1, D("0.01"), D(10**6)),), (Bracket(0, D("0.01"), None),), (Bracket(1, NAN, None),),
                (Bracket(1, D("0.00015"), None),),
            )
        ),
    ),
)
