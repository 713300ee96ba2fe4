"""The figures of one plain proposal as they are told: every value that `blanks` names, as text, from the simulation's whole numbers.

A proposal is plain where one lane decides alone, at a whole minute, and would go out at once. What the rules measure is measured here
a second time, for speed; forms are learnt from the rulebook's own words, and held to them again and again, see `letters`.
"""

from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any, NamedTuple

from trading_pipeline.domain.agents import held_long_enough, rule, spoken
from trading_pipeline.domain.bars import Floats, instant_ns, instant_of
from trading_pipeline.domain.cycles import Cycle, CycleKind, action_id
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.expressions import parse
from trading_pipeline.domain.indicators import IndicatorSpec, prepared, price_columns
from trading_pipeline.domain.limits import MAX_ORDER_VALUE, ORDERS_UNTIL, AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.risk import Outcome, World
from trading_pipeline.domain.round_trips import RoundTrip
from trading_pipeline.domain.rulebook import WOULD_STOP
from trading_pipeline.domain.rules import discipline
from trading_pipeline.domain.rules.readings import minute, new_york
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.signals import Signal
from trading_pipeline.domain.sizing import EntryPlan
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.domain.worlds import Input, how_supplied, not_supplied
from trading_pipeline.service.backtests.columnar.holdings import NEVER, Held
from trading_pipeline.service.backtests.columnar.sizes import Entry
from trading_pipeline.service.backtests.columnar.units import CENT, SCALE, fraction_of, price_steps, steps, usd
from trading_pipeline.service.backtests.columnar.writing import words
from trading_pipeline.service.backtests.columnar.writing.forms import Values

if TYPE_CHECKING:
    from trading_pipeline.service.backtests.columnar.simulation import Simulation

_DAY = 86_400 * words.SECOND
_ACTIONS = 120 * words.SECOND
"""How far back `Book.read` looks for orders, and for actions that are over."""
_MOST_ORDER = steps(MAX_ORDER_VALUE)
"""An exit of more is cut into several orders."""
_PLAIN_PRICE = 2 * SCALE
"""Below it a price may lie on another grid."""
_NO_NOTES = {
    f"{rule_}_note": ""
    for rule_ in (
        "order_value", "account_position", "strategy_position", "buying_power", "day_notional", "account_day_loss", "strategy_day_loss",
        "orders_per_hour",
    )
}
Shape = tuple[Any, ...]
"""Whatever changes an order's facts otherwise than by a figure."""


class _Order(NamedTuple):
    """What the rules of discipline read of an order."""

    value: Decimal


class _AfterLosses(NamedTuple):
    """What they read of a context."""

    now: datetime
    account_limits: AccountLimits
    strategy_limits: StrategyLimits
    round_trips: tuple[RoundTrip, ...]
    last_losing_exit_at: datetime | None
    at_release: datetime | None = None


class Figures:
    """Tells what one lane's orders are written with.

    Args:
        needs: The indicators that live computes of the strategy.
        window: Over how many bars it does.
    """

    def __init__(self, sim: "Simulation", number: int, needs: tuple[IndicatorSpec, ...], window: int) -> None:
        self._sim, self._number, self._lane = sim, number, sim.lanes[number]
        spec, limits = self._lane.spec, sim.plan.limits
        self._compute, self._window, self._agent = prepared(needs), window, spec.agent
        # Cents for cents: an exit's limit by `sizing.marketable_limit`.
        self._reach, self._reach_by = fraction_of((1 - sim.sizers[number].collar) * (1 + spec.price_band))
        self._spread, self._spread_by = fraction_of(sim.plan.costs.spread)
        self._share, self._share_by = fraction_of(limits.max_concentration)
        cycle = Cycle("", CycleKind.BAR, date.min, instant_of(0), spec.interval)
        self._interval, self._bar = f"{spec.interval.value}@", spec.interval.minutes * words.MINUTE
        self._fresh = instant_ns(cycle.stale_at())
        """For how long a proposal may wait."""
        self._most_order = steps(min(limits.max_order_value, spec.limits.max_order_value))
        self._most_position = steps(limits.max_position_value), steps(spec.limits.max_position_value)
        self._most_notional = steps(limits.max_day_notional)
        self._most_loss = steps(limits.max_day_loss), steps(spec.limits.max_day_loss)
        own = spec.limits
        self._disciplined = any(each is not None for each in (own.cool_off, own.recovery_size, own.revenge_wait))
        self._volume_from = how_supplied(Input.AVERAGE_VOLUME, World.BACKTEST)
        self._volatility_unknown = not_supplied(Input.VOLATILITY, World.BACKTEST) or ""
        self._volume_share, self._most_orders = limits.max_volume_share, spec.limits.max_orders_per_hour

    def told(self, bar: int, entry: Entry | None, held: Held | None, session: Session) -> tuple[Shape, Values] | None:
        """An order's shape and values as it is judged and sent; None where it is not plain.

        Args:
            held: What an exit sells.
        """
        sim, lane, number = self._sim, self._lane, self._number
        now, price = sim.instant(bar), sim.quote(number, bar)
        limit = self._exit_limit(price) if entry is None else entry.limit
        expires = min(now + self._fresh, _nanoseconds(session.close))
        volume = lane.prices.average_volume(bar)
        least = price if entry is None or not entry.parts else min(part[1] for part in entry.parts)
        if volume is None or min(least, limit) < _PLAIN_PRICE or now % words.MINUTE or expires % words.MINUTE:
            return None
        name, symbol, moment, track = lane.spec.name, lane.symbol, moment_of(now), sim.tracks[lane.spec.name]
        cycle = self._interval + moment.short
        action = action_id(name, cycle, symbol)
        shares = entry.shares if entry is not None else held.shares if held is not None else 0
        value = words.dollars(worth := shares * max(price, limit))
        position = words.dollars(after := worth if held is None else worth + held.shares * price)
        equity = words.dollars(net := sim.equity(bar))
        account_loss, strategy_loss = sim.baseline - net, -sim.strategy_pnl(name, bar)
        notional = sim.notional.get(sim.session(bar), 0) + worth
        orders = sim.judge.orders_last_hour(name, now)
        most_shares = volume[0] * self._volume_share
        last_action = track.last_actions.get((symbol, entry is None), NEVER)
        if entry is None and worth > _MOST_ORDER:
            return None
        bid, ask = self._quote(price)
        day, closes = _day_of(session)
        concentrated = entry is None and after * self._share_by > self._share * net
        values: Values = {
            "action": action, "cycle": cycle, "session": day, "instant": moment.instant, "minute": moment.minute, "local": moment.local,
            "expires": moment_of(expires).instant, "minute_before": moment_of(now - self._bar).minute, "closes": closes,
            "order": client_id(action, "exit" if entry is None else "entry"), "price": words.price(price),
            "price_usd": words.dollars(price), "limit": words.cents(limit), "limit_usd": words.dollars(limit), "shares": str(shares),
            "shares_told": f"{shares:,}", "value": value, "largest": value, "lowest": words.dollars(min(price, limit)),
            "bid": words.cents(bid), "ask": words.cents(ask), "width": words.percent(2 * (ask - bid), ask + bid),
            "beyond": words.percent(limit - price if entry is not None else price - limit, price),
            "most_shares": f"{most_shares:,.0f}", "volume": format(volume[0], "f"), "short_history": "true" if volume[1] else "false",
            "volume_detail": _noted(shares > most_shares, ("short_history: " if volume[1] else "") + self._volume_from),
            "position": position, "equity": equity, "share": words.percent(after, net),
            "concentration_detail": _noted(concentrated, f"{position} of {equity}"), "cash": words.dollars(sim.cash),
            "notional": words.dollars(notional), "account_loss": words.dollars(max(0, account_loss)),
            "strategy_loss": words.dollars(max(0, strategy_loss)), "orders": str(orders), "marks": self._marks(bar),
            "since_trade": words.since(track.last_trade, now) if track.last_trade >= now - _DAY else "none before",
            "since_order": words.since(sim.last_order, now) if sim.last_order >= now - _DAY else "none before",
            "sure": f"{lane.confidence(bar, entry is None):.2f}",
            "since_action": words.since(last_action, now) if last_action >= now - _ACTIONS else "none before", **_NO_NOTES,
        }
        if entry is None:
            for rule_, stops in (
                ("order_value", worth > self._most_order), ("account_position", after > self._most_position[0]),
                ("strategy_position", after > self._most_position[1]), ("buying_power", worth > sim.cash),
                ("day_notional", notional > self._most_notional), ("account_day_loss", account_loss >= self._most_loss[0]),
                ("strategy_day_loss", strategy_loss >= self._most_loss[1]), ("orders_per_hour", orders >= self._most_orders),
            ):
                if stops:
                    values[f"{rule_}_note"] = WOULD_STOP
        self._volatility(bar, entry is None, values)
        if self._disciplined:
            self._discipline(now, worth, entry is None, values)
        if entry is not None:
            self._legs(entry, action, values)
            if not sim.sizers[number].quick:
                self._by_the_book(bar, entry, values)
        targets = () if entry is None else tuple(part[2] is None for part in entry.parts)
        return (entry is None, targets, *self._said(bar, held, values)), values

    def _discipline(self, now: int, value: int, exit_: bool, values: Values) -> None:
        """What a strategy forbids itself after losses, by the rules themselves."""
        sim, spec = self._sim, self._lane.spec
        lost = sim.tracks[spec.name].losing_exits.get(self._lane.symbol)
        context = _AfterLosses(
            instant_of(now), sim.plan.limits, spec.limits, sim.judge.trips(spec.name), None if lost is None else instant_of(lost),
        )
        for rule_ in (discipline.cool_off, discipline.recovery_size, discipline.revenge_entry):
            verdict = rule_(_Order(usd(value)), context)  # type: ignore[arg-type]  # all that these rules read
            values |= {
                f"{verdict.rule}_measured": verdict.measured, f"{verdict.rule}_limit": verdict.limit,
                f"{verdict.rule}_detail": _noted(exit_ and not verdict.passed, verdict.detail),
            }

    def _exit_limit(self, price: int) -> int:
        reach = min(price * self._reach_by, price * self._reach)
        return -(-reach // (self._reach_by * CENT)) * CENT

    def _quote(self, price: int) -> tuple[int, int]:
        """Bid and ask as `quotes.quote_around` puts them."""
        doubled, width = 2 * self._spread_by, max(price * self._spread, CENT * self._spread_by)
        unit = doubled * CENT
        return (doubled * price - width) // unit * CENT, -(-(doubled * price + width) // unit) * CENT

    def _marks(self, bar: int) -> str:
        sim = self._sim
        held = [number for number, each in enumerate(sim.held) if each is not None]
        return canonical_payload({sim.lanes[number].symbol: words.price(sim.quote(number, bar)) for number in held}) if held else "{}"

    def _volatility(self, bar: int, exit_: bool, values: Values) -> None:
        limits = self._sim.plan.limits
        found = self._lane.prices.volatility(bar, limits)
        if found is None:
            values |= {
                "volatility": "{}", "volatility_told": "unknown", "volatility_detail": self._volatility_unknown,
                "volatility_outcome": Outcome.NOT_APPLICABLE.value,
            }
            return
        since = "" if found.since is None else f"tripped by the bar of {minute(found.since)}"
        told = {"type": "Volatility", "ratio": found.ratio, "tripped": found.tripped, "since": found.since}
        stopped = found.tripped or found.ratio >= limits.volatility_trip
        values |= {
            "volatility": canonical_payload({self._lane.symbol: told}), "volatility_told": f"{found.ratio:f} times",
            "volatility_detail": _noted(exit_ and stopped, since),
            "volatility_outcome": (Outcome.EXEMPT if exit_ else Outcome.DENY if stopped else Outcome.ALLOW).value,
        }

    def _legs(self, entry: Entry, action: str, values: Values) -> None:
        targets = [shares * target for shares, _, target in entry.parts if target is not None]
        if targets:
            values["largest"] = words.dollars(max(*targets, entry.shares * max(entry.reference, entry.limit)))
        values["covered"] = str(sum(shares for shares, _, _ in entry.parts))
        for number, (shares, stop, target) in enumerate(entry.parts, start=1):
            values |= {f"shares_{number}": str(shares), f"stop_{number}": client_id(action, f"stop-{number}")}
            values[f"stop_{number}_price"] = words.cents(stop)
            if target is not None:
                values |= {f"target_{number}": client_id(action, f"target-{number}"), f"target_{number}_price": words.cents(target)}

    def _by_the_book(self, bar: int, entry: Entry, values: Values) -> None:
        """Prices with the digits that sizing gives them."""
        plan = self._sim.sizers[self._number].planned(self._sim, bar, entry.reference)
        assert isinstance(plan, EntryPlan)
        values["limit"] = format(plan.limit_price, "f")
        for number, part in enumerate(plan.brackets, start=1):
            values[f"stop_{number}_price"] = format(part.stop, "f")
            if part.target is not None:
                values[f"target_{number}_price"] = format(part.target, "f")

    def _said(self, bar: int, held: Held | None, values: Values) -> Shape:
        """What the rules say of the bar, computed as live computes it, over as many bars: to the last digit of a sentence."""
        lane, agent = self._lane, self._agent
        row = lane.prices.first + bar + 1
        bars = lane.prices.table.rows(max(0, row - self._window), row)
        columns = self._compute(bars)
        since = None if held is None else bar - held.entered + 1
        confidence, label, score = "1", "", "null"
        if not isinstance(agent, ExpressionAgent):
            signal = rule(agent, bars, columns, since).decision
            assert isinstance(signal, Signal)
            said, confidence, label, score = signal.rationale, format(signal.confidence, "f"), signal.label, str(signal.score)
        elif since is not None and agent.max_bars and since >= agent.max_bars:
            said = held_long_enough(agent, since)
        else:
            which, text = ("enter_when", agent.enter_when) if since is None else ("exit_when", agent.exit_when)
            said = spoken(which, True, parse(text), {**columns, **price_columns(bars)})
        support = self._sim.sizers[self._number].support(bar)
        values |= {
            "rationale": quoted(said)[1:-1], "confidence": confidence, "label": label, "score": score,
            "close": format(close := lane.prices.close.item(bar), ".10g"), "close_price": words.price(price_steps(close)),
            "atr": (atr := _newest(columns["atr_14"])), "sma20": (sma20 := _newest(columns["sma_20"])),
            "support": "" if support is None else format(support, "f"),
        }
        return support is None, atr == "nan", sma20 == "nan"


def _noted(stopped: bool, detail: str = "") -> str:
    """A verdict's detail, with the rulebook's note where an entry would be stopped."""
    return detail if not stopped else f"{WOULD_STOP}; {detail}" if detail else WOULD_STOP


def _newest(column: Floats) -> str:
    text = format(column.item(-1), ".10g")
    return format(Decimal(text), "f") if "e" in text else text


@lru_cache(maxsize=8192)
def moment_of(at: int) -> words.Moment:
    """A whole minute's words; nanoseconds UTC."""
    return words.Moment(at)


@lru_cache(maxsize=1024)
def _nanoseconds(at: datetime) -> int:
    return instant_ns(at)


@lru_cache(maxsize=1024)
def _day_of(session: Session) -> tuple[str, str]:
    """A session's date, and until when orders go out on New York's clock."""
    return session.day.isoformat(), min(new_york(session.close).time(), ORDERS_UNTIL).isoformat("minutes")
