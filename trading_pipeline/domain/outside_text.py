"""Text from outside (models, news, brokers) made fit to keep and to show: one visible line of bounded length (invariant 62).

What is taken away can hide or reorder words: control and bidirectional characters, everything else of the Unicode categories C, and
what is printable by category and invisible by design. Letters of any script stay: a homoglyph in prose harms nobody, and names
of instruments never come from here. Escaping for HTML, CSV or a terminal is the business of whoever shows it.
"""

import hashlib
import re
from collections.abc import Sequence

# Default_Ignorable_Code_Point beyond the categories C. Source: Unicode 15.0, DerivedCoreProperties.txt.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]+")


def one_line(text: str, most: int) -> str:
    """The visible characters, each run of white space as one blank, cut to `most` characters; empty when nothing is visible."""
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    if not text.isprintable():
        text = "".join(each if each.isprintable() else " " if each.isspace() else "" for each in text)
    return " ".join(text.split())[:most].rstrip()


def several_lines(text: str, most: int) -> str:
    """The visible lines, each as `one_line` has it, together at most `most` characters; blank ones are left out."""
    lines = (one_line(line, most) for line in text[: 4 * most].splitlines())
    return "\n".join(line for line in lines if line)[:most].rstrip()


def visible(text: str) -> str:
    """Every character as one that can be seen: what hides or reorders words is written as its escape, `\\u202e`; lines stay lines."""

    def escaped(character: str) -> str:
        seen = character == "\n" or (character.isprintable() and not _INVISIBLE.match(character))
        return character if seen else character.encode("unicode_escape").decode("ascii")

    return text if text.isascii() and text.replace("\n", "").isprintable() else "".join(map(escaped, text))


def fenced(texts: Sequence[str]) -> str:
    """Texts between lines that none of them can hold: the marker is no part of any, and no line of theirs begins as those do.

    The same texts are fenced in the same way.
    """
    marker = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    while any(marker in text for text in texts):
        marker = hashlib.sha256(marker.encode()).hexdigest()[:16]
    blocks = []
    for number, text in enumerate(texts, start=1):
        place = f"text {number} of {len(texts)}, {marker}"
        blocks.append("\n".join([f"--- {place}, begins ---", *(f"| {line}" for line in text.splitlines()), f"--- {place}, ends ---"]))
    return "\n".join(blocks)
