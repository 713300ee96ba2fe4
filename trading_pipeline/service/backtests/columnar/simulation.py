"""The account, from candidate to candidate: Python runs only at bars where something can happen.

A lane that is flat waits for the next bar at which its rules say buy; one that holds, for the first of: its stop or target
reached by a bar, its rules saying sell, its last bar. Everything in between is skipped. What happens there is what live does
there, in the order of the cycle's steps: sizing, rulebook, pacing, and fills as the paper broker makes them. Anything that is not
a whole fill at once raises `Unfit`: then the stepped engine runs the plan.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from types import MappingProxyType

from trading_pipeline.domain.backtests import BacktestPlan, ExitReason
from trading_pipeline.domain.limits import COOLDOWN
from trading_pipeline.service.backtests.columnar.agenda import DECIDED, OPENED, Agenda
from trading_pipeline.service.backtests.columnar.ground import Grid, Unfit
from trading_pipeline.service.backtests.columnar.holdings import NEVER, Held, Part, Track
from trading_pipeline.service.backtests.columnar.incidents import Account, Denied, Filled
from trading_pipeline.service.backtests.columnar.judging import MOST_EXIT, Judge, Waiting
from trading_pipeline.service.backtests.columnar.lanes import Lane
from trading_pipeline.service.backtests.columnar.sizes import Entry, Sizer
from trading_pipeline.service.backtests.columnar.units import CENT, charges, half_even, peek, price_steps, steps
from trading_pipeline.service.backtests.columnar.witness import Witness

_SECOND = 1_000_000_000
_COOLDOWN = int(COOLDOWN.total_seconds()) * _SECOND


class Simulation:
    """One run over the lanes of a plan. Money and prices in steps, instants in nanoseconds UTC.

    Args:
        paused_from: Strategies that a loss has stopped, with the first bar at which they decide no more.
        witness: Is told of everything as it happens, before what follows from it.
        first: The bar that it begins at, where nothing is held.
    """

    def __init__(
        self, plan: BacktestPlan, lanes: Sequence[Lane], grid: Grid, paused_from: Mapping[str, int] = MappingProxyType({}),
        witness: Witness | None = None, first: int = 0,
    ) -> None:
        self.plan, self.lanes, self.grid = plan, lanes, grid
        self.account = Account()
        self.cash = steps(plan.cash)
        self.baseline = self.cash
        """The account's worth before this session."""
        self.held: list[Held | None] = [None] * len(lanes)
        self.tracks = {lane.spec.name: Track() for lane in lanes}
        self.last_order = NEVER
        self.notional: dict[int, int] = {}
        """By session, the value of its orders."""
        self._session_of, self._starts, self._ends = peek(grid.session_of), peek(grid.start), peek(grid.end)
        self._opens = [lane.prices.opens for lane in lanes]
        self.capacity = [lane.prices.capacity(plan.costs.volume_share) for lane in lanes]
        self._of = [self.tracks[lane.spec.name] for lane in lanes]
        """By lane, what the rules remember of its strategy."""
        self.sizers = [Sizer(plan, lane) for lane in lanes]
        self.judge = Judge(self)
        self.charges = charges(plan.costs)
        self._paused_from = paused_from
        self._witness = witness
        self._gone: set[int] = set()
        """Lanes that held at this close and that the next open has sold out."""
        self.gap = int(plan.limits.min_order_gap.total_seconds() * _SECOND)
        self._session = 0
        self._first, self._size = first, len(grid)

    @cached_property
    def _agenda(self) -> Agenda:
        # Begins to ask those functions that decide.
        return Agenda(self.lanes, self._size, self._first)

    def run(self, until: int | None = None) -> Account:
        """Play it through, on from where it was left.

        Args:
            until: A session's first bar, to stop before it.

        Raises:
            Unfit: Something happened that the stepped engine has to play.
        """
        agenda, end = self._agenda, self._size if until is None else until
        while agenda.bar < end:
            bar, kind, numbers = agenda.take()
            if kind == DECIDED:
                self._decide(bar, numbers)
            else:
                self._reached(numbers[0], bar, by_open=kind == OPENED)
        return self.account

    # What is asked of its state

    def instant(self, bar: int) -> int:
        """When a bar's close is decided at."""
        return self._starts[bar + 1] if self.grid.daily else self._ends[bar]

    def session(self, bar: int) -> int:
        """The number of the session in which a bar's close is decided at."""
        return self._session_of[bar + 1]

    def quote(self, number: int, bar: int) -> int:
        """The price that a decision at a bar meets: the next one's open."""
        return self._opens[number][bar + 1]

    def equity(self, bar: int) -> int:
        """Cash and holdings at the prices of a decision."""
        worth = self.cash
        for number, held in enumerate(self.held):
            if held is not None:
                worth += held.shares * self._opens[number][bar + 1]
        return worth

    def strategy_pnl(self, name: str, bar: int) -> int:
        """What a strategy has made in this session, open and realised."""
        track = self.tracks[name]
        worth = track.flow - track.opening
        for number, held in enumerate(self.held):
            if held is not None and self.lanes[number].spec.name == name:
                worth += held.shares * self.quote(number, bar)
        return worth

    def next_release(self, name: str, now: int, waiting: Sequence[Waiting]) -> int:
        """When an order of the strategy may go out: after its cooldown and the account's gap, as `Book.next_release` (D3)."""
        release = max(now, self.tracks[name].last_trade + _COOLDOWN, self.last_order + self.gap)
        if not waiting:
            return release
        own = [at for number, _, at in waiting if self.lanes[number].spec.name == name]
        release = max([release, *(at + _COOLDOWN for at in own)])
        for other in sorted(at for _, _, at in waiting):
            if abs(other - release) < self.gap:
                release = other + self.gap
        return release

    # What happens

    def _begin(self, session: int) -> None:
        """Fix what a new session is measured from: the closing figures of the one before, to the cent."""
        self._session = session
        last = int(self.grid.last_of[session - 1])
        closing = {
            number: held.shares * price_steps(self.lanes[number].prices.close.item(last))
            for number, held in enumerate(self.held) if held is not None
        }
        self.baseline = _to_cents(self.cash + sum(closing.values()))
        for name, track in self.tracks.items():
            worth = sum(value for number, value in closing.items() if self.lanes[number].spec.name == name)
            track.opening = _to_cents(track.flow + worth)
            track.trips.clear()
            track.losses = 0
            track.losing_exits.clear()

    def _decide(self, bar: int, due: list[int]) -> None:
        session, now = self._session_of[bar + 1], self.instant(bar)
        if session != self._session:
            self._begin(session)
        waiting: list[Waiting] = []
        gone = self._gone
        if gone:
            self._gone = set()
        if len(due) > 1:
            due.sort(key=lambda number: self._turn(number, bar, gone))
        for number in tuple(due):
            if self._halted(number, bar, now):
                due.remove(number)
                self._look_again(number, bar + 1)
        equity = self.equity(bar)
        if self._witness is not None and due:
            self._witness.decided(bar, [(number, self.held[number] is not None or number in gone) for number in due])
        for number in due:
            holds = self.held[number] is not None or number in gone
            entry = None if holds else self.sizers[number].size(self, bar, equity)
            if isinstance(entry, str):
                denial = entry
            elif entry is not None:
                denial = self.judge.entry(number, bar, entry, waiting, equity)
            elif number in gone:
                denial = self.judge.asked(number, bar, None, waiting)
            else:
                denial = self.judge.exit(number, bar, waiting)
            self.account.decisions.append((number, bar, holds))
            if self._witness is not None:
                self._witness.judged(number, bar, entry, denial, waiting)
            if denial:
                self.account.denials.append(Denied(number, bar, holds, denial))
                self._look_again(number, bar + 1)
                continue
            assert not isinstance(entry, str)
            track, at = self._of[number], now
            if waiting or track.last_trade > now - _COOLDOWN or self.last_order > now - self.gap:
                at = self.next_release(self.lanes[number].spec.name, now, waiting)
            waiting.append((number, entry, at))
        if waiting:
            self._send(bar, waiting)
        for number, entry, _ in waiting:
            self._of[number].last_actions[self.lanes[number].symbol, entry is None] = now

    def _halted(self, number: int, bar: int, now: int) -> bool:
        """Whether its strategy does not decide: a loss has stopped it, or it has sent its orders of the hour."""
        name = self.lanes[number].spec.name
        return self._paused_from.get(name, bar + 1) <= bar or self.judge.rate_reached(name, now)

    def _turn(self, number: int, bar: int, gone: set[int]) -> tuple[Decimal, str, str]:
        lane = self.lanes[number]
        return -lane.confidence(bar, self.held[number] is not None or number in gone), lane.spec.name, lane.symbol

    def _send(self, bar: int, waiting: list[Waiting]) -> None:
        """Release what was admitted, each at its instant."""
        ends = self._ends[bar + 1]
        left = sorted(waiting, key=_release)
        sent = False
        while left:
            number, entry, at = left.pop(0)
            if at >= ends:
                raise Unfit("orders wait for each other beyond their bar")
            # What was sent in between counts at the gate.
            denial = self.judge.gate(number, bar, entry, at, left) if sent and entry is not None else ""
            if self._witness is not None:
                self._witness.sent(number, bar, entry, at, denial, left)
            if denial:
                self.account.denials.append(Denied(number, bar, False, denial))
                self._look_again(number, bar + 1)
                continue
            sent = True
            if entry is None:
                self._sell(number, bar, at)
            else:
                self._buy(number, bar, at, entry)

    def _buy(self, number: int, bar: int, at: int, entry: Entry) -> None:
        price = self.charges.taken_buy(entry.reference)
        commission = self.charges.commission(entry.shares, price)
        if price > entry.limit:
            raise Unfit("an order does not fill at once")
        if entry.shares * entry.limit + self.charges.commission(entry.shares, entry.limit) > self.cash:
            raise Unfit("the broker refuses an order that its cash does not cover")
        self._submitted(number, bar, at, entry.worst)
        self._fill(Filled(number, bar, bar + 1, at, entry.shares, price, commission, None))
        parts = [Part(shares, stop, target, bracket) for bracket, (shares, stop, target) in enumerate(entry.parts, start=1)]
        targets = bool(parts) and parts[0].target is not None
        held = Held(entry.shares, bar + 1, parts, entry.shares * price + commission, targets=targets)
        self.held[number] = held
        self._agenda.holds(number, held, bar + 1, bar + 1)

    def _sell(self, number: int, bar: int, at: int) -> None:
        held = self.held[number]
        assert held is not None
        reference = self._opens[number][bar + 1]
        if held.shares * reference > MOST_EXIT:
            raise Unfit("an exit is cut into several orders")
        self._submitted(number, bar, at, held.shares * reference)
        self._sold(number, held, bar, bar + 1, at, held.shares, self.charges.taken_sell(reference), ExitReason.SIGNAL)
        self._look_again(number, bar + 1)

    def _submitted(self, number: int, bar: int, at: int, value: int) -> None:
        """Remember an order; none goes out before one that was remembered."""
        track, session = self._of[number], self._session_of[bar + 1]
        track.submitted.append(at)
        track.last_trade = self.last_order = at
        self.notional[session] = self.notional.get(session, 0) + value

    def _sold(
        self, number: int, held: Held, step: int, bar: int, at: int, shares: int, price: int, reason: ExitReason, bracket: int = 0,
    ) -> None:
        commission = self.charges.commission(shares, price)
        self._fill(Filled(number, step, bar, at, -shares, price, commission, reason), bracket)
        cost = held.cost if shares == held.shares else half_even(held.cost * shares, held.shares)
        made = shares * price - commission - cost
        held.shares, held.cost, held.result = held.shares - shares, held.cost - cost, held.result + made
        track, symbol = self._of[number], self.lanes[number].symbol
        if made < 0:
            track.losing_exits[symbol] = at
        if not held.shares:
            track.trips.append((at, symbol, held.result))
            track.losses += held.result <= 0
            self.held[number] = None

    def _fill(self, fill: Filled, bracket: int = 0) -> None:
        number, _, bar, _, shares, price, commission, _ = fill
        if abs(shares) > self.capacity[number](bar):
            raise Unfit("an order is larger than what a bar takes")
        paid = shares * price + commission
        self.cash -= paid
        self._of[number].flow -= paid
        self.account.fills.append(fill)
        if self._witness is not None:
            self._witness.filled(fill, bracket)

    def _reached(self, number: int, bar: int, *, by_open: bool) -> None:
        """Sell what a bar's range reaches, known at its close, or what the next one's open does."""
        held, opens = self.held[number], self._opens[number]
        assert held is not None
        session = self._session_of[bar + 1 if by_open else bar]
        if session != self._session:
            self._begin(session)
        if by_open:
            if self.grid.gapped[bar]:
                raise Unfit("a stop or target is reached by the first price after a minute without a bar")
            opened = opens[bar + 1]
            self._sell_parts(number, held, bar, bar + 1, self._starts[bar + 1], opened, opened, opened)
        else:
            prices = self.lanes[number].prices
            self._sell_parts(number, held, bar, bar, self._ends[bar], prices.lows[bar], prices.highs[bar] if held.targets else 0, None)
        if held.shares:
            opened = opens[bar + 1] if bar + 1 < self._size else 0
            if not by_open and opened and any(_at(part, opened, opened) for part in held.parts):
                self._agenda.add(number, bar, OPENED)
            else:
                self._agenda.holds(number, held, bar, bar + 1)
        elif by_open and self._agenda.sells(number, held, bar):
            # A decision on this bar's close is still one of a lane that held at it.
            self._gone.add(number)
            self._agenda.add(number, bar, DECIDED)
        else:
            self._look_again(number, bar + by_open)

    def _sell_parts(self, number: int, held: Held, step: int, bar: int, at: int, low: int, high: int, opened: int | None) -> None:
        """Stops first, each at its price or at what its order takes; then targets."""
        for part in [part for part in held.parts if low <= part.stop]:
            held.parts.remove(part)
            price = self.charges.taken_sell(part.stop if opened is None else opened)
            if opened is None and price < low:
                price = low
            self._sold(number, held, step, bar, at, part.shares, price, ExitReason.STOP, part.number)
        if not held.targets:
            return
        for part in [part for part in held.parts if part.target is not None and high >= part.target]:
            assert part.target is not None
            held.parts.remove(part)
            self._sold(number, held, step, bar, at, part.shares, part.target if opened is None else opened, ExitReason.TARGET, part.number)

    def _look_again(self, number: int, bar: int) -> None:
        """Let a lane wait for what may happen to it from a bar's decision on."""
        held = self.held[number]
        if held is None:
            self._agenda.flat(number, bar)
        else:
            self._agenda.holds(number, held, bar, bar)


def _release(waiting: Waiting) -> int:
    return waiting[2]


def _at(part: Part, low: int, high: int) -> bool:
    return low <= part.stop or (part.target is not None and high >= part.target)


def _to_cents(amount: int) -> int:
    return half_even(amount, CENT) * CENT
