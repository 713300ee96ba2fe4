"""Text that PostgreSQL cannot hold, refused by every ledger alike, in what is written and in what is asked for."""

from typing import Any

from trading_pipeline.errors import InputError


def require_storable(where: str, value: Any) -> None:
    """Raise InputError for a string with NUL or a lone surrogate; anything else passes."""
    if not isinstance(value, str) or ("\x00" not in value and (value.isascii() or _encodes(value))):
        return
    raise InputError(
        f"{where} holds a character that cannot be stored.", value=ascii(value[:80]), rule="text has no NUL and no lone surrogate",
        remedy="clean the text before it becomes a fact",
    )


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
