"""Whether the rulebook lets an order pass: plainly yes, or the rulebook is asked.

Most orders of a backtest lie far inside every limit, and a few comparisons prove it. Whatever they do not prove is judged by
`rulebook.judge` itself on the whole context, as live; the rules stand nowhere twice.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from trading_pipeline.domain.bars import instant_of
from trading_pipeline.domain.forbidden import LEVERAGED_AND_INVERSE
from trading_pipeline.domain.limits import MAX_ORDER_VALUE
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderIntent, OrderType, Side
from trading_pipeline.domain.quotes import quote_around
from trading_pipeline.domain.risk import Judgement, Outcome, Quote, RiskContext, Verdict, World
from trading_pipeline.domain.round_trips import RoundTrip
from trading_pipeline.domain.rulebook import judge
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.signals import Abstain, Signal
from trading_pipeline.domain.sizing import exit_slices, marketable_limit
from trading_pipeline.domain.strategies import MOST_PRICE_BAND, ExpressionAgent, Mode, StrategyState
from trading_pipeline.errors import ServiceError
from trading_pipeline.service.backtests.columnar.holdings import NEVER
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.sizes import Entry
from trading_pipeline.service.backtests.columnar.units import SCALE, peek, priced, steps, ticked, usd

if TYPE_CHECKING:
    from trading_pipeline.service.backtests.columnar.simulation import Simulation

Waiting = tuple[int, Entry | None, int]
"""An admitted order: its lane, its entry (None: an exit), and when it may go out, in nanoseconds UTC."""
HOUR = 3_600_000_000_000
_DAY, _ACTIONS = 24 * HOUR, HOUR // 30
"""How far back `Book.read` looks for orders, and for actions that are over."""
_NEVER_SO_MANY = 1 << 40
MOST_EXIT = steps(MAX_ORDER_VALUE / (1 + MOST_PRICE_BAND))
"""An exit of more is cut into several orders, see `sizing.exit_slices`."""
PLAIN_PRICE = 5 * SCALE
"""Below it a spread of a few ticks may be too wide."""


class _Plain(NamedTuple):
    """What a lane's orders are compared with; money in steps."""

    lane: Lane
    most: int
    """Of one order and one position."""
    day_loss: int
    streak: int
    """Fewer round trips that did not win, within a session, have no consequences."""
    revenge_wait: int
    """So long after a losing exit none has, in nanoseconds; below zero: none ever has."""
    sure: bool
    """Whether its confidence is always whole."""
    most_shares: Callable[[int], int]
    """Of an order that is decided at a bar."""
    calm_until: Callable[[int], int] | None
    """By session, from which bar on volatility may block entries; None where it never does."""

    @property
    def disciplined(self) -> bool:
        """Whether a losing round trip has consequences."""
        return self.streak < _NEVER_SO_MANY or self.revenge_wait >= 0


class Judge:
    """Judges the proposals of one simulation."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self._limits = limits = sim.plan.limits
        self._costs = sim.plan.costs
        self._most_notional = steps(limits.max_day_notional)
        self._share, self._share_by = limits.max_concentration.as_integer_ratio()
        self._session_of = peek(sim.grid.session_of)
        self.plain = [self._plain_of(lane) for lane in sim.lanes]
        self.most_orders = {lane.spec.name: lane.spec.limits.max_orders_per_hour for lane in sim.lanes}
        self._day_loss = steps(limits.max_day_loss)
        self._alone = len(sim.tracks) == 1 and sim.lanes[0].spec.limits.max_day_loss >= limits.max_day_loss

    def _plain_of(self, lane: Lane) -> "_Plain | None":
        """A lane's limits; None where no order of it is plain."""
        account, own = self._limits, lane.spec.limits
        barred = lane.symbol in LEVERAGED_AND_INVERSE or lane.symbol in account.forbidden_symbols
        volatile = lane.prices.may_trip(account)
        if barred or self._costs.spread >= account.max_spread / 2 or (volatile and lane.prices.grid.daily):
            return None
        calm_until = lane.prices.calm_until(account.volatility_trip) if volatile else None
        most = min(account.max_order_value, account.max_position_value, own.max_order_value, own.max_position_value)
        streak = _NEVER_SO_MANY if own.cool_off is None and own.recovery_size is None else own.losing_streak
        revenge_wait = -1 if own.revenge_wait is None else own.revenge_wait // timedelta(microseconds=1) * 1_000
        sure = isinstance(lane.spec.agent, ExpressionAgent)
        most_shares = lane.prices.share_of_volume(account.max_volume_share)
        return _Plain(lane, steps(most), steps(own.max_day_loss), streak, revenge_wait, sure, most_shares, calm_until)

    def rate_reached(self, strategy: str, now: int) -> bool:
        """Whether the strategy waits because of its orders within the sliding hour or the clock hour (D15)."""
        times, most = self._sim.tracks[strategy].submitted, self.most_orders[strategy]
        return len(times) >= most and (times[-most] > now - HOUR or times[-most] >= now - now % HOUR)

    def orders_last_hour(self, strategy: str, now: int) -> int:
        """Submissions in the sliding or the clock hour, whichever has more."""
        times = self._sim.tracks[strategy].submitted
        if not times or times[-1] <= now - HOUR:
            return 0
        return len(times) - min(bisect_right(times, now - HOUR), bisect_left(times, now - now % HOUR))

    def trips(self, strategy: str) -> tuple[RoundTrip, ...]:
        """The strategy's round trips of the session, in order of time."""
        trips = sorted(self._sim.tracks[strategy].trips)
        return tuple(RoundTrip(symbol, instant_of(at), usd(result)) for at, symbol, result in trips)

    # Orders

    def entry(self, number: int, bar: int, entry: Entry, waiting: Sequence[Waiting], equity: int) -> str:
        """The rules that stop an entry; empty when it passes. Equity at the prices of the decision."""
        return "" if self._plain_entry(number, bar, entry, waiting, equity) else self.asked(number, bar, entry, waiting)

    def gate(self, number: int, bar: int, entry: Entry, at: int, left: Sequence[Waiting]) -> str:
        """The rules that stop an entry at the gate, at its release, where others were sent before it and some come after."""
        plain = self._plain_entry(number, bar, entry, left, self._sim.equity(bar))
        if plain and not self.rate_reached(self._sim.lanes[number].spec.name, at):
            return ""
        intent = self.intent(number, bar, entry)
        return judge(intent, self.context(number, bar, intent, left, at)).reason

    def exit(self, number: int, bar: int, waiting: Sequence[Waiting]) -> str:
        """The rules that stop an exit; empty when it passes."""
        if self.plain[number] is not None and self._sim.quote(number, bar) >= PLAIN_PRICE:
            return ""
        return self.asked(number, bar, None, waiting)

    def _plain_entry(self, number: int, bar: int, entry: Entry, waiting: Sequence[Waiting], equity: int) -> bool:
        """Whether a few comparisons prove that no rule stops it."""
        sim, plain = self._sim, self.plain[number]
        if plain is None or entry.reference < PLAIN_PRICE:
            return False
        value, name = entry.worst, plain.lane.spec.name
        track = sim.tracks[name]
        for shares, _, target in entry.parts:
            if target is not None and shares * target > plain.most:
                return False
        reserved = sum([other.worst for _, other, _ in waiting if other is not None]) if waiting else 0
        return (
            value <= plain.most
            and value * self._share_by <= self._share * equity
            and value <= sim.cash - reserved
            and sim.notional.get(self._session_of[bar + 1], 0) + value <= self._most_notional
            and entry.shares <= plain.most_shares(bar)
            and equity - sim.baseline > -self._day_loss
            and (self._alone or sim.strategy_pnl(name, bar) > -plain.day_loss)
            and track.losses < plain.streak
            and sim.instant(bar) - track.losing_exits.get(plain.lane.symbol, NEVER) > plain.revenge_wait
            and (plain.calm_until is None or bar < plain.calm_until(self._session_of[bar]))
            and (plain.sure or plain.lane.confidence(bar, False) >= plain.lane.spec.min_confidence)
        )

    def asked(self, number: int, bar: int, entry: Entry | None, waiting: Sequence[Waiting]) -> str:
        """What the rulebook itself says: the rules that stop the order."""
        return self.judgement(number, bar, entry, self.intent(number, bar, entry), waiting).reason

    def judgement(self, number: int, bar: int, entry: Entry | None, intent: OrderIntent, waiting: Sequence[Waiting]) -> Judgement:
        """All verdicts on a proposal."""
        lane = self._sim.lanes[number]
        sliced = entry is None and intent.quantity > 0
        judged = replace(intent, quantity=exit_slices(intent.quantity, intent.reference)[0]) if sliced else intent
        judgement = judge(judged, self.context(number, bar, intent, waiting))
        if entry is not None and (sure := lane.confidence(bar, False)) < lane.spec.min_confidence:
            low = Verdict("min_confidence", Outcome.DENY, f"{sure:.2f}", f"{lane.spec.min_confidence:.2f}")
            judgement = Judgement((*judgement.verdicts, low))
        return judgement

    def intent(self, number: int, bar: int, entry: Entry | None) -> OrderIntent:
        """The order that is judged; an exit's when there is no entry."""
        sim, lane = self._sim, self._sim.lanes[number]
        facts = ("-", "entry" if entry is not None else "exit", "BACKTEST", "backtest", lane.spec.name, lane.symbol)
        if entry is None:
            held = sim.held[number]
            price = priced(sim.quote(number, bar))
            collar = sim.sizers[number].collar
            limit = marketable_limit(Side.SELL, price, collar, lane.spec.price_band)
            return OrderIntent(*facts, Side.SELL, OrderClass.EXIT, held.shares if held else 0, OrderType.MARKETABLE, price, limit)
        brackets = tuple(Bracket(many, ticked(stop), None if target is None else ticked(target)) for many, stop, target in entry.parts)
        return OrderIntent(
            *facts, Side.BUY, OrderClass.ENTRY, entry.shares, OrderType.MARKETABLE, priced(entry.reference), ticked(entry.limit),
            brackets=brackets,
        )

    def _session(self, bar: int) -> Session:
        grid = self._sim.grid
        first, last = int(grid.session_of.searchsorted(number := self._sim.session(bar))), int(grid.last_of[number])
        return Session(grid.days[number], instant_of(grid.start[first]), instant_of(grid.end[last]))

    def quote(self, number: int, bar: int, now: datetime) -> Quote | None:
        """What a decision at a bar meets."""
        return quote_around(self._sim.lanes[number].symbol, priced(self._sim.quote(number, bar)), self._costs.spread, now)

    def context(
        self, number: int, bar: int, intent: OrderIntent, waiting: Sequence[Waiting], gate_at: int | None = None,
    ) -> RiskContext:
        """What the rulebook may look at, as `Book.context` gathers it.

        Args:
            gate_at: When the order is sent; None for a proposal, which is judged at its release.
        """
        sim, lane = self._sim, self._sim.lanes[number]
        spec, now_ns = lane.spec, sim.instant(bar) if gate_at is None else gate_at
        now, held = instant_of(now_ns), sim.held[number]
        track, price = sim.tracks[spec.name], usd(sim.quote(number, bar))
        release = None if gate_at is not None else instant_of(sim.next_release(spec.name, now_ns, waiting))
        reserved = sum((usd(each.worst) for _, each, _ in waiting if each is not None), ZERO)
        mark = ZERO if held is None else held.shares * price
        volume, bar_end = lane.prices.average_volume(bar), instant_of(sim.grid.end[bar])
        selling = intent.side is Side.SELL
        return RiskContext(
            now=now, world=World.BACKTEST, session=self._session(bar), mode=Mode.AUTONOMOUS, strategy_state=StrategyState.RUNNING,
            latched=False, account_limits=self._limits, strategy_limits=spec.limits, universe=frozenset(spec.symbols),
            equity=usd(sim.equity(bar)), buying_power=usd(sim.cash) - reserved, account_day_pnl=usd(sim.equity(bar) - sim.baseline),
            strategy_day_pnl=usd(sim.strategy_pnl(spec.name, bar)), quote=self.quote(number, bar, now),
            interval=spec.interval, bar_end=bar_end, bar_expected_end=bar_end, average_day_volume=volume[0] if volume else None,
            short_history=volume[1] if volume else False, halted=None, position=held.shares if held else 0, open_exit_quantity=0,
            symbol_exposure=mark, strategy_symbol_exposure=mark, sector=None, sector_exposure=None,
            last_trade_at=_since(track.last_trade, now_ns - _DAY),
            last_action_at=_since(track.last_actions.get((lane.symbol, selling), NEVER), now_ns - _ACTIONS),
            last_account_order_at=_since(sim.last_order, now_ns - _DAY),
            orders_last_hour=self.orders_last_hour(spec.name, now_ns), open_orders=0,
            day_notional=usd(sim.notional.get(sim.session(bar), 0)), consecutive_rejects=0, open_action=None, unknown_order=None,
            volatility=lane.prices.volatility(bar, self._limits), round_trips=self.trips(spec.name),
            last_losing_exit_at=_since(track.losing_exits.get(lane.symbol, NEVER), NEVER + 1), at_release=release,
        )


def _since(at: int, earliest: int) -> datetime | None:
    """The instant, if it is not longer ago than is looked at."""
    return instant_of(at) if at >= earliest else None


def agree(judgement: Judgement, denial: str, action: str) -> None:
    """Hold what was played to what the rulebook says of it."""
    if judgement.reason != denial:
        raise ServiceError(
            f"The rulebook says {judgement.reason or 'yes'!r} of the action {action}, and {denial or 'yes'!r} was played.", value=action,
            rule="an order is plain only where no rule stops it", remedy="run it with --engine stepped, and report it",
        )


def decided(decision: Signal | Abstain) -> Signal:
    """What the rules say of a bar at which columns decided; ServiceError where they say nothing."""
    if isinstance(decision, Abstain):
        raise ServiceError(
            f"The rules say nothing of {decision.symbol}, and columns traded it: {decision.detail}", value=decision.symbol,
            rule="columns decide where the rules do", remedy="run it with --engine stepped, and report it",
        )
    return decision
