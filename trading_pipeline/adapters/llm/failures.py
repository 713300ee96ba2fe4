"""What a provider does wrong, as values: statuses, cut connections and unusable answers become `ModelFailure`.

A failure is `free` only where a request was refused before any work or never left; whatever else went wrong may have been billed, so its
reservation stays spent. Details are ours wherever they can be: of foreign words only an API's own error message is kept, one line of it,
without anything that looks like a credential. Header values and the text of transport exceptions never get this far.
"""

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from trading_pipeline.domain.models import ModelFailure, Trouble
from trading_pipeline.domain.outside_text import one_line
from trading_pipeline.domain.scrubbing import REMOVED, Scrubber
from trading_pipeline.errors import SettingsError

MAX_DETAIL: Final = 240
MAX_RETRY_AFTER: Final = 3_600.0
"""Seconds; a provider that asks for more is asked again when the next question comes."""

REFUSED_UNREAD: Final = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429, 431, 501, 529})
"""Statuses with which an API turns a request away before a model sees it: nothing is billed.

Sources: platform.claude.com/docs/en/api/errors; developers.openai.com/api/docs/guides/error-codes; of 501 RFC 9110, section 15.6.2.
"""
SPENT_CODES: Final = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "enforced_spend_limit_reached", "contract_spend_limit_reached",
})
"""Codes of a 429 that no waiting gets over: the account has no money left."""

_TROUBLES: Final = {
    400: Trouble.BAD_REQUEST, 401: Trouble.UNAUTHORIZED, 402: Trouble.UNAUTHORIZED, 403: Trouble.UNAUTHORIZED, 408: Trouble.TIMEOUT,
    429: Trouble.RATE_LIMITED, 503: Trouble.OVERLOADED, 529: Trouble.OVERLOADED,
}
_MAX_READ: Final = 20 * MAX_DETAIL
"""Characters of foreign words that are looked at: far enough behind the cut that no key is cut in two, too few to cost time."""
_LOOKS_SECRET: Final = re.compile(
    r"(?i)\b(?:bearer|basic)\s+\S+"
    r"|\b(?:sk|pk|rk|key)-[\w*.\-]{4,}"
    r"|[^\s*]{0,64}\*{3,}\S{0,64}"  # A key that is shown in part.
    r"|(?<=//)[^/\s@]+@",
)
"""A detail loses an innocent word rather than keeps half a key, so this goes further than what is taken from logs."""


def status_failure(
    status: int, headers: Mapping[str, str], message: str, code: str, key: SecretStr | None, now: datetime, seconds: float,
) -> ModelFailure:
    """An answer with an error's status.

    Args:
        headers: Of the answer; only the wait it asks for is read.
        message: What the API's own error says; empty where the body is none of the API's.
        code: The API's code of the cause, or empty.
        now: Aware, for a wait that is given as a date.
    """
    said = scrubbed(message, key)
    trouble = _TROUBLES.get(status)
    if code in SPENT_CODES:
        trouble = Trouble.UNAUTHORIZED
    elif status == 404:
        trouble = Trouble.NO_SUCH_MODEL if code == "model_not_found" or "model" in said.lower() else Trouble.BAD_RESPONSE
    elif trouble is None:
        trouble = Trouble.SERVER_ERROR if status >= 500 else Trouble.BAD_REQUEST if status >= 400 else Trouble.BAD_RESPONSE
    if status == 401:
        said = "the key is refused"
    elif 300 <= status < 400:
        said = "redirected to another address, which is never followed: set base_url to where the API is"
    elif not said:
        said = "without an error of the API"
    return ModelFailure(trouble, f"{status}: {said}", status in REFUSED_UNREAD, retry_after(headers, now), seconds)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or an HTTP date), between 0 and an hour; None: not said."""
    said = headers.get("retry-after", "").strip()
    try:
        if milliseconds := headers.get("retry-after-ms", "").strip():
            seconds = float(milliseconds) / 1_000
        elif said and (said[0].isdigit() or said[0] in "+-."):
            seconds = float(said)
        elif said:
            seconds = (email.utils.parsedate_to_datetime(said) - now).total_seconds()
        else:
            return None
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def scrubbed(text: str, key: SecretStr | None) -> str:
    """Foreign words on one line of bounded length, without the key and whatever else looks like a credential."""
    scrub = Scrubber(() if key is None else (key.get_secret_value(),))
    return one_line(_LOOKS_SECRET.sub(REMOVED, scrub(text[:_MAX_READ])), MAX_DETAIL)


def checked_key(key: SecretStr | None, name: str) -> SecretStr | None:
    """A key that fits into a header, white space around it taken off; None for an empty one.

    Raises:
        SettingsError: Characters that no key has; a header with them would be refused in words that quote it.
    """
    value = key.get_secret_value().strip() if key is not None else ""
    if not value:
        return None
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise SettingsError(
            f"{name} contains characters that no key has.", rule="a key is printable ASCII without blanks", remedy=f"copy {name} again",
        )
    return SecretStr(value)


def checked_base_url(base_url: str, setting: str) -> str:
    """An address a key may be sent to.

    Raises:
        SettingsError: No http or https address, or one with credentials, a query or a fragment in it, which would end up in logs.
    """
    try:
        parts = urlsplit(base_url)
        well_formed = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise SettingsError(
            f"{setting} is no http or https address.", rule="base_url is an address such as http://127.0.0.1:11434/v1",
            remedy=f"correct {setting}",
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(
            f"{setting} has more in it than an address.", rule="base_url has no credentials, query or fragment",
            remedy=f"shorten {setting}, and give the key as the provider's API key",
        )
    return base_url
