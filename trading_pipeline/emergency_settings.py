"""Settings for an emergency stop: what can be read of them counts, the rest falls back to its default and is named.

A typing error anywhere in trading.toml must not keep a cancel from going out (invariant 55). Everything else of the product reads
settings strictly, in `settings`. What falls back here can name another account or database than the home's; `bootstrap` takes the
account from the paper broker's own book then.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from trading_pipeline.errors import SettingsError
from trading_pipeline.settings import FromEnvFile, FromEnvironment, Settings


class _Given(Settings):
    """Settings made of what is handed in, and of nothing else."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_others: PydanticBaseSettingsSource,  # noqa: ARG003
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def settings_at_hand(home: Path) -> tuple[Settings, list[str]]:
    """The settings of a home, and what had to be left out of them; never an error of theirs."""
    left_out: list[str] = []
    values = _file(home / "trading.toml", left_out)
    for given in _environment(left_out):
        _lay_over(values, given)
    while True:
        try:
            settings = _Given(**values | {"home": home})
            settings.limits.limits()
        except ValidationError as error:
            for each in error.errors():
                left_out.append(f"{'.'.join(map(str, each['loc']))} of the settings: {each['msg']}")
            if not [each for each in error.errors() if _remove(values, each["loc"])]:
                values.clear()
        except SettingsError as error:
            left_out.append(f"the limits of the settings: {error.message}")
            values.pop("limits")
        else:
            return settings, left_out


def _environment(left_out: list[str]) -> list[dict[str, Any]]:
    found = []
    for source in (FromEnvFile(Settings), FromEnvironment(Settings)):
        try:
            found.append(source())
        except (ValueError, OSError) as error:
            left_out.append(f"the environment's settings: {error}")
    return found


def _file(path: Path, left_out: list[str]) -> dict[str, Any]:
    """trading.toml without the lines that make it none; a section whose heading is broken goes with it."""
    try:
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        left_out.append(f"trading.toml: {error.strerror}")
        return {}
    while True:
        try:
            return tomllib.loads("\n".join(lines))
        except tomllib.TOMLDecodeError as error:
            named = re.search(r"at line (\d+)", str(error))
            filled = [number for number, line in enumerate(lines, start=1) if line.strip()]
            wrong = int(named[1]) if named and int(named[1]) in filled else filled[-1]
            last = wrong
            if lines[wrong - 1].lstrip().startswith("["):
                last = next((number - 1 for number in filled if number > wrong and lines[number - 1].lstrip().startswith("[")), len(lines))
            key = re.match(r"\s*([\w.-]+)\s*=", lines[wrong - 1])
            left_out.append(f"trading.toml, line {wrong}{f', {key[1]}' if key else ''}: {error}")
            lines[wrong - 1 : last] = [""] * (last - wrong + 1)


def _lay_over(values: dict[str, Any], given: dict[str, Any]) -> None:
    """What comes first in the order of precedence wins, key by key."""
    for name, value in given.items():
        below = values.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            _lay_over(below, value)
        else:
            values[name] = value


def _remove(values: dict[str, Any], where: tuple[int | str, ...]) -> bool:
    """Take out the value that an error names, or the innermost that contains it; whether there was one."""
    inner = values
    for name in where[:-1]:
        following = inner.get(str(name))
        if not isinstance(following, dict):
            return inner.pop(str(name), None) is not None
        inner = following
    return bool(where) and inner.pop(str(where[-1]), None) is not None
