"""Which code this is: the version, and a digest of the sources that compute. Releases are numbered, what lies between them is not."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import trading_pipeline

COMPUTING: Final = ("domain", "ports", "service", "adapters")
"""The packages that decide what is computed; how it is shown does not count."""


@cache
def code_version() -> str:
    """Of this process, as `0.1.0+3f9c2a7be01d`: the same for the same sources, wherever they are installed."""
    return version_of(Path(trading_pipeline.__file__).parent)


def version_of(package: Path) -> str:
    """Of the sources in a folder."""
    digest = hashlib.sha256()
    for name in COMPUTING:
        for file in sorted((package / name).rglob("*.py")):
            text = file.read_bytes()
            digest.update(f"{file.relative_to(package).as_posix()} {len(text)}\n".encode())
            digest.update(text)
    return f"{trading_pipeline.__version__}+{digest.hexdigest()[:12]}"
