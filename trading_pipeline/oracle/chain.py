"""The log itself: 1, 3, 10. What cannot be seen in events: 2 and 4 to 9."""

from collections.abc import Iterator

from trading_pipeline.oracle.fact import Fact, chained
from trading_pipeline.oracle.invariant import EVERY, Invariant
from trading_pipeline.oracle.state import State


def _gapless(state: State, fact: Fact) -> Iterator[str]:
    if fact.seq != state.seq + 1:
        yield f"seq {fact.seq} follows seq {state.seq}"
    before = state.streams.get(fact.stream, 0)
    if fact.stream_seq != before + 1:
        yield f"{fact.stream} goes on with {fact.stream_seq} after {before}"


def _hashed(state: State, fact: Fact) -> Iterator[str]:
    derived = chained(state.hash, fact)
    if fact.hash != derived:
        yield f"{fact.type} {fact.key} carries the hash {fact.hash}, its content and the fact before it make {derived}"


def _once(state: State, fact: Fact) -> Iterator[str]:
    if fact.key in state.keys:
        yield f"the key {fact.key} was used before"
    if fact.cause is not None and not 0 < fact.cause < fact.seq:
        yield f"{fact.key} names fact {fact.cause} as its cause, which does not come before it"


INVARIANTS = (
    Invariant(1, "seq is 1..N without gaps, over all and in each stream", EVERY, _gapless),
    Invariant(3, "each fact's hash follows from its content and from the fact before it", EVERY, _hashed),
    Invariant(10, "every fact has a key of its own, and a cause that came before it", EVERY, _once),
)
