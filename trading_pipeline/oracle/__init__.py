"""An oracle over the record: it reads the ledger's JSONL export and says which invariants were broken, where, and with which values.

It shares no code with the system it judges: nothing here imports anything but the standard library, formulas and transition tables
are typed in again from INVARIANTS sections 1 to 3. `INVARIANTS` is the table of what it checks; rows of the section that are not in it
cannot be seen in events (who may write to the database, what survives a crash, what a browser may send).

    oracle = Oracle()
    for line in export:
        for violation in oracle.feed(json.loads(line)):
            print(violation)
"""

from trading_pipeline.oracle.oracle import INVARIANTS, Oracle, Violation, check

__all__ = ["INVARIANTS", "Oracle", "Violation", "check"]
