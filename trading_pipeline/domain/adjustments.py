"""Split and dividend adjustment of bars: pure, explicit, and only for what was known at the time.

Sources and the archive hold prices as they were traded. Indicators and charts need one scale, so the analysis adjusts as of
its own session: a split that becomes effective later changes nothing, which is what keeps a replay free of look-ahead.
Orders, quotes, fills and limits always use unadjusted prices.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.errors import BarsError


@dataclass(frozen=True, slots=True)
class Split:
    """`ratio` new shares for one old, effective from the open of `session`; below 1 for a reverse split."""

    symbol: str
    session: date
    ratio: Decimal

    def __post_init__(self) -> None:
        if not self.ratio.is_finite() or self.ratio <= 0:
            raise BarsError(
                f"{self.symbol} cannot split by {self.ratio} on {self.session}.", value=self.ratio,
                rule="a ratio is new shares for one old, above zero", remedy="write 2 for a 2:1 split, 0.1 for a 1:10 reverse split",
            )


@dataclass(frozen=True, slots=True)
class Dividend:
    """`amount` USD a share as paid, to holders before the open of `session` (the ex-date)."""

    symbol: str
    session: date
    amount: Decimal


def split_adjusted(table: BarTable, splits: Iterable[Split], as_of: date) -> BarTable:
    """The table on the share scale of session `as_of`: prices before a split divided by its ratio, volumes multiplied.

    Args:
        table: Unadjusted bars.
        splits: Of any symbols; those of the table's symbol with `session <= as_of` count.
        as_of: The session in which the result is used, not the session of the newest bar: a decision taken on the morning
            of a split sees yesterday's bars on today's scale.
    """
    known = [split for split in splits if split.symbol == table.symbol and split.session <= as_of]
    if not known or not len(table):
        return table
    days = table.session_days
    factor = np.ones(len(table))
    for split in known:
        factor[days < np.datetime64(split.session)] *= float(split.ratio)
    if (factor == 1).all():
        return table
    return replace(_scaled(table, 1 / factor), volume=table.volume * factor)


def on_scale_of(table: BarTable, splits: Iterable[Split], session: date) -> BarTable:
    """The table with prices as if every split had happened as it had by `session`: those before it divided, those after it multiplied.

    For looking back at a decision: its own prices stay as they were traded, and what came later can be compared with them.
    """
    mine = [split for split in splits if split.symbol == table.symbol]
    if not mine or not len(table):
        return table
    days, factor = table.session_days, np.ones(len(table))
    for split in mine:
        after = days >= np.datetime64(split.session)
        if split.session <= session:
            factor[~after] /= float(split.ratio)
        else:
            factor[after] *= float(split.ratio)
    return table if (factor == 1).all() else replace(_scaled(table, factor), volume=table.volume / factor)


def dividend_adjusted(table: BarTable, dividends: Iterable[Dividend], as_of: date) -> BarTable:
    """The table with prices before each ex-date lowered so that holding through it shows no loss; volumes stay.

    Needs unadjusted bars, because the amount is compared with the close it was paid from; splits may be adjusted afterwards.
    A dividend with no earlier bar in the table changes nothing.

    Raises:
        BarsError: A dividend of at least the price before it.

    Source: factor 1 - amount / close before the ex-date, as in the CRSP and Yahoo adjusted close.
    """
    known = [each for each in dividends if each.symbol == table.symbol and each.session <= as_of]
    if not known or not len(table):
        return table
    days = table.session_days
    factor = np.ones(len(table))
    for dividend in known:
        earlier = int(np.searchsorted(days, np.datetime64(dividend.session), side="left"))
        if not earlier:
            continue
        share = float(dividend.amount) / float(table.close[earlier - 1])
        if not 0 <= share < 1:
            raise BarsError(
                f"{dividend.symbol} cannot pay {dividend.amount} on {dividend.session} from a close of {table.close[earlier - 1]:g}.",
                value=dividend.amount, rule="a dividend is below the price before it",
                remedy="give amounts as paid, with unadjusted prices",
            )
        factor[:earlier] *= 1 - share
    return table if (factor == 1).all() else _scaled(table, factor)


def _scaled(table: BarTable, factor: Floats) -> BarTable:
    return replace(table, open=table.open * factor, high=table.high * factor, low=table.low * factor, close=table.close * factor)
