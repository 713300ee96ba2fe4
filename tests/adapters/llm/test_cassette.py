"""What the cassette does in each of its modes, and what it does when its file does not play along."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.adapters.llm.recorded import NOON, PICTURE, Model, reply, request
from tests.contracts.llm import AS_IT_CAME, CANARY, LLMContract, a_request
from tests.model_servers.anthropic_server import AnthropicServer
from tests.model_servers.worlds import ServedWorld
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.adapters.llm.cassette import Cassette
from trading_pipeline.adapters.llm.cassette_store import CassetteStore
from trading_pipeline.adapters.llm.recordings import Recording
from trading_pipeline.domain.models import (
    Abilities,
    CassetteMode,
    Ending,
    ModelFailure,
    ModelReply,
    Picture,
    Provider,
    Sampling,
    Trouble,
    Usage,
)
from trading_pipeline.errors import SettingsError
from trading_pipeline.ports import LLM

FREE = Decimal(0)
Make = Callable[..., Cassette]


@pytest.fixture
def store(tmp_path: Path) -> CassetteStore:
    return CassetteStore(tmp_path / "cassette" / "replies.sqlite3")


@pytest.fixture
def cassette(store: CassetteStore) -> Iterator[Make]:
    made: list[Cassette] = []

    def make(mode: CassetteMode, llm: LLM | None = None, **more: object) -> Cassette:
        made.append(Cassette(store, mode, llm, **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def kept(store: CassetteStore) -> list[ModelReply]:
    return [each.reply for each in store.recordings()]


# Modes


def test_live_asks_each_time_and_keeps_nothing(cassette: Make, store: CassetteStore):
    live = cassette(CassetteMode.LIVE, model := Model())
    assert [live.recorded(request()), live.ask(request(), 5), live.ask(request(), 5)] == [False, reply(), reply()]
    assert len(model.asked) == 2
    assert not store.path.parent.exists()


def test_record_asks_each_time_and_the_newest_reply_is_the_one_that_is_kept(cassette: Make, store: CassetteStore):
    record = cassette(CassetteMode.RECORD, model := Model(reply("one"), reply("two")))
    assert record.ask(request(), 5) == reply("one")
    assert record.recorded(request()) is False
    assert record.ask(request(), 5) == reply("two")
    assert len(model.asked) == 2
    assert kept(store) == [reply("two")]


def test_replay_pays_once_and_then_hands_out_what_was_kept(cassette: Make):
    replay = cassette(CassetteMode.REPLAY, model := Model(reply("one"), reply("two")))
    assert replay.recorded(request()) is False
    assert replay.ask(request(), 5) == reply("one")
    assert replay.recorded(request()) is True
    assert replay.ask(request(), 5) == replace(reply("one"), cost=FREE)
    assert len(model.asked) == 1


def test_replay_or_fail_needs_nobody_to_ask(cassette: Make):
    cassette(CassetteMode.RECORD, Model()).ask(request(), 5)
    alone = cassette(CassetteMode.REPLAY_OR_FAIL, provider=Provider.ANTHROPIC)
    assert alone.recorded(request()) is True
    assert alone.ask(request(), 5) == replace(reply(), cost=FREE)
    assert alone.provider is Provider.ANTHROPIC
    assert alone.abilities("any") == Abilities(schema=True, images=True, sampling=True)


def test_replay_or_fail_asks_nobody_even_if_there_is_somebody(cassette: Make, store: CassetteStore):
    strict = cassette(CassetteMode.REPLAY_OR_FAIL, model := Model())
    came = strict.ask(request(), 5)
    assert isinstance(came, ModelFailure)
    assert (came.trouble, came.free, request().digest in came.detail) == (Trouble.NOT_RECORDED, True, True)
    assert (strict.recorded(request()), model.asked) == (False, [])
    assert not store.path.parent.exists()


@pytest.mark.parametrize("mode", [CassetteMode.LIVE, CassetteMode.RECORD, CassetteMode.REPLAY])
def test_a_mode_that_asks_is_refused_without_anybody_to_ask(store: CassetteStore, mode: CassetteMode):
    with pytest.raises(SettingsError, match="nobody to ask"):
        Cassette(store, mode, provider=Provider.OPENAI)


def test_a_cassette_without_anybody_says_whose_it_is(store: CassetteStore):
    with pytest.raises(SettingsError, match="nobody's"):
        Cassette(store, CassetteMode.REPLAY_OR_FAIL)


def test_it_speaks_for_whom_it_asks_and_closes_them(cassette: Make):
    around = cassette(CassetteMode.RECORD, model := Model())
    assert (around.provider, around.abilities("any")) == (Provider.ANTHROPIC, model.abilities("any"))
    around.close()
    assert model.closed


# What is kept


@pytest.mark.parametrize("ending", list(Ending))
def test_replies_are_kept_however_they_end(cassette: Make, ending: Ending):
    replay = cassette(CassetteMode.REPLAY, Model(reply("", ending=ending)))
    replay.ask(request(), 5)
    assert replay.ask(request(), 5) == reply("", ending=ending, cost=FREE)


@pytest.mark.parametrize("trouble", list(Trouble))
def test_failures_are_handed_on_and_never_kept(cassette: Make, store: CassetteStore, trouble: Trouble):
    failure = ModelFailure(trouble, "as it came", free=False, retry_after=2.0, seconds=0.5)
    replay = cassette(CassetteMode.REPLAY, model := Model(failure, reply()))
    assert replay.ask(request(), 5) == failure
    assert replay.recorded(request()) is False
    assert replay.ask(request(), 5) == reply()
    assert len(model.asked) == 2


def test_a_recording_says_what_was_asked_when_and_of_whom(cassette: Make, store: CassetteStore):
    cassette(CassetteMode.RECORD, Model(), now=lambda: NOON).ask(request(7), 5)
    assert list(store.recordings()) == [Recording(request(7, pictures=(replace(PICTURE, content=b""),)), reply(), NOON)]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "claude-haiku-5"}, {"system": "You judge!"}, {"text": "Question 0 "}, {"schema": '{"type":"object"}'}, {"pictures": ()},
        {"pictures": (Picture("cd" * 32, b"\x89PNG", 1_200, 800),)}, {"pictures": (PICTURE, PICTURE)},
        {"sampling": Sampling(513, Decimal("0.20"))}, {"sampling": Sampling(512, Decimal("0.21"))}, {"sampling": Sampling(512)},
        {"provider": Provider.OPENAI},
    ],
)
def test_nothing_is_replayed_for_a_request_that_differs_in_anything(cassette: Make, other: dict[str, object]):
    cassette(CassetteMode.RECORD, Model()).ask(request(), 5)
    assert cassette(CassetteMode.REPLAY_OR_FAIL, Model()).recorded(request(**other)) is False


def test_a_temperature_is_the_same_however_it_is_written(cassette: Make):
    cassette(CassetteMode.RECORD, Model()).ask(request(sampling=Sampling(512, Decimal("0.2"))), 5)
    assert cassette(CassetteMode.REPLAY_OR_FAIL, Model()).recorded(request(sampling=Sampling(512, Decimal("0.200")))) is True


texts = st.text(st.characters(), max_size=200)
replies = st.builds(
    ModelReply, text=texts, ending=st.sampled_from(Ending), model=texts, request_id=texts, fingerprint=texts,
    usage=st.builds(Usage, *[st.integers(0, 2**40)] * 4), seconds=st.floats(0, 1e6, allow_nan=False),
    cost=st.none() | st.decimals(0, 1_000, allow_nan=False, allow_infinity=False, places=9),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=replies)
def test_any_reply_comes_back_as_it_was_but_for_its_cost(cassette: Make, said: ModelReply):
    cassette(CassetteMode.RECORD, Model(said)).ask(request(), 5)
    alone = cassette(CassetteMode.REPLAY_OR_FAIL, Model())
    assert [alone.ask(request(), 5), alone.ask(request(), 5)] == [replace(said, cost=FREE)] * 2


def test_text_of_stray_surrogates_and_of_no_characters_comes_back(cassette: Make):
    odd = reply("\ud800 \x00 \ufeff\u202e é", request_id="\udfff")
    cassette(CassetteMode.RECORD, Model(odd)).ask(request(text="\ud800\x00"), 5)
    assert cassette(CassetteMode.REPLAY_OR_FAIL, Model()).ask(request(text="\ud800\x00"), 5) == replace(odd, cost=FREE)


def test_every_field_of_a_reply_is_among_those_that_are_compared_here():
    assert {field.name for field in fields(ModelReply)} == {
        "text", "ending", "model", "usage", "request_id", "fingerprint", "seconds", "cost",
    }


# What was said to be free is free


def test_what_was_said_to_be_recorded_stays_free_although_it_is_pruned_before_it_is_asked_for(cassette: Make, store: CassetteStore):
    """63: nothing is reserved for a recorded question, so nothing may be spent on it."""
    replay = cassette(CassetteMode.REPLAY, model := Model(reply("one"), reply("two")))
    replay.ask(request(), 5)
    assert replay.recorded(request()) is True
    assert sum(CassetteStore(store.path).prune(before=NOON + timedelta(days=36_500))) == 1
    assert replay.recorded(request()) is True
    assert replay.ask(request(), 5) == replace(reply("one"), cost=FREE)
    assert len(model.asked) == 1


def test_what_was_said_to_be_recorded_stays_free_although_the_file_breaks(cassette: Make, store: CassetteStore):
    replay = cassette(CassetteMode.REPLAY, model := Model())
    replay.ask(request(), 5)
    assert replay.recorded(request()) is True
    replay.close()
    store.path.write_bytes(b"no database" * 1_000)
    assert replay.recorded(request()) is True
    assert replay.ask(request(), 5) == replace(reply(), cost=FREE)
    assert len(model.asked) == 1


def test_another_process_recording_meanwhile_makes_the_reply_free(cassette: Make):
    one, other = cassette(CassetteMode.REPLAY, Model()), cassette(CassetteMode.REPLAY, mute := Model(reply("never")))
    assert other.recorded(request()) is False
    one.ask(request(), 5)
    assert other.ask(request(), 5) == replace(reply(), cost=FREE)
    assert mute.asked == []


# When the file does not play along


def test_nobody_is_asked_whose_reply_could_not_be_kept(cassette: Make, store: CassetteStore):
    store.path.parent.mkdir()
    store.path.write_bytes(b"no database" * 1_000)
    for mode in (CassetteMode.RECORD, CassetteMode.REPLAY, CassetteMode.REPLAY_OR_FAIL):
        broken = cassette(mode, model := Model())
        came = broken.ask(request(), 5)
        assert isinstance(came, ModelFailure)
        assert (came.trouble, came.free, model.asked, broken.recorded(request())) == (Trouble.CASSETTE, True, [], False)
        assert "is damaged" in came.detail and "Remedy: move the file aside" in came.detail


def test_live_does_not_care_about_the_file(cassette: Make, store: CassetteStore):
    store.path.parent.mkdir()
    store.path.write_bytes(b"no database" * 1_000)
    assert cassette(CassetteMode.LIVE, Model()).ask(request(), 5) == reply()


class Breaking(Model):
    """Makes the cassette's folder useless while it is asked, and right again when told."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def ask(self, request, timeout):  # type: ignore[no-untyped-def]
        if not self.asked:
            self.folder.rename(self.folder.with_name("away"))
            self.folder.write_text("a file where the folder was")
        return super().ask(request, timeout)

    def mend(self) -> None:
        self.folder.unlink()
        self.folder.with_name("away").rename(self.folder)


def test_a_reply_that_cannot_be_kept_is_handed_out_and_kept_later(
    cassette: Make, store: CassetteStore, caplog: pytest.LogCaptureFixture,
):
    record = cassette(CassetteMode.RECORD, model := Breaking(store.path.parent))
    with caplog.at_level(logging.WARNING):
        assert record.ask(request(1), 5) == reply()
    assert "not recorded yet" in caplog.text and "Remedy" in caplog.text
    came = record.ask(request(2), 5)
    assert isinstance(came, ModelFailure)
    assert (came.trouble, came.free, len(model.asked)) == (Trouble.CASSETTE, True, 1)
    model.mend()
    assert record.ask(request(3), 5) == reply()
    assert {each.request.text for each in store.recordings()} == {"Question 1", "Question 3"}


def test_what_could_not_be_kept_in_the_end_is_said(cassette: Make, store: CassetteStore, caplog: pytest.LogCaptureFixture):
    record = cassette(CassetteMode.REPLAY, model := Breaking(store.path.parent))
    record.ask(request(), 5)
    assert record.recorded(request()) is True, "it was paid for once"
    with caplog.at_level(logging.ERROR):
        record.close()
    assert "1 reply was handed out and not recorded" in caplog.text
    model.mend()


def test_replays_are_counted_and_what_they_saved_is_what_was_paid(cassette: Make, store: CassetteStore):
    replay = cassette(CassetteMode.REPLAY, Model(reply(cost=Decimal("0.25")), reply(cost=None)), now=lambda: NOON)
    for number in (1, 2):
        for _ in range(3):
            replay.ask(request(number), 5)
    [tally] = store.tallies(lambda provider, model, usage, day: Decimal(usage.output_tokens) if str(day) == "2026-11-20" else None)
    assert (tally.provider, tally.model, tally.month) == (Provider.ANTHROPIC, "claude-sonnet-5-5", "2026-11")
    assert (tally.recordings, tally.replays, tally.cost, tally.saved, tally.unpriced) == (2, 4, Decimal("20.25"), Decimal("40.50"), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_uses_no_connection_of_its_parent(cassette: Make, store: CassetteStore):
    replay = cassette(CassetteMode.REPLAY, Model())
    replay.ask(request(1), 5)
    child = os.fork()
    if child == 0:
        replay.ask(request(2), 5)
        os._exit(0 if len(kept(store)) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    replay.ask(request(3), 5)
    assert len(kept(store)) == 3


# Around a real provider


class TestAroundClaude(LLMContract):
    """A cassette that records is as good a provider as the one that it records."""

    model = "claude-sonnet-5-5"

    @pytest.fixture
    def server(self) -> Iterator[AnthropicServer]:
        with AnthropicServer(key=CANARY) as server:
            yield server

    @pytest.fixture
    def world(self, server: AnthropicServer) -> ServedWorld:
        return ServedWorld(server, 529, CANARY)

    @pytest.fixture
    def llm(self, cassette: Make, server: AnthropicServer) -> Cassette:
        return cassette(CassetteMode.RECORD, AnthropicLLM(SecretStr(CANARY), server.base_url))

    def test_what_it_recorded_is_replayed_without_the_server(
        self, cassette: Make, llm: Cassette, world: ServedWorld, server: AnthropicServer,
    ):
        world.replies(AS_IT_CAME)
        asked = a_request(llm.provider, self.model, pictures=1)
        said = llm.ask(asked, self.timeout)
        assert isinstance(said, ModelReply)
        before = world.asked()
        assert cassette(CassetteMode.REPLAY_OR_FAIL, provider=Provider.ANTHROPIC).ask(asked, 0) == replace(said, cost=FREE)
        assert world.asked() == before
