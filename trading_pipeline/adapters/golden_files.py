"""The golden set as TOML: the cases that ship, and every `<home>/golden/*.toml` beside them.

One's own cases add to those that ship and replace none: a set that could be thinned out would let anything pass. Files are read whenever
they are asked for, which is when a person checks a prompt or lets a strategy go on.
"""

import hashlib
import tomllib
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trading_pipeline.domain.golden import GoldenCase, GoldenSet, Leg
from trading_pipeline.domain.signals import Action
from trading_pipeline.errors import InputError, StorageError

SHIPPED: Final = Path(str(files("trading_pipeline") / "golden"))
MOST: Final = 200
"""Cases in all: each is a question that is paid for."""
_Price = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
_Words = Annotated[str, Field(min_length=1, max_length=500)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Leg(_Section):
    bars: int = Field(ge=1, le=1_000)
    to: _Price | None = None
    wave: float = Field(0.01, ge=0, lt=0.5)
    volume: int = Field(2_000_000, ge=0, le=10**12)
    gap: bool = False


class _Case(_Section):
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,39}$")
    why: _Words
    strategy: Annotated[str, Field(max_length=500)] = ""
    start: _Price
    legs: tuple[_Leg, ...] = Field(min_length=1, max_length=50)
    accept: frozenset[str] = Field(min_length=1)
    shares: int = Field(0, ge=0, le=1_000_000)
    paid: Annotated[Decimal, Field(gt=0, le=1_000_000)] | None = None
    held: int = Field(0, ge=0, le=10_000)
    unknown: bool = False
    texts: tuple[Annotated[str, Field(min_length=1, max_length=1_500)], ...] = Field((), max_length=5)
    cites: int = Field(0, ge=0, le=8)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if unknown := sorted(self.accept - {"BUY", "SELL", "HOLD"}):
            raise ValueError(f"accept names BUY, SELL and HOLD, not {', '.join(unknown)}")
        if (self.shares > 0) != (self.paid is not None) or (self.held > 0) != (self.shares > 0):
            raise ValueError("shares, paid and held go together: what is held was bought at a price, some bars ago")
        if self.legs[-1].to is None:
            raise ValueError("the last leg has no bars; a case ends with one")
        if sum(leg.bars for leg in self.legs if leg.to is not None) < 2:
            raise ValueError("a case has two bars at least")
        return self

    def case(self) -> GoldenCase:
        legs = tuple(Leg(**leg.model_dump()) for leg in self.legs)
        return GoldenCase(
            self.name, self.why, self.start, legs, frozenset(Action[each] for each in self.accept), self.strategy, self.shares, self.paid,
            self.held, self.unknown, self.texts, self.cites,
        )


class _File(_Section):
    case: tuple[_Case, ...] = Field(min_length=1)


class GoldenFiles:
    """A `Golden`; a folder of one's own need not exist."""

    def __init__(self, own: Path | None = None, shipped: Path = SHIPPED) -> None:
        self._own, self._shipped = own, shipped

    def read(self) -> GoldenSet:
        """All cases.

        Raises:
            InputError: A file is wrong, or two cases have one name.
            StorageError: A file cannot be read.
        """
        cases: dict[str, GoldenCase] = {}
        digest = hashlib.sha256()
        for path in (*_files(self._shipped), *(_files(self._own) if self._own is not None else ())):
            content = _content(path)
            digest.update(hashlib.sha256(content).digest())
            for case in _parsed(path, content):
                if case.name in cases:
                    why = f"the case {case.name} is there already"
                    raise _refused(path, why, "give it another name: cases are added, none is replaced")
                cases[case.name] = case
        if len(cases) > MOST:
            raise _refused(self._own or self._shipped, f"there are {len(cases)} cases, at most {MOST} are asked", "remove some")
        return GoldenSet(tuple(cases.values()), digest.hexdigest())


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.toml"))
    except OSError as error:
        raise _unreadable(folder, error) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _parsed(path: Path, content: bytes) -> list[GoldenCase]:
    try:
        return [case.case() for case in _File.model_validate(tomllib.loads(content.decode("utf-8"))).case]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _refused(path, f"it is no TOML: {error}", "correct the file") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(each) for each in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise _refused(path, f"{place}: {said}" if place else said, "correct the file; docs/prompts.md has its fields") from error


def _refused(path: Path, why: str, remedy: str) -> InputError:
    return InputError(
        f"The golden set in {path} cannot be used: {why}.", value=str(path), rule="a case says what is seen and what is sane", remedy=remedy
    )


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be read: {error.strerror}.", value=str(path), rule="the golden set is readable", remedy="check its permissions"
    )
