"""Secrets taken out of text before it is kept or shown (invariants 9, 79): what is known by value, and what gives itself away by its form.

Every pattern has a bounded length, so that hostile text costs linear time. Scrub before cutting: half a secret has no form any more.
Names of accounts have no form of their own and are only ever known by value.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

REMOVED: Final = "[removed]"
_LEAST = 6
"""Characters of a value: shorter ones are words."""
_FORMS: Final = (
    # The providers' keys: sk-ant-api03-..., sk-ant-oat01-..., sk-proj-..., sk-...
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,500}"), REMOVED),
    (re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}|(?:AKIA|ASIA)[A-Z0-9]{16})"), REMOVED),
    # JSON Web Tokens, RFC 7519.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,4000}\.[A-Za-z0-9_-]{5,4000}\.[A-Za-z0-9_-]{5,4000}"), REMOVED),
    # RFC 6750 and RFC 7617; the second condition spares words such as `bearer instruments`.
    (re.compile(r"\b(bearer|basic) {1,4}(?=[A-Za-z._~+/=-]{0,500}[0-9])[A-Za-z0-9._~+/=-]{8,4000}", re.IGNORECASE), rf"\1 {REMOVED}"),
    # The password of an URL, RFC 3986 section 3.2.1.
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@\"']{0,200}):[^\s@/\"']{1,500}@"), rf"\1:{REMOVED}@"),
    (re.compile(
        r"\b((?:x[_-])?api[_-]?key|access[_-]?token|auth[_-]?token|token|secret|passw(?:or)?d|pwd)([\"']?\s{0,4}[:=]\s{0,4}[\"']?)"
        r"(?=[^\s\"',;&]{0,500}[0-9])[^\s\"',;&]{8,500}", re.IGNORECASE,
    ), rf"\1\2{REMOVED}"),
)


class Scrubber:
    """Takes secrets out of text; the same for every call, used by several threads at once."""

    __slots__ = ("_known",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """`secrets`: exact values, such as keys, passwords and account numbers; those shorter than six characters are ignored."""
        values = {each.strip() for each in secrets}
        values |= {quote(each, safe="") for each in values}
        known = sorted((each for each in values if len(each) >= _LEAST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """The text with `[removed]` where a secret stood."""
        if self._known is not None:
            text = self._known.sub(REMOVED, text)
        for form, instead in _FORMS:
            text = form.sub(instead, text)
        return text
