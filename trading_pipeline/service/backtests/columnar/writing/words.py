"""Money, shares and instants as the rulebook and the ledger write them, from whole numbers as in `units`.

Each function gives the very text that its namesake among `rules.readings`, or `codec.encode`, gives of the same value as a Decimal or
datetime, at a fraction of the time; property tests hold them to that.
"""

from datetime import UTC, datetime
from functools import lru_cache

from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.service.backtests.columnar.units import CENT, SCALE, half_even

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def dollars(amount: int) -> str:
    """USD to the cent, to 0.0001 where there is more."""
    if amount < 0:
        return f"-{dollars(-amount)}"
    cents, rest = divmod(amount, CENT)
    if rest:
        return f"${amount // SCALE:,}.{amount % SCALE:04d}"
    return f"${cents // 100:,}.{cents % 100:02d}"


def percent(part: int, whole: int) -> str:
    """A share to the hundredth of a percent."""
    if part < 0:
        return f"-{percent(-part, whole)}"
    hundredths = half_even(part * SCALE, whole)
    return f"{hundredths // 100}.{hundredths % 100:02d}%"


def since(last: int, now: int) -> str:
    """A span in seconds, to the millisecond."""
    return f"{(now - last) / SECOND:.3f} s"


def price(amount: int) -> str:
    """A price without zeros at its end."""
    whole, rest = divmod(amount, SCALE)
    return f"{whole}.{rest:04d}".rstrip("0") if rest else str(whole)


def cents(amount: int) -> str:
    """USD that lie on the cent, with two digits."""
    return f"{amount // SCALE}.{amount % SCALE // CENT:02d}"


def exact(amount: int) -> str:
    """USD with all four digits."""
    return f"{amount // SCALE}.{amount % SCALE:04d}"


def rounded(amount: int) -> str:
    """USD to the cent, half to even."""
    nearest = half_even(amount, CENT)
    return f"-{-nearest // 100}.{-nearest % 100:02d}" if nearest < 0 else f"{nearest // 100}.{nearest % 100:02d}"


class Moment:
    """A whole minute as it is written: in the ledger, in a cycle's name, in a sentence and on New York's clock."""

    __slots__ = ("instant", "local", "minute", "short")

    def __init__(self, at: int) -> None:
        """Of nanoseconds UTC."""
        day, (clock, here) = _day(at // _DAY), _clock(at % _DAY // MINUTE, _offset(at // _DAY))
        self.instant = f"{day}T{clock}:00.000000Z"
        self.short = f"{day}T{clock}Z"
        self.minute = f"{day} {clock} UTC"
        self.local = f"{day} {here}:00.000"


_DAY = 24 * 60 * MINUTE


@lru_cache(maxsize=1024)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()


@lru_cache(maxsize=1024)
def _offset(number: int) -> int:
    """Minutes that New York is behind UTC at noon UTC of a day: the clocks are changed on Sundays."""
    noon = datetime.fromtimestamp(number * 86_400 + 43_200, UTC).astimezone(NEW_YORK)
    span = noon.utcoffset()
    assert span is not None
    return -int(span.total_seconds()) // 60


@lru_cache(maxsize=4096)
def _clock(minute: int, behind: int) -> tuple[str, str]:
    here = minute - behind
    assert here >= 0, "no exchange of New York trades in its night"
    return f"{minute // 60:02d}:{minute % 60:02d}", f"{here // 60:02d}:{here % 60:02d}"
