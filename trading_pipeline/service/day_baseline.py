"""What a day is measured from (invariant 30): the account as it stood when the session before it closed.

That session's closing figures where they were taken. Where nobody traded in it, or nothing was there to close it, the account is taken
back to that instant: no night and no idle day is lost to the loss limits, and none is counted twice.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import prod
from typing import Any

from trading_pipeline.domain.bar_quality import believed
from trading_pipeline.domain.bars import SYMBOL, BarTable, Interval
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.money import ZERO, to_cents
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import EXTERNAL, Portfolio
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.sessions import Session
from trading_pipeline.errors import MarketDataError
from trading_pipeline.ports import Reader
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.accounting import adjusted_closes, deposits, marks, newest_bars, strategy_pnl
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders import corporate_actions
from trading_pipeline.service.orders.corporate_actions import DueSplit
from trading_pipeline.service.orders.settlement import settle, settled_mismatches
from trading_pipeline.service.steps import Tally

_ASKED_FROM = timedelta(days=14)
"""So far back a source is asked for the last price of a symbol of which nothing is archived."""
_ATTEMPTS = 5


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


def worth_at(desk: Desk, reader: Reader, instant: datetime) -> Worth:
    """The account as it stood at an earlier instant: without the executions after it, at the last prices until then.

    Money that was paid in or out since is in it, as it is in what was paid in altogether: the day's result counts neither.

    Raises:
        MarketDataError: A symbol that was held has no price, neither then nor now.
    """
    held: dict[tuple[str, str], Decimal] = {}
    flows: dict[str, Decimal] = {}
    for row in reader.find("positions"):
        held[row["strategy"], row["symbol"]] = Decimal(row["quantity"])
        # Got less paid since it began: what was realised, less what the shares that are left have cost.
        flows[row["strategy"]] = flows.get(row["strategy"], ZERO) + row["realised"] - row["cost"]
    account = reader.get("cash", desk.broker.account_id)
    cash = account["cash"] if account else ZERO
    unbooked = corporate_actions.pending(desk, reader)
    for fill in reader.find("fills", since=("at", instant)):
        if fill["at"] > instant:
            change = fill["quantity"] if fill["side"] == Side.BUY.value else -fill["quantity"]
            flow = -change * fill["price"] - fill["commission"]
            held[fill["strategy"], fill["symbol"]] -= change * _split_since(desk, fill["symbol"], fill["at"], unbooked)
            flows[fill["strategy"]] -= flow
            cash -= flow
    shares = {place: many for place, many in held.items() if many}
    prices = _prices_at(desk, reader, shares, instant, unbooked)
    for (strategy, symbol), many in shares.items():
        flows[strategy] += many * prices[symbol]
    value = sum((many * prices[symbol] for (_, symbol), many in shares.items()), ZERO)
    return Worth(cash, cash + value, flows, prices)


def open_session(desk: Desk, session: date) -> str:
    """Fix the day's baseline once, funding the account's book from the broker the first time.

    Nothing is asked of a market or a broker while the ledger waits.

    Returns:
        Why it could not be fixed yet, empty where it is: what was executed before it has to be in the book.

    Raises:
        MarketDataError: A symbol that was held when the session before closed has no price.
    """
    if desk.ledger.get("sessions", session.isoformat()) is not None:
        return ""
    before = desk.calendar.last_closed(desk.calendar.session(session).open)
    funded = desk.ledger.get("cash", desk.broker.account_id) is not None
    if funded and before is not None and desk.ledger.event_by_key(f"session.closed:{before.day}") is None:
        turn = Tally("session", follow_up((), session, desk.now(), "session"))
        settle(desk, turn)
        if differences := list(settled_mismatches(desk, turn).values()):
            return f"the day is not measured before book and broker agree: {differences[0]}"
    for _ in range(_ATTEMPTS):
        seen = _book(desk, desk.ledger)
        facts = [_opened(desk, session, before)] if funded else _funded(desk, session)
        with desk.ledger.transaction() as tx:
            if tx.get("sessions", session.isoformat()) is not None:
                return ""
            if _book(desk, tx) == seen:
                tx.append(*facts)
                return ""
    return "the day is not measured while the account changes"


def _book(desk: Desk, reader: Reader) -> tuple[Row | None, list[Row]]:
    return reader.get("cash", desk.broker.account_id), reader.find("positions")


def _funded(desk: Desk, session: date) -> list[NewEvent]:
    """The book begins with what the broker has, and so does its first day."""
    account, cash = desk.broker.account_id, desk.broker.account().cash
    # Of this very instant: what the balance has already, see `adoption.since_funding`.
    executed = sorted({fill.execution_id for _, fill in desk.broker.executions(desk.now())})
    payload = {"account": account, "amount": cash, "source": f"broker:{desk.broker.name}", "executed": executed}
    key, actor = f"account.funded:{account}", f"broker:{desk.broker.name}"
    funding = NewEvent(EventType.ACCOUNT_FUNDED, "account", key, payload, desk.now(), actor)
    return [funding, _opening(desk, session, {"baseline_equity": to_cents(cash), "deposited": cash, "strategy_pnl": {}})]


def _opened(desk: Desk, session: date, before: Session | None) -> NewEvent:
    ledger = desk.ledger
    closed = ledger.event_by_key(f"session.closed:{before.day}") if before is not None else None
    deposited = deposits(ledger, desk.broker.account_id)
    if closed is not None:
        figures = closed.payload["report"]["strategies"]
        baseline = {
            "baseline_equity": closed.payload["closing_equity"], "deposited": closed.payload.get("deposited", deposited),
            "strategy_pnl": {name: each["total_pnl"] for name, each in figures.items()},
        }
        return _opening(desk, session, baseline)
    instant = before.close if before is not None else desk.now()
    stood = worth_at(desk, ledger, instant)
    baseline = {
        "baseline_equity": to_cents(stood.equity), "deposited": deposited,
        "strategy_pnl": {name: format(to_cents(made), "f") for name, made in stood.pnl.items()},
    }
    return _opening(desk, session, baseline | {"stood_at": instant, "prices": stood.prices})


def _opening(desk: Desk, session: date, baseline: Mapping[str, Any]) -> NewEvent:
    return NewEvent(EventType.SESSION_OPENED, "account", f"session.opened:{session}", {"session": session, **baseline}, desk.now(), "cycle")


def _split_since(desk: Desk, symbol: str, at: datetime, unbooked: Sequence[DueSplit]) -> Decimal:
    """Shares of now for one of then, as far as the book counts them so."""
    waiting = {(split.symbol, split.at) for split in unbooked}
    effective = ((split.ratio, desk.calendar.session(split.session).open) for split in desk.splits.get(symbol, ()))
    return prod((ratio for ratio, day in effective if at < day <= desk.now() and (symbol, day) not in waiting), start=Decimal(1))


def _prices_at(
    desk: Desk, reader: Reader, held: Mapping[tuple[str, str], Decimal], instant: datetime, unbooked: Sequence[DueSplit],
) -> dict[str, Decimal]:
    """The last price until then of each symbol, in shares as the book counts them now; what had none is worth what it is now."""
    most = standing(desk, reader).effective.max_bar_gap
    symbols = sorted({symbol for _, symbol in held})
    others = set(symbols) - {symbol for strategy, symbol in held if strategy != EXTERNAL}
    found = marks(desk, symbols, reader, others)
    for symbol, mark in found.items():
        ratio = corporate_actions.unbooked_ratio(unbooked, symbol)
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
    later: BarTable | None = None
    # The coarsest says it in one bar, where it has it.
    for interval in reversed(desk.market.intervals(symbol)):
        table = _offered(desk, symbol, interval, after, instant)
        if len(table) and (later is None or table.last_end > later.last_end):
            later = table
        if later is not None and later.last_end >= instant:
            break
    return closes if later is None else [*closes, *adjusted_closes(desk, later)][-3:]


def _offered(desk: Desk, symbol: str, interval: Interval, after: datetime, until: datetime) -> BarTable:
    with suppress(MarketDataError):
        return desk.market.closed_bars([symbol], interval, after, until)[symbol]
    return BarTable.empty(symbol, interval)

