"""What nobody here decides: the weather on the broker's line, trades past us in the account, executions that are stated anew."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from tests.desks import calendar
from tests.evidence.daysim.stage import Stage
from trading_pipeline.adapters.brokers.paper import PaperBroker
from trading_pipeline.adapters.brokers.paper_faults import (
    Call,
    CancelAfter,
    DropReply,
    Empty,
    LoseRequest,
    NotReady,
    Overfill,
    Refuse,
    RejectLater,
    Repeat,
    Reverse,
    ShowLate,
    Withhold,
)
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import EXTERNAL

D = Decimal


def weather(stage: Stage) -> None:
    """What is wrong with the line until the next turn."""
    dice = stage.dice
    stage.line.clear()
    if dice.random() >= stage.plan.trouble:
        return
    for _ in range(dice.choice((1, 1, 2))):
        kind = dice.random()
        if kind < 0.55:
            late = ShowLate(timedelta(seconds=dice.choice((3, 30, 59, 70, 150))))
            stage.line.on_every_submit(dice.choice(
                (
                    LoseRequest(), DropReply(), DropReply(), Refuse("not today"), NotReady(), late, late,
                    RejectLater(timedelta(seconds=dice.choice((0, 5, 90)))), CancelAfter(dice.randint(1, 40)),
                    Overfill(dice.randint(1, 5)),
                )
            ))
        elif kind < 0.85:
            call = dice.choice(tuple(Call))
            fault = NotReady() if call in (Call.CANCEL, Call.ACCOUNT, Call.SUBMIT) else dice.choice((NotReady(), Empty()))
            stage.line.on_call(call, *([None] * dice.choice((0, 0, 1, 3))), *([fault] * dice.choice((1, 1, 2, 6))))
        elif kind < 0.92:
            with stage.floor.book.change() as book:
                open_ = [order.ticket.client_id for order in book.open.values()]
            if open_:
                stage.line.late[dice.choice(open_)] = dice.choice((1, 2, 5))
        else:
            with stage.floor.book.change() as book:
                names = [execution.fill.client_id for execution in book.executions]
            stage.line.on_executions(dice.choice((Repeat(), Reverse(), Withhold(dice.choice(names)) if names else Repeat())))


def others(stage: Stage) -> None:
    """Somebody trades in the account past us, cancels an order of ours there, or the broker restates an execution."""
    symbol, roll = stage.dice.choice(stage.plan.symbols), stage.dice.random()
    funded = stage.ledger.event_by_key(f"account.funded:{stage.desk.broker.account_id}")
    if funded is None or funded.at >= stage.desk.now():
        return  # what was there before the book began is its opening balance
    quote = stage.desk.market.quotes([symbol], stage.desk.now()).get(symbol)
    owner = PaperBroker(
        stage.floor.book, stage.desk.market, stage.floor.clock, calendar(), stage.floor.settings, splits=stage.floor.desk.splits,
    )
    if roll < 0.5 and quote is not None:
        [theirs] = [row["quantity"] for row in stage.ledger.find("positions", strategy=EXTERNAL, symbol=symbol)] or [0]
        side, many = Side.BUY, stage.dice.randint(1, 30)
        if theirs > 0 and stage.dice.random() < 0.6:
            side, many = Side.SELL, stage.dice.randint(1, theirs)
        elif stage.dice.random() < 0.15 and owner.positions().get(symbol, 0) > 0:
            side, many = Side.SELL, stage.dice.randint(1, owner.positions()[symbol])
            stage.watch.by_hand.add(symbol)
        stage.struck[f"by hand: {side.value}"] += 1
        owner.trade_by_hand(symbol, side, many, quote.last)
    elif roll < 0.6:
        _restate(stage)
    elif roll < 0.8:
        _cancel(stage, owner)
    stage.watch.step("trades by hand")


def _cancel(stage: Stage, owner: PaperBroker) -> None:
    """Somebody, or the broker by itself, cancels an order of ours that works."""
    with stage.floor.book.change() as book:
        working = [order.ticket.client_id for order in book.open.values()]
    if working:
        owner.cancel(stage.dice.choice(working))
        stage.struck["by hand: cancel"] += 1


def _restate(stage: Stage) -> None:
    """An execution had another price: the account's cash is set right, and the next query says it."""
    with stage.floor.book.change() as book:
        if not book.executions:
            return
        at = stage.dice.randrange(len(book.executions))
        before = book.executions[at]
        price = (before.fill.price * D(stage.dice.choice(("0.99", "1.01")))).quantize(D("0.0001"))
        sign = 1 if before.fill.side is Side.BUY else -1
        book.executions[at] = replace(before, fill=replace(before.fill, price=price))
        book.cash -= sign * before.fill.quantity * (price - before.fill.price)
    stage.struck["restated execution"] += 1
