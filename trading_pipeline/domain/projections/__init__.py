"""The tables kept from the events, and how each event changes them.

One fold for every ledger: PostgreSQL applies it inside the append's transaction, the in-memory ledger at
once, `trading verify` from the first event on; so `rebuild(log) == tables` is one piece of code compared
with itself over two stores. A transition that a state machine does not have raises IllegalTransition and
nothing is written. The handlers stand by family in the modules here; what others use is named below.
"""

from trading_pipeline.domain.projections.folding import fold, touched
from trading_pipeline.domain.projections.orders import fill_of
from trading_pipeline.domain.projections.rows import position_of
from trading_pipeline.domain.projections.tables import TABLES, Key, Kind, Row, Table, Tables

__all__ = ["TABLES", "Key", "Kind", "Row", "Table", "Tables", "fill_of", "fold", "position_of", "touched"]
