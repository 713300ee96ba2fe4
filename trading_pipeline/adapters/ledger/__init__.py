"""The one record: in PostgreSQL (embedded or given) and, for backtests and tests, in memory.

`draft` is what both do in a transaction, `selection` what both mean by a search; the rest is storage.
"""
