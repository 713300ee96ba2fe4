"""What executions, corrections and splits make of positions and cash: average cost, commissions within it, no rounding."""

from decimal import Decimal

from trading_pipeline.oracle.fact import ZERO, Fact, money, money_or_none, whole
from trading_pipeline.oracle.state import EXTERNAL, Execution, Position, State


def external(state: State, fact: Fact) -> None:
    """Somebody else traded in the account (invariant 28)."""
    book(state, fact, EXTERNAL)


def book(state: State, fact: Fact, strategy: str) -> None:
    """Add an execution to its strategy's position and to the account's cash."""
    data = fact.data
    done = Execution(
        data["execution_id"], strategy, data["account"], data["symbol"], data["side"], whole(data["quantity"]), money(data["price"]),
        money(data["commission"]),
    )
    state.executions[done.execution_id] = done
    position = state.positions.setdefault((strategy, done.symbol), Position())
    position.made_of.append(done)
    apply(position, done)
    state.cash[done.account] = state.cash.get(done.account, ZERO) + flow(done)
    state.prices[done.symbol] = done.price


def flow(done: Execution) -> Decimal:
    """USD that an execution brings in."""
    return done.quantity * done.price * (-1 if done.side == "buy" else 1) - done.commission


def corrected(state: State, fact: Fact) -> None:
    """The broker restates an execution: its position is folded anew from everything that made it."""
    done = state.executions.get(fact.data["execution_id"])
    if done is None:
        return
    before = flow(done)
    done.price, done.commission = money(fact.data["price"]), money(fact.data["commission"])
    state.cash[done.account] += flow(done) - before
    position = state.positions[done.strategy, done.symbol]
    again = Position(made_of=position.made_of)
    for change in position.made_of:
        apply(again, change)
    state.positions[done.strategy, done.symbol] = again


def apply(position: Position, change: Execution | tuple[Decimal, int, Decimal]) -> None:
    """What an execution or a split does to shares, cost and realised profit: average cost, commissions within it."""
    if isinstance(change, tuple):
        ratio, quantity, paid = change
        exact = position.quantity * ratio
        sold = position.cost if quantity <= 0 else position.cost * (exact - quantity) / exact if exact > quantity else ZERO
        bought = -paid if exact < quantity else ZERO
        position.quantity, position.cost = quantity, position.cost - sold + bought
        position.realised += paid + bought - sold
    elif change.side == "buy":
        covers = min(change.quantity, max(0, -position.quantity))
        worth = change.quantity * change.price + change.commission
        position.realised -= worth * covers / change.quantity
        position.cost += worth * (change.quantity - covers) / change.quantity
        position.quantity += change.quantity
    else:
        left = position.quantity - change.quantity
        sold = position.cost if left <= 0 else position.cost * change.quantity / position.quantity
        position.quantity, position.cost = left, position.cost - sold
        position.realised += change.quantity * change.price - change.commission - sold


def split(state: State, fact: Fact) -> None:
    """New shares for old ones, resting orders restated, fractions paid in cash."""
    data = fact.data
    ratio = money(data["ratio"])
    for part in data["positions"]:
        change = (ratio, whole(part["quantity"]), money(part["in_lieu"]))
        position = state.positions.setdefault((part["strategy"], data["symbol"]), Position())
        position.made_of.append(change)
        apply(position, change)
    for part in data["orders"]:
        order = state.orders.get(part["client_id"])
        if order is not None:
            order.quantity = whole(part["quantity"])
            order.limit, order.stop = money_or_none(part["limit_price"]), money_or_none(part["stop_price"])
    state.cash[data["account"]] = state.cash.get(data["account"], ZERO) + money(data["in_lieu"])
    if data["symbol"] in state.prices:
        state.prices[data["symbol"]] /= ratio
