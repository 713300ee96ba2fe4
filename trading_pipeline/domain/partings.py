"""Where what is stored and what is derived part first, told by the path into the payload.

Fields that only sum up others come last, so that a verdict is named rather than the judgement that it changes; verdicts are named
by their rules. A field that is stored nowhere and derived as nothing is none: a later version of the code has added it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

SUMMARIES = ("passed", "reason", "hash", "digest", "raw")
"""Fields that follow from others of their payload, or hold all of it."""


def parting(stored: Any, derived: Any, path: str = "") -> tuple[str, str, str] | None:
    """(path, stored, derived) of the first difference between two JSON values; None when they say the same."""
    if isinstance(stored, list) and isinstance(derived, list):
        stored, derived = _named(stored), _named(derived)
    if not (isinstance(stored, Mapping) and isinstance(derived, Mapping)):
        return None if stored == derived else (path, _shown(stored), _shown(derived))
    for name in sorted(dict.fromkeys((*derived, *stored)), key=lambda name: name in SUMMARIES):
        below = f"{path}.{name}" if path else str(name)
        if name in stored and name in derived:
            found = parting(stored[name], derived[name], below)
            if found is not None:
                return found
        elif name in stored or derived[name] is not None:
            return below, _shown(stored.get(name, "nothing")), _shown(derived.get(name, "nothing"))
    return None


def _named(items: Sequence[Any]) -> dict[str, Any]:
    """By rule where every item has one of its own, by place otherwise."""
    rules = [item["rule"] for item in items if isinstance(item, Mapping) and "rule" in item]
    return dict(zip(rules if len(set(rules)) == len(items) else map(str, range(len(items))), items, strict=True))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
