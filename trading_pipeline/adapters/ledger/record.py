"""Facts that a ledger in memory keeps in another form than text until somebody reads it: sealed when they come, told once.

Telling them appends text after text, so what was interrupted cannot begin again, and a part of it is shown to nobody.
"""

from collections.abc import Callable

from trading_pipeline.domain.events import chained
from trading_pipeline.errors import LedgerCorrupt

Head = tuple[int, bytes]
"""The newest seq and its hash."""


class Record:
    """Facts that follow a head.

    Args:
        digest: SHA-256 over everything that makes these facts what they are.
        write_out: Appends them all to the ledger.
        many: How many they are.
        head: What they follow.
    """

    def __init__(self, digest: Callable[[], bytes], write_out: Callable[[], None], many: int, head: Head) -> None:
        self._digest, self._write_out = digest, write_out
        seq, hash_ = head
        self.last = seq + many
        """The seq of the last of them."""
        self._seal = chained(hash_, digest().hex())
        self._begun = False
        self.telling = False

    def tell(self, head: Callable[[], Head]) -> None:
        """Append them.

        Args:
            head: What was appended so far.

        Raises:
            LedgerCorrupt: They are not what was sealed or counted, or were told before, and not to their end.
        """
        if self._begun:
            raise LedgerCorrupt(
                "The facts of a backtest were not told to their end when they were first read.", value=self.last,
                rule="what is kept is told whole, and once", remedy="run the backtest again",
            )
        seq, hash_ = head()
        if chained(hash_, self._digest().hex()) != self._seal:
            raise LedgerCorrupt(
                "Facts of a backtest were changed before anybody read them.", value=seq + 1,
                rule="facts are what they were when they were written", remedy="run the backtest again",
            )
        self._begun = self.telling = True
        try:
            self._write_out()
        finally:
            self.telling = False
        seq, _ = head()
        if seq != self.last:
            raise LedgerCorrupt(
                f"A backtest has {seq} facts, and {self.last} were counted.", value=self.last, rule="what is kept is told whole",
                remedy="run it with --engine stepped, and report it",
            )
