"""What executions, corrections and splits make of positions and cash: average cost, commissions within it, no rounding."""

from decimal import Decimal

from trading_pipeline.oracle.fact import ZERO, Fact, instant, money, money_or_none, whole
from trading_pipeline.oracle.state import EXTERNAL, Execution, Position, State


def external(state: State, fact: Fact) -> None:
    """Somebody else traded in the account (invariant 28)."""
    book(state, fact, EXTERNAL)


def book(state: State, fact: Fact, strategy: str) -> None:
    """Add an execution to its strategy's position and to the account's cash."""
    data = fact.data
    done = Execution(
        data["execution_id"], strategy, data["account"], data["symbol"], data["side"], whole(data["quantity"]), money(data["price"]),
        money(data["commission"]), instant(data["filled_at"]),
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
    held = position.quantity
    if isinstance(change, tuple):
        ratio, position.quantity, paid = change
        exact = held * ratio
        if abs(position.quantity) > abs(exact):
            position.cost -= paid
            return
        kept = position.cost * position.quantity / exact if position.quantity != exact else position.cost
        position.realised += paid - (position.cost - kept)
        position.cost = kept
        return
    traded = change.quantity if change.side == "buy" else -change.quantity
    position.quantity = left = held + traded
    cost, inflow = position.cost, flow(change)
    if held * traded >= 0:
        position.cost = cost - inflow
        return
    # Either something of the position is left, or something of the execution.
    kept, opens = (cost * left / held, ZERO) if left * held > 0 else (ZERO, inflow * left / traded)
    position.realised += inflow - opens - (cost - kept)
    position.cost = kept - opens


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
