"""Which home a command means when nobody says so, and whether there is one."""

import os
from pathlib import Path

PROJECT_FOLDER = Path(".trading")
HOME_VARIABLE = "TRADING_HOME"


def default_home(project: Path = PROJECT_FOLDER) -> Path:
    """`TRADING_HOME` from the environment or `.env`, else the newest home under `.trading/`, else `.trading/paper`."""
    named = named_home()
    if named is not None:
        return named
    made = [(at, folder) for folder in _folders(project) if (at := made_at(folder)) is not None]
    return max(made)[1] if made else project / "paper"


def named_home() -> Path | None:
    """`TRADING_HOME` from the environment or `.env`; None when neither names one."""
    from dotenv import dotenv_values

    named = os.environ.get(HOME_VARIABLE) or dotenv_values(".env").get(HOME_VARIABLE)
    return Path(named).expanduser() if named else None


def made_at(home: Path) -> float | None:
    """When a home was made, seconds since 1970; None when the folder is no home."""
    for name in ("postgres.passwords", "postgres", "clock.json", "trading.toml", "archive"):
        try:
            return (home / name).stat().st_mtime
        except OSError:
            continue
    return None


def _folders(project: Path) -> list[Path]:
    try:
        return [entry for entry in project.iterdir() if entry.is_dir()]
    except OSError:
        return []
