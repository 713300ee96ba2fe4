"""The figures of one plain proposal as they are told: every value that `blanks` names, as text, from what was measured."""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.limits import ORDERS_UNTIL
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.risk import Outcome, World
from trading_pipeline.domain.rulebook import WOULD_STOP
from trading_pipeline.domain.rules.readings import minute, new_york
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.sizing import EntryPlan
from trading_pipeline.domain.volatility import Volatility
from trading_pipeline.domain.worlds import Input, how_supplied, not_supplied
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.units import CENT, fraction_of, price_steps, steps
from trading_pipeline.service.backtests.columnar.writing import words
from trading_pipeline.service.backtests.columnar.writing.forms import Values
from trading_pipeline.service.backtests.columnar.writing.measures import Measures, Reading

_DAY = 86_400 * words.SECOND
_ACTIONS = 120 * words.SECOND
"""How far back `Book.read` looks for orders, and for actions that are over."""
_NO_NOTES = {
    f"{rule_}_note": ""
    for rule_ in (
        "order_value", "account_position", "strategy_position", "buying_power", "day_notional", "account_day_loss", "strategy_day_loss",
        "orders_per_hour",
    )
}
Shape = tuple[Any, ...]
"""Whatever changes an order's facts otherwise than by a figure."""


class Figures:
    """Tells what one lane's orders are written with."""

    def __init__(self, plan: BacktestPlan, lane: Lane) -> None:
        """Of a lane of that plan."""
        self._lane = lane
        spec, limits = lane.spec, plan.limits
        self._spread, self._spread_by = fraction_of(plan.costs.spread)
        self._share, self._share_by = fraction_of(limits.max_concentration)
        self._interval, self._bar = f"{spec.interval.value}@", spec.interval.minutes * words.MINUTE
        self._most_order = steps(min(limits.max_order_value, spec.limits.max_order_value))
        self._most_position = steps(limits.max_position_value), steps(spec.limits.max_position_value)
        self._most_notional = steps(limits.max_day_notional)
        self._most_loss = steps(limits.max_day_loss), steps(spec.limits.max_day_loss)
        self._volume_from = how_supplied(Input.AVERAGE_VOLUME, World.BACKTEST)
        self._volatility_unknown = not_supplied(Input.VOLATILITY, World.BACKTEST) or ""
        self._volume_share, self._most_orders = limits.max_volume_share, spec.limits.max_orders_per_hour
        self._volatility_trip = limits.volatility_trip

    def action(self, at: int) -> str:
        """The name of what is decided at an instant, nanoseconds UTC."""
        return action_id(self._lane.spec.name, self._interval + moment_of(at).short, self._lane.symbol)

    def told(self, measured: Measures) -> tuple[Shape, Values]:
        """An order's shape and values."""
        lane, selling, now = self._lane, measured.selling, measured.now
        price, limit, shares = measured.price, measured.limit, measured.shares
        moment, cycle = moment_of(now), self._interval + moment_of(now).short
        action = action_id(lane.spec.name, cycle, lane.symbol)
        worth, equity, cash = shares * max(price, limit), measured.equity, measured.cash
        after = worth + shares * price if selling else worth
        value, position, net = words.dollars(worth), words.dollars(after), words.dollars(equity)
        notional, volume, short_history = measured.notional + worth, *measured.volume
        most_shares = volume * self._volume_share
        bid, ask = self._quote(price)
        day, closes = _day_of(measured.session)
        concentrated = selling and after * self._share_by > self._share * equity
        values: Values = {
            "action": action, "cycle": cycle, "session": day, "instant": moment.instant, "minute": moment.minute, "local": moment.local,
            "expires": moment_of(measured.expires).instant, "minute_before": moment_of(now - self._bar).minute, "closes": closes,
            "order": client_id(action, "exit" if selling else "entry"), "price": words.price(price),
            "price_usd": words.dollars(price), "limit": words.cents(limit), "limit_usd": words.dollars(limit), "shares": str(shares),
            "shares_told": f"{shares:,}", "value": value, "largest": value, "lowest": words.dollars(min(price, limit)),
            "bid": words.cents(bid), "ask": words.cents(ask), "width": words.percent(2 * (ask - bid), ask + bid),
            "beyond": words.percent(price - limit if selling else limit - price, price),
            "most_shares": f"{most_shares:,.0f}", "volume": format(volume, "f"), "short_history": "true" if short_history else "false",
            "volume_detail": _noted(shares > most_shares, ("short_history: " if short_history else "") + self._volume_from),
            "position": position, "equity": net, "share": words.percent(after, equity),
            "concentration_detail": _noted(concentrated, f"{position} of {net}"), "cash": words.dollars(cash),
            "notional": words.dollars(notional), "account_loss": words.dollars(max(0, measured.account_loss)),
            "strategy_loss": words.dollars(max(0, measured.strategy_loss)), "orders": str(measured.orders), "marks": _marks(measured.marks),
            "since_trade": _since(measured.last_trade, now, _DAY), "since_order": _since(measured.last_order, now, _DAY),
            "sure": f"{measured.confidence:.2f}", "since_action": _since(measured.last_action, now, _ACTIONS), **_NO_NOTES,
        }
        if selling:
            for rule_, stops in (
                ("order_value", worth > self._most_order), ("account_position", after > self._most_position[0]),
                ("strategy_position", after > self._most_position[1]), ("buying_power", worth > cash),
                ("day_notional", notional > self._most_notional), ("account_day_loss", measured.account_loss >= self._most_loss[0]),
                ("strategy_day_loss", measured.strategy_loss >= self._most_loss[1]),
                ("orders_per_hour", measured.orders >= self._most_orders),
            ):
                if stops:
                    values[f"{rule_}_note"] = WOULD_STOP
        self._volatility(measured.volatility, selling, values)
        for verdict in measured.discipline:
            values |= {
                f"{verdict.rule}_measured": verdict.measured, f"{verdict.rule}_limit": verdict.limit,
                f"{verdict.rule}_detail": _noted(selling and not verdict.passed, verdict.detail),
            }
        _legs(measured, action, values)
        if measured.plan is not None:
            _by_the_book(measured.plan, values)
        return (selling, tuple(part[2] is None for part in measured.parts), *_read(measured.reading, values)), values

    def _quote(self, price: int) -> tuple[int, int]:
        """Bid and ask as `quotes.quote_around` puts them."""
        doubled, width = 2 * self._spread_by, max(price * self._spread, CENT * self._spread_by)
        unit = doubled * CENT
        return (doubled * price - width) // unit * CENT, -(-(doubled * price + width) // unit) * CENT

    def _volatility(self, found: Volatility | None, selling: bool, values: Values) -> None:
        if found is None:
            values |= {
                "volatility": "{}", "volatility_told": "unknown", "volatility_detail": self._volatility_unknown,
                "volatility_outcome": Outcome.NOT_APPLICABLE.value,
            }
            return
        since = "" if found.since is None else f"tripped by the bar of {minute(found.since)}"
        told = {"type": "Volatility", "ratio": found.ratio, "tripped": found.tripped, "since": found.since}
        stopped = found.tripped or found.ratio >= self._volatility_trip
        values |= {
            "volatility": canonical_payload({self._lane.symbol: told}), "volatility_told": f"{found.ratio:f} times",
            "volatility_detail": _noted(selling and stopped, since),
            "volatility_outcome": (Outcome.EXEMPT if selling else Outcome.DENY if stopped else Outcome.ALLOW).value,
        }


def _marks(marks: Sequence[tuple[str, int]]) -> str:
    return canonical_payload({symbol: words.price(price) for symbol, price in marks}) if marks else "{}"


def _since(last: int, now: int, within: int) -> str:
    return words.since(last, now) if last >= now - within else "none before"


def _legs(measured: Measures, action: str, values: Values) -> None:
    if measured.selling:
        return
    targets = [shares * target for shares, _, target in measured.parts if target is not None]
    if targets:
        values["largest"] = words.dollars(max(*targets, measured.shares * max(measured.price, measured.limit)))
    values["covered"] = str(sum(shares for shares, _, _ in measured.parts))
    for number, (shares, stop, target) in enumerate(measured.parts, start=1):
        values |= {f"shares_{number}": str(shares), f"stop_{number}": client_id(action, f"stop-{number}")}
        values[f"stop_{number}_price"] = words.cents(stop)
        if target is not None:
            values |= {f"target_{number}": client_id(action, f"target-{number}"), f"target_{number}_price": words.cents(target)}


def _by_the_book(plan: EntryPlan, values: Values) -> None:
    """Prices with the digits that sizing gives them."""
    values["limit"] = format(plan.limit_price, "f")
    for number, part in enumerate(plan.brackets, start=1):
        values[f"stop_{number}_price"] = format(part.stop, "f")
        if part.target is not None:
            values[f"target_{number}_price"] = format(part.target, "f")


def _read(reading: Reading, values: Values) -> Shape:
    values |= {
        "rationale": quoted(reading.rationale)[1:-1], "confidence": reading.confidence, "label": reading.label, "score": reading.score,
        "close": format(reading.close, ".10g"), "close_price": words.price(price_steps(reading.close)),
        "atr": (atr := _ten_digits(reading.atr)), "sma20": (sma20 := _ten_digits(reading.sma20)),
        "support": "" if reading.support is None else format(reading.support, "f"),
    }
    return reading.support is None, atr == "nan", sma20 == "nan"


def _noted(stopped: bool, detail: str = "") -> str:
    """A verdict's detail, with the rulebook's note where an entry would be stopped."""
    return detail if not stopped else f"{WOULD_STOP}; {detail}" if detail else WOULD_STOP


def _ten_digits(value: float) -> str:
    text = format(value, ".10g")
    return format(Decimal(text), "f") if "e" in text else text


@lru_cache(maxsize=8192)
def moment_of(at: int) -> words.Moment:
    """A whole minute's words; nanoseconds UTC."""
    return words.Moment(at)


@lru_cache(maxsize=1024)
def _day_of(session: Session) -> tuple[str, str]:
    """A session's date, and until when orders go out on New York's clock."""
    return session.day.isoformat(), min(new_york(session.close).time(), ORDERS_UNTIL).isoformat("minutes")
