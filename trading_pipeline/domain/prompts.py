"""What a prompt may be filled with: its schemas and, for a signal, every variable there is.

All values are text. What is ours may stand anywhere in a prompt; words from outside, and what a later step hands to a prompt of
schema `text`, stand in the user part alone (invariant 62). How a prompt's file is written: `adapters.prompt_files`.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}/v[1-9][0-9]{0,3}", re.ASCII)
"""How a version of a prompt or of a persona is named: `analyst/v1`."""


class Schema(StrEnum):
    """What a reply to a prompt has to be."""

    SIGNAL = "signal"
    """The JSON object of `domain.replies`."""
    TEXT = "text"
    """Words, for a person or for a step that reads them as such."""


OUTSIDE: Final = "outside"
"""The variable of a signal prompt that holds words from outside."""

SIGNAL_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({
    "symbol": "the symbol, or the neutral name it has behind a mask",
    "interval": "how long a bar is, in words",
    "bar_end": "when the newest bar closed, New York",
    "session": "how far the session has gone",
    "bars": "the newest bars as a table; empty where only the picture is shown",
    "indicators": "the indicators' newest and a few earlier values, by name; empty where only the picture is shown",
    "quote": "bid, ask and last price",
    "position": "what the strategy holds of the symbol, or that it is flat",
    "orders": "its open orders and proposals in the symbol",
    "limits": "what its limits leave today",
    "strategy": "what the strategy is for, in its author's words; empty behind a mask of symbol or dates",
    "picture": "what the picture that comes along shows; empty without one",
    OUTSIDE: "news and notes about the symbol, fenced; empty without any",
})
"""Name and meaning of everything a prompt of schema `signal` may declare."""


def allowed_in_system(schema: Schema, variable: str) -> bool:
    """Whether the system part may hold a variable: only what is known to be ours."""
    return schema is Schema.SIGNAL and variable in SIGNAL_VARIABLES and variable != OUTSIDE
