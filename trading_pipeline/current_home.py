"""Which home a process works on when nobody hands it one: one rule, for the command line, the settings and the code location.

It is worked out from the environment, `.env` and the folder one stands in, each time anew: a demo may make a newer home meanwhile.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from trading_pipeline.errors import SettingsError

PROJECT_FOLDER = Path(".trading")
HOME_VARIABLE = "TRADING_HOME"
RENDERED_MARK = "# trading-pipeline "
"""How the files begin that we render into a DAGSTER_HOME."""
_MADE = ("postgres.passwords", "postgres", "clock.json", "trading.toml", "archive")


def current_home(environ: Mapping[str, str] = os.environ, folder: Path = Path()) -> Path:
    """The home that a process works on, absolute.

    TRADING_HOME, from the environment or `.env`; else the home around DAGSTER_HOME, if one of ours; else the newest home under
    `.trading/`; else `.trading/paper`.

    Raises:
        SettingsError: TRADING_HOME and DAGSTER_HOME name two homes: the ledger and the catalogue would part.
    """
    named = named_home(environ, folder)
    if named is not None:
        return named
    project = (folder / PROJECT_FOLDER).absolute()
    made = [(at, home) for home in _folders(project) if (at := made_at(home)) is not None]
    return max(made)[1] if made else project / "paper"


def named_home(environ: Mapping[str, str] = os.environ, folder: Path = Path()) -> Path | None:
    """The same where a variable names it; None where nothing does. The errors are those of `current_home`."""
    found = environ.get(HOME_VARIABLE) or _from_dotenv(folder / ".env")
    named = Path(found).expanduser().absolute() if found else None
    dagster = Path(environ["DAGSTER_HOME"]).expanduser().absolute() if environ.get("DAGSTER_HOME") else None
    if dagster is None or not _is_ours(dagster / "dagster.yaml"):
        return named
    if named is not None and dagster.resolve() != (named / "dagster").resolve():
        raise SettingsError(
            f"TRADING_HOME is {named}, but DAGSTER_HOME is {dagster}.", value=str(dagster),
            rule="one home holds both the ledger and Dagster's catalogue", remedy="unset one of the two variables",
        )
    return named or dagster.parent


def made_at(home: Path) -> float | None:
    """When a home was made, seconds since 1970; None when the folder is no home."""
    for name in _MADE:
        try:
            return (home / name).stat().st_mtime
        except OSError:
            continue
    return None


def _from_dotenv(file: Path) -> str | None:
    if not file.is_file():
        return None
    from dotenv import dotenv_values

    return dotenv_values(file).get(HOME_VARIABLE)


def _folders(project: Path) -> list[Path]:
    try:
        return [entry for entry in project.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _is_ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().startswith(RENDERED_MARK)
    except (OSError, UnicodeDecodeError):
        return False
