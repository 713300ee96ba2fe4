"""Strategies on minutes that may have to pause, and what became of them."""

from decimal import Decimal

from tests.desks import at, floor, strategy
from tests.service.minutes import MINUTES, minute_bars
from trading_pipeline.domain.bars import Interval

FEES = Decimal("2.50")
"""What buying 50 shares at $100.00 costs at once: a spread and slippage of $0.03 a share, and a commission of $1."""


def holding(tmp_path, source=None, *specs, **options):
    """Fifty shares of AAPL a strategy, bought this minute: down by FEES already."""
    stage = floor(tmp_path, source or minute_bars(), at(10, 0, 1), *(specs or (strategy(**MINUTES),)), **options)
    stage.cycle(Interval.MIN1)
    return stage


def states(stage):
    """Of every strategy, by name."""
    return {row["name"]: row["state"] for row in stage.rows("strategies")}


def paused(stage, name="buyer"):
    """A strategy's state, and the kind of reason that it has for it."""
    row = stage.row("strategies", name=name)
    return row["state"], row["reason"].partition(":")[0]
