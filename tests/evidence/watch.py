"""Watches an account from before its broker, and reckons for itself: from executions and the market's prices alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from tests.evidence.day_risk import Bound, lost_at_stops, standing_stops
from trading_pipeline.domain.bars import BarTable, instant_ns
from trading_pipeline.domain.money import ZERO, tick
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import StrategySpec
from trading_pipeline.ports import BrokerOrder, MarketData, Permit, Ticket
from trading_pipeline.service.desk import Desk

D = Decimal
CASH = D(100_000)
"""What a watched account begins with, USD."""


@dataclass
class Since:
    """An entry, and the most that was lost until the next."""

    at: datetime
    ticket: Ticket
    worst: Decimal = ZERO


class Watch:
    """Stands before the broker: what is submitted is checked against limits by its own arithmetic, then passed on."""

    def __init__(self, inner: Any, prices: MarketData, desk: Desk, session: Session, specs: Sequence[StrategySpec]) -> None:
        self._inner, self._prices, self._desk, self._session = inner, prices, desk, session
        self.specs = {spec.name: spec for spec in specs}
        self.owner: dict[str, str] = {}
        self.sent: list[tuple[datetime, str, Ticket]] = []
        self.breaches: list[str] = []
        self.entries: list[Since] = []
        self.loss_at_entry = ZERO
        """The most that had been lost when an entry went out, as a multiple of the account's limit."""
        self.placed: dict[str, Ticket] = {}
        self.bounds = [
            Bound(limit, name)
            for name, limit in ((None, desk.limits.max_day_risk), *((spec.name, spec.limits.max_day_risk) for spec in specs))
            if limit is not None
        ]
        self.stake_at_entry = ZERO
        self.jumped = ZERO
        self.cost_of_one = ZERO
        """The most that getting out of one position could cost below its stops, of those left after the last entry."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """Check, note, pass on."""
        now, family = self._desk.now(), (ticket, *ticket.children)
        self.owner |= dict.fromkeys((each.client_id for each in family), permit.strategy)
        self.placed |= {each.client_id: each for each in family}
        for wrong in (*self._wrong(ticket, permit.strategy, now), *self._at_stake(ticket, permit.strategy, now)):
            self.breaches.append(f"{wrong}: {ticket} at {now}")
        self.sent.append((now, permit.strategy, ticket))
        if ticket.side is Side.BUY:
            self.entries.append(Since(now, ticket))
        order: BrokerOrder = self._inner.submit(ticket, permit)
        return order

    # What the harness knows by itself

    def holdings(self, until: datetime) -> tuple[dict[tuple[str, str], int], dict[str, Decimal]]:
        """Shares by strategy and symbol, and cash flow by strategy, from the broker's executions up to an instant."""
        shares: Counter[tuple[str, str]] = Counter()
        flows = dict.fromkeys(self.specs, ZERO)
        for client_id, fill in self._inner.executions(self._session.open):
            if fill.at > until:
                continue
            sign = 1 if fill.side is Side.BUY else -1
            name = self.owner[client_id]
            shares[name, fill.symbol] += sign * fill.quantity
            flows[name] -= sign * fill.quantity * fill.price + fill.commission
        return {place: many for place, many in shares.items() if many}, flows

    def price(self, symbol: str, at: datetime) -> Decimal:
        """The market's, at an instant in the session."""
        return self._prices.quotes([symbol], at)[symbol].last

    def losses(self, at: datetime) -> dict[str, Decimal]:
        """Of each strategy, signed: what it has lost since the open."""
        shares, flows = self.holdings(at)
        worth = dict.fromkeys(flows, ZERO)
        for (name, symbol), many in shares.items():
            worth[name] += many * self.price(symbol, at)
        return {name: -(flow + worth[name]) for name, flow in flows.items()}

    def loss(self, at: datetime) -> Decimal:
        """Of the account."""
        return sum(self.losses(at).values(), ZERO)

    def sampled(self) -> Decimal:
        """The account's loss now; whatever of it, or of a strategy's, the bound does not explain is a breach."""
        now = self._desk.now()
        losses = self.losses(now)
        lost = sum(losses.values(), ZERO)
        if self.entries:
            self.entries[-1].worst = max(lost, self.entries[-1].worst)
        if self.bounds:
            shares, _ = self.holdings(now)
            prices = {symbol: self.price(symbol, now) for _, symbol in shares}
            standing = standing_stops(self._inner.orders(), self.owner)
            executions = [each for each in self._inner.executions(self._session.open) if each[1].at <= now]
            for bound in self.bounds:
                most, slips = bound.explained(executions, self.owner, self.placed, shares, prices, standing)
                loss = lost if bound.strategy is None else losses[bound.strategy]
                if loss > most:
                    self.breaches.append(f"{bound.strategy or 'the account'} lost {loss:.4f}, bounded to {most:.4f} at {now}")
                if bound.strategy is None:
                    self.jumped = max(self.jumped, slips.jumped + slips.held)
                    self.cost_of_one = max(self.cost_of_one, *slips.costs.values(), ZERO)
        return lost

    def _at_stake(self, ticket: Ticket, name: str, now: datetime) -> list[str]:
        """Where an entry leaves more to lose than a limit; it counts as the last one from here on."""
        found = []
        if ticket.side is Side.BUY and self.bounds:
            shares, flows = self.holdings(now)
            orders = self._inner.orders()
            for bound in self.bounds:
                if bound.strategy in (None, name):
                    lost = lost_at_stops(flows, shares, orders, self.owner, ticket, bound.strategy)
                    self.stake_at_entry = max(self.stake_at_entry, lost / bound.limit)
                    if lost > bound.limit:
                        found.append(f"{bound.strategy or 'the account'} may lose {lost} at its stops, at most {bound.limit}")
                bound.entered(now, ticket, name, orders, self.owner)
        return found

    def _wrong(self, ticket: Ticket, name: str, now: datetime) -> list[str]:
        spec, last = self.specs[name], self.price(ticket.symbol, now)
        shares, flows = self.holdings(now)
        own = [(at, sent) for at, by, sent in self.sent if by == name]
        found = []
        if not self._session.open <= now < self._session.close:
            found.append("outside the session")
        if any(now - at < timedelta(seconds=30) for at, _ in own):
            found.append("within the cooldown")
        if any(now - at < timedelta(seconds=1) for at, _, _ in self.sent):
            found.append("within a second of the account's last")
        if ticket.side is Side.SELL:
            return found + (["oversold"] if ticket.quantity > shares.get((name, ticket.symbol), 0) else [])
        assert ticket.limit_price is not None
        value = ticket.quantity * max(last, ticket.limit_price)
        losses = self.losses(now)
        self.loss_at_entry = max(self.loss_at_entry, sum(losses.values(), ZERO) / self._desk.limits.max_day_loss)
        tests = {
            "at the account's loss limit": sum(losses.values()) < self._desk.limits.max_day_loss,
            "at the strategy's loss limit": losses[name] < spec.limits.max_day_loss,
            "above the order limit": value <= min(spec.limits.max_order_value, D(100_000)),
            "above the position limit": shares.get((name, ticket.symbol), 0) * last + value <= spec.limits.max_position_value,
            "above 20 % of equity": sum(many for (_, symbol), many in shares.items() if symbol == ticket.symbol) * last + value
            <= (CASH - sum(losses.values())) / 5,
            "without the cash": value <= CASH + sum(flows.values()),
            "a penny stock": min(last, ticket.limit_price) >= 1,
            "leveraged": ticket.symbol != "TQQQ",
            "another symbol": ticket.symbol in spec.symbols,
            "beyond the collar": ticket.limit_price <= last * D("1.03"),
            "more than ten an hour": sum(now - at < timedelta(hours=1) for at, _ in own) < spec.limits.max_orders_per_hour,
            "off the tick": ticket.limit_price % tick(ticket.limit_price) == 0,
            "a stop above the price": all(child.stop_price is None or child.stop_price < last for child in ticket.children),
        }
        return found + [name for name, holds in tests.items() if not holds]

    def unbounded(self, tables: Mapping[str, BarTable]) -> list[str]:
        """Where the account lost more, after an entry and before the next, than the module says; in words."""
        found = []
        for entry, following in zip_longest(self.entries, self.entries[1:]):
            most = self._bound(tables, entry, self._session.close if following is None else following.at)
            if entry.worst > most:
                found.append(f"lost {entry.worst:.2f}, at most {most:.2f}")
        return found

    def _bound(self, tables: Mapping[str, BarTable], entry: "Since", until: datetime) -> Decimal:
        shares: Counter[str] = Counter()
        bought: list[Fill] = []
        sold: dict[str, Decimal] = {}
        risk = ZERO
        for client_id, fill in self._inner.executions(self._session.open):
            if client_id == entry.ticket.client_id or entry.at < fill.at <= until:
                risk += fill.commission
                if fill.side is Side.BUY:
                    bought.append(fill)
                else:
                    sold[fill.symbol] = min(fill.price, sold.get(fill.symbol, fill.price))
            elif fill.at <= entry.at:
                shares[fill.symbol] += fill.quantity if fill.side is Side.BUY else -fill.quantity
        lowest = {symbol: min(_lowest(table, entry.at, until), sold.get(symbol, CASH)) for symbol, table in tables.items()}
        risk += sum((many * max(ZERO, self.price(symbol, entry.at) - lowest[symbol]) for symbol, many in shares.items()), ZERO)
        risk += sum((fill.quantity * max(ZERO, fill.price - lowest[fill.symbol]) for fill in bought), ZERO)
        return self._desk.limits.max_day_loss + risk


def _lowest(table: BarTable, at: datetime, until: datetime) -> Decimal:
    """The lowest price from the bar that contains an instant to the one that contains another."""
    return D(repr(float(table.low[(table.end > instant_ns(at)) & (table.start <= instant_ns(until))].min())))
