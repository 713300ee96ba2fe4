"""What the rulebook is told: one consistent reading of the account, turned into a RiskContext per intent.

Read inside the transaction that will hold the verdict, so that two strategies, processes or actions of
one cycle are judged one after the other (invariant 42). Whatever cannot be known stays None and denies.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from trading_pipeline.domain.approvals import RELEASABLE
from trading_pipeline.domain.codec import decode
from trading_pipeline.domain.day_risk import at_stake_in, risk_left
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import WORKING, OrderClass, OrderIntent, OrderState, Side
from trading_pipeline.domain.portfolio import EXTERNAL, Portfolio
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import RiskContext
from trading_pipeline.domain.strategies import StrategySpec, StrategyState
from trading_pipeline.ports import Reader
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.accounting import CASH, day_pnl, portfolio_of, strategy_pnl
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.coverage import Coverage
from trading_pipeline.service.judging.open_risk import held_risk, unfilled, working_risk, worst_price
from trading_pipeline.service.judging.outside import Outside
from trading_pipeline.service.judging.pacing import OPEN, Pacing, recent_actions, recent_orders
from trading_pipeline.service.judging.track_record import TrackRecord, track_record

_WORKING = tuple(state.value for state in WORKING)
_UNRESOLVED = (OrderState.UNKNOWN.value, OrderState.LATE_FOUND.value, OrderState.QUARANTINED.value)


@dataclass(slots=True, kw_only=True)
class Book(Pacing):
    """The account at one instant, as the ledger has it."""

    desk: Desk
    outside: Outside
    """All that is not in the ledger."""
    portfolio: Portfolio
    orders: list[Row]
    """Working and unresolved orders of the account."""
    strategies: Mapping[str, Row]
    account_limits_version: int | None
    """None before any limits were written down: nothing has been judged yet."""
    day_pnl: Decimal | None
    """The account's, USD; None before the session was opened."""
    opening_pnl: Mapping[str, str]
    latched: bool
    """Whether the ledger has the account under an emergency stop."""
    granted: Mapping[str, Decimal]
    """What a person lets the day's loss exceed its limit by, by scope: `account`, `strategy:NAME` (D12)."""
    track: TrackRecord
    coverage: Coverage

    @classmethod
    def read(cls, desk: Desk, reader: Reader, outside: Outside) -> "Book":
        """Read everything that judging needs; `outside` is what was looked at, now or when it was recorded."""
        now, portfolio = outside.now, portfolio_of(desk, reader, outside.marks)
        today, limits = desk.today().isoformat(), standing(desk, reader)
        opened = reader.event_by_key(f"session.opened:{today}")
        latch = reader.get("latches", f"account:{desk.broker.account_id}")
        recent, actions = recent_orders(reader, now), recent_actions(reader, now)
        found = reader.find("orders", state=(*_WORKING, *_UNRESOLVED, OrderState.REJECTED.value))
        orders = [row for row in found if row["state"] != OrderState.REJECTED.value]
        rejected = [row for row in found if row["state"] == OrderState.REJECTED.value]
        return cls(
            desk=desk, now=now, outside=outside, portfolio=portfolio, orders=orders, recent=recent, actions=actions,
            strategies={row["name"]: row for row in reader.find("strategies")}, limits=limits.effective,
            account_limits_version=limits.version, day_pnl=day_pnl(reader, portfolio.account, portfolio.equity, desk.today()),
            opening_pnl=opened.payload["strategy_pnl"] if opened else {}, latched=latch is not None and latch["state"] == "latched",
            granted={row["scope"]: row["amount"] for row in reader.find("grants", session=today)},
            track=track_record(desk, reader, rejected, portfolio.positions),
            coverage=Coverage(reader, (row for row in orders if row["side"] == Side.SELL.value)),
        )

    def limits_versions(self, strategy: str) -> dict[str, int | None]:
        """Under which limits of the account and of the strategy a verdict is given."""
        row = self.strategies.get(strategy)
        return {"account_limits_version": self.account_limits_version, "limits_version": row["limits_version"] if row else None}

    def held(self, strategy: str, symbol: str) -> int:
        """Shares the strategy holds, as far as the account has them still: somebody else may have sold some."""
        return _held(((p.strategy, p.symbol, p.quantity) for p in self.portfolio.positions), strategy, symbol)

    def selling(self, strategy: str, symbol: str, *, protective: bool, pairs_with: str | None) -> int:
        """Shares of the strategy's that exits at work may take: its own, and where one was taken over, all that the others do not hold."""
        own = self.exits_working(strategy, symbol, protective=protective, pairs_with=pairs_with)
        taken_over = self.exits_working(EXTERNAL, symbol, protective=True)
        if not taken_over:
            return own
        of_others: int = sum(p.quantity for p in self.portfolio.positions if p.symbol == symbol) - self.held(strategy, symbol)
        others = [name for name in self.strategies if name != strategy]
        exits = own + taken_over + sum(self.exits_working(name, symbol, protective=True, pairs_with=pairs_with) for name in others)
        return max(own, exits - of_others)

    def exits_working(self, strategy: str, symbol: str, *, protective: bool, pairs_with: str | None = None) -> int:
        """Shares in working exits, one of each OCO group; with or without protective orders, and without the group `pairs_with`."""
        total = 0
        groups = set() if pairs_with is None else {pairs_with}
        for row in self.orders:
            if row["strategy"] != strategy or row["symbol"] != symbol or row["side"] != Side.SELL.value:
                continue
            if row["order_class"] == OrderClass.PROTECTIVE.value and not protective:
                continue
            if row["oco"] is not None:
                if row["oco"] in groups:
                    continue
                groups.add(row["oco"])
            total += self.coverage.left(row)
        return total

    def context(self, spec: StrategySpec, intent: OrderIntent, *, release: datetime | None) -> RiskContext:
        """Everything the rulebook may look at for one intent.

        Args:
            release: When a paced action will be released; None at the gate. Before the gate an exit is judged as if the
                position's protective orders, and what is left of its entry, were gone: they are cancelled before it is sent.
        """
        desk, row = self.desk, self.strategies.get(spec.name)
        volume = self.outside.volumes.get(intent.symbol)
        expected = desk.calendar.last_closed_slot(self.now, spec.interval)
        orders_today = [order for order in self.recent if order["session"] == desk.today().isoformat() and order["submitted_at"]]
        return RiskContext(
            now=self.now, world=desk.world, session=desk.calendar.at(self.now), mode=spec.mode,
            strategy_state=StrategyState(row["state"]) if row else StrategyState.DRAFT,
            latched=self.latched or not self.outside.stopped.isdisjoint(("*", spec.name)),
            account_limits=self.limits, strategy_limits=spec.limits, universe=frozenset(spec.symbols),
            equity=self.portfolio.equity, buying_power=self.portfolio.cash - self._reserved(intent),
            account_day_pnl=self.day_pnl, strategy_day_pnl=self.strategy_day_pnl(spec.name),
            quote=self.outside.quotes.get(intent.symbol), interval=spec.interval, bar_end=self.outside.bar_ends.get(intent.symbol),
            bar_expected_end=expected.end if expected else None,
            average_day_volume=volume[0] if volume else None, short_history=volume[1] if volume else False, halted=None,
            position=self.held(spec.name, intent.symbol),
            open_exit_quantity=self.selling(spec.name, intent.symbol, protective=release is None, pairs_with=intent.oco),
            symbol_exposure=self.exposure(intent.symbol, other_than=intent.action_id),
            strategy_symbol_exposure=self.exposure(intent.symbol, spec.name, other_than=intent.action_id),
            sector=None, sector_exposure=None, last_trade_at=self.last_trade(spec.name, intent.action_id),
            last_action_at=self._last_action(intent),
            last_account_order_at=self.last_account_order(intent.action_id),
            orders_last_hour=self.orders_last_hour(spec.name), open_orders=sum(1 for order in self.orders if order["parent"] is None),
            day_notional=sum((order["quantity"] * worst_price(order) for order in orders_today if order["parent"] is None), ZERO),
            consecutive_rejects=self.track.rejects.get(spec.name, 0), open_action=self._open_action(intent),
            unknown_order=self._unknown(intent),
            crossing_order=self._crossing(intent, gate=release is None), volatility=self.outside.volatility.get(intent.symbol),
            account_loss_granted=self.granted.get("account", ZERO), strategy_loss_granted=self.granted.get(f"strategy:{spec.name}", ZERO),
            round_trips=self.track.round_trips.get(spec.name, ()),
            last_losing_exit_at=self.track.losing_exits.get((spec.name, intent.symbol)), at_release=release,
            account_open_risk=None if self.limits.max_day_risk is None else self._open_risk(intent.action_id, None),
            strategy_open_risk=None if spec.limits.max_day_risk is None else self._open_risk(intent.action_id, spec.name),
        )

    def day_risk_left(self, spec: StrategySpec, action_id: str) -> Decimal | None:
        """USD that an entry may lose down to its stops (`max_day_risk`); None where no limit is set, or where nobody can tell."""
        scopes = (
            (self.limits.max_day_risk, "account", self.day_pnl, None),
            (spec.limits.max_day_risk, f"strategy:{spec.name}", self.strategy_day_pnl(spec.name), spec.name),
        )
        left = [
            risk_left(limit, self.granted.get(scope, ZERO), pnl, open_risk)
            for limit, scope, pnl, name in scopes
            if limit is not None and pnl is not None and (open_risk := self._open_risk(action_id, name)) is not None
        ]
        return min(left, default=None)

    def _open_risk(self, action_id: str, strategy: str | None) -> Decimal | None:
        """USD at stake in what is held, and in entries under way, one action's aside; None where nobody can tell."""
        held = held_risk(self.portfolio, self.orders, self.coverage, strategy)
        if held is None:
            return None
        admitted = (
            (row["strategy"], at_stake_in(intent_of(row))) for row in self.actions
            if row["state"] in RELEASABLE and row["side"] == Side.BUY.value and row["action_id"] != action_id
        )
        under_way = (*working_risk(self.orders, self.coverage, action_id), *admitted)
        return held + sum((usd for name, usd in under_way if strategy in (None, name)), ZERO)

    def exposure(self, symbol: str, strategy: str | None = None, *, other_than: str | None = None) -> Decimal:
        """USD held and under way in a symbol, entries at their worst price: the account's, or one strategy's; one action's aside."""
        mark = self.portfolio.marks.get(symbol)
        held: int = sum(
            p.quantity for p in self.portfolio.positions if p.symbol == symbol and (strategy is None or p.strategy == strategy)
        )
        working = sum(
            (value for name, of, value in self._entries(other_than) if of == symbol and (strategy is None or name == strategy)), ZERO,
        )
        return working + (held * mark if held and mark is not None else ZERO)

    def _entries(self, other_than: str | None) -> list[tuple[str, str, Decimal]]:
        """(strategy, symbol, USD at the worst price) of working and admitted entries, one action's aside."""
        found = [
            (row["strategy"], row["symbol"], unfilled(row) * worst_price(row))
            for row in self.orders
            if row["side"] == Side.BUY.value and row["action_id"] != other_than
        ]
        for row in self.actions:
            if row["state"] in RELEASABLE and row["side"] == Side.BUY.value and row["action_id"] != other_than:
                admitted = intent_of(row)
                found.append((row["strategy"], row["symbol"], admitted.value))
        return found

    def _reserved(self, intent: OrderIntent) -> Decimal:
        return sum((value for _, _, value in self._entries(intent.action_id)), ZERO)

    def _last_action(self, intent: OrderIntent) -> datetime | None:
        return max(
            (
                row["generated_at"] for row in self.actions
                if row["admitted"] and row["action_id"] != intent.action_id
                and (row["strategy"], row["symbol"], row["side"]) == (intent.strategy, intent.symbol, intent.side.value)
            ),
            default=None,
        )

    def _open_action(self, intent: OrderIntent) -> str | None:
        place = (intent.strategy, intent.symbol, intent.side.value)
        for row in self.actions:
            if row["state"] in OPEN and row["action_id"] != intent.action_id and (row["strategy"], row["symbol"], row["side"]) == place:
                return f"action {row['action_id']} is {row['state']}"
        for row in self.orders:
            if row["order_class"] == OrderClass.PROTECTIVE.value or row["action_id"] == intent.action_id:
                continue
            if (row["strategy"], row["symbol"], row["side"]) == place:
                return f"order {row['client_id']} is {row['state']}"
        return None

    def _unknown(self, intent: OrderIntent) -> str | None:
        """Why nothing can be proven of the symbol: book and broker disagree, or nobody knows what became of an order.

        Cash that they disagree about buys nothing, and keeps nobody from selling.
        """
        differs = self.outside.mismatched
        doubt = differs.get(intent.symbol) or differs.get("*")
        if doubt is None and intent.side is Side.BUY:
            doubt = differs.get(CASH)
        unresolved = (row["client_id"] for row in self.orders if row["symbol"] == intent.symbol and row["state"] in _UNRESOLVED)
        return doubt or next(unresolved, None)

    def _crossing(self, intent: OrderIntent, *, gate: bool) -> str | None:
        """A working limit of ours on the other side that this order could trade with (invariant 43)."""
        limit = intent.limit_price
        if limit is None:
            return None
        for row in self.orders:
            if not gate and intent.order_class is OrderClass.EXIT and row["strategy"] == intent.strategy:
                # What is left of its own entry is cancelled before it goes.
                continue
            if row["symbol"] != intent.symbol or row["side"] == intent.side.value or row["limit_price"] is None:
                continue
            if row["action_id"] == intent.action_id or (row["parent"] is not None and self._waits(row["parent"])):
                continue
            if limit >= row["limit_price"] if intent.side is Side.BUY else limit <= row["limit_price"]:
                return f"{row['strategy']}'s {row['side']} at {row['limit_price']}"
        return None

    def _waits(self, parent: str) -> bool:
        """Whether an order's children wait for it still: nothing of it is filled."""
        return any(row["client_id"] == parent and row["filled_quantity"] == 0 for row in self.orders)

    def orders_last_hour(self, strategy: str) -> int:
        """Submissions of entries and exits in the sliding or the clock hour, whichever is more (D15)."""
        times: list[datetime] = [
            row["submitted_at"] for row in self.recent
            if row["strategy"] == strategy and row["order_class"] != OrderClass.PROTECTIVE.value
        ]
        hour_began = self.now.replace(minute=0, second=0, microsecond=0)
        return max(sum(at > self.now - timedelta(hours=1) for at in times), sum(at >= hour_began for at in times))

    def strategy_day_pnl(self, strategy: str) -> Decimal | None:
        """What the strategy has made today, realised and open, USD; None before the session was opened."""
        if self.day_pnl is None:
            return None
        return strategy_pnl(self.portfolio).get(strategy, ZERO) - Decimal(self.opening_pnl.get(strategy, "0"))

    def average_volume(self, symbol: str) -> Decimal | None:
        """Shares of the symbol traded in a session, on average (invariant 38); None when nothing is known."""
        volume = self.outside.volumes.get(symbol)
        return volume[0] if volume else None


def held_for(reader: Reader, strategy: str, symbol: str) -> int:
    """`Book.held` without a book."""
    return _held(((row["strategy"], row["symbol"], row["quantity"]) for row in reader.find("positions", symbol=symbol)), strategy, symbol)


def _held(positions: Iterable[tuple[str, str, int]], strategy: str, symbol: str) -> int:
    own = {name: quantity for name, held, quantity in positions if held == symbol}
    # What somebody else, or another strategy by an overfill, has sold beyond its own is not in the account any more.
    return own.get(strategy, 0) + sum(min(0, many) for name, many in own.items() if name != strategy)


def intent_of(row: Mapping[str, Any]) -> OrderIntent:
    """The intent in a row of `actions`."""
    return _intent(row["intent"])


@lru_cache(maxsize=4096)
def _intent(text: str) -> OrderIntent:
    """Read once: every judgement of a cycle looks at every admitted action."""
    return decode(OrderIntent, json.loads(text))
