"""Every rule: (OrderIntent, RiskContext) -> Verdict, a few lines each, numbered as in INVARIANTS.

A rule judges as if the order were an entry; whom it stops is the class matrix's business, in `rulebook`.
Comparisons are written so that only a proven pass is a pass.
"""
