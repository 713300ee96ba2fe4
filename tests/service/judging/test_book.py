"""What the rulebook is told of the account: exposure and buying power."""

from decimal import Decimal

from tests.desks import OPEN, bars, floor, market, strategy
from tests.service.orders.settlement.scripted import NAME
from trading_pipeline.adapters.brokers.paper_faults import Overfill
from trading_pipeline.service.judging.book import Book, intent_of
from trading_pipeline.service.judging.open_risk import working_risk
from trading_pipeline.service.judging.outside import look

D = Decimal


def test_an_entry_that_filled_beyond_its_size_gives_no_buying_power_back(tmp_path):
    """16, 18: 53 came of 50; the shares are paid for and held, and nothing is under way."""
    stage = floor(tmp_path, market(bars(), bars("IBM")), OPEN, strategy(), strategy("other", symbols=("IBM",)))
    stage.faults.on_submit(NAME, Overfill(3))
    stage.cycle()
    assert stage.row("orders", strategy="buyer")["state"] == "quarantined"
    book = Book.read(stage.desk, stage.desk.ledger, look(stage.desk, stage.desk.ledger, ["AAPL", "IBM"], mismatched={}))
    other = strategy("other", symbols=("IBM",))
    context = book.context(other, intent_of(stage.row("actions", strategy="other")), release=None)
    assert context.buying_power == book.portfolio.cash
    assert book.exposure("AAPL") == 53 * D(100)
    assert {usd for _, usd in working_risk(book.orders, book.coverage, "")} == {D(0)}
