"""What every evidence harness does at its end: one `RESULT {json}` line, and with `REPORT=1` a dated page in docs/evidence.

A zero is a claim about what was tried and nothing else, so each stands beside its rule-of-three bound: nothing seen in n
independent trials leaves the rate below 3/n with 95 % confidence. Machine and commit are on every page because figures without
them cannot be repeated. Nothing here measures anything.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill

import psutil

Figures = dict[str, object]
ROOT = Path(__file__).parents[2]


def size(default: int, name: str = "N") -> int:
    """How much to do: the environment variable (`N=1000`), or the default."""
    return int(os.environ.get(name) or default)


def progress(text: str) -> None:
    """A line for whoever waits, on stderr: stdout is the result's."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def rule_of_three(trials: int) -> float:
    """The upper end of the 95 % confidence interval of a rate of which nothing was seen in so many trials.

    Source: Hanley and Lippman-Hand, JAMA 249 (1983) 1743: 3/n; 1 where nothing was tried.
    """
    return min(1.0, 3 / trials) if trials > 0 else 1.0


def machine() -> dict[str, str]:
    """The machine's size and software, without any name of it."""
    memory = psutil.virtual_memory().total / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "") if sys.platform == "linux" else platform.platform(terse=True)
    return {
        "cores": str(psutil.cpu_count() or 1), "memory": f"{memory:.1f} GiB", "system": f"{system} ({platform.machine()})",
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit the figures were made with; `-dirty` when tracked files differ from it, empty outside a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False,
    )
    return described.stdout.strip()


def finish(
    name: str, title: str, figures: Figures, zeros: Mapping[str, int] | None = None, notes: Sequence[str] = (), *, command: str,
) -> None:
    """Print `RESULT {json}`, the last line of stdout; with `REPORT=1` write `docs/evidence/NAME.md` before.

    Args:
        name: The page's file name, such as `crash-sweep`.
        title: Its heading: what was tried.
        figures: The names that the result is promised to have, in the order of the page.
        zeros: Of figures that are to be 0, out of how many trials; where one is, its bound stands beside it.
        notes: Paragraphs: what was done, and what the figures do not say.
        command: What makes the same figures again, such as `make crash-sweep N=1000`.

    Raises:
        KeyError: `zeros` names a figure that is not among `figures`.
    """
    trials = dict(zeros or {})
    unknown = trials.keys() - figures.keys()
    if unknown:
        raise KeyError(sorted(unknown)[0])
    if os.environ.get("REPORT") == "1":
        folder = ROOT / "docs" / "evidence"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(page(title, figures, trials, notes, command), encoding="utf-8")
    sys.stdout.write(f"RESULT {json.dumps(figures)}\n")
    sys.stdout.flush()


def page(title: str, figures: Figures, zeros: Mapping[str, int], notes: Sequence[str], command: str) -> str:
    """The Markdown of a report."""
    made = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "commit": f"`{commit() or 'unknown'}`", "command": f"`{command}`"}
    lines = [f"# {title}", "", "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in (made | machine()).items()), ""]
    lines += ["| figure | value | bound |", "|---|---|---|"]
    for key, value in figures.items():
        bound = ""
        if key in zeros:
            bound = f"of {zeros[key]:,}" + (f"; rate below {rule_of_three(zeros[key]):.1e} (95 %, rule of three)" if value == 0 else "")
        lines.append(f"| {key} | {_words(value)} | {bound} |")
    for note in notes:
        lines += ["", note if "\n" in note else fill(note, 130, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def _words(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.6g}"
        case _:
            return str(value)
