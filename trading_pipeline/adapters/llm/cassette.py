"""The cassette: one provider's models with their replies kept, and handed out again without being paid for (D5).

The key is the request's digest, so that a replay is of exactly what was asked. Every reply is kept, unusable ones too, failures never. A
replayed reply is the recorded one, byte for byte, except that its cost is 0: it costs nothing now. Nothing is paid for that could not be
kept, and what was paid for is handed out even if it cannot be kept after all. There is one recording a request: who asks the same thing
twice, for samples, asks in mode live.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from threading import Lock
from typing import Final

from trading_pipeline.adapters.llm.cassette_store import CassetteStore
from trading_pipeline.adapters.llm.recordings import Recording
from trading_pipeline.domain.models import Abilities, CassetteMode, ModelFailure, ModelReply, ModelRequest, Provider, Trouble
from trading_pipeline.errors import SettingsError, StorageError
from trading_pipeline.ports import LLM

PROMISED: Final = 8_192
"""Replies held from `recorded` on, so that what was said to be free stays free although somebody prunes: many times a cycle's questions."""
_REPLAYING: Final = (CassetteMode.REPLAY, CassetteMode.REPLAY_OR_FAIL)
_ANY: Final = Abilities(schema=True, images=True, sampling=True)
_log = logging.getLogger(__name__)


class Cassette:
    """An LLM around another one; by mode `replay-or-fail` around none."""

    def __init__(
        self, store: CassetteStore, mode: CassetteMode, llm: LLM | None = None, *, provider: Provider | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Nothing is opened yet.

        Args:
            store: May be shared with the cassettes of other providers.
            mode: Where replies come from.
            llm: Who is asked; closed with this.
            provider: Whose replies they are, where nobody is asked.
            now: The wall clock, which says when a reply was recorded.

        Raises:
            SettingsError: The mode asks somebody and there is nobody, or there is neither an LLM nor a provider.
        """
        if llm is None and mode is not CassetteMode.REPLAY_OR_FAIL:
            raise SettingsError(
                f"The cassette is to {mode.value}, and there is nobody to ask.", value=mode.value,
                rule="only replay-or-fail does without a provider", remedy="set up the provider, or set model.cassette to replay-or-fail",
            )
        whose = llm.provider if llm is not None else provider
        if whose is None:
            raise SettingsError(
                "This cassette is nobody's.", value=mode.value, rule="a cassette is of one provider", remedy="name the provider",
            )
        self._provider, self._store, self._mode, self._llm, self._now = whose, store, mode, llm, now
        self._lock = Lock()
        self._promised: OrderedDict[str, ModelReply] = OrderedDict()
        self._unkept: list[Recording] = []

    @property
    def provider(self) -> Provider:
        """Whose replies they are."""
        return self._provider

    def abilities(self, model: str) -> Abilities:
        """Those of whom it asks; where nobody is asked, whatever a recording was asked with."""
        return _ANY if self._llm is None else self._llm.abilities(model)

    def recorded(self, request: ModelRequest) -> bool:
        """Whether the reply is at hand and costs nothing. Once said, it holds, whatever becomes of the file meanwhile."""
        if self._mode not in _REPLAYING:
            return False
        try:
            return self._at_hand(request.digest) is not None
        except StorageError:
            # `ask` says why, and does not ask either.
            return False

    def ask(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        """The recorded reply, at cost 0, or the model's, as the mode has it; trouble with the file is Trouble.CASSETTE, and free."""
        if self._mode is CassetteMode.LIVE:
            return self._answer(request, timeout)
        try:
            if self._mode in _REPLAYING:
                digest = request.digest
                reply = self._promised.get(digest) or self._at_hand(digest)
                if reply is not None:
                    self._store.count_replay(digest)
                    return replace(reply, cost=Decimal(0))
            if self._mode is CassetteMode.REPLAY_OR_FAIL:
                return ModelFailure(Trouble.NOT_RECORDED, f"there is no recording of {request.digest} of {request.model}", free=True)
            self._keep()
            self._store.require_writable()
        except StorageError as error:
            return ModelFailure(Trouble.CASSETTE, str(error), free=True)
        came = self._answer(request, timeout)
        if isinstance(came, ModelReply):
            self._keep_paid(Recording(request, came, self._now()))
        return came

    def close(self) -> None:
        """Close whom it asks and the file."""
        try:
            self._keep()
        except StorageError as error:
            many = len(self._unkept)
            _log.error("%d %s handed out and not recorded. %s", many, "reply was" if many == 1 else "replies were", error)
        if self._llm is not None:
            self._llm.close()
        self._store.close()

    def _answer(self, request: ModelRequest, timeout: float) -> ModelReply | ModelFailure:
        assert self._llm is not None
        return self._llm.ask(request, timeout)

    def _at_hand(self, digest: str) -> ModelReply | None:
        try:
            reply = self._store.find(digest)
        except StorageError:
            reply = None
            if digest not in self._promised:
                raise
        with self._lock:
            held = reply or self._promised.get(digest)
            if held is not None:
                self._hold(digest, held)
        return held

    def _hold(self, digest: str, reply: ModelReply) -> None:
        self._promised[digest] = reply
        self._promised.move_to_end(digest)
        if len(self._promised) > PROMISED:
            self._promised.popitem(last=False)

    def _keep_paid(self, recording: Recording) -> None:
        """Keep a reply that has been paid for; what cannot be kept now is kept with the next, and until then nobody is asked."""
        with self._lock:
            self._unkept.append(recording)
            if self._mode in _REPLAYING:
                self._hold(recording.request.digest, recording.reply)
        try:
            self._keep()
        except StorageError as error:
            _log.warning("A reply is handed out and not recorded yet. %s", error)

    def _keep(self) -> None:
        with self._lock:
            unkept, self._unkept = self._unkept, []
        if not unkept:
            return
        try:
            self._store.keep(*unkept)
        except StorageError:
            with self._lock:
                self._unkept = unkept + self._unkept
            raise
