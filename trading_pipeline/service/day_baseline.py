"""What a day is measured from (invariant 30): the account as it stood when the session before it closed.

That session's closing figures where they were taken. Where nobody traded in it, or nothing was there to close it, the account is taken
back to that instant: no night and no idle day is lost to the loss limits, and none is counted twice.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.bar_quality import believed
from trading_pipeline.domain.bars import SYMBOL, BarTable, Interval
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.money import ZERO, to_cents
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Portfolio
from trading_pipeline.errors import MarketDataError
from trading_pipeline.ports import Reader, Transaction
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.accounting import adjusted_closes, deposits, marks, newest_bars, portfolio_of, strategy_pnl
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders import corporate_actions

_ASKED_FROM = timedelta(days=14)
"""So far back a source is asked for the last price of a symbol of which nothing is archived."""


@dataclass(frozen=True, slots=True)
class Worth:
    """An account at one instant: USD in cash, in all, and made by each strategy since it began; and the prices that say so."""

    cash: Decimal
    equity: Decimal
    pnl: Mapping[str, Decimal]
    prices: Mapping[str, Decimal]

    @classmethod
    def of(cls, portfolio: Portfolio) -> "Worth":
        """Of a portfolio at its marks."""
        return cls(portfolio.cash, portfolio.equity, strategy_pnl(portfolio), portfolio.marks)


def worth_now(desk: Desk, reader: Reader) -> Worth:
    """The account as booked, at present prices.

    Raises:
        MarketDataError: A held symbol has no price.
    """
    return Worth.of(portfolio_of(desk, reader))


def worth_at(desk: Desk, reader: Reader, instant: datetime) -> Worth:
    """The account as it stood at an earlier instant: without the executions after it, at the last prices until then.

    Money that was paid in or out since is in it, as it is in what was paid in altogether: the day's result counts neither.

    Raises:
        MarketDataError: A symbol that was held has no price, neither then nor now.
    """
    held: dict[tuple[str, str], int] = {}
    flows: dict[str, Decimal] = {}
    for row in reader.find("positions"):
        held[row["strategy"], row["symbol"]] = row["quantity"]
        # Got less paid since it began: what was realised, less what the shares that are left have cost.
        flows[row["strategy"]] = flows.get(row["strategy"], ZERO) + row["realised"] - row["cost"]
    account = reader.get("cash", desk.broker.account_id)
    cash = account["cash"] if account else ZERO
    for fill in reader.find("fills", since=("at", instant)):
        if fill["at"] > instant:
            change = fill["quantity"] if fill["side"] == Side.BUY.value else -fill["quantity"]
            flow = -change * fill["price"] - fill["commission"]
            held[fill["strategy"], fill["symbol"]] -= change
            flows[fill["strategy"]] -= flow
            cash -= flow
    prices = _prices_at(desk, reader, sorted({symbol for (_, symbol), shares in held.items() if shares}), instant)
    for (strategy, symbol), shares in held.items():
        if shares:
            flows[strategy] += shares * prices[symbol]
    value = sum((shares * prices[symbol] for (_, symbol), shares in held.items() if shares), ZERO)
    return Worth(cash, cash + value, flows, prices)


def open_session(desk: Desk, session: date) -> None:
    """Fix the day's baseline once, funding the account's book from the broker the first time.

    Raises:
        MarketDataError: A symbol that was held when the session before closed has no price.
    """
    if desk.ledger.get("sessions", session.isoformat()) is not None:
        return
    with desk.ledger.transaction() as tx:
        account = desk.broker.account_id
        if tx.get("cash", account) is None:
            # Of this very instant: what the balance has already, see `adoption.since_funding`.
            executed = sorted({fill.execution_id for _, fill in desk.broker.executions(desk.now())})
            payload = {
                "account": account, "amount": desk.broker.account().cash, "source": f"broker:{desk.broker.name}", "executed": executed,
            }
            key = f"account.funded:{account}"
            tx.append(NewEvent(EventType.ACCOUNT_FUNDED, "account", key, payload, desk.now(), f"broker:{desk.broker.name}"))
        payload = {"session": session} | _baseline(desk, tx, session)
        tx.append(NewEvent(EventType.SESSION_OPENED, "account", f"session.opened:{session}", payload, desk.now(), "cycle"))


def _baseline(desk: Desk, tx: Transaction, session: date) -> dict[str, Any]:
    before = desk.calendar.last_closed(desk.calendar.session(session).open)
    closed = tx.event_by_key(f"session.closed:{before.day}") if before is not None else None
    deposited = deposits(tx, desk.broker.account_id)
    if closed is not None:
        figures = closed.payload["report"]["strategies"]
        return {
            "baseline_equity": closed.payload["closing_equity"], "deposited": closed.payload.get("deposited", deposited),
            "strategy_pnl": {name: each["total_pnl"] for name, each in figures.items()},
        }
    instant = before.close if before is not None else desk.now()
    stood = worth_at(desk, tx, instant)
    return {
        "baseline_equity": to_cents(stood.equity), "deposited": deposited,
        "strategy_pnl": {name: format(to_cents(made), "f") for name, made in stood.pnl.items()},
        "stood_at": instant, "prices": stood.prices,
    }


def _prices_at(desk: Desk, reader: Reader, symbols: list[str], instant: datetime) -> dict[str, Decimal]:
    """The last price until then of each symbol, in shares as the book counts them now; what had none is worth what it is now."""
    most = standing(desk, reader).effective.max_bar_gap
    splits = corporate_actions.pending(desk, reader)
    found = marks(desk, symbols, reader)
    for symbol, mark in found.items():
        ratio = corporate_actions.unbooked_ratio(splits, symbol)
        closes = [close * ratio for close in _closes_at(desk, symbol, instant)] if SYMBOL.fullmatch(symbol) else []
        # What is believed now and what was then have to go together: their difference is the day's result.
        known = [*closes[:-1], *([] if closes[-1:] == [mark] else [mark])]
        if closes:
            found[symbol] = closes[-1] if believed(closes[-1], known, most) else [mark, *closes][-2]
    return found


def _closes_at(desk: Desk, symbol: str, instant: datetime) -> list[Decimal]:
    """The last three closes until then; the source is asked where the archive ends before: bars are fetched for those who trade."""
    newest = newest_bars(desk, symbol, instant)
    closes = [] if newest is None else adjusted_closes(desk, newest)
    if newest is not None and newest.last_end >= instant:
        return closes
    after = instant - _ASKED_FROM if newest is None else newest.last_end
    offered = [_offered(desk, symbol, each, after, instant) for each in desk.market.intervals(symbol)]
    later = max((table for table in offered if len(table)), key=lambda table: table.last_end, default=None)
    return closes if later is None else [*closes, *adjusted_closes(desk, later)][-3:]


def _offered(desk: Desk, symbol: str, interval: Interval, after: datetime, until: datetime) -> BarTable:
    with suppress(MarketDataError):
        return desk.market.closed_bars([symbol], interval, after, until)[symbol]
    return BarTable.empty(symbol, interval)

