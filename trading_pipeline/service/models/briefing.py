"""What a model is told of one question, in words: bars, indicators, position, orders, limits, texts from outside.

Everything is the cycle's own, so that the same facts give the same words. What is not known is said to be unknown, never left out or
taken for nothing. No balance, account or order number is told (T6): what the limits leave is enough. Under masks (D7) everything
is told in the disguise's terms, and texts, the strategy's description and what could betray a price in USD are left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

import numpy as np

from trading_pipeline.domain.agents import required_indicators
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.bars import BarTable, Floats, Interval, instant_of
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.domain.indicators import IndicatorSpec, columns_of
from trading_pipeline.domain.limits import MAX_ORDER_VALUE
from trading_pipeline.domain.masking import Disguise
from trading_pipeline.domain.models import Sight
from trading_pipeline.domain.money import ZERO, usd
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.outside_text import fenced, one_line, several_lines
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.prompts import OUTSIDE
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.domain.signals import Signal
from trading_pipeline.domain.strategies import ModelAgent, StrategySpec
from trading_pipeline.ports import OutsideTexts, PromptVersion, Question, Reader
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.book import Book
from trading_pipeline.service.judging.open_risk import unfilled
from trading_pipeline.service.judging.outside import look
from trading_pipeline.service.steps import spec_of

BARS = 30
"""Of the table."""
BACK = (0, 1, 2, 3, 5, 10, 20)
"""Which values of an indicator are told, in bars back from the newest."""
TEXTS = 5
"""Texts from outside, at most."""
TEXT_LENGTH = 1_500
"""Characters of each that are told."""
_NO_VALUE = "n/a"
_UNRESOLVED = (OrderState.UNKNOWN.value, OrderState.LATE_FOUND.value, OrderState.QUARANTINED.value)
_OPEN = (ActionState.PENDING.value, ActionState.APPROVED.value, ActionState.READY.value)


@dataclass(frozen=True, slots=True)
class Briefing:
    """A question as it is told: the variables that the prompt declares, and the picture that goes along by its digest."""

    values: Mapping[str, str]
    disguise: Disguise
    chart: str | None

    @property
    def symbol(self) -> str:
        """The symbol as the model is told it: that of the reply's schema, and the one a reply may be about."""
        return self.disguise.symbol

    def unmasked(self, signal: Signal) -> Signal:
        """A signal as the model said it, in our terms."""
        return self.disguise.unmasked(signal)


def disguise(question: Question) -> Disguise:
    """How a question is told; the same whenever it is asked for.

    Args:
        question: To a model, about at least one bar.
    """
    assert isinstance(question.agent, ModelAgent)
    return Disguise.over(question.agent.masks, question.bars)


def brief(desk: Desk, reader: Reader, cycle: Cycle, question: Question, book: Book | None = None) -> Briefing:
    """Put a question in words.

    Args:
        reader: The ledger, or a transaction of it.
        question: To a model, about at least one bar.
        book: As `surroundings` gives it, for several questions of one cycle; read here when None.

    Raises:
        UnknownName, PromptError: The strategy's prompt is not there, or its file is wrong.
        StorageError: A masked picture cannot be stored.
    """
    assert isinstance(question.agent, ModelAgent)
    assert desk.models is not None
    return tell(desk, reader, cycle, question, desk.models.prompts.get(question.agent.prompt), desk.models.texts, book)


def tell(
    desk: Desk, reader: Reader, cycle: Cycle, question: Question, prompt: PromptVersion, texts: OutsideTexts, book: Book | None = None,
) -> Briefing:
    """`brief`, with any prompt and any texts."""
    agent, row = question.agent, reader.get("strategies", question.strategy)
    assert isinstance(agent, ModelAgent)
    assert row is not None
    book = book or surroundings(desk, reader, [question.symbol], cycle.due_at)
    return tell_of(desk, cycle, question, spec_of(row), prompt, texts, book)


def tell_of(
    desk: Desk, cycle: Cycle, question: Question, spec: StrategySpec, prompt: PromptVersion, texts: OutsideTexts, book: Book,
) -> Briefing:
    """`tell`, of a strategy that need not be in the ledger."""
    assert isinstance(question.agent, ModelAgent)
    return _Telling(desk, cycle, question, question.agent, spec, disguise(question), book).briefing(prompt, texts)


def surroundings(desk: Desk, reader: Reader, symbols: list[str], due_at: datetime | None = None) -> Book:
    """The account as questions about these symbols are told it: one reading for all of them.

    Args:
        due_at: When the cycle is due. A replay's quotes are of then, however long its run took to come: played again, it asks the same.
    """
    seen = look(desk, reader, symbols)
    if due_at is not None and desk.world is World.REPLAY:
        seen = replace(seen, quotes=dict(desk.market.quotes(symbols, due_at)))
    return Book.read(desk, reader, seen)


@lru_cache(maxsize=1_024)
def shown_indicators(spec: StrategySpec, agent: ModelAgent) -> tuple[IndicatorSpec, ...]:
    """What a model is told of: what the strategy lists and draws, and what every model is told; not what other strategies compute."""
    drawn = (*spec.chart.overlay_indicators, *spec.chart.panel_indicators) if spec.chart is not None else ()
    return tuple(dict.fromkeys((*spec.indicators, *required_indicators(agent), *drawn)))


@dataclass(frozen=True, slots=True)
class _Telling:
    """One question while it is put in words."""

    desk: Desk
    cycle: Cycle
    question: Question
    agent: ModelAgent
    spec: StrategySpec
    disguise: Disguise
    book: Book

    def briefing(self, prompt: PromptVersion, texts: OutsideTexts) -> Briefing:
        told, shown = self.disguise.told(), shown_indicators(self.spec, self.agent)
        columns = self.disguise.columns(shown, self.question.columns)
        chart = self._chart(told, columns)
        blind = self.agent.sight is Sight.PICTURE
        words: dict[str, Callable[[], str]] = {
            "symbol": lambda: self.disguise.symbol,
            "interval": lambda: _interval(self.question.bars.interval),
            "bar_end": self._bar_end,
            "session": self._session,
            "bars": lambda: "" if blind else self._table(told),
            "indicators": lambda: "" if blind else self._indicators(told, columns, shown),
            "quote": self._quote,
            "position": self._position,
            "orders": self._orders,
            "limits": self._limits,
            "strategy": lambda: "" if self.agent.masks else one_line(self.spec.description, 500),
            "picture": lambda: self._picture() if chart is not None else "",
            OUTSIDE: lambda: self._texts(texts),
        }
        return Briefing({name: words[name]() for name in prompt.variables}, self.disguise, chart)

    # The market

    def _chart(self, told: BarTable, columns: Mapping[str, Floats]) -> str | None:
        """The picture by its digest: the cycle's own, drawn anew behind a mask."""
        chart = self.spec.chart
        if self.agent.sight is Sight.NUMBERS or chart is None:
            return None
        if not self.agent.masks:
            return self.question.chart
        if len(told) < 2:
            return None
        return self.desk.objects.put(self.desk.charts.render(chart, told, columns, dated=self.disguise.dated), ".png")

    def _picture(self) -> str:
        chart = self.spec.chart
        assert chart is not None
        over = f", with {', '.join(chart.overlays)}" if chart.overlays else ""
        below = f"; below them {', '.join(chart.panels)}" if chart.panels else ""
        count = min(chart.bars, len(self.question.bars))
        return f"the newest {count} bars as candles{over}, with volume{below}; the newest bar is the rightmost."

    def _bar_end(self) -> str:
        if not self.disguise.dated:
            return "bar 0 of the table; bars are numbered backwards from it"
        at = self.question.bars.last_end.astimezone(NEW_YORK)
        return f"closed {at:%A %Y-%m-%d %H:%M} New York"

    def _session(self) -> str:
        bars = self.question.bars
        if bars.interval.daily:
            return "each bar is one whole session; what is decided now is carried out at the beginning of the session after the newest bar"
        session = self.desk.calendar.last_opened(instant_of(bars.start[-1]))
        if session is None:
            return "unknown"
        gone, whole = (_minutes(session.open, until) for until in (bars.last_end, session.close))
        # A short session would tell which days these can be.
        return f"{gone} of its {whole} minutes are gone" if self.disguise.dated else f"{gone / whole:.0%} of it is gone"

    def _table(self, told: BarTable) -> str:
        bars = told.tail(BARS)
        digits = 2 if bars.close[-1] >= 10 else 3 if bars.close[-1] >= 1 else 4
        head = "Prices and volumes are scaled; the newest close is 100" if self.disguise.scaled else "Prices in USD a share"
        rows = [
            self._labels(bars),
            *(
                _column(name, [f"{value:.{digits}f}" for value in getattr(bars, name).tolist()])
                for name in ("open", "high", "low", "close")
            ),
            _column("volume", [f"{value:.0f}" for value in bars.volume.tolist()]),
        ]
        return f"Bars, oldest first. {head}.\n" + "\n".join("  ".join(cells) for cells in zip(*rows, strict=True))

    def _labels(self, bars: BarTable) -> list[str]:
        """The first column of the table: the session, or when the bar closed in New York, or bars back from the newest."""
        if not self.disguise.dated:
            return _column("bar", [str(number) for number in range(1 - len(bars), 1)])
        form = "%Y-%m-%d" if bars.interval.daily else "%Y-%m-%d %H:%M"
        ends = [instant_of(end).astimezone(NEW_YORK).strftime(form) for end in bars.end.tolist()]
        return _column("session" if bars.interval.daily else "closed", ends)

    def _indicators(self, told: BarTable, columns: Mapping[str, Floats], shown: tuple[IndicatorSpec, ...]) -> str:
        back = [bars for bars in BACK if bars < len(told)]
        names = [name for spec in shown for name in columns_of(spec)]
        width = max(map(len, names))
        rows = [("bars back".ljust(width), [str(bars) for bars in back])]
        rows += [(name.ljust(width), [_figure(float(columns[name][-1 - bars])) for bars in back]) for name in names]
        cells = [_column("", [row[place] for _, row in rows])[1:] for place in range(len(back))]
        lines = ["  ".join((name, *(cell[number] for cell in cells))) for number, (name, _) in enumerate(rows)]
        return "Indicators; 0 bars back is the newest bar.\n" + "\n".join(lines)

    def _quote(self) -> str:
        quote = self.book.outside.quotes.get(self.question.symbol)
        if quote is None:
            return "unknown"
        bid, ask, last = (_price(self.disguise.price_told(price)) for price in (quote.bid, quote.ask, quote.last))
        return f"bid {bid}, ask {ask}, last {last}"

    # The account

    def _position(self) -> str:
        spec, symbol = self.spec, self.question.symbol
        held = self.book.held(spec.name, symbol)
        doubt = [row for row in self.book.orders if row["symbol"] == symbol and row["state"] in _UNRESOLVED]
        if doubt:
            return f"unknown: the record has {held} shares, and nobody knows yet what became of an order"
        if held <= 0:
            return "flat, nothing is held"
        position = next((p for p in self.book.portfolio.positions if p.strategy == spec.name and p.symbol == symbol), None)
        words = [f"{held} shares"]
        if position is not None and position.quantity > 0:
            average = position.cost / position.quantity
            words.append(f"bought at {_price(self.disguise.price_told(average))} a share on average")
            mark = self.book.portfolio.marks.get(symbol)
            if mark is not None and average > 0:
                gain = "" if self.disguise.scaled else f" ({usd(held * (mark - average))})"
                words.append(f"now {float(mark / average) - 1:+.2%}{gain}")
        if self.question.bars_held is not None:
            words.append(f"held for {self.question.bars_held} bar{'' if self.question.bars_held == 1 else 's'}")
        return ", ".join(words)

    def _orders(self) -> str:
        place = (self.spec.name, self.question.symbol)
        found = [self._order(row) for row in self.book.orders if (row["strategy"], row["symbol"]) == place]
        found += [
            f"a proposal to {row['side']}, {row['state']}" for row in self.book.actions
            if (row["strategy"], row["symbol"]) == place and row["state"] in _OPEN
        ]
        return "; ".join(sorted(found)) or "none"

    def _order(self, row: Row) -> str:
        at = [
            f"{word} {_price(self.disguise.price_told(row[name]))}"
            for word, name in (("limit", "limit_price"), ("stop", "stop_price")) if row[name] is not None
        ]
        return f"{row['side']} {unfilled(row)} shares, {', '.join(at) or 'at the market'}, {row['state'].replace('_', ' ')}"

    def _limits(self) -> str:
        own, account, book = self.spec.limits, self.book.limits, self.book
        orders = max(0, own.max_orders_per_hour - book.orders_last_hour(self.spec.name))
        hour = f"{orders} more orders this hour"
        if self.disguise.scaled:
            return hour
        order = min(MAX_ORDER_VALUE, account.max_order_value, own.max_order_value)
        symbol = self.question.symbol
        room = min(
            account.max_position_value - book.exposure(symbol), own.max_position_value - book.exposure(symbol, self.spec.name),
        )
        lost = self._loss_left()
        return ", ".join((
            f"an order of at most {usd(order)}", f"{usd(max(ZERO, room))} more of this symbol",
            "an unknown part of the day's loss left" if lost is None else f"{usd(max(ZERO, lost))} of the day's loss left", hour,
        ))

    def _loss_left(self) -> Decimal | None:
        """USD that may be lost today before entries end; None where nobody can tell."""
        book, name = self.book, self.spec.name
        scopes = (
            (book.limits.max_day_loss, "account", book.day_pnl),
            (self.spec.limits.max_day_loss, f"strategy:{name}", book.strategy_day_pnl(name)),
        )
        left = [most + book.granted.get(scope, ZERO) + pnl for most, scope, pnl in scopes if pnl is not None]
        return min(left) if len(left) == len(scopes) else None

    # Words from outside

    def _texts(self, texts: OutsideTexts) -> str:
        if self.disguise.symbol != self.question.symbol or not self.disguise.dated:
            return ""
        return outside_texts(texts, self.question.symbol, min(self.cycle.due_at, self.desk.now()))


def outside_texts(texts: OutsideTexts, symbol: str, until: datetime) -> str:
    """What was known from outside about a symbol by then, stripped, capped and fenced; empty when there is nothing (invariant 62)."""
    found = [
        f"{one_line(title, 200)}\n{when.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York\n{several_lines(words, TEXT_LENGTH)}"
        for title, when, words in texts.about(symbol, until, TEXTS)
    ]
    return fenced(found) if found else ""


def _interval(interval: Interval) -> str:
    if interval.daily:
        return "daily, one bar a session"
    return "60 minutes each" if interval is Interval.HOUR1 else f"{interval.minutes} minute{'s' if interval.minutes > 1 else ''} each"


def _minutes(start: datetime, end: datetime) -> int:
    return int((end - start).total_seconds() // 60)


def _column(name: str, cells: list[str]) -> list[str]:
    """A column of text, flush right."""
    width = max(len(name), *map(len, cells))
    return [cell.rjust(width) for cell in (name, *cells)]


def _price(price: float) -> str:
    return f"{price:.2f}" if price >= 10 else f"{price:.4f}"


def _figure(value: float) -> str:
    """A value to five digits or more, without an exponent or separators, as it may stand in JSON."""
    if not np.isfinite(value):
        return _NO_VALUE
    size = abs(value)
    digits = 0 if size >= 10_000 else 2 if size >= 100 else 3 if size >= 1 else 4 if size >= 0.01 or size == 0 else 6
    return f"{value:.{digits}f}"
