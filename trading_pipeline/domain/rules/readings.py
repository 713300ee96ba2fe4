"""What rules read with and write with: checked values, words for people, verdicts.

An input that is unknown, not finite or of the wrong sign raises `Unusable`, which `judge` turns into the
denial of the rule: there is no neutral stand-in.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from trading_pipeline.domain.money import CENT
from trading_pipeline.domain.orders import OrderIntent
from trading_pipeline.domain.risk import Outcome, Quote, RiskContext, Verdict
from trading_pipeline.domain.sessions import NEW_YORK

Rule = Callable[[OrderIntent, RiskContext], Verdict]

ALLOW, DENY, HALT, NOT_APPLICABLE = Outcome.ALLOW, Outcome.DENY, Outcome.HALT, Outcome.NOT_APPLICABLE


class Unusable(ValueError):
    """An input of a rule is missing or makes no sense: the rule denies."""


def number(value: Decimal | None, what: str) -> Decimal:
    """The value if it is known and finite."""
    if value is None:
        raise Unusable(f"{what} is unknown")
    if not value.is_finite():
        raise Unusable(f"{what} is {value}")
    return value


def amount(value: Decimal | None, what: str) -> Decimal:
    """The value if it is known, finite and not negative."""
    if value is None:
        raise Unusable(f"{what} is unknown")
    if not value.is_finite() or value < 0:
        raise Unusable(f"{what} is {value}")
    return value


def positive(value: Decimal | None, what: str) -> Decimal:
    """The value if it is known, finite and above zero."""
    if value is None:
        raise Unusable(f"{what} is unknown")
    if not value.is_finite() or value <= 0:
        raise Unusable(f"{what} is {value}")
    return value


def count(value: int, what: str) -> int:
    """The value if it is a whole number, not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unusable(f"{what} is {value}")
    return value


def value_of(intent: OrderIntent) -> Decimal:
    """USD at the worst price; a quantity below one share or a price that is none has no value."""
    return positive(intent.value, "the order's value")


def quote_of(intent: OrderIntent, context: RiskContext) -> Quote:
    """The quote, if there is one and it is of the order's symbol."""
    quote = context.quote
    if quote is None:
        raise Unusable("there is no quote")
    if quote.symbol != intent.symbol:
        raise Unusable(f"the quote is of {quote.symbol}")
    return quote


def dollars(value: Decimal) -> str:
    """USD to the cent, to 0.0001 where there is more: a denial never shows two equal figures."""
    text = f"{value:,.4f}" if value % CENT else f"{value:,.2f}"
    return f"-${text[1:]}" if text[0] == "-" else f"${text}"


def percent(fraction: Decimal) -> str:
    """A fraction as people read it."""
    return f"{fraction:.2%}"


def seconds(span: timedelta) -> str:
    """A span to the millisecond."""
    return f"{span.total_seconds():.3f} s"


@lru_cache(maxsize=1024)
def new_york(at: datetime) -> datetime:
    """The instant on New York's wall clock; the instants of one cycle are few."""
    return at.astimezone(NEW_YORK)


@lru_cache(maxsize=1024)
def minute(at: datetime) -> str:
    """An instant as bars are named: `2012-10-12 20:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def judged(rule: str, passes: bool, measured: str, limit: str, detail: str = "") -> Verdict:
    """ALLOW when proven to pass, DENY otherwise."""
    return Verdict(rule, ALLOW if passes is True else DENY, measured, limit, detail)


def halting(rule: str, passes: bool, measured: str, limit: str, detail: str = "") -> Verdict:
    """ALLOW when proven to pass; otherwise HALT: a person decides how it goes on."""
    return Verdict(rule, ALLOW if passes is True else HALT, measured, limit, detail)


def off(rule: str) -> Verdict:
    """A rule that applies only where its limit is set."""
    return Verdict(rule, NOT_APPLICABLE, "off", "off", "switched off in the limits")


flagged = lru_cache(maxsize=4096, typed=True)(judged)
"""`judged` for rules whose measured value is one of a few words: the same value is not built twice."""


def spaced(rule: str, last: datetime | None, at: datetime, least: timedelta, detail: str = "") -> Verdict:
    """A time kept since `last`: exactly `least` passes; an instant in the future of `at` does not."""
    if last is None:
        return Verdict(rule, ALLOW, "none before", seconds(least))
    elapsed = at - last
    return judged(rule, elapsed >= least, seconds(elapsed), seconds(least), detail)
