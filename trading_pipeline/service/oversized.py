"""Protective orders that could sell more than the account has left, because somebody else has sold of it (26, 28).

A broker with margin would open a short position when they trigger. Whose shares are gone nobody can tell; the account's count decides:
as many brackets are called back, the newest first, as it takes, and `protection` places again what is left for them.
"""

from collections.abc import Mapping

from trading_pipeline.domain.orders import OrderClass, OrderType, Side
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Reader
from trading_pipeline.service.book import held_for
from trading_pipeline.service.coverage import AT_WORK, Coverage
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.emergency import in_force
from trading_pipeline.service.settlement import cancel
from trading_pipeline.service.steps import Tally


def call_back(desk: Desk, mismatched: Mapping[str, str], tally: Tally) -> None:
    """Cancel them, where they can be placed again: in regular hours, under no stop, and once the broker's count is the book's."""
    if desk.calendar.at(desk.now()) is None or "*" in mismatched:
        return
    for symbol, rows in oversized(desk.ledger).items():
        free = [row for row in rows if in_force(desk, desk.ledger, row["strategy"]) is None]
        if free and symbol not in mismatched:
            cancel(desk, free, "somebody else has sold of its shares: it is placed again for what is left", "desk", tally)


def oversized(reader: Reader) -> dict[str, list[Row]]:
    """Stops to cancel, each followed by its target, by symbol."""
    held: dict[str, int] = {}
    short: dict[str, int] = {}
    for row in reader.find("positions"):
        if row["strategy"] != EXTERNAL:
            held[row["symbol"]] = held.get(row["symbol"], 0) + max(0, row["quantity"])
        elif row["quantity"] < 0:
            short[row["symbol"]] = row["quantity"]
    return {symbol: rows for symbol in sorted(short) if (rows := _beyond(reader, symbol, max(0, held.get(symbol, 0) + short[symbol])))}


def _beyond(reader: Reader, symbol: str, held: int) -> list[Row]:
    exits = reader.find("orders", symbol=symbol, side=Side.SELL.value, state=AT_WORK, order_by="intent_seq", descending=True)
    protective = [row for row in exits if row["order_class"] == OrderClass.PROTECTIVE.value]
    coverage = Coverage(reader, protective)
    resting = {row["client_id"]: coverage.left(row) for row in protective if row["order_type"] == OrderType.STOP.value}
    selling = sum(resting.values()) + sum(row["quantity"] - row["filled_quantity"] for row in exits if row not in protective)
    found: list[Row] = []
    for stop in (row for row in protective if resting.get(row["client_id"])):
        many = resting[stop["client_id"]]
        own = sum(resting[row["client_id"]] for row in protective if row["client_id"] in resting and row["strategy"] == stop["strategy"])
        again = min(many, max(0, held_for(reader, stop["strategy"], symbol) - (own - many)))
        # Better too much than nothing: where another strategy's shares may be those that are gone, it could not be placed again.
        if selling > held and selling - many + again >= held:
            selling += again - many
            found += [stop, *(row for row in protective if row["oco"] is not None and row["oco"] == stop["oco"] and row is not stop)]
            resting[stop["client_id"]] = again
    return found
