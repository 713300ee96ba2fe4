"""What a split does to shares that are held and to orders that rest: the arithmetic that broker and ledger share.

Whole shares only: a fraction is paid out at the last close before the split, to the cent (cash in lieu), so what is held is
worth the same before and after. The account's whole shares go to its strategies by the largest fraction, so that together they
hold what the broker states. Bars are the business of `adjustments`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.money import ZERO, tick, to_cents
from trading_pipeline.domain.orders import OrderType
from trading_pipeline.domain.sessions import TradingCalendar

_EXACT = Decimal("0.000000001")
"""A ratio such as 1/3 has no end as a Decimal: 30 shares are 10 new ones, not 9.99."""


def effective_at(split: Split, calendar: TradingCalendar) -> datetime | None:
    """The open from which a split counts: of its session, of the next one where its date is none; None outside the calendar."""
    if not calendar.first.day <= split.session <= calendar.horizon.day:
        return None
    session = calendar.find(split.session) or calendar.next(split.session)
    return session.open


def exact_shares(held: int, ratio: Decimal) -> Decimal:
    """New shares for old ones, fractions included."""
    return (held * ratio).quantize(_EXACT).normalize()


def whole_shares(held: int, ratio: Decimal) -> int:
    """New shares for old ones, the fraction left out."""
    return int(exact_shares(held, ratio).to_integral_value(ROUND_FLOOR))


def in_lieu(held: int, whole: int, ratio: Decimal, close: Decimal) -> Decimal:
    """USD for what `whole` new shares lack of `held` old ones, at the last close before the split; negative where they exceed them."""
    return to_cents((exact_shares(held, ratio) - whole) / ratio * close) + ZERO


def shared_out(held: Mapping[str, int], ratio: Decimal, close: Decimal) -> dict[str, tuple[int, Decimal]]:
    """(new shares, cash in lieu) of each holder; their sums are those of the account as a whole."""
    account = sum(held.values())
    total = whole_shares(account, ratio)
    shares = {name: whole_shares(quantity, ratio) for name, quantity in held.items()}
    fraction = {name: exact_shares(quantity, ratio) - shares[name] for name, quantity in held.items()}
    for name in sorted(held, key=lambda name: (-fraction[name], name))[: total - sum(shares.values())]:
        shares[name] += 1
    paid = {name: in_lieu(quantity, shares[name], ratio, close) for name, quantity in held.items()}
    if paid:
        largest = max(held, key=lambda name: (held[name], name))
        paid[largest] += in_lieu(account, total, ratio, close) - sum(paid.values())
    return {name: (shares[name], paid[name]) for name in held}


def restated_quantities(quantities: Sequence[int], ratio: Decimal) -> list[int]:
    """New quantities of one entry's brackets: together as many whole shares as their sum makes."""
    before, after = 0, []
    for quantity in quantities:
        after.append(whole_shares(before + quantity, ratio) - whole_shares(before, ratio))
        before += quantity
    return after


def restated_price(price: Decimal, ratio: Decimal, order_type: OrderType) -> Decimal:
    """A resting sell order's price on the new scale, on the tick and away from the market: a stop down, a limit up."""
    exact = (price / ratio).quantize(_EXACT)
    step = tick(exact)
    rounding = ROUND_FLOOR if order_type is OrderType.STOP else ROUND_CEILING
    return max(step, (exact / step).to_integral_value(rounding) * step)
