"""What came of it, read from a ledger: the same words for a backtest and for a live account.

Equity is what each session closed with, so the result ends with the last session that has closed. Money paid in or out after the first
session opened is left out of equity. Trades are walked with the arithmetic of positions; one through which a split went is told in
shares as they were at its end. What somebody else did in the account is in the equity and in no trade.
"""

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.money import PRICE_STEP, ZERO, price_of, to_cents
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import EXTERNAL, Fill, Position
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Outcome
from trading_pipeline.domain.round_trips import HeldSplit, steps
from trading_pipeline.domain.split_holdings import whole_shares
from trading_pipeline.errors import InputError
from trading_pipeline.ports import Reader
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.engines import Backtest
from trading_pipeline.service.judging.track_record import fill_of_row, held_splits

_STOPPED = (Outcome.DENY.value, Outcome.HALT.value)
_VERDICTS, _SIGNALS = 100, 5_000
"""So many are read at once: a year's verdicts together would be 150 MB."""
_AVERAGE = Decimal("0.000001")
_REASONS = {"exit": ExitReason.SIGNAL, "stop": ExitReason.STOP, "target": ExitReason.TARGET}
"""By the part that an order is of its action, up to its number."""


def result_of(
    reader: Reader, *, first: date | None = None, last: date | None = None, marks: Mapping[str, Decimal] | None = None,
    assumptions: Sequence[str] = (),
) -> BacktestResult:
    """The result of the closed sessions from `first` to `last`, both included; of all of them where None.

    Args:
        marks: USD a share at the last close. What is held and not among them is valued by the close's own figures where it is the
            only symbol held, else by the newest snapshot.

    Raises:
        InputError: No session has closed in the range, or something held has no price anywhere.
    """
    closed = _closed(reader, first, last)
    days = [date.fromisoformat(event.payload["session"]) for event in closed]
    end, until = closed[-1].at, days[-1].isoformat()
    worth = [Decimal(event.payload["closing_equity"]) for event in closed]
    invested = [value - Decimal(event.payload["report"]["cash"]) for value, event in zip(worth, closed, strict=True)]
    paid_in = [Decimal(event.payload.get("deposited", "0")) for event in closed]
    began = _beginning(reader, days[0], paid_in[0])
    fills = [row for row in reader.find("fills", order_by="seq") if row["session"] <= until]
    own = [row for row in fills if row["strategy"] != EXTERNAL]
    stories = _stories(reader, own, end)
    at_end = [each for each in stories if each.position.quantity > 0]
    prices = _marks(reader, at_end, invested[-1] if len(own) == len(fills) else None, until, marks or {})
    known = [date.fromisoformat(row["session"]) for row in reader.find("sessions", order_by="session")]
    trades = [each.closed(known) for each in stories if each.position.quantity <= 0 and each.ended_at.date() >= days[0]]
    trades.sort(key=lambda trade: (trade.entry_at, trade.symbol, trade.strategy))
    return BacktestResult(
        sessions=tuple(days),
        equity=np.array([float(value - (paid - began.deposited)) for value, paid in zip(worth, paid_in, strict=True)], np.float64),
        invested=np.array([float(value) for value in invested], np.float64),
        traded=_by_session(own, days, lambda row: row["quantity"] * row["price"]),
        commissions=_by_session(own, days, lambda row: row["commission"]),
        trades=(*trades, *(each.valued(prices[each.position.symbol], end, known) for each in at_end)),
        cash=float(began.equity),
        decisions=_decisions(reader, days),
        denials=_denials(reader, days),
        assumptions=(*assumptions, *_caveats(days, paid_in, fills)),
    )


def result_of_backtest(bench: Bench, backtest: Backtest) -> BacktestResult:
    """The result of a backtest that has run, what is still open valued at the bench's last closes."""
    if backtest.counted is not None:
        return replace(backtest.counted(), assumptions=backtest.assumptions)
    return result_of(backtest.ledger, marks=marks_of(bench), assumptions=backtest.assumptions)


def marks_of(bench: Bench, at: datetime | None = None) -> dict[str, Decimal]:
    """The last close of each symbol of a bench, in USD a share: known by an instant, or of all where None."""
    tables = {place: table if at is None else table.until(at) for place, table in bench.tables.items()}
    finest_last = sorted((each for each in tables.items() if len(each[1])), key=lambda each: -each[0][1].minutes)
    return {symbol: price_of(float(table.close[-1])) for (symbol, _), table in finest_last}


@dataclass(frozen=True, slots=True)
class _Beginning:
    equity: Decimal
    deposited: Decimal


def _closed(reader: Reader, first: date | None, last: date | None) -> list[Event]:
    """The closes in the range, in order of their sessions."""
    found = sorted(reader.events(types=(EventType.SESSION_CLOSED,)), key=lambda event: str(event.payload["session"]))
    low, high = (first or date.min).isoformat(), (last or date.max).isoformat()
    inside = [event for event in found if low <= event.payload["session"] <= high]
    if inside:
        return inside
    known = f"it has {found[0].payload['session']} to {found[-1].payload['session']}" if found else "it has none at all"
    raise InputError(
        f"The ledger has no closed session{'' if first is None and last is None else f' from {low} to {high}'}: {known}.",
        value=(low, high), rule="a result is what sessions closed with", remedy="run the backtest to a session's close, or ask for others",
    )


def _beginning(reader: Reader, day: date, paid_in: Decimal) -> _Beginning:
    """What the first session began with."""
    opened = reader.event_by_key(f"session.opened:{day}")
    assert opened is not None, "the fold refuses the close of a session that was never opened"
    return _Beginning(Decimal(opened.payload["baseline_equity"]), Decimal(opened.payload.get("deposited", paid_in)))


@dataclass(slots=True)
class _Story:
    """One trade while it is walked; shares and their averages on the scale of its last step."""

    strategy: str
    position: Position
    entry_at: datetime
    realised_before: Decimal
    ended_at: datetime
    bought: Decimal = ZERO
    paid: Decimal = ZERO
    sold: Decimal = ZERO
    received: Decimal = ZERO
    most: int = 0
    commissions: Decimal = ZERO
    reason: ExitReason = ExitReason.OPEN

    def fill(self, fill: Fill, before: Position, reason: ExitReason) -> None:
        """Take a fill in; of one that goes through zero, only the shares on this trade's side."""
        self.commissions += fill.commission
        if fill.side is Side.BUY:
            shares = min(fill.quantity, before.quantity + fill.quantity)
            self.bought, self.paid = self.bought + shares, self.paid + shares * fill.price
        else:
            shares = min(fill.quantity, before.quantity)
            self.sold, self.received, self.reason = self.sold + shares, self.received + shares * fill.price, reason

    def split(self, split: HeldSplit, before: Position, after: Position) -> None:
        """Restate what was bought and sold; a fraction paid out is sold."""
        self.bought, self.sold = self.bought * split.ratio, self.sold * split.ratio
        gone = before.quantity * split.ratio - after.quantity
        if gone > 0 and split.in_lieu > 0:
            self.sold, self.received, self.reason = self.sold + gone, self.received + split.in_lieu, ExitReason.OTHER
        self.most = max(whole_shares(self.most, split.ratio), after.quantity)

    def closed(self, sessions: Sequence[date]) -> Trade:
        """The trade, flat again."""
        return self._trade(self.ended_at, _average(self.received, self.sold), self.position.realised, self.reason, sessions)

    def valued(self, mark: Decimal, at: datetime, sessions: Sequence[date]) -> Trade:
        """The trade as it stands open."""
        return self._trade(at, mark, self.position.realised + self.position.unrealised(mark), ExitReason.OPEN, sessions)

    def _trade(self, at: datetime, price: Decimal, pnl: Decimal, reason: ExitReason, sessions: Sequence[date]) -> Trade:
        held = bisect_right(sessions, at.date()) - bisect_left(sessions, self.entry_at.date())
        return Trade(
            strategy=self.strategy, symbol=self.position.symbol, shares=self.most, entry_at=self.entry_at,
            entry_price=_average(self.paid, self.bought), exit_at=at, exit_price=price, result=to_cents(pnl - self.realised_before),
            commissions=to_cents(self.commissions), exit_reason=reason, sessions=max(1, held),
        )


def _average(money: Decimal, shares: Decimal) -> Decimal:
    """USD a share, as it was where there was one price."""
    if not shares:
        return ZERO
    exact = money / shares
    return exact if exact == exact.quantize(PRICE_STEP) else exact.quantize(_AVERAGE)


def _stories(reader: Reader, fills: Sequence[Row], end: datetime) -> list[_Story]:
    """Every trade of these fills, the open ones included."""
    exits = {row["client_id"] for row in fills if row["side"] == Side.SELL.value}
    parts = {row["client_id"]: row["part"] for row in reader.find("orders", side=Side.SELL.value)} if exits else {}
    of: dict[tuple[str, str], list[Fill]] = {}
    for row in fills:
        of.setdefault((row["strategy"], row["symbol"]), []).append(fill_of_row(row))
    splits, found = held_splits(reader) if of else {}, []
    for (strategy, symbol), own in sorted(of.items()):
        story: _Story | None = None
        for step in steps(strategy, symbol, own, [each for each in splits.get((strategy, symbol), ()) if each.at <= end]):
            if story is None and step.before.quantity <= 0 < step.after.quantity:
                story = _Story(strategy, step.after, step.by.at, step.before.realised, step.by.at)
                found.append(story)
            if story is None:
                continue
            if isinstance(step.by, Fill):
                story.fill(step.by, step.before, _reason(parts.get(step.by.client_id, "")))
                story.most = max(story.most, step.after.quantity)
            else:
                story.split(step.by, step.before, step.after)
            story.position, story.ended_at = step.after, step.by.at
            if step.after.quantity <= 0:
                story = None
    return found


def _reason(part: str) -> ExitReason:
    return _REASONS.get(part.partition("-")[0], ExitReason.OTHER)


def _marks(
    reader: Reader, held: Sequence[_Story], invested: Decimal | None, session: str, given: Mapping[str, Decimal],
) -> dict[str, Decimal]:
    """A price for each symbol that is held.

    Args:
        invested: USD that the close valued it at; None where it valued what others hold besides.
    """
    found = {each.position.symbol: given[each.position.symbol] for each in held if each.position.symbol in given}
    missing = sorted({each.position.symbol for each in held} - set(found))
    if not missing:
        return found
    if invested is not None and len({each.position.symbol for each in held}) == 1:
        return {missing[0]: (invested / sum(each.position.quantity for each in held)).quantize(PRICE_STEP)}
    shots = [row for row in reader.find("snapshots", order_by="seq") if row["session"] <= session]
    for shot in shots[-1:]:
        found |= {each["symbol"]: Decimal(each["mark"]) for each in json.loads(shot["positions"])["held"] if each["symbol"] in missing}
    absent = [symbol for symbol in missing if symbol not in found]
    if absent:
        raise InputError(
            f"{', '.join(absent)} is held at the close of {session} and no price of it is known.", value=absent,
            rule="what is held is valued at a market price, never at a stand-in", remedy="give its last close",
        )
    return found


def _by_session(rows: Iterable[Row], days: Sequence[date], amount: Callable[[Row], Decimal]) -> Floats:
    sums = dict.fromkeys((day.isoformat() for day in days), ZERO)
    for row in rows:
        if row["session"] in sums:
            sums[row["session"]] += amount(row)
    return np.array([float(total) for total in sums.values()], np.float64)


def _in_pages(reader: Reader, many: int, *types: EventType) -> Iterator[Event]:
    """Events of some types in order, so many read at once."""
    after = 0
    while found := reader.events(after=after, types=types, limit=many):
        yield from found
        after = found[-1].seq


def _decisions(reader: Reader, days: Sequence[date]) -> dict[str, int]:
    """The actions, then the abstentions by reason, the most frequent first. An engine that skips idle bars writes no hold."""
    counts: Counter[str] = Counter()
    for event in _in_pages(reader, _SIGNALS, EventType.LLM_ACTION_GENERATED, EventType.LLM_ABSTAINED):
        if days[0].isoformat() <= event.payload["session"] <= days[-1].isoformat():
            abstained = event.type is EventType.LLM_ABSTAINED
            counts[f"abstain: {event.payload['reason']}" if abstained else event.payload["action"]] += 1
    return dict(sorted(counts.items(), key=lambda each: (each[0].startswith("abstain"), -each[1], each[0])))


def _denials(reader: Reader, days: Sequence[date]) -> dict[str, int]:
    """Every rule of every verdict that stopped something, at the proposal or at the gate, the most frequent first."""
    counts: Counter[str] = Counter()
    for event in _in_pages(reader, _VERDICTS, EventType.RISK_EVALUATED):
        if not event.payload["passed"] and days[0] <= event.at.date() <= days[-1]:
            counts.update(each["rule"] for each in event.payload["verdicts"] if each["outcome"] in _STOPPED)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _caveats(days: Sequence[date], paid_in: Sequence[Decimal], fills: Sequence[Row]) -> list[str]:
    """What a reader of the figures has to know of this ledger."""
    said = []
    if len(set(paid_in)) > 1:
        said.append("Money was paid in or out meanwhile: it is left out of equity, and returns are of what the account began with.")
    others = sum(1 for row in fills if row["strategy"] == EXTERNAL and row["session"] >= days[0].isoformat())
    if others:
        said.append(f"{others:,} fill(s) of somebody else in the account are in its equity and in no trade.")
    return said
