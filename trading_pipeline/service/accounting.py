"""Step portfolio_snapshots, what the account is worth and has made, and the comparison with the broker."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.adjustments import split_adjusted
from trading_pipeline.domain.bar_quality import believed
from trading_pipeline.domain.bars import SYMBOL, BarTable, Interval
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.money import ZERO, price_of, to_cents
from trading_pipeline.domain.portfolio import EXTERNAL, Portfolio
from trading_pipeline.domain.projections import position_of
from trading_pipeline.errors import BrokerNotReady, MarketDataError
from trading_pipeline.ports import Reader
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders import corporate_actions
from trading_pipeline.service.record.anchoring import anchor_head
from trading_pipeline.service.steps import StepResult, Tally, completed

CASH = "cash"
"""Where a difference of cash is told among those of symbols, which are written in capitals."""
RECENT = timedelta(days=14)
"""An older close says nothing of whether a price can be true."""


def snapshot_portfolio(desk: Desk, cycle: Cycle) -> StepResult:
    """The account's worth after the cycle, compared with what the broker says it holds."""
    done = completed(desk.ledger, cycle, "portfolio_snapshots")
    if done is not None:
        return done
    tally = Tally("portfolio_snapshots", cycle)
    differences = compare_with_broker(desk)
    unanchored = anchor_head(desk)
    if unanchored:
        tally.notes.append(f"the chain's head could not be kept outside the ledger: {unanchored}")
    with desk.ledger.transaction() as tx:
        portfolio = portfolio_of(desk, tx)
        doubted = doubted_prices(desk, sorted(portfolio.marks), tx)
        payload = snapshot_payload(tx, portfolio, cycle.session) | {"cycle": cycle.cycle_id, "doubted": list(doubted.values())}
        newest = tx.find("fills", session=cycle.session.isoformat(), order_by="seq", descending=True, limit=1)
        cause = newest[0]["seq"] if newest else None
        key = f"snapshot:{cycle.cycle_id}"
        tally.saw(tx.append(NewEvent(EventType.PORTFOLIO_SNAPSHOTTED, "account", key, payload, desk.now(), "cycle", cause)))
        tally.saw(tx.append(reconciled(desk, f"reconciled:{cycle.cycle_id}", differences)))
        tally.count("positions", sum(1 for position in portfolio.positions if position.quantity))
        tally.count("differences", len(differences))
        tally.count("doubted", len(doubted))
        tally.notes.extend([*differences, *doubted.values()])
        return tally.complete(tx, desk.now())


def portfolio_of(desk: Desk, reader: Reader, prices: Mapping[str, Decimal] | None = None) -> Portfolio:
    """The account as booked, at present prices, or at those given, one for each held symbol.

    Raises:
        MarketDataError: A held symbol has no price: there is no neutral mark.
    """
    account = desk.broker.account_id
    cash = reader.get("cash", account)
    positions = tuple(found for row in reader.find("positions") if (found := position_of(row)) is not None)
    held = sorted({position.symbol for position in positions if position.quantity})
    valued = marks(desk, held, reader) if prices is None else dict(prices)
    return Portfolio(account, desk.now(), cash["cash"] if cash else ZERO, positions, valued)


def marks(
    desk: Desk, symbols: Sequence[str], reader: Reader | None = None, others: Collection[str] | None = None,
) -> dict[str, Decimal]:
    """A price for each symbol, for a share as the book counts it: the quote's last, or the newest archived close; never a bad print.

    Args:
        reader: The book; the ledger as it is when None. While a split is no fact yet, its shares are old ones.
        others: Which of them only somebody else holds; those of now when None.
    """
    if not symbols:
        return {}
    reader = reader or desk.ledger
    prices = _prices(desk, symbols, reader, _of_others(reader) if others is None else others)
    # After the look at prices: a source may learn of a split with the first price on the new scale.
    splits = corporate_actions.pending(desk, reader)
    return {symbol: price * corporate_actions.unbooked_ratio(splits, symbol) for symbol, (price, _) in prices.items()}


def doubted_prices(desk: Desk, symbols: Sequence[str], reader: Reader) -> dict[str, str]:
    """Which of the symbols are valued at an older price, because the present one is a bad print or still unconfirmed; in words."""
    return {symbol: doubt for symbol, (_, doubt) in _prices(desk, symbols, reader, _of_others(reader)).items() if doubt}


def _prices(desk: Desk, symbols: Sequence[str], reader: Reader, others: Collection[str]) -> dict[str, tuple[Decimal, str]]:
    """A price in shares of now for each symbol, and why it is not the present one; empty words where it is."""
    quotes = dict(desk.market.quotes(ours, desk.now())) if (ours := [symbol for symbol in symbols if symbol not in others]) else {}
    most = standing(desk, reader).effective.max_bar_gap
    found = {}
    for symbol in symbols:
        if symbol in others and SYMBOL.fullmatch(symbol):
            # By itself: a source may refuse to be asked about what it does not know.
            with suppress(MarketDataError):
                quotes |= desk.market.quotes([symbol], desk.now())
        quote = quotes.get(symbol)
        bars = newest_bars(desk, symbol, desk.now()) if SYMBOL.fullmatch(symbol) else None
        known = [] if bars is None else adjusted_closes(desk, bars, desk.now() - RECENT if quote is not None else None)
        if quote is None and not known and symbol in others:
            last = reader.find("fills", strategy=EXTERNAL, symbol=symbol, order_by="seq", descending=True, limit=1)[0]["price"]
            found[symbol] = last, f"{symbol}: no source of ours prices it, it is valued at its last execution, {last:f}"
            continue
        if quote is None and not known:
            raise MarketDataError(
                f"{symbol} is held and has no price.", value=symbol, rule="a held symbol is valued at a market price, never at a stand-in",
                remedy="check the source of its bars",
            )
        price = quote.last if quote is not None else known[-1]
        if known and price == known[-1] and (quote is None or desk.calendar.at(desk.now()) is None):
            # The newest close itself: it cannot confirm itself.
            known.pop()
        if believed(price, known[-2:], most):
            found[symbol] = price, ""
        else:
            last = known[-1] if believed(known[-1], known[-2:-1], most) else known[-2]
            found[symbol] = last, f"{symbol}: its price {price:f} is not believed yet, it is valued at {last:f}"
    return found


def _of_others(reader: Reader) -> set[str]:
    """What only somebody else holds: it need not be of a market that we follow, nor its name be a symbol of ours (an option's is none)."""
    held = [(row["symbol"], row["strategy"] == EXTERNAL) for row in reader.find("positions") if row["quantity"]]
    return {symbol for symbol, external in held if external} - {symbol for symbol, external in held if not external}


def newest_bars(desk: Desk, symbol: str, until: datetime) -> BarTable | None:
    """The last three bars that had closed by then, of the interval that has the newest; None where nothing is archived."""
    newest: BarTable | None = None
    for interval in Interval:
        table = desk.archive.read(symbol, interval, until=until, count=3)
        if len(table) and (newest is None or table.last_end > newest.last_end):
            newest = table
    return newest


def adjusted_closes(desk: Desk, bars: BarTable, since: datetime | None = None) -> list[Decimal]:
    """Their closes from `since` on, in shares of now; all of them when None."""
    adjusted = split_adjusted(bars, desk.splits.get(bars.symbol, ()), desk.today())
    return [price_of(close) for close in (adjusted if since is None else adjusted.since(since)).close]


def snapshot_payload(reader: Reader, portfolio: Portfolio, session: date) -> dict[str, Any]:
    """A portfolio as the payload of `portfolio.snapshotted`."""
    made = day_pnl(reader, portfolio.account, portfolio.equity, session)
    held = [
        {
            "strategy": p.strategy, "symbol": p.symbol, "quantity": p.quantity, "cost": to_cents(p.cost), "mark": portfolio.marks[p.symbol],
            "value": to_cents(p.quantity * portfolio.marks[p.symbol]), "unrealised": to_cents(p.unrealised(portfolio.marks[p.symbol])),
        }
        for p in portfolio.positions
        if p.quantity
    ]
    return {
        "account": portfolio.account, "session": session, "equity": to_cents(portfolio.equity), "cash": to_cents(portfolio.cash),
        "market_value": to_cents(portfolio.market_value), "realised": to_cents(portfolio.realised),
        "unrealised": to_cents(portfolio.unrealised), "day_pnl": to_cents(made or ZERO), "positions": {"held": held},
    }


def strategy_pnl(portfolio: Portfolio) -> dict[str, Decimal]:
    """USD each strategy has made since it began, realised and open."""
    totals: dict[str, Decimal] = {}
    for position in portfolio.positions:
        open_pnl = position.unrealised(portfolio.marks[position.symbol]) if position.quantity else ZERO
        totals[position.strategy] = totals.get(position.strategy, ZERO) + position.realised + open_pnl
    return totals


def day_pnl(reader: Reader, account: str, equity: Decimal, session: date) -> Decimal | None:
    """USD the account has made in a session once it is worth `equity`, after fees; None while the session has no baseline.

    Money that was paid in or out since the baseline is none of it (30).
    """
    opened = reader.event_by_key(f"session.opened:{session}")
    if opened is None:
        return None
    deposited = deposits(reader, account)
    before = Decimal(opened.payload.get("deposited", deposited))
    return equity - Decimal(opened.payload["baseline_equity"]) - (deposited - before)


def deposits(reader: Reader, account: str) -> Decimal:
    """USD paid in less paid out, ever."""
    row = reader.get("cash", account)
    return row["deposited"] if row else ZERO


def compare_with_broker(desk: Desk) -> list[str]:
    """Where the book and the broker disagree about positions or cash, in words; empty when they agree."""
    return list(mismatches(desk).values())


def mismatches(desk: Desk) -> dict[str, str]:
    """The same by symbol, and under CASH; under `*` when the broker cannot be asked, which speaks for every symbol (invariants 21, 27)."""
    booked: dict[str, int] = {}
    for row in desk.ledger.find("positions"):
        booked[row["symbol"]] = booked.get(row["symbol"], 0) + row["quantity"]
    try:
        stated = desk.broker.positions()
    except BrokerNotReady as unready:
        return {"*": f"not compared: {unready.message}"}
    found = {
        symbol: f"{symbol}: booked {booked.get(symbol, 0)} shares, the broker states {stated.get(symbol, 0)}"
        for symbol in sorted({*booked, *stated})
        if booked.get(symbol, 0) != stated.get(symbol, 0)
    }
    cash = _cash_mismatch(desk)
    return found | {CASH: cash} if cash else found


def _cash_mismatch(desk: Desk) -> str:
    """Nothing before the account was funded. To the last digit: the paper broker counts as the book does."""
    row = desk.ledger.get("cash", desk.broker.account_id)
    if row is None:
        return ""
    try:
        stated = desk.broker.account().cash
    except BrokerNotReady as unready:
        return f"cash: not compared: {unready.message}"
    return "" if stated == row["cash"] else f"cash: booked {row['cash']:f} USD, the broker states {stated:f}"


def reconciled(desk: Desk, key: str, differences: list[str]) -> NewEvent:
    """The result of a comparison as a fact."""
    payload = {"account": desk.broker.account_id, "agrees": not differences, "differences": differences, "world": encode(desk.world)}
    return NewEvent(EventType.RECONCILED, "account", key, payload, desk.now(), f"broker:{desk.broker.name}")
