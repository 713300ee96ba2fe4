"""What is known of mutants that no test notices: (kind, module, pattern over `function: removed => added`).

Whoever changes such a line finds its mutant back among the gaps, and looks again.
"""

from typing import Final

KINDS: Final = {
    "equivalent": "Equivalent: it does what the code does, for every input that there can be.",
    "wording": "Wording: what a person reads, where tests ask for the sense and not for the words.",
    "speed": "Speed: the same result by more work, or a wait of another length.",
}

KNOWN: Final[tuple[tuple[str, str, str], ...]] = (
    # Decimals are cut towards zero by // as by int; quotients of cents do not round up to a whole number in 28 digits.
    ("equivalent", "domain/sizing.py", r"=> .*int\((MAX_ORDER_VALUE / price|money / each)\)"),
    # Both are of one length by construction.
    ("equivalent", "domain/sizing.py", r"^_brackets: .*strict=(None|False)"),
    # Decimals round half to even where nothing else is said.
    ("equivalent", "domain/sizing.py", r"^_fraction_stop: by_atr = .*atr, None\)$"),
    # The greatest stop is always one of the levels, so there is a highest.
    ("equivalent", "domain/sizing.py", r"^_stop: .*\(highest is None\) and False"),
    # None is as false as False.
    ("equivalent", "service/approvals.py", r"queued=None"),
    ("equivalent", "domain/approvals.py", r"^proposal_hash: .*allow_nan=None"),
    # An id is also its own beginning, and ids are of one length.
    ("speed", "service/approvals.py", r'^find: .*(reader.get\("approvals", None\)|=> row = None)'),
    # A release is due at its time or later, and its time is among the instants already.
    ("equivalent", "service/approvals.py", r'^next_instant: admitted = .* => .*PENDING.value or row'),
    ("wording", "service/approvals.py", r"^_check_running: .*refuse_under_stop\(desk, reader, name, None\)"),
    ("wording", "domain/rules/hard.py", r"^(hard_order_value|penny_stock): .*positive\(context.quote.last, None\)"),
    # Twenty letters of base32 are twelve bytes and a half.
    ("equivalent", "domain/orders.py", r"^client_id: .*digest\[:16\]"),
    ("equivalent", "domain/limits.py", r"^check_positive: sane = False => sane = None"),
    # What is neither number nor time keeps the word on the field before it, which was sane, else it had been refused.
    ("equivalent", "domain/limits.py", r"^check_positive: case _: sane = True => $"),
    # One name more than there are brackets is looked up by nobody.
    ("equivalent", "service/orders/gate.py", r"^intents_of: .*len\(intent.brackets\) \+ 2\)"),
    # No row of strategies is ever deleted.
    ("equivalent", "service/approvals.py", r"^_check_running: .*strategy is None and"),
    # What was shown always has a quantity.
    ("equivalent", "service/orders/gate.py", r'^_other_than_shown: .*get\("quantity", (None|1)\)'),
    # Of two equal prices either is the worst; no share is worth nothing, or at a price that is none is denied either way.
    ("equivalent", "domain/orders.py", r"^OrderIntent.worst_price: .*(limit_price >= worst|stop_price < worst)"),
    ("equivalent", "domain/orders.py", r"^OrderIntent.value: .*quantity >= 0"),
    # Minus one divides as it multiplies.
    ("equivalent", "domain/projections/orders.py", r"^_(book|fill_corrected): flow = .* / \(-1 if"),
    # The row's names are not taken from the position.
    ("equivalent", "domain/projections/orders.py", r"^_book: position = .*Position\((None, fill.symbol|strategy, None)\)"),
    # Every dataclass has a name.
    ("equivalent", "domain/codec.py", r"^_decode_union: .*getattr\(kind, \"__name__\", None\)"),
    # Rows of one key were compared column by column before.
    ("equivalent", "service/record/verification.py", r"^compare_rows: .*have_key <= want_key"),
    # Asked for no keys it answers with no events.
    ("speed", "adapters/ledger/draft.py", r"^Draft._append: found = .*\(unknown\) or True"),
    # What was not fetched ahead is fetched when the fold asks for it.
    ("speed", "adapters/ledger/draft.py", r"^_touched: .*touched\(None, event.payload\)"),
    # The draft refuses the same text in the row that it puts.
    ("equivalent", "adapters/ledger/draft.py", r"^Draft._fetch_rows: .*require_storable\(table, None\)"),
    ("speed", "adapters/ledger/memory.py", r"^MemoryLedger.lease: def lease.*wait_seconds: float = 11.0"),
    # Of a fence only that it grows is promised.
    ("equivalent", "adapters/ledger/memory.py", r"^MemoryLedger.revoke: .*(get\(name, 1\)|, 0\) \+ 2)"),
    # Nobody has the number none, nor nought.
    ("equivalent", "adapters/ledger/memory.py", r"^MemoryLedger.renew: .*get\(fence.name, None\)"),
    # A fact is kept as the event that its text was read to; the text is made of it again.
    ("speed", "adapters/ledger/memory.py", r"^(_Store.take|MemoryLedger._committed): .*(event|text\)), None\)"),
    # One row is in order.
    ("speed", "adapters/ledger/selection.py", r"^select_rows: .*len\(found\) >= 1"),
    # Which index narrows a search, and whether it is made anew, changes no result: what is found is looked at again, row by row.
    ("speed", "adapters/ledger/indexed.py", r"^IndexedTables.select: if wanted.limit is not None and .* => if wanted.limit"),
    ("speed", "adapters/ledger/indexed.py", r"^IndexedTables._narrowed: if (len\(fewest\)|sum\(map|end - first)"),
    ("speed", "adapters/ledger/indexed.py", r"^IndexedTables._(index|order): (index|places) = .*(=> \w+ = None|get\(None\))"),
    # What is committed is ordered again together with what is the transaction's own.
    ("equivalent", "adapters/ledger/memory.py", r"^MemoryTransaction.find: committed = .*(order_by=None|descending=None)"),
    # What is committed is sifted again together with what is the transaction's own.
    ("speed", "adapters/ledger/memory.py", r"^MemoryTransaction.events: committed = .*limit=None\)$"),
    # A draft asks for one stream at least, and each is answered with a row.
    ("equivalent", "adapters/ledger/queries.py", r"^stream_heads: newest = .*\(found\) or True"),
    # What was not read without the lock is read under it.
    ("speed", "service/record/verification.py", r"^_verify: difference = _add\(derivation, ledger, None, anchors\) => difference = None"),
    # A proposal's band is made of the same figures; a revision of the strategy voids it.
    ("equivalent", "service/execution.py", r"^_outside_band: (low|high) = .*\(approval\) and False"),
    # What was voided is not released, whatever is said of it.
    ("equivalent", "service/execution.py", r"^_outside_band: return True => return False"),
    # Nothing is traded on the calendar's first day, in 1990.
    ("equivalent", "service/orders/settlement.py", r"^_given_up: .*day >= desk.calendar.first.day"),
    # Of no names no rows are found.
    ("speed", "service/execution.py", r"^_released: rows = .*\(cycle.actions\) or True"),
    # What is not due waits at its release.
    ("speed", "service/approvals.py", r"^has_come: .* is not None or \("),
    # Whether there is one, or are two.
    ("speed", "service/execution.py", r"^_are_over: .*limit=2"),
    # Watched for longer than one can appear.
    ("speed", "service/orders/settlement.py", r"^_given_up: return .*since=None"),
    # Every fill instead of the newest: each is looked up by its id.
    ("speed", "service/orders/settlement.py", r"^news: booked = .*since=None"),
    # A snapshot's key is its seq.
    ("equivalent", "service/orders/settlement.py", r"^_unsnapshotted: snapshots = .*order_by=None"),
    # No two facts have one number.
    ("equivalent", "service/orders/settlement.py", r"^_unsnapshotted: if .*>= fills"),
    # Nothing was written before the first write.
    ("equivalent", "adapters/ledger/transaction.py", r"^PostgresTransaction.__init__: self._written = 0 => self._written = None"),
    # What is not known of the streams is asked of the database.
    ("speed", "adapters/ledger/transaction.py", r"^PostgresTransaction.__init__: self._streams = .*and False"),
    ("speed", "adapters/ledger/transaction.py", r"^PostgresTransaction.stream_heads: known = .* => known = None"),
    ("speed", "adapters/ledger/transaction.py", r"^PostgresTransaction.stream_heads: self._streams = .* => self._streams = None"),
    ("wording", "adapters/ledger/transaction.py", r"^headless: .*(rule|remedy)=None"),
    # The same rows, all at once.
    ("speed", "adapters/ledger/queries.py", r"^all_rows: .*(stream_results=False|max_row_buffer=None|partitions\(None\))"),
)
