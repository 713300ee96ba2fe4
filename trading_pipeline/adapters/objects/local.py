"""Immutable bytes in a local folder, by their SHA-256: `ab/cd/abcd....png`.

A file appears whole or not at all and is on the disk when `put` returns. Every read is verified. Nothing is ever changed or
deleted here, but for a damaged file that is put again.
"""

import hashlib
from pathlib import Path

from trading_pipeline.adapters.durable_files import storage_errors, write_atomically
from trading_pipeline.errors import InputError, StorageError


class LocalObjects:
    """A folder behind the ObjectStore port; made when the first object comes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, content: bytes, suffix: str) -> str:
        """Store bytes and return their digest in hex; what is there already, whole, is left alone.

        Raises:
            InputError: The suffix is no file name suffix such as `.png`.
            StorageError: Disk full, read-only, no permission.
        """
        if suffix and (not suffix.startswith(".") or not suffix[1:].isalnum()):
            raise InputError(
                f"{suffix!r} is no suffix.", value=suffix, rule="a suffix is a dot with letters or digits", remedy="write it as .png",
            )
        digest = hashlib.sha256(content).hexdigest()
        with storage_errors("The object store", self._root):
            found = self._find(digest)
            if found is None or hashlib.sha256(found.read_bytes()).hexdigest() != digest:
                write_atomically(found or self._folder(digest) / (digest + suffix), content)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes, verified."""
        path = self._path(digest)
        with storage_errors("The object store", path):
            content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise StorageError(
                f"The object {path} no longer has its digest.", value=digest, rule="objects never change",
                remedy="restore the file from a backup; check the disk",
            )
        return content

    def locate(self, digest: str) -> str:
        """The path of the file."""
        return str(self._path(digest).resolve())

    def _path(self, digest: str) -> Path:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise InputError(f"{digest!r} is no digest.", value=digest, rule="a digest is 64 hex digits", remedy="copy it whole")
        with storage_errors("The object store", self._root):
            found = self._find(digest)
        if found is None:
            raise StorageError(
                f"There is no object {digest} in {self._root}.", value=digest, rule="objects are kept for good",
                remedy="restore the folder from a backup, or check the home",
            )
        return found

    def _folder(self, digest: str) -> Path:
        return self._root / digest[:2] / digest[2:4]

    def _find(self, digest: str) -> Path | None:
        folder = self._folder(digest)
        if not folder.exists():
            return None
        return next((path for path in sorted(folder.iterdir()) if path.name.partition(".")[0] == digest), None)
