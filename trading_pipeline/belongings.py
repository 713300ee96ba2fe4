"""What is a person's own in a home, taken along into a new one: prompts, golden set, texts, prices, recorded replies, settings of models.

Everything else of a home is made by the product and belongs to its one market and ledger: no address of a database and no limit comes
along. Copied, never moved: the earlier home stays as it was.
"""

import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from trading_pipeline.errors import StorageError
from trading_pipeline.ports import Home

Say = Callable[[str], None]
_SETTINGS = "trading.toml"
_HEADING = re.compile(r"\s*\[+\s*([\w-]+)")


def take_along(source: Path, target: Path, say: Say) -> None:
    """Copy what is a person's own from one home into another, over what has the same name there, and say what came along.

    Raises:
        StorageError: Something cannot be read or written.
    """
    old, new = Home(source), Home(target)
    taken = []
    try:
        for here, there in (
            (old.prompts, new.prompts), (old.golden, new.golden), (old.texts, new.texts), (old.prices, new.prices),
        ):
            if here.is_dir():
                shutil.copytree(here, there, dirs_exist_ok=True)
            elif here.is_file():
                shutil.copy2(here, there)
            else:
                continue
            taken.append(here.name)
        if many := _take_recordings(old.cassette, new.cassette, say):
            taken.append(f"the cassette ({many:,} recorded {'reply' if many == 1 else 'replies'})")
        if _take_settings(source / _SETTINGS, target / _SETTINGS, say):
            taken.append(f"[model] of {_SETTINGS}")
    except OSError as error:
        raise StorageError(
            f"What is yours in {source} cannot be copied: {error.strerror or error}.", value=str(source),
            rule="your prompts, texts, prices and recordings come along into a new home",
            remedy=f"check the permissions of {source} and {target}",
        ) from error
    if taken:
        say(f"Taken along from {source}: {', '.join(taken)}.")


def _take_recordings(old: Path, new: Path, say: Say) -> int:
    """Copy every recorded reply, page by page; how many. A cassette that cannot be read stays where it is, and nobody is held up by it."""
    from trading_pipeline.adapters.llm.cassette_store import PAGE, CassetteStore

    if not old.is_file():
        return 0
    many = 0
    with closing(CassetteStore(old)) as before, closing(CassetteStore(new)) as after:
        recordings = before.recordings()
        try:
            while page := list(islice(recordings, PAGE)):
                after.take(page, replace=True)
                many += len(page)
        except StorageError as error:
            say(f"Not all recorded replies are taken along: {error.message} To mend that: {error.remedy}.")
    return many


def _take_settings(old: Path, new: Path, say: Say) -> bool:
    """Add the settings of models, as they are written, to those of a new home that has none; whether there were any."""
    if not old.is_file():
        return False
    text, wanted = "", None
    with suppress(ValueError):
        # What is no text or no TOML holds no settings; whoever works in that home is told so there.
        text = old.read_text("utf-8")
        wanted = tomllib.loads(text).get("model")
    before = new.read_text("utf-8") if new.exists() else ""
    if not wanted or "model" in tomllib.loads(before):
        return False
    tables = "".join(_tables(text, "model"))
    taken = None
    with suppress(tomllib.TOMLDecodeError):
        taken = tomllib.loads(tables)
    if taken != {"model": wanted}:
        say(f"The settings of models in {old} are not taken along: they do not stand in tables of their own. Write them into {new}.")
        return False
    new.write_text(f"{before}\n{tables}", encoding="utf-8")
    new.chmod(0o600)
    return True


def _tables(text: str, name: str) -> Iterator[str]:
    """The lines of a TOML file under the headings `[name]` and `[name.*]`."""
    inside = False
    for line in text.splitlines(keepends=True):
        if (heading := _HEADING.match(line)) is not None:
            inside = heading[1] == name
        if inside:
            yield line if line.endswith("\n") else f"{line}\n"
