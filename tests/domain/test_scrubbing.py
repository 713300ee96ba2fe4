"""What is taken out of text, what stays, and that hostile text costs no more than its length."""

import time

import pytest

from trading_pipeline.domain.scrubbing import REMOVED, Scrubber

# Made up, in the forms that the issuers document.
SECRETS = [
    "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-AA",
    "sk-ant-oat01-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "sk-proj-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789_AbCdEf",
    "ghp_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "key={} and", '{{"x-api-key": "{}"}}', "Authorization: Bearer {}\n", "({})."])
def test_a_secret_gives_itself_away_by_its_form(secret, around):
    said = Scrubber()(around.format(secret))
    assert secret not in said
    assert secret[-10:] not in said
    assert REMOVED in said


@pytest.mark.parametrize(("text", "secret"), [
    ("postgresql+psycopg2://trading:hunter2@db:5432/trading", "hunter2"),
    ("https://user:p%40ss@host/path", "p%40ss"),
    ("redis://:s3cr3t@localhost", "s3cr3t"),
    ("Authorization: Bearer abc.def-123456", "abc.def-123456"),
    ("authorization: basic dXNlcjpwYXNzd29yZDE=", "dXNlcjpwYXNzd29yZDE="),
    ("password = 'correct-horse-1'", "correct-horse-1"),
    ('"api_key": "0123456789abcdef"', "0123456789abcdef"),
    ("API-KEY=0123456789abcdef&x=1", "0123456789abcdef"),
])
def test_what_surrounds_a_secret_stays(text, secret):
    said = Scrubber()(text)
    assert secret not in said
    assert said.replace(REMOVED, secret) == text


@pytest.mark.parametrize("text", [
    "AAPL closed at 213.40, RSI 28.4; the stop stands at 206.99.",
    "Bearer instruments and bearer shares yield 4.2 percent; basic materials rose.",
    "The secret: nobody knows. Password policies, token economics and tokens: many.",
    "https://example.com:8443/a?b=c and mailto:ir@example.com, 10:30@NYSE",
    "sk-ipping, risk-adjusted, task-0123456789",
    '{"input_tokens": 1200, "output_tokens": 90}',
])
def test_ordinary_words_stay(text):
    assert Scrubber()(text) == text


def test_what_is_known_by_value_goes_whatever_its_form():
    scrub = Scrubber(["U1234567", "hunter2 is short", "  p@ss/word  ", "abc", ""])
    said = scrub("account U1234567, abc; hunter2 is short. p@ss/word, and in an address p%40ss%2Fword")
    assert said == f"account {REMOVED}, abc; {REMOVED}. {REMOVED}, and in an address {REMOVED}"


def test_the_longer_of_two_values_goes_as_a_whole():
    assert Scrubber(["secret-1", "secret-1-and-more"])("secret-1-and-more") == REMOVED


@pytest.mark.parametrize("text", [
    "a" * 300_000, "eyJ" * 100_000, "sk-" * 100_000, "://:" * 75_000, "a://" * 75_000, "token=" * 50_000, "bearer " * 42_000,
    "eyJaaaaa." * 33_000, "password" * 40_000, "a:" * 150_000, "- " * 150_000,
])
def test_hostile_text_costs_time_in_proportion_to_its_length(text):
    scrub = Scrubber(["known-value"])

    def seconds(of: str) -> float:
        """Of the processor, the best of three: other programs do not count."""
        times = []
        for _ in range(3):
            began = time.thread_time()
            scrub(of)
            times.append(time.thread_time() - began)
        return min(times)

    # Ten times the text may take ten times as long, and there is room for four times that; a square would be a hundred.
    assert seconds(text) < 40 * max(seconds(text[: len(text) // 10]), 0.002)
