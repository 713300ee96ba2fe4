"""Why a strategy may not go on, measured: the day's loss, rejections, orders an hour, data, a budget (F4, INVARIANTS 3.3).

Each cause is a figure and its limit, from the ledger and the bars alone. What a pause was for stands at the head of its reason:
`rate: 10 orders within the hour`. Volatility is none of them: it blocks entries of a symbol, and exits go on (D13).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from trading_pipeline.domain.bar_quality import bars_behind, repeats_one_price
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.domain.money import ZERO, usd
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.strategies import ModelAgent, PauseReason, StrategyState
from trading_pipeline.errors import MarketDataError
from trading_pipeline.ports import Reader
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.outside import look
from trading_pipeline.service.models.purse import Purse
from trading_pipeline.service.steps import spec_of

CLEARING: Final = frozenset({PauseReason.RATE, PauseReason.DATA, PauseReason.BUDGET})
"""Pauses that end by themselves once their cause is gone; of all others a person decides."""
SESSION: Final = "session"
"""At the head of the reason of NOT_READY: the broker's session was lost while the strategy ran."""
MOST_BEHIND: Final = 2
"""Bars that the newest one may be behind (invariant 73)."""
REPEATED: Final = 10
"""So many bars in a row at one price and without volume, in every symbol of a strategy, are a feed that has frozen (fault 51)."""
_LOOK_BACK = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Cause:
    """One of them, in force."""

    why: PauseReason
    measured: str
    limit: str
    words: str


def headed(row: Row) -> str:
    """What a strategy's pause is for: the word before the colon of its reason."""
    return str(row["reason"]).partition(":")[0]


def clears_by_itself(row: Row) -> bool:
    """Whether the strategy goes on without a person once it can."""
    if row["state"] == StrategyState.NOT_READY.value:
        return headed(row) == SESSION
    return row["state"] == StrategyState.PAUSED_RISK.value and headed(row) in {why.value for why in CLEARING}


def book_of(desk: Desk, reader: Reader) -> Book:
    """The account at present prices, for the measures below; no bar is read for it."""
    return Book.read(desk, reader, look(desk, reader, ()))


def whole_book(desk: Desk) -> Book:
    """`book_of` while nobody can write: half of a sale looks like a loss, half of a purchase like a holding without a price."""
    with desk.ledger.transaction() as tx:
        return book_of(desk, tx)


def cause_of(desk: Desk, book: Book, row: Row) -> Cause | None:
    """The first thing that keeps a strategy from going on, the gravest first."""
    return next((cause for measure in _MEASURES if (cause := measure(desk, book, row)) is not None), None)


def _account_loss(desk: Desk, book: Book, row: Row) -> Cause | None:  # noqa: ARG001 - every measure has the one signature
    return _loss(book.day_pnl, book.limits.max_day_loss, book.granted.get("account", ZERO), "the account", "")


def _strategy_loss(desk: Desk, book: Book, row: Row) -> Cause | None:  # noqa: ARG001
    name, limit = row["name"], spec_of(row).limits.max_day_loss
    return _loss(book.strategy_day_pnl(name), limit, book.granted.get(f"strategy:{name}", ZERO), name, f" --strategy {name}")


def _loss(made: Decimal | None, limit: Decimal, granted: Decimal, who: str, option: str) -> Cause | None:
    """D12: equality blocks. Unknown before the session has a baseline: then the rulebook denies."""
    most = limit + granted
    if made is None or -made < most:
        return None
    words = f"{who} lost {usd(-made)} today, of at most {usd(most)}; `trading limits grant AMOUNT{option}` lets this session lose more"
    return Cause(PauseReason.LOSS, usd(-made), f"below {usd(most)}", words)


def _rejects(desk: Desk, book: Book, row: Row) -> Cause | None:  # noqa: ARG001
    rejects, most = book.track.rejects.get(row["name"], 0), book.limits.max_consecutive_rejects
    if rejects < most:
        return None
    return Cause(PauseReason.REJECTS, str(rejects), f"below {most}", f"{rejects} orders in a row were rejected")


def _rate(desk: Desk, book: Book, row: Row) -> Cause | None:  # noqa: ARG001
    """D15: the sliding hour and the clock hour, whichever has more."""
    orders, most = book.orders_last_hour(row["name"]), spec_of(row).limits.max_orders_per_hour
    if orders < most:
        return None
    return Cause(PauseReason.RATE, str(orders), f"below {most}", f"{orders} orders within the hour, of at most {most}")


def _data(desk: Desk, book: Book, row: Row) -> Cause | None:
    """No symbol of the strategy has a bar that is fresh enough, or that says anything new, neither in the archive nor at the source."""
    spec = spec_of(row)
    tables = [table for table in desk.archive.read_many(spec.symbols, spec.interval, until=book.now, count=REPEATED).values() if len(table)]
    newest = max((table.last_end for table in tables), default=None)
    behind = bars_behind(newest, spec.interval, desk.calendar, book.now)
    repeats = bool(tables) and all(repeats_one_price(table, REPEATED) for table in tables)
    if behind <= MOST_BEHIND and not repeats:
        return None
    offered = _offered(desk, row, book.now, newest)
    newest = max((table.last_end for table in offered), default=newest)
    behind = bars_behind(newest, spec.interval, desk.calendar, book.now)
    if behind > MOST_BEHIND:
        told = f"{behind} bars behind" if newest is not None else "no bar at all"
        last = f"the newest closed at {newest:%Y-%m-%d %H:%M} UTC" if newest is not None else "there is none"
        return Cause(PauseReason.DATA, told, f"at most {MOST_BEHIND}", f"the data are {told}: of {', '.join(spec.symbols[:5])} {last}")
    if not repeats or not all(repeats_one_price(table, len(table)) for table in offered):
        return None
    told = f"{REPEATED} bars and more at one price, without volume"
    words = f"the data repeat themselves: {told}, of {', '.join(spec.symbols[:5])}, up to {newest:%Y-%m-%d %H:%M} UTC"
    return Cause(PauseReason.DATA, told, f"below {REPEATED}", words)


def _offered(desk: Desk, row: Row, now: datetime, newest: datetime | None) -> list[BarTable]:
    """The bars that the source has after the newest one held; a source that cannot be asked has none."""
    spec = spec_of(row)
    try:
        tables = desk.market.closed_bars(spec.symbols, spec.interval, newest or now - _LOOK_BACK, now)
    except MarketDataError:
        return []
    return [table for table in tables.values() if len(table)]


def _budget(desk: Desk, book: Book, row: Row) -> Cause | None:  # noqa: ARG001
    """There was no money for a question, and there is none now: until the next day of New York, or until the budget is raised (D18)."""
    spec = spec_of(row)
    if desk.models is None or not isinstance(spec.agent, ModelAgent):
        return None
    refusal = Purse.open(desk, desk.ledger).unaffordable(spec, spec.agent.provider, spec.agent.model)
    return None if refusal is None else Cause(PauseReason.BUDGET, refusal.reason, "one question more", refusal.detail)


_MEASURES: Final[tuple[Callable[[Desk, Book, Row], Cause | None], ...]] = (_account_loss, _strategy_loss, _rejects, _rate, _data, _budget)
