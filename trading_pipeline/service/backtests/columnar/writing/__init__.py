"""Writes the ledger of what a simulation over columns does.

`scribe` is the simulation's witness and writes fact by fact, with what `tellings` makes by the code that tells it live. `copyist` is the
quick one: `letters` keeps `forms`, learnt of what the scribe wrote, with `blanks` for the `figures` that differ, told in `words` of the
`measures` of an order; `daybook` counts what a session's close reports. `registrar` is the quickest: what follows from the trades of a
lone lane is reckoned in columns (`reckoning`), and stands in a `register` until somebody reads it. A ledger that takes no text is the
scribe's alone.
"""
