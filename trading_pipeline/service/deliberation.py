"""Step signals: ask each due strategy's decision maker about each symbol, and keep every word of it.

The request is committed before anybody is asked, the reply before anything follows from it. After this
module nothing knows who decided. A reply becomes a `Signal` or an `Abstain`; HOLD is a valid answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from trading_pipeline.domain.bar_quality import gap
from trading_pipeline.domain.bars import BarTable
from trading_pipeline.domain.cycles import Cycle, CycleKind
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.models import Trouble
from trading_pipeline.domain.money import price_of
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Position
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.signals import Abstain
from trading_pipeline.domain.strategies import ModelAgent, PauseReason, StrategySpec
from trading_pipeline.ports import Answer, Question, Reader
from trading_pipeline.service import controls, market
from trading_pipeline.service.account_limits import standing
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.breakers import review
from trading_pipeline.service.judging.track_record import fill_of_row
from trading_pipeline.service.market import View
from trading_pipeline.service.models import conversations
from trading_pipeline.service.models.asking import IMPLAUSIBLE, OTHER_MODEL
from trading_pipeline.service.models.conversations import held_back
from trading_pipeline.service.models.decision_facts import Reply, decisions, discarded, place, requests, responded, stopped_meanwhile
from trading_pipeline.service.orders.settlement import OPEN_AT_BROKER, settle
from trading_pipeline.service.steps import StepResult, Tally, completed, due_strategies, nothing_to_do
from trading_pipeline.service.stopping import emergency


def form_signals(desk: Desk, cycle: Cycle) -> StepResult:
    """One Signal or Abstain per due strategy and symbol; a cycle that comes too late asks nobody (A7)."""
    done = completed(desk.ledger, cycle, "signals")
    if done is not None:
        return done
    specs = due_strategies(desk, cycle)
    if cycle.bar_end is None or not specs:
        return nothing_to_do(desk, cycle, "signals", "no strategy is due")
    late = _why_missed(desk, cycle)
    if late:
        return _missed(desk, cycle, specs, late)
    # Once more, now that the bars are there: nobody is asked for a strategy that may not go on.
    tally = Tally("signals", cycle, notes=review(desk))
    # The very bar that is decided on may have reached a stop: whoever is asked is told what is held now.
    if desk.ledger.find("orders", state=OPEN_AT_BROKER, limit=1):
        settle(desk, tally)
    seen = market.views(desk, cycle, specs)
    # Put in words before the ledger is locked; whom a stop or a fill has overtaken meanwhile, the transaction sees.
    considered = questions(desk, desk.ledger, cycle, specs, seen)
    doubts = _doubts(desk, cycle, considered)
    drafts = conversations.draft(desk, cycle, [each for each in considered if place(each) not in doubts])
    with desk.ledger.transaction() as tx:
        kept_out = {spec.name: why for spec in specs if (why := held_back(desk, tx, spec.name))}
        for spec in specs:
            if spec.name in kept_out:
                tally.saw(tx.append(_miss(desk, cycle, spec, kept_out[spec.name])))
                tally.count("missed")
        asked = questions(desk, tx, cycle, [spec for spec in specs if spec.name not in kept_out], seen)
        of_models = [question for question in asked if isinstance(question.agent, ModelAgent)]
        asked = [question for question in asked if not isinstance(question.agent, ModelAgent)]
        talks = conversations.begin(desk, tx, cycle, of_models, drafts, doubts, tally)
        requested = tally.saw(tx.append(*requests(desk, cycle, asked)))
    answerable = [question for question in asked if place(question) not in doubts]
    answers = doubts | dict(zip(map(place, answerable), desk.deciders["rules"].decide(answerable), strict=True))
    replies = conversations.carry_on(desk, cycle, talks, tally)
    tally.notes.extend(_paused_for_models(desk, replies))
    with desk.ledger.transaction() as tx:
        if (done := completed(tx, cycle, "signals")) is not None:
            # Another run of this cycle was quicker: what it decided stands.
            return done
        stops = {spec.name: emergency.in_force(desk, tx, spec.name) for spec in specs}
        heard: list[Reply] = []
        for question, request in zip(asked, requested, strict=True):
            answer, stop = answers[place(question)], stops[question.strategy]
            if stop is not None:
                tally.saw(tx.append(discarded(desk, cycle, question, answer, request, stopped_meanwhile(stop))))
                tally.count("discarded")
            else:
                heard.append(Reply(question, answer, request))
        said = tally.saw(tx.append(*(responded(desk, cycle, *each) for each in heard)))
        heard = [each._replace(cause=event) for each, event in zip(heard, said, strict=True)]
        heard += [each for each in replies if stops[each.question.strategy] is None]
        # In the order of asking, not of answering: which model was quicker must not decide who gets the money.
        turn = {place(question): number for number, question in enumerate(considered)}
        heard.sort(key=lambda each: turn[place(each.question)])
        decided = tally.saw(tx.append(*decisions(cycle, heard, desk.now())))
        for event in decided:
            tally.count("abstained" if event.type is EventType.LLM_ABSTAINED else event.payload["action"])
        return tally.complete(tx, desk.now())


def _paused_for_models(desk: Desk, replies: Sequence[Reply]) -> list[str]:
    """A strategy whose model is another one, or gone, waits for a person (invariant 64)."""
    said = []
    for question, answer, _ in replies:
        match answer.decision:
            case Abstain(_, reason, why) if reason in (OTHER_MODEL, IMPLAUSIBLE, Trouble.NO_SUCH_MODEL.value):
                measured = answer.model if reason == OTHER_MODEL else ""
                if controls.pause_by_itself(desk, question.strategy, PauseReason.MODEL, why, measured=measured):
                    said.append(f"{question.strategy} paused: {why}")
    return said


def _why_missed(desk: Desk, cycle: Cycle) -> str:
    now = desk.now()
    if cycle.kind is CycleKind.BACKFILL:
        return "a backfill refills data; its decisions are history and were missed"
    if now >= cycle.stale_at():
        return f"stale: due at {cycle.due_at:%H:%M:%S} UTC, begun at {now:%Y-%m-%d %H:%M:%S}, too late by {now - cycle.stale_at()}"
    session = desk.calendar.at(now)
    if session is None or session.day != cycle.session:
        return "the session it would trade in is not open"
    if cycle.interval is not None and not cycle.interval.daily and cycle.bar_end is not None and cycle.bar_end >= session.close:
        return "the bar closes with the session (D27)"
    return ""


def _missed(desk: Desk, cycle: Cycle, specs: Iterable[StrategySpec], why: str) -> StepResult:
    tally = Tally("signals", cycle, notes=[why])
    events = [_miss(desk, cycle, spec, why) for spec in specs]
    tally.count("missed", len(events))
    with desk.ledger.transaction() as tx:
        tally.saw(tx.append(*events))
        return tally.complete(tx, desk.now())


def _miss(desk: Desk, cycle: Cycle, spec: StrategySpec, why: str) -> NewEvent:
    payload = {"cycle": cycle.cycle_id, "strategy": spec.name, "symbols": list(spec.symbols), "reason": why}
    key = f"signal.missed:{cycle.cycle_id}:{spec.name}"
    return NewEvent(EventType.SIGNAL_MISSED, f"strategy:{spec.name}", key, payload, desk.now(), "cycle")


def questions(
    desk: Desk, reader: Reader, cycle: Cycle, specs: Iterable[StrategySpec], seen: Mapping[str, View],
) -> list[Question]:
    """What each strategy's decision maker is asked about each symbol, as it is seen."""
    charts = {
        (name, event.payload["symbol"]): event.payload["sha256"]
        for event in market.events_of(desk, completed(desk.ledger, cycle, "charts"))
        for name in event.payload["strategies"]
    }
    opened = {(row["strategy"], row["symbol"]): row["opened_at"] for row in reader.find("positions") if row["quantity"] > 0}
    opened |= _sold_since(reader, cycle, seen)
    asked = []
    for spec in specs:
        for symbol in spec.symbols:
            view, since = seen[symbol], opened.get((spec.name, symbol))
            held = None if since is None else len(view.bars.since(_bar_start(desk, spec, since)))
            asked.append(Question(spec.name, spec.agent, symbol, view.bars, view.columns, held, charts.get((spec.name, symbol))))
    return asked


def _sold_since(reader: Reader, cycle: Cycle, seen: Mapping[str, View]) -> dict[tuple[str, str], datetime]:
    """When what was sold after the decided bar's close had been opened: a decision on a close is one about what was held at it.

    A stop or target that the bar itself has reached was sold within it, though its fill is known, and stamped, at its end.
    """
    found = {}
    for fill in reader.find("fills", since=("at", cycle.due_at), side=Side.SELL.value):
        order, view = reader.get("orders", fill["client_id"]), seen.get(fill["symbol"])
        if view is None or order is None or (fill["at"] == cycle.due_at and _reached(order, view.bars)):
            continue
        place = fill["strategy"], fill["symbol"]
        own = reader.find("fills", strategy=fill["strategy"], symbol=fill["symbol"])
        position = Position(*place)
        before = (fill_of_row(row) for row in own if row["at"] < cycle.due_at)
        for each in sorted(before, key=lambda each: (each.at, len(each.execution_id), each.execution_id)):
            position = position.after(each)
        if position.quantity > 0 and position.opened_at is not None:
            found[place] = position.opened_at
    return found


def _reached(order: Row, bars: BarTable) -> bool:
    if not len(bars):
        return False
    stop, limit = order["stop_price"], order["limit_price"]
    if stop is not None:
        return bool(price_of(bars.low[-1]) <= stop)
    return limit is not None and bool(price_of(bars.high[-1]) >= limit)


def _bar_start(desk: Desk, spec: StrategySpec, opened_at: datetime) -> datetime:
    slot = desk.calendar.slot_at(opened_at, spec.interval)
    return slot.start if slot is not None else opened_at


def _doubts(desk: Desk, cycle: Cycle, questions: list[Question]) -> dict[str, Answer]:
    """Nobody is asked about a symbol without the cycle's bar or a quote, or whose newest close and quote cannot both be right."""
    quotes = desk.market.quotes(sorted({question.symbol for question in questions}), desk.now())
    most = standing(desk, desk.ledger).effective.max_bar_gap
    doubts = {}
    for question in questions:
        if not len(question.bars) or question.bars.last_end != cycle.bar_end:
            doubts[place(question)] = _no_bar(question, cycle)
        elif (quote := quotes.get(question.symbol)) is None:
            doubts[place(question)] = _no_quote(question, desk.now())
        elif gap(close := price_of(question.bars.close[-1]), quote.last) > most:
            doubts[place(question)] = _bad_print(most, question, close, quote)
    return doubts


def _bad_print(most: Decimal, question: Question, close: Decimal, quote: Quote) -> Answer:
    detail = (
        f"the newest bar of {question.symbol} closed at {close:f} and its price is now {quote.last:f}: {gap(close, quote.last):.0%} apart, "
        f"at most {most:.0%} is believed. One of them is a bad print, or a split is missing from the split table"
    )
    return Answer(Abstain(question.symbol, "bad_print", detail), "none", "none", "")


def _no_quote(question: Question, now: datetime) -> Answer:
    detail = f"{question.symbol} has no quote at {now:%Y-%m-%d %H:%M:%S} UTC: nothing confirms the close of its newest bar"
    return Answer(Abstain(question.symbol, "no_quote", detail), "none", "none", "")


def _no_bar(question: Question, cycle: Cycle) -> Answer:
    newest = f"the newest closed at {question.bars.last_end:%Y-%m-%d %H:%M} UTC" if len(question.bars) else "there is none"
    detail = f"no bar of {question.symbol} closed at {cycle.bar_end:%Y-%m-%d %H:%M} UTC; {newest}"
    return Answer(Abstain(question.symbol, "no_bar", detail), "none", "none", "")
