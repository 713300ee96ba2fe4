"""Prompts as files, `<name>/vN.md`: those that ship, and the user's own; personas as files beside them.

All values are text and none is read as a template; what a prompt may say stands in `prompt_language`. Whatever is wrong with a file is
said when it is loaded, with its line. A file is read again when it has changed.

There is no inheritance and no editing in place: a version that was used is never changed, the next one is written beside it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trading_pipeline.adapters.prompt_language import PERSONAS, check_declared, check_used, environment_of_prompts, used_in
from trading_pipeline.adapters.prompt_text import PromptFile, line_of, parted, read_file, refused
from trading_pipeline.domain.prompts import NAME
from trading_pipeline.errors import PromptError, StorageError, UnknownName
from trading_pipeline.ports import PromptVersion, Rendered

if TYPE_CHECKING:
    from jinja2 import Template

SHIPPED = Path(str(files("trading_pipeline") / "prompts"))


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version ready to be rendered."""

    version: PromptVersion
    files: tuple[PromptFile, ...]
    system: "Template"
    user: "Template"
    personas: Mapping[str, str]


class PromptFiles:
    """The prompts that ship, and those of a home's own folder; any number of threads may render at once."""

    def __init__(self, own: Path | None = None, shipped: Path = SHIPPED) -> None:
        """Look for prompts in these folders.

        Args:
            own: The user's, such as `<home>/prompts`; it need not exist.
            shipped: Those of the product.
        """
        self._own, self._shipped = own, shipped
        self._loaded: dict[str, _Loaded] = {}

    def names(self) -> list[str]:
        """Every `name/vN` there is, sorted by name and version; whether its file is right, `get` says."""
        found = {name for folder in (self._shipped, self._own) if folder is not None for name in _versions(folder)}
        return sorted(found, key=lambda name: (name.partition("/v")[0], int(name.partition("/v")[2])))

    def get(self, name: str) -> PromptVersion:
        """One version.

        Raises:
            UnknownName: There is none of that name.
            PromptError: Its file is wrong, or a file of one's own takes a shipped name and version.
            StorageError: A file cannot be read.
        """
        return self._load(name).version

    def render(self, name: str, values: Mapping[str, Any]) -> Rendered:
        """Fill in exactly the declared variables; the errors are those of `get`.

        Args:
            values: Texts by variable.

        Raises:
            PromptError: A variable is missing or too many, or its value is no text.
        """
        loaded = self._load(name)
        _check_values(loaded.version, values)
        given = {**values, PERSONAS: loaded.personas}
        system, text = loaded.system.render(given).strip(), loaded.user.render(given).strip()
        digest = hashlib.sha256(json.dumps([system, text], separators=(",", ":")).encode()).hexdigest()
        return Rendered(loaded.version, system, text, digest)

    def path(self, name: str) -> Path:
        """Where a version's file lies; UnknownName when there is none."""
        return self._find(name)[0]

    def source(self, name: str) -> str:
        """A version's file as it is written."""
        return self._load(name).files[0].text

    def write(self, name: str, text: str) -> Path:
        """Put a new version into one's own folder.

        Raises:
            PromptError: No folder of one's own, no name for a prompt, one that is taken, or the text is no prompt.
            StorageError: It cannot be written.
        """
        if self._own is None:
            raise PromptError("There is no folder for prompts of one's own.", value=name, rule="they lie in a home", remedy="name a home")
        if not NAME.fullmatch(name) or name.startswith(f"{PERSONAS}/"):
            raise PromptError(
                f"{name!r} cannot name a prompt.", value=name, rule="a prompt is named name/vN, in small letters, digits and dashes",
                remedy="choose a name such as my-analyst",
            )
        if name in self.names():
            raise PromptError(
                f"The prompt {name} exists already.", value=name, rule="a published version is never edited",
                remedy="write the next version",
            )
        path = self._own / f"{name}.md"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise StorageError(
                f"The prompt {path} cannot be written: {error.strerror}.", value=str(path), rule="the home is writable",
                remedy="check its permissions",
            ) from error
        try:
            self._load(name)
        except PromptError:
            path.unlink()
            raise
        return path

    def _load(self, name: str) -> _Loaded:
        known = self._loaded.get(name)
        if known is None or not all(file.unchanged for file in known.files) or self._taken(name):
            known = self._loaded[name] = self._read(name)
        return known

    def _taken(self, name: str) -> bool:
        return self._own is not None and (self._own / f"{name}.md").exists() and (self._shipped / f"{name}.md").exists()

    def _find(self, name: str) -> tuple[Path, str]:
        """A version's file, and whose it is."""
        if not NAME.fullmatch(name) or name.startswith(f"{PERSONAS}/"):
            raise self._unknown(name)
        if self._taken(name):
            raise PromptError(
                f"{self._own}/{name}.md has the name of a prompt that ships.", value=name,
                rule="a prompt of one's own takes no shipped name and version", remedy="rename its folder, or give it a version of its own",
            )
        for folder, source in ((self._shipped, "shipped"), (self._own, "own")):
            if folder is not None and (path := folder / f"{name}.md").is_file():
                return path, source
        raise self._unknown(name)

    def _unknown(self, name: str) -> UnknownName:
        from difflib import get_close_matches

        names = self.names()
        near = get_close_matches(name, names, n=1, cutoff=0.7)
        return UnknownName(
            f"There is no prompt {name!r}.", value=name, rule="a prompt is named name/vN, such as analyst/v1",
            remedy=f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}",
        )

    def _read(self, name: str) -> _Loaded:
        path, source = self._find(name)
        file = read_file(path)
        matter, system, user = parted(file)
        personas = {persona: self._persona(persona, file) for persona in matter.personas}
        digest = hashlib.sha256()
        for each in (file, *personas.values()):
            digest.update(len(each.content).to_bytes(8, "big"))
            digest.update(each.content)
        version = PromptVersion(
            name, digest.hexdigest(), matter.schema_.value, tuple(matter.variables), tuple(matter.personas), matter.description, source,
        )
        check_declared(file, matter)
        environment = environment_of_prompts()
        used = used_in(environment, file, system, matter, in_system=True) | used_in(environment, file, user, matter, in_system=False)
        check_used(file, matter, used)
        return _Loaded(
            version, (file, *personas.values()), environment.from_string(system[1]), environment.from_string(user[1]),
            {persona.partition("/")[0]: each.text.strip() for persona, each in personas.items()},
        )

    def _persona(self, name: str, prompt: PromptFile) -> PromptFile:
        folders = [folder for folder in (self._shipped, self._own) if folder is not None]
        paths = [path for folder in folders if NAME.fullmatch(name) and (path := folder / PERSONAS / f"{name}.md").is_file()]
        if len(paths) > 1:
            raise refused(
                prompt, line_of(prompt, name), f"the persona {name} exists twice",
                "a persona of one's own takes no shipped name and version", f"rename {paths[1]}",
            )
        if not paths:
            known = sorted({found for folder in folders for found in _versions(folder / PERSONAS)})
            raise refused(
                prompt, line_of(prompt, name), f"there is no persona {name!r}", "a persona is a file personas/name/vN.md",
                f"use one of {', '.join(known) or 'none'}",
            )
        return read_file(paths[0])


def _versions(folder: Path) -> Iterator[str]:
    """Every `name/vN` that has a file in a folder."""
    for path in folder.glob("*/v*.md"):
        name = f"{path.parent.name}/{path.stem}"
        if NAME.fullmatch(name) and path.parent.name != PERSONAS:
            yield name


def _check_values(version: PromptVersion, values: Mapping[str, Any]) -> None:
    missing = [name for name in version.variables if name not in values]
    if missing:
        raise PromptError(
            f"{version.name} lacks a value for {', '.join(missing)}.", value=", ".join(missing),
            rule="every declared variable is filled in", remedy="give it, an empty text where there is nothing to say",
        )
    superfluous = sorted(values.keys() - set(version.variables))
    if superfluous:
        raise PromptError(
            f"{version.name} does not declare {', '.join(superfluous)}.", value=", ".join(superfluous),
            rule="exactly the declared variables are filled in", remedy="leave it out, or declare it in the prompt",
        )
    for name, value in values.items():
        if not isinstance(value, str):
            raise PromptError(
                f"{version.name}: the value of {name} is no text.", value=type(value).__name__, rule="a prompt is filled with text",
                remedy="turn it into text first",
            )
