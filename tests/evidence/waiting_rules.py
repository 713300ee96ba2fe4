"""Which numbered rules have no test, and why: they wait for a part that does not exist yet. What has a test and waits in part is said, too.

A number belongs here only while nothing of it applies: the map's test fails when a reason stands beside a test.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one part."""

    part: str
    reason: str
    numbers: tuple[str, ...]


WAITING: Final = (
    Waiting(
        "adapters of real brokers",
        "the paper broker is the only one: it has no HTTP answers, rate limits, previews, numbers of its own, or connections to lose",
        ("80", "fault 8", "fault 9", "fault 11", "fault 12", "fault 13", "fault 15", "fault 69"),
    ),
    Waiting("MCP servers", "no server offers tools to a model", ("76", "77", "fault 71")),
    Waiting(
        "a bench of ten million events",
        "a figure and no test: `make bench-cycle` measures verifying and rebuilding 100,000 events, and nobody has waited for ten million",
        ("fault 66",),
    ),
)

LATER: Final = {
    "9": "prompts, with the providers of models",
    "39": "contract ids, with the adapters of real brokers",
    "40": "price bands and market-wide halts, with a source that states them",
    "72": "an offset measured against a broker or a time server, with the adapters of real brokers",
    "75": "the console; what stands is Dagster's own page",
    "78": "credentials that only the desk's process reads: none exists yet",
    "81": "an audit and a bill of materials in CI",
    "83": "pages, with the console",
    "85": "channels of notification; what stands is a program of the user's own",
    "fault 10": "tokens that expire, with the adapters of real brokers",
    "fault 32": "a database on a disk that is remounted read-only",
    "fault 36": "object stores over a network",
    "fault 64": "a second channel, with notifications",
    "fault 65": "memory: what the kernel kills is what the crash sweep kills",
    "fault 70": "the console",
}
"""Of a number that has tests, what of it waits, and for what."""

MISSING: Final[dict[str, str]] = {}
"""Numbers that apply and have no test yet: to be empty."""
