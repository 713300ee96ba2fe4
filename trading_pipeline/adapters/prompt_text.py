"""A prompt's file taken apart: front matter, system part, user part; every refusal says the file and the line."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trading_pipeline.domain.prompts import Schema
from trading_pipeline.errors import PromptError, StorageError

MAX_FILE = 65_536
"""Bytes of a prompt's or a persona's file."""
_MARK = re.compile(r"^## (system|user)[ \t]*$", re.MULTILINE)

Stamp = tuple[int, int, int]
"""Modification time in nanoseconds, size and inode: the file is read again when one differs."""
Part = tuple[int, str]
"""The line after which a part begins, and its text."""


class FrontMatter(BaseModel):
    """What stands between the two lines of dashes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    description: str = Field(min_length=1, max_length=300)
    schema_: Schema = Field(alias="schema", strict=False)
    variables: list[str] = Field(min_length=1, max_length=40)
    personas: list[str] = Field([], max_length=8)


@dataclass(frozen=True, slots=True)
class PromptFile:
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


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_file(path: Path) -> PromptFile:
    """A prompt's or a persona's file.

    Raises:
        PromptError: It is too long, or no UTF-8 text.
        StorageError: It cannot be read.
    """
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
    return PromptFile(path, text.replace("\r\n", "\n"), content, stamp)


def parted(file: PromptFile) -> tuple[FrontMatter, Part, Part]:
    """Front matter, system part, user part; PromptError where the file does not have them in this order."""
    if not file.text.startswith("---\n") or (end := file.text.find("\n---\n", 3)) < 0:
        raise refused(
            file, 1, "there is no front matter", "a prompt begins with its front matter between two lines of ---",
            "begin with ---, description, schema, variables, personas, ---",
        )
    matter, body = _front_matter(file, file.text[4 : end + 1]), end + 5
    marks = list(_MARK.finditer(file.text, body))
    if [mark[1] for mark in marks] != ["system", "user"]:
        found = ", ".join(mark[0].strip() for mark in marks) or "none"
        raise refused(
            file, line_at(file, marks[-1].start() if marks else body), f"the parts are {found}",
            "a prompt has a line `## system` and after it a line `## user`, each once", "write each of them once",
        )
    if file.text[body : marks[0].start()].strip():
        raise refused(
            file, line_at(file, body), "something stands before the line ## system", "every word belongs to a part", "move it below"
        )
    system = (line_at(file, marks[0].start()), file.text[marks[0].end() : marks[1].start()])
    user = (line_at(file, marks[1].start()), file.text[marks[1].end() :])
    for line, text in (system, user):
        if not text.strip():
            raise refused(file, line, "a part says nothing", "both parts have words", "write them")
    return matter, system, user


def _front_matter(file: PromptFile, text: str) -> FrontMatter:
    import yaml  # type: ignore[import-untyped]

    rule = "front matter is YAML with description, schema, variables and personas"
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or "something in it cannot be read"
        raise refused(file, 2 if mark is None else mark.line + 2, f"the front matter is no YAML: {what}", rule, "correct it") from None
    if not isinstance(data, dict):
        raise refused(file, 2, "the front matter has no keys", rule, "write key: value lines")
    try:
        return FrontMatter.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        line = line_of(file, str(first["loc"][0]))
        match first["type"]:
            case "extra_forbidden":
                raise refused(file, line, f"the key {key} is unknown", rule, f"remove {key}") from None
            case "missing":
                raise refused(file, 2, f"the key {key} is missing", rule, f"add {key}") from None
            case "enum":
                said = first["input"] if isinstance(first["input"], str) else "of that kind"
                raise refused(
                    file, line, f"there is no schema {said}", f"a schema is one of {', '.join(Schema)}", "use one of them"
                ) from None
        raise refused(file, line, f"{key}: {first['msg'].lower()}", rule, f"correct {key}") from None


def line_at(file: PromptFile, position: int) -> int:
    """The line of a character, counted from one."""
    return file.text.count("\n", 0, position) + 1


def line_of(file: PromptFile, word: str) -> int:
    """The first line that has a word, counted from one."""
    found = re.search(rf"(?<![\w/-]){re.escape(word)}(?![\w-])", file.text)
    return line_at(file, found.start()) if found else 1


def refused(file: PromptFile, line: int, what: str, rule: str, remedy: str) -> PromptError:
    """The refusal of a file for something on one of its lines."""
    return PromptError(f"{file.path}, line {line}: {what}.", value=f"{file.path}:{line}", rule=rule, remedy=remedy)
