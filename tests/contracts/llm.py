"""What every provider of models keeps its word on: whatever the world does, `ask` gives a value, in time, with no secret in it.

An adapter's tests inherit `LLMContract` with fixtures `world` and `llm`. The world makes the provider behave; what a provider cannot do,
its world skips with the reason. `CANARY` is the key, or any other secret, that the adapter was given.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import ClassVar, Protocol

import pytest

from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.models import (
    PASSING,
    Ending,
    ModelFailure,
    ModelReply,
    ModelRequest,
    Picture,
    Provider,
    Sampling,
    Trouble,
    Usage,
)
from trading_pipeline.domain.replies import reply_schema
from trading_pipeline.ports import LLM

CANARY = "sk-canary-0123456789abcdefCANARY"
AS_IT_CAME = '{"action":"BUY",  "confidence": 7e-1, "confidence": 0.70,\n "symbol": "AAPL", "rationale": "\\u2028 é \\"input\\": {} "}'
"""White space, a key twice, an exponent, an escape: whoever parses and writes it again loses something."""
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082",
)


def a_request(
    provider: Provider, model: str, *, symbol: str = "AAPL", text: str = "What about AAPL?", pictures: int = 0, max_tokens: int = 1_024,
    temperature: Decimal | None = None,
) -> ModelRequest:
    """A question as the signals step asks it."""
    picture = Picture(sha256="0" * 64, content=PIXEL, width=1, height=1)
    return ModelRequest(
        provider, model, "You answer with one JSON object.", text, canonical_payload(reply_schema(symbol)), (picture,) * pictures,
        Sampling(max_tokens, temperature),
    )


class World(Protocol):
    """The provider, as a test wants it to be from now on."""

    def replies(self, text: str) -> None:
        """Completely, with this text."""

    def echoes(self) -> None:
        """With a JSON object in which the words of the question occur."""

    def refuses(self) -> None: ...

    def runs_out_of_tokens(self, text: str) -> None:
        """The text is the beginning of a reply."""

    def says_nothing(self) -> None: ...

    def hangs(self) -> None:
        """For much longer than any test waits."""

    def fails(self, trouble: Trouble) -> None:
        """With one of PASSING, or UNAUTHORIZED."""

    def talks_garbage(self) -> None:
        """An answer that is none of the API's."""

    def asked(self) -> int:
        """How many requests have reached it."""


class LLMContract:
    """To be inherited; `timeout` is enough for one call of the fastest kind."""

    model: ClassVar[str]
    timeout: ClassVar[float] = 10.0
    short: ClassVar[float] = 0.3
    """A timeout that a hanging provider exceeds."""
    bears_pictures: ClassVar[bool] = True

    @pytest.fixture
    def request_(self, llm: LLM) -> ModelRequest:
        return a_request(llm.provider, self.model)

    @pytest.fixture
    def no_secrets(self, llm: LLM, caplog: pytest.LogCaptureFixture) -> Iterator[list[object]]:
        """What a test puts in here, the adapter and all that was logged must not tell the secret, nor half of it."""
        shown: list[object] = [llm]
        with caplog.at_level(logging.DEBUG):
            yield shown
        told = "\n".join([*map(repr, shown), *(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)])
        assert CANARY not in told
        assert CANARY[-12:] not in told

    def test_a_complete_reply_comes_as_the_model_wrote_it(self, llm: LLM, world: World, request_: ModelRequest):
        world.replies(AS_IT_CAME)
        reply = llm.ask(request_, self.timeout)
        assert isinstance(reply, ModelReply), reply
        assert (reply.text, reply.ending) == (AS_IT_CAME, Ending.COMPLETE)
        assert reply.model
        assert reply.usage.total_in > 0
        assert reply.usage.output_tokens > 0
        assert 0 < reply.seconds < self.timeout

    def test_a_picture_goes_along(self, llm: LLM, world: World):
        if not self.bears_pictures:
            pytest.skip("takes no pictures")
        world.replies("{}")
        reply = llm.ask(a_request(llm.provider, self.model, pictures=2), self.timeout)
        assert isinstance(reply, ModelReply), reply
        assert llm.abilities(self.model).images

    def test_a_refusal_is_a_reply_that_is_not_complete(self, llm: LLM, world: World, request_: ModelRequest):
        world.refuses()
        reply = llm.ask(request_, self.timeout)
        assert isinstance(reply, ModelReply), reply
        assert reply.ending is Ending.REFUSED
        assert reply.usage != Usage()

    def test_a_reply_that_was_cut_off_is_truncated(self, llm: LLM, world: World, request_: ModelRequest):
        world.runs_out_of_tokens('{"action": "BUY"')
        reply = llm.ask(request_, self.timeout)
        assert isinstance(reply, ModelReply), reply
        assert (reply.text, reply.ending) == ('{"action": "BUY"', Ending.TRUNCATED)

    def test_a_reply_without_words_is_empty(self, llm: LLM, world: World, request_: ModelRequest):
        world.says_nothing()
        reply = llm.ask(request_, self.timeout)
        assert isinstance(reply, ModelReply), reply
        assert reply.ending is Ending.EMPTY
        assert not reply.text.strip()

    def test_a_timeout_ends_the_call_and_may_have_cost_something(
        self, llm: LLM, world: World, request_: ModelRequest, no_secrets: list[object],
    ):
        world.hangs()
        failure = llm.ask(request_, self.short)
        no_secrets.append(failure)
        assert isinstance(failure, ModelFailure), failure
        assert failure.trouble is Trouble.TIMEOUT
        assert not failure.free
        assert self.short * 0.5 < failure.seconds < self.short * 20

    @pytest.mark.parametrize("trouble", sorted(PASSING))
    def test_what_passes_is_a_failure_by_its_name(
        self, llm: LLM, world: World, request_: ModelRequest, trouble: Trouble, no_secrets: list[object],
    ):
        world.fails(trouble)
        failure = llm.ask(request_, self.timeout)
        no_secrets.append(failure)
        assert isinstance(failure, ModelFailure), failure
        assert failure.trouble is trouble
        assert failure.detail

    def test_a_key_that_is_refused_costs_nothing(self, llm: LLM, world: World, request_: ModelRequest, no_secrets: list[object]):
        world.fails(Trouble.UNAUTHORIZED)
        failure = llm.ask(request_, self.timeout)
        no_secrets.append(failure)
        assert isinstance(failure, ModelFailure), failure
        assert (failure.trouble, failure.free) == (Trouble.UNAUTHORIZED, True)

    def test_garbage_is_a_bad_response_that_may_have_cost_something(
        self, llm: LLM, world: World, request_: ModelRequest, no_secrets: list[object],
    ):
        world.talks_garbage()
        failure = llm.ask(request_, self.timeout)
        no_secrets.append(failure)
        assert isinstance(failure, ModelFailure), failure
        assert (failure.trouble, failure.free) == (Trouble.BAD_RESPONSE, False)

    def test_after_a_failure_the_next_call_is_answered(self, llm: LLM, world: World, request_: ModelRequest):
        world.fails(Trouble.CONNECTION)
        assert isinstance(llm.ask(request_, self.timeout), ModelFailure)
        world.replies(AS_IT_CAME)
        assert isinstance(llm.ask(request_, self.timeout), ModelReply)

    def test_many_ask_at_once_and_each_gets_its_own_reply(self, llm: LLM, world: World):
        world.echoes()
        gate = threading.Barrier(8)

        def ask(number: int) -> ModelReply | ModelFailure:
            gate.wait(self.timeout)
            return llm.ask(a_request(llm.provider, self.model, text=f"question-{number}-"), self.timeout)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(8)))
        for number, answer in enumerate(answers):
            assert isinstance(answer, ModelReply), answer
            assert f"question-{number}-" in answer.text

    def test_abilities_are_known_without_asking(self, llm: LLM, world: World):
        before = world.asked()
        assert llm.abilities(self.model) == llm.abilities(self.model)
        assert not llm.recorded(a_request(llm.provider, self.model))
        assert world.asked() == before

    def test_after_close_a_question_fails_and_nothing_is_raised(self, llm: LLM, world: World, request_: ModelRequest):
        world.replies(AS_IT_CAME)
        llm.ask(request_, self.timeout)
        llm.close()
        llm.close()
        before = world.asked()
        failure = llm.ask(request_, self.timeout)
        assert isinstance(failure, ModelFailure), failure
        assert failure.free
        assert world.asked() == before
