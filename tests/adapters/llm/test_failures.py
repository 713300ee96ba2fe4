"""Statuses, waits and foreign words. Expected values: RFC 9110 and the providers' pages on errors."""

from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from tests.contracts.llm import CANARY
from trading_pipeline.adapters.llm.failures import (
    MAX_DETAIL,
    checked_base_url,
    checked_key,
    retry_after,
    scrubbed,
    status_failure,
)
from trading_pipeline.domain.models import Trouble
from trading_pipeline.errors import SettingsError

KEY = SecretStr(CANARY)
NOW = datetime(1999, 12, 31, 23, 59, 29, tzinfo=UTC)


def failure(status, message="", code="", headers=None):
    return status_failure(status, headers or {}, message, code, KEY, NOW, 0.1)


@pytest.mark.parametrize(("status", "trouble", "free"), [
    (307, Trouble.BAD_RESPONSE, False), (400, Trouble.BAD_REQUEST, True), (401, Trouble.UNAUTHORIZED, True),
    (402, Trouble.UNAUTHORIZED, True), (403, Trouble.UNAUTHORIZED, True), (404, Trouble.BAD_RESPONSE, True),
    (405, Trouble.BAD_REQUEST, True), (408, Trouble.TIMEOUT, False), (409, Trouble.BAD_REQUEST, False),
    (413, Trouble.BAD_REQUEST, True), (418, Trouble.BAD_REQUEST, False), (422, Trouble.BAD_REQUEST, True),
    (429, Trouble.RATE_LIMITED, True), (500, Trouble.SERVER_ERROR, False), (502, Trouble.SERVER_ERROR, False),
    (503, Trouble.OVERLOADED, False), (504, Trouble.SERVER_ERROR, False), (529, Trouble.OVERLOADED, True),
])
def test_a_status_has_a_name_and_is_free_only_where_no_model_saw_the_request(status, trouble, free):
    assert (failure(status).trouble, failure(status).free) == (trouble, free)
    assert failure(status).detail.startswith(f"{status}: ")


@pytest.mark.parametrize(("message", "code"), [
    ("model: claude-nobody", ""), ("model 'qwen' not found, try pulling it first", ""), ("", "model_not_found"),
])
def test_a_404_that_is_about_a_model_says_that_there_is_none(message, code):
    assert failure(404, message, code).trouble is Trouble.NO_SUCH_MODEL


@pytest.mark.parametrize(("headers", "seconds"), [
    ({}, None), ({"retry-after": "7"}, 7.0), ({"retry-after": "1.5"}, 1.5), ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
    ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 30.0), ({"retry-after": "Fri, 31 Dec 1999 23:59:00 GMT"}, 0.0),
    ({"retry-after": "-3"}, 0.0), ({"retry-after": "86400"}, 3_600.0), ({"retry-after": "Fri, 31 Dec 2099 23:59:59 GMT"}, 3_600.0),
    ({"retry-after": "soon"}, None), ({"retry-after": ""}, None), ({"retry-after": "1e999"}, None), ({"retry-after": "nan"}, None),
    ({"retry-after": "Fri, 31 Dec 1999 23:59:59 -0000"}, None), ({"retry-after": "9" * 5_000}, None),
])
def test_the_wait_is_read_in_every_form_and_bounded(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("text", [
    f"wrong key {CANARY}!", f"Authorization: Bearer {CANARY[:20]}", f"key sk-{CANARY[:9]}", f"Incorrect API key: {CANARY[:8]}****CANA.",
    f"at https://user:{CANARY}@host/v1", "Basic dXNlcjpwYXNz", f"https://me:{CANARY[3:20]}@host", "x-api-key: key-0123456789",
])
def test_nothing_that_looks_like_a_credential_is_kept(text):
    kept = scrubbed(text, KEY)
    for part in (CANARY, CANARY[:8], CANARY[3:20], "CANA", "dXNl", "0123456789"):
        assert part not in kept


def test_foreign_words_are_one_bounded_visible_line():
    assert scrubbed("a\r\n\x1b[31mb\u202ec", None) == "a [31mbc"
    assert len(scrubbed("word " * 10_000_000, KEY)) <= MAX_DETAIL


def test_a_key_that_the_cut_would_split_is_gone_all_the_same():
    for length in range(MAX_DETAIL - len(CANARY), MAX_DETAIL + 1):
        assert "canary" not in scrubbed("." * length + " " + CANARY, KEY)


def test_a_refused_key_is_told_in_our_words():
    assert failure(401, f"{CANARY[:5]} is wrong").detail == "401: the key is refused"


@pytest.mark.parametrize("url", ["http://127.0.0.1:11434/v1", "https://api.openai.com/v1", "https://[::1]:8080"])
def test_an_address_is_taken_as_it_is(url):
    assert checked_base_url(url, "model.openai.base_url") == url


@pytest.mark.parametrize("url", [
    "ftp://host", "host:1234", "", "http://", "http://host:99999", f"https://user:{CANARY}@host/v1", f"https://host/v1?key={CANARY}",
    f"https://host/v1#{CANARY}", "http://[::1",
])
def test_an_address_with_anything_secret_in_it_is_refused_without_showing_it(url):
    with pytest.raises(SettingsError) as refused:
        checked_base_url(url, "model.openai.base_url")
    assert CANARY not in f"{refused.value!s} {refused.value!r} {refused.value.as_json()}"
    assert "model.openai.base_url" in str(refused.value)


def test_a_key_is_stripped_and_an_empty_one_is_none():
    assert checked_key(SecretStr(f" {CANARY}\n"), "OPENAI_API_KEY") == KEY
    assert checked_key(SecretStr(" "), "OPENAI_API_KEY") is None
    assert checked_key(None, "OPENAI_API_KEY") is None


@pytest.mark.parametrize("key", [f"{CANARY}\nX-Evil: 1", f"{CANARY} {CANARY}", f"{CANARY}é", f"{CANARY}\x00"])
def test_a_key_that_fits_into_no_header_is_refused_without_showing_it(key):
    with pytest.raises(SettingsError) as refused:
        checked_key(SecretStr(key), "OPENAI_API_KEY")
    assert "canary" not in f"{refused.value!s} {refused.value!r}"
