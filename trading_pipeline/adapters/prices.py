"""`Prices` from tables in TOML: the one that ships, and the home's own `prices.toml` before it.

Money is reckoned exactly, in Decimal. The worst case of a call takes every byte of its text for a token, which no tokenizer exceeds, and
an upper bound for its pictures. What a table does not say is unknown, never guessed: a model, a day before its prices, a prompt longer
than they hold for, a picture without a rule. Claude Code is bounded by what it is told to stop at, and reports what it spent.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trading_pipeline.domain.models import ModelRequest, Picture, Provider, Usage
from trading_pipeline.errors import SettingsError, StorageError
from trading_pipeline.ports import Price

OWN: Final = "prices.toml"
"""The file of a home."""
OVERHEAD: Final = 2_000
"""Tokens a request has besides its words and pictures: the frame of a conversation, what a provider adds to hold a reply to a schema,
and the sentence that asks for a repair.

Source: Anthropic documents up to about 800 for tool use, OpenAI a few for each message; more than twice that is taken.
"""
SHIPPED: Final = Path(__file__).with_name("prices.toml")
_MILLION = 6

_Usd = Annotated[Decimal, Field(ge=0, le=100_000, decimal_places=9)]
_Tokens = Annotated[int, Field(ge=1, le=10**9)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Pictures(_Section):
    """How the tokens of a picture are bounded: by patches of so many pixels a side, or by tiles (OpenAI)."""

    patch: int | None = Field(None, ge=1, le=4_096)
    factor: Decimal = Field(Decimal(1), gt=0, le=100)
    base: int | None = Field(None, ge=0, le=100_000)
    tile: int | None = Field(None, ge=1, le=100_000)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = (self.patch is not None, self.base is not None, self.tile is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("pictures are counted by patch, or by base and tile")
        return self

    def tokens(self, picture: Picture) -> int:
        """At most, for a picture of any shape."""
        if self.patch is not None:
            patches = math.ceil(Fraction(picture.width, self.patch)) * math.ceil(Fraction(picture.height, self.patch))
            return math.ceil(patches * Fraction(self.factor))
        assert self.base is not None and self.tile is not None
        # Tiles of 512 pixels, once the picture fits into 2,048 x 2,048 and its short side is 768.
        long, short = (Fraction(side(picture.width, picture.height)) for side in (max, min))
        shrink = min(Fraction(1), Fraction(2_048) / long)
        scale = shrink * Fraction(768) / (short * shrink)
        return self.base + self.tile * math.ceil(long * scale / 512) * math.ceil(short * scale / 512)


class _Model(_Section):
    """One model from a day on."""

    provider: Literal["anthropic", "openai"]
    ids: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(min_length=1)
    input: _Usd
    output: _Usd
    cached: _Usd | None = None
    cache_write: _Usd | None = None
    since: date = date.min
    prompt_most: _Tokens | None = None
    images: str | None = None
    cutoff: date | None = None
    source: str = ""


class _File(_Section):
    """The whole file."""

    images: dict[str, _Pictures] = {}
    model: tuple[_Model, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A model's price with what it holds for."""

    price: Price
    prompt_most: int | None
    pictures: _Pictures | None
    cutoff: date | None


_Entries = Mapping[tuple[Provider, str], Sequence[_Entry]]
"""By provider and model, the newest first."""


class PriceTable:
    """A `Prices`; make one with `load_prices`."""

    def __init__(self, tables: Sequence[_Entries], max_cost_per_call: Decimal) -> None:
        self._tables = tables
        self._max_cost_per_call = max_cost_per_call

    def price(self, provider: Provider, model: str, on: date) -> Price | None:
        """The newest price of that day; of the home's own table before the shipped one's."""
        entry = self._entry(provider, model, on)
        return None if entry is None else entry.price

    def models(self, provider: Provider) -> list[str]:
        """Of both tables."""
        return sorted({model for table in self._tables for whose, model in table if whose is provider})

    def worst(self, request: ModelRequest, on: date) -> Decimal | None:
        """USD that one call can cost at most; None where that is not known."""
        if request.provider is Provider.CLAUDE_CODE:
            return self._max_cost_per_call
        entry = self._entry(request.provider, request.model, on)
        if entry is None:
            return None
        price = entry.price
        rate = max(price.input, price.cached, price.cache_write)
        tokens = OVERHEAD + sum(len(part.encode()) for part in (request.system, request.text, request.schema))
        if entry.pictures is not None:
            tokens += sum(entry.pictures.tokens(picture) for picture in request.pictures)
        elif request.pictures and rate > 0:
            return None
        if entry.prompt_most is not None and tokens > entry.prompt_most:
            return None
        return (tokens * rate + request.sampling.max_tokens * price.output).scaleb(-_MILLION)

    def cost(self, provider: Provider, model: str, usage: Usage, on: date) -> Decimal | None:
        """USD that a call did cost; None where its price is not known."""
        entry = self._entry(provider, model, on)
        if entry is None or (entry.prompt_most is not None and usage.total_in > entry.prompt_most):
            return None
        price = entry.price
        amount = (
            usage.input_tokens * price.input + usage.cached_tokens * price.cached + usage.cache_write_tokens * price.cache_write
            + usage.output_tokens * price.output
        )
        return amount.scaleb(-_MILLION)

    def cutoff(self, provider: Provider, model: str) -> date | None:
        """The end of the training data as the newest entry that says it has it."""
        found = (entry.cutoff for table in self._tables for entry in table.get((provider, model), ()))
        return next((cutoff for cutoff in found if cutoff is not None), None)

    def timeless(self) -> "PriceTable":
        """The newest prices, on whatever day: for sessions long past, of which nothing is paid."""
        tables = [
            {whose: (replace(entries[0], price=replace(entries[0].price, since=date.min)),) for whose, entries in table.items()}
            for table in self._tables
        ]
        return PriceTable(tables, self._max_cost_per_call)

    def _entry(self, provider: Provider, model: str, on: date) -> _Entry | None:
        found = (entry for table in self._tables for entry in table.get((provider, model), ()) if entry.price.since <= on)
        return next(found, None)


def load_prices(home: Path | None, max_cost_per_call: Decimal) -> PriceTable:
    """The shipped table, and the home's own before it if there is one.

    Args:
        home: None: the shipped table alone.
        max_cost_per_call: USD that a call of Claude Code is told to stop at.

    Raises:
        SettingsError: A key or value of the home's table is refused.
        StorageError: It cannot be read.
    """
    shipped = _read(SHIPPED, SHIPPED.read_text(encoding="utf-8"))
    own = None if home is None else _own(home / OWN)
    tables = [_entries(SHIPPED, shipped, shipped.images)]
    if own is not None and home is not None:
        tables.insert(0, _entries(home / OWN, own, shipped.images | own.images))
    return PriceTable(tables, max_cost_per_call)


def _own(path: Path) -> _File | None:
    try:
        return _read(path, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is no text.", value=str(path), rule="a price table is UTF-8 text", remedy="save it as UTF-8") from None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}.", value=str(path), rule="the home is readable", remedy="check its permissions",
        ) from error


def _read(path: Path, text: str) -> _File:
    try:
        return _File.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{path} is no TOML: {error}.", value=str(path), rule="prices are written as TOML", remedy="correct the line it names",
        ) from None
    except ValidationError as error:
        raise _refused(path, error) from None


def _entries(path: Path, file: _File, images: Mapping[str, _Pictures]) -> _Entries:
    entries: dict[tuple[Provider, str], list[_Entry]] = {}
    for number, model in enumerate(file.model, 1):
        if model.images is not None and model.images not in images:
            raise SettingsError(
                f"{path}: model no. {number} counts pictures by {model.images!r}.", value=model.images,
                rule=f"images is one of {', '.join(sorted(images))}", remedy=f"define [images.{model.images}], or name another",
            )
        provider = Provider(model.provider)
        for name in model.ids:
            price = Price(
                provider, name, model.since, model.input, model.output, model.input if model.cached is None else model.cached,
                model.input if model.cache_write is None else model.cache_write,
            )
            listed = entries.setdefault((provider, name), [])
            if any(each.price.since == model.since for each in listed):
                raise SettingsError(
                    f"{path}: {name} has two prices from {model.since} on.", value=name, rule="a model has one price at a time",
                    remedy="remove one of them, or give the later one its own `since`",
                )
            pictures = None if model.images is None else images[model.images]
            listed.append(_Entry(price, model.prompt_most, pictures, model.cutoff))
    return {key: sorted(listed, key=lambda each: each.price.since, reverse=True) for key, listed in entries.items()}


def _refused(path: Path, error: ValidationError) -> SettingsError:
    first: Mapping[str, Any] = error.errors()[0]
    where = ".".join(f"no. {part + 1}" if isinstance(part, int) else str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        sections: dict[str, type[_Section]] = {"model": _Model, "images": _Pictures}
        known = sections.get(str(first["loc"][0]), _File).model_fields
        return SettingsError(
            f"{path} has the unknown key {where}.", value=where, rule="unknown keys are refused",
            remedy=f"remove it; known keys are {', '.join(known)}",
        )
    if first["type"] == "missing":
        return SettingsError(f"{path} lacks {where}.", value=where, rule="this key must be given", remedy=f"add {first['loc'][-1]} = ...")
    return SettingsError(
        f"{path}: {where} = {first.get('input')} is refused.", value=first.get("input"), rule=_in_words(first),
        remedy=f"correct {first['loc'][-1]}",
    )


def _in_words(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
