"""Prompts as files, `<name>/vN.md`: front matter, a `## system` part and a `## user` part; personas as files beside them.

A prompt says only `{{ name }}`, `{{ personas.name }}` and `{% if name %}`: a list of what is allowed, on top of Jinja2's sandbox, in
which a prompt can neither call, loop, include nor multiply anything. All values are text and none is read as a template. Whatever is
wrong with a file is said when it is loaded, with its line. A file is read again when it has changed.

There is no inheritance and no editing in place: a version that was used is never changed, the next one is written beside it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trading_pipeline.domain.prompts import NAME, OUTSIDE, SIGNAL_VARIABLES, Schema, allowed_in_system
from trading_pipeline.errors import PromptError, StorageError, UnknownName
from trading_pipeline.ports import PromptVersion, Rendered

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

SHIPPED = Path(str(files("trading_pipeline") / "prompts"))
PERSONAS = "personas"
"""The folder of personas, and the name under which a prompt takes one in."""
MAX_FILE = 65_536
"""Bytes of a prompt's or a persona's file."""
_VARIABLE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_PART = re.compile(r"^## (system|user)[ \t]*$", re.MULTILINE)

Stamp = tuple[int, int, int]
"""Modification time in nanoseconds, size and inode: the file is read again when one differs."""


class _FrontMatter(BaseModel):
    """What stands between the two lines of dashes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    description: str = Field(min_length=1, max_length=300)
    schema_: Schema = Field(alias="schema", strict=False)
    variables: list[str] = Field(min_length=1, max_length=40)
    personas: list[str] = Field([], max_length=8)


@dataclass(frozen=True, slots=True)
class _File:
    """A file's text, where it lies, and its stamp when it was read."""

    path: Path
    text: str
    content: bytes
    stamp: Stamp

    @property
    def unchanged(self) -> bool:
        """Whether it is still as it was read."""
        try:
            return _stamp(self.path) == self.stamp
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version ready to be rendered."""

    version: PromptVersion
    files: tuple[_File, ...]
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
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        return UnknownName(
            f"There is no prompt {name!r}.", value=name, rule="a prompt is named name/vN, such as analyst/v1",
            remedy=f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}",
        )

    def _read(self, name: str) -> _Loaded:
        path, source = self._find(name)
        file = _read_file(path)
        matter, system, user = _parted(file)
        personas = {persona: self._persona(persona, file) for persona in matter.personas}
        digest = hashlib.sha256()
        for each in (file, *personas.values()):
            digest.update(len(each.content).to_bytes(8, "big"))
            digest.update(each.content)
        version = PromptVersion(
            name, digest.hexdigest(), matter.schema_.value, tuple(matter.variables), tuple(matter.personas), matter.description, source,
        )
        _check_declared(file, matter)
        environment = _environment()
        used = _used(environment, file, system, matter, in_system=True) | _used(environment, file, user, matter, in_system=False)
        _check_used(file, matter, used)
        return _Loaded(
            version, (file, *personas.values()), environment.from_string(system[1]), environment.from_string(user[1]),
            {persona.partition("/")[0]: each.text.strip() for persona, each in personas.items()},
        )

    def _persona(self, name: str, prompt: _File) -> _File:
        folders = [folder for folder in (self._shipped, self._own) if folder is not None]
        paths = [path for folder in folders if NAME.fullmatch(name) and (path := folder / PERSONAS / f"{name}.md").is_file()]
        if len(paths) > 1:
            raise _refused(
                prompt, _line_of(prompt, name), f"the persona {name} exists twice",
                "a persona of one's own takes no shipped name and version", f"rename {paths[1]}",
            )
        if not paths:
            known = sorted({found for folder in folders for found in _versions(folder / PERSONAS)})
            raise _refused(
                prompt, _line_of(prompt, name), f"there is no persona {name!r}", "a persona is a file personas/name/vN.md",
                f"use one of {', '.join(known) or 'none'}",
            )
        return _read_file(paths[0])


# The parts of a file


def _versions(folder: Path) -> Iterator[str]:
    """Every `name/vN` that has a file in a folder."""
    for path in folder.glob("*/v*.md"):
        name = f"{path.parent.name}/{path.stem}"
        if NAME.fullmatch(name) and path.parent.name != PERSONAS:
            yield name


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read_file(path: Path) -> _File:
    try:
        stamp, content = _stamp(path), path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"The prompt {path} cannot be read: {error.strerror}.", value=str(path), rule="a prompt's file is readable",
            remedy="check its permissions",
        ) from error
    if len(content) > MAX_FILE:
        raise PromptError(
            f"{path} has {len(content):,} bytes.", value=len(content), rule=f"a prompt's file has at most {MAX_FILE:,}", remedy="shorten it"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise PromptError(f"{path} is no text.", value=str(path), rule="a prompt is UTF-8 text", remedy="save it as UTF-8") from None
    return _File(path, text.replace("\r\n", "\n"), content, stamp)


_Part = tuple[int, str]
"""The line after which a part begins, and its text."""


def _parted(file: _File) -> tuple[_FrontMatter, _Part, _Part]:
    """Front matter, system part, user part."""
    if not file.text.startswith("---\n") or (end := file.text.find("\n---\n", 3)) < 0:
        raise _refused(
            file, 1, "there is no front matter", "a prompt begins with its front matter between two lines of ---",
            "begin with ---, description, schema, variables, personas, ---",
        )
    matter, body = _front_matter(file, file.text[4 : end + 1]), end + 5
    marks = list(_PART.finditer(file.text, body))
    if [mark[1] for mark in marks] != ["system", "user"]:
        found = ", ".join(mark[0].strip() for mark in marks) or "none"
        raise _refused(
            file, _line_at(file, marks[-1].start() if marks else body), f"the parts are {found}",
            "a prompt has a line `## system` and after it a line `## user`, each once", "write each of them once",
        )
    if file.text[body : marks[0].start()].strip():
        raise _refused(
            file, _line_at(file, body), "something stands before the line ## system", "every word belongs to a part", "move it below"
        )
    system = (_line_at(file, marks[0].start()), file.text[marks[0].end() : marks[1].start()])
    user = (_line_at(file, marks[1].start()), file.text[marks[1].end() :])
    for line, text in (system, user):
        if not text.strip():
            raise _refused(file, line, "a part says nothing", "both parts have words", "write them")
    return matter, system, user


def _front_matter(file: _File, text: str) -> _FrontMatter:
    import yaml  # type: ignore[import-untyped]

    rule = "front matter is YAML with description, schema, variables and personas"
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or "it cannot be read"
        raise _refused(file, 2 if mark is None else mark.line + 2, f"the front matter is no YAML: {what}", rule, "correct it") from None
    if not isinstance(data, dict):
        raise _refused(file, 2, "the front matter has no keys", rule, "write key: value lines")
    try:
        return _FrontMatter.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        line = _line_of(file, str(first["loc"][0]))
        match first["type"]:
            case "extra_forbidden":
                raise _refused(file, line, f"the key {key} is unknown", rule, f"remove {key}") from None
            case "missing":
                raise _refused(file, 2, f"the key {key} is missing", rule, f"add {key}") from None
            case "enum":
                said = first["input"] if isinstance(first["input"], str) else "of that kind"
                raise _refused(
                    file, line, f"there is no schema {said}", f"a schema is one of {', '.join(Schema)}", "use one of them"
                ) from None
        raise _refused(file, line, f"{key}: {first['msg'].lower()}", rule, f"correct {key}") from None


def _line_at(file: _File, position: int) -> int:
    return file.text.count("\n", 0, position) + 1


def _line_of(file: _File, word: str) -> int:
    """The first line that has a word, counted from one."""
    found = re.search(rf"(?<![\w/-]){re.escape(word)}(?![\w-])", file.text)
    return _line_at(file, found.start()) if found else 1


def _refused(file: _File, line: int, what: str, rule: str, remedy: str) -> PromptError:
    return PromptError(f"{file.path}, line {line}: {what}.", value=f"{file.path}:{line}", rule=rule, remedy=remedy)


# What a prompt may say


def _environment() -> "ImmutableSandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # No autoescaping: a model reads text, not HTML.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.globals.clear()
    environment.filters.clear()
    environment.tests.clear()
    return environment


def _check_declared(file: _File, matter: _FrontMatter) -> None:
    for name in matter.variables:
        line = _line_of(file, name)
        if not _VARIABLE.fullmatch(name) or name == PERSONAS:
            raise _refused(file, line, f"{name!r} names no variable", "a variable has small letters, digits and _", f"rename {name}")
        if matter.schema_ is Schema.SIGNAL and name not in SIGNAL_VARIABLES:
            known = ", ".join(SIGNAL_VARIABLES)
            raise _refused(file, line, f"there is no variable {name!r}", f"the variables of a signal prompt are {known}", "use one of them")
    shorts = [name.partition("/")[0] for name in matter.personas]
    for names, what in ((matter.variables, "variable"), (shorts, "persona")):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise _refused(file, _line_of(file, twice), f"the {what} {twice} is declared twice", f"each {what} stands once", "remove one")


def _used(
    environment: "ImmutableSandboxedEnvironment", file: _File, part: _Part, matter: _FrontMatter, *, in_system: bool,
) -> set[str]:
    """The variables that a part uses, personas as `personas.name`; everything it may not say is refused."""
    from jinja2 import TemplateSyntaxError

    before, text = part
    try:
        tree = environment.parse(text)
    except TemplateSyntaxError as error:
        line = before + error.lineno - 1
        raise _refused(
            file, line, f"the template is wrong: {error.message}", "a prompt says {{ name }} and {% if name %} ... {% endif %}",
            "correct it",
        ) from None
    used: set[str] = set()
    for node in _statements(tree):
        line = before + node.lineno - 1
        name = _named(node)
        if name is None:
            raise _refused(
                file, line, f"{type(node).__name__.lower()} has no place in a prompt",
                "a prompt says {{ name }}, {{ personas.name }} and {% if name %}, with else, not, and, or", "leave it out",
            )
        if not name:
            continue
        if not name.startswith(f"{PERSONAS}.") and name not in matter.variables:
            raise _refused(
                file, line, f"{name} is used and not declared", "a prompt declares every variable it uses",
                f"add {name} to variables, or remove it",
            )
        if in_system and not name.startswith(f"{PERSONAS}.") and not allowed_in_system(matter.schema_, name):
            said = "words from outside" if name == OUTSIDE else "what a prompt of this schema is handed"
            raise _refused(
                file, line, f"{name} stands in the system part", f"the system part is ours: {said} never stands there (invariant 62)",
                f"move {name} below ## user",
            )
        used.add(name)
    return used


def _statements(node: "nodes.Node") -> Iterator["nodes.Node"]:
    """Every node of a template, what `personas.name` consists of as one."""
    from jinja2 import nodes

    for child in node.iter_child_nodes():
        yield child
        if not isinstance(child, nodes.Getattr):
            yield from _statements(child)


def _named(node: "nodes.Node") -> str | None:
    """The variable that a node names, `personas.name` as such; empty for what names none, None for what is not allowed."""
    from jinja2 import nodes

    match node:
        case nodes.Name(name=name):
            return str(name) if name != PERSONAS else None
        case nodes.Getattr(node=nodes.Name(name=owner), attr=attr) if owner == PERSONAS:
            return f"{PERSONAS}.{attr}"
        case nodes.Output() | nodes.TemplateData() | nodes.If() | nodes.Not() | nodes.And() | nodes.Or():
            return ""
    return None


def _check_used(file: _File, matter: _FrontMatter, used: set[str]) -> None:
    for name in matter.variables:
        if name not in used:
            raise _refused(
                file, _line_of(file, name), f"{name} is declared and not used", "a prompt declares what it uses and no more",
                f"remove {name}",
            )
    declared = {f"{PERSONAS}.{name.partition('/')[0]}": name for name in matter.personas}
    for short, name in declared.items():
        if short not in used:
            raise _refused(
                file, _line_of(file, name), f"the persona {name} is declared and not used", "a prompt declares what it uses and no more",
                f"write {{{{ {short} }}}}, or remove it",
            )
    for name in sorted(used - declared.keys()):
        if name.startswith(f"{PERSONAS}."):
            raise _refused(
                file, _line_of(file, name), f"{name} is used and not declared", "a prompt declares every persona it takes in",
                f"add {name.partition('.')[2]}/v1 to personas",
            )


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
