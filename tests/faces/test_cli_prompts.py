"""`trading prompt ...`: what a model would be told, by whom it was written, and that a used version stays as it is."""

from datetime import UTC, datetime

import pytest

from tests.faces.conftest import Shell
from trading_pipeline.domain.events import EventType, NewEvent

ASKS = """
name = "asker"
description = "Buys dips."
symbols = ["GOOG", "FB"]
mode = "approval"
interval = "1d"
[agent]
provider = "anthropic"
model = "claude-sonnet-4-5-20250929"
prompt = "analyst/v1"
masks = ["symbol", "dates", "prices"]
"""


def listed(trading: Shell, name: str) -> dict:
    return next(each for each in trading("prompt", "list", "--json").json() if each["name"] == name)


def test_list_names_every_prompt_with_its_schema_and_personas(trading: Shell) -> None:
    said = trading("prompt", "list")
    assert said.code == 0
    assert "PROMPT" in said.out
    assert "The default analyst." in said.out
    analyzer = listed(trading, "analyzer/v1")
    assert (analyzer["source"], analyzer["schema"], analyzer["personas"]) == ("shipped", "signal", ["analyzer/v1"])
    assert (analyzer["used"], analyzer["changed_since"]) == (None, False)


def test_list_works_where_there_is_no_home_and_leaves_none_behind(trading: Shell, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADING_DATABASE_URL")
    elsewhere = tmp_path / "elsewhere"
    assert "analyst/v1" in trading("prompt", "list", "--home", str(elsewhere)).out
    assert not elsewhere.exists()


def test_a_wrong_file_is_named_in_the_list_and_keeps_nobody_from_the_others(trading: Shell) -> None:
    folder = trading.home / "prompts" / "broken"
    folder.mkdir(parents=True)
    (folder / "v1.md").write_text("Hello")
    said = trading("prompt", "list")
    assert "there is no front matter" in said.out
    assert "analyst/v1" in said.out
    assert listed(trading, "broken/v1")["error"]["error"] == "PromptError"


def test_a_new_version_is_a_copy_in_the_homes_own_folder(trading: Shell) -> None:
    assert trading("prompt", "new", "mine").code == 0
    first = trading.home / "prompts" / "mine" / "v1.md"
    assert "You are a careful market analyst" in first.read_text()
    first.write_text(first.read_text().replace("careful", "bold"))
    second = trading("prompt", "new", "mine", "--json").json()
    assert (second["name"], second["from"]) == ("mine/v2", "mine/v1")
    assert "bold market analyst" in (trading.home / "prompts" / "mine" / "v2.md").read_text()
    other = trading("prompt", "new", "mine", "--from", "analyzer/v1", "--json").json()
    assert other["name"] == "mine/v3"
    assert listed(trading, "mine/v3")["personas"] == ["analyzer/v1"]
    assert trading("prompt", "new", "analyst", "--json").json()["name"] == "analyst/v2"


@pytest.mark.parametrize(("name", "remedy"), [
    ("../evil", "choose a name such as my-analyst"), ("Mine", "write mine"), ("personas", "choose a name such as my-analyst"),
    ("a b", "write a-b"), ("analyst/v2", "write analyst"),
])
def test_a_name_that_is_none_is_refused(trading: Shell, name: str, remedy: str) -> None:
    refused = trading("prompt", "new", name)
    assert refused.code == 2
    assert "cannot name a prompt" in refused.err
    assert remedy in refused.err
    assert "v1" not in refused.err.replace("name/vN", "") or name == "personas", "nobody wrote a version"
    assert not list(trading.home.glob("prompts/**/*.md"))


def test_show_gives_the_file_word_for_word(trading: Shell) -> None:
    shown = trading("prompt", "show", "analyst/v1", "--json").json()
    assert shown["text"].startswith("---\ndescription: The default analyst.")
    assert "## user\nSymbol: {{ symbol }}" in trading("prompt", "show", "analyst/v1").out


def test_show_of_an_unknown_prompt_names_the_near_one(trading: Shell) -> None:
    refused = trading("prompt", "show", "analyst/v9")
    assert refused.code == 2
    assert "did you mean analyst/v1?" in refused.err


def test_diff_says_what_is_different(trading: Shell) -> None:
    trading("prompt", "new", "mine")
    assert "say the same" in trading("prompt", "diff", "analyst/v1", "mine/v1").out
    path = trading.home / "prompts" / "mine" / "v1.md"
    path.write_text(path.read_text().replace("careful", "bold"))
    said = trading("prompt", "diff", "analyst/v1", "mine/v1").out
    assert "-You are a careful market analyst." in said
    assert "+You are a bold market analyst." in said


def test_render_tells_what_would_be_sent_about_the_newest_bar(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    trading("run")
    before = len(trading.events())
    said = trading("prompt", "render", "analyst/v1", "--strategy", "steady", "--symbol", "GOOG", "--json").json()
    assert "You are a careful market analyst" in said["system"]
    assert "Symbol: GOOG" in said["user"]
    # Google closed at 744.75 on 2012-10-12, the last session before.
    assert "2012-10-12" in said["user"]
    assert "744.75" in said["user"]
    assert said["bytes"] == len(said["system"].encode()) + len(said["user"].encode())
    assert len(trading.events()) == before
    text = trading("prompt", "render", "analyst/v1", "--strategy", "steady", "--symbol", "GOOG").out
    assert said["digest"] in text
    assert "Open orders: a proposal to buy, pending" in text


def test_render_tells_texts_that_were_known_and_says_which_never_are(trading: Shell) -> None:
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    trading("run")
    texts = trading.home / "texts" / "GOOG"
    texts.mkdir(parents=True)
    (texts / "2012-10-14-news.txt").write_text("Something happened.")
    (texts / "undated.txt").write_text("Something else.")
    said = trading("prompt", "render", "analyst/v1", "--strategy", "steady", "--symbol", "GOOG")
    assert "| Something happened." in said.out
    assert "Something else" not in said.out
    assert "Left out: undated.txt has no date in its name" in said.err


def test_render_of_a_strategy_that_asks_a_model_tells_what_its_masks_leave(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    trading("strategy", "create", trading.strategy())
    trading("strategy", "start", "steady")
    trading("run")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-none")
    assert trading("strategy", "create", trading.strategy(ASKS)).code == 0
    said = trading("prompt", "render", "analyzer/v1", "--strategy", "asker", "--symbol", "GOOG").out
    assert "Symbol: ASSET" in said
    assert "You are the analyzer" in said
    assert not {word for word in ("GOOG", "2012", "744.75", "Buys dips") if word in said}


@pytest.mark.parametrize(("options", "said"), [
    (["analyst/v1", "--strategy", "nobody", "--symbol", "GOOG"], "nobody"),
    (["analyst/v1", "--strategy", "steady", "--symbol", "IBM"], "IBM is no symbol of steady"),
    (["reviewer/v1", "--strategy", "steady", "--symbol", "GOOG"], "asks for text, not for a signal"),
    (["analyst/v1", "--strategy", "steady", "--symbol", "GOOG"], "There is no 1d bar of GOOG yet"),
])
def test_what_cannot_be_rendered_is_said(trading: Shell, options: list[str], said: str) -> None:
    trading("strategy", "create", trading.strategy())
    refused = trading("prompt", "render", *options)
    assert refused.code == 2
    assert said in refused.err


def test_a_version_whose_file_has_changed_since_it_was_used_is_named(trading: Shell) -> None:
    trading("prompt", "new", "mine")
    digest = listed(trading, "mine/v1")["digest"]
    at = datetime(2012, 10, 15, 13, 30, tzinfo=UTC)
    payload = {
        "cycle": "c", "strategy": "s", "symbol": "GOOG", "provider": "rules", "prompt": "mine/v1", "prompt_digest": digest,
    }
    with trading.desk() as desk, desk.ledger.transaction() as tx:
        tx.append(NewEvent(EventType.LLM_REQUESTED, "strategy:s", "llm.requested:c:s:GOOG", payload, at, "cycle"))
    before = listed(trading, "mine/v1")
    assert before["used"].startswith("2012-10-15T13:30:00")
    assert not before["changed_since"]
    path = trading.home / "prompts" / "mine" / "v1.md"
    path.write_text(path.read_text().replace("careful", "bold"))
    assert listed(trading, "mine/v1")["changed_since"]
    assert "CHANGED since it was used" in trading("prompt", "list").out


def test_a_strategy_is_shown_with_the_model_and_the_prompt_that_it_asks(trading: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-anything-0123456789")
    assert trading("strategy", "create", trading.strategy(ASKS)).code == 0
    shown = trading("strategy", "show", "asker").out
    for words in ("claude-sonnet-4-5-20250929 of anthropic", "analyst/v1", "dates, prices, symbol", "at most 1,024 a reply"):
        assert words in shown


@pytest.mark.parametrize(("named", "remedy"), [("mine", "write mine/v1"), ("mine/1", "trading prompt list")])
def test_a_prompt_named_without_its_version_is_refused_with_the_form(trading: Shell, named: str, remedy: str) -> None:
    refused = trading("strategy", "create", trading.strategy(ASKS.replace("analyst/v1", named)))
    assert refused.code == 2
    assert "a prompt is named name/vN" in refused.err
    assert remedy in refused.err
