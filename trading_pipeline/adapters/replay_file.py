"""The file of a replay, `clock.json`, and what it says of how far the replay has come.

One process at a time changes it, whole; everybody may read it at any time. The instants that follow from it are told in `clocks`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from trading_pipeline.adapters.daily_replay import gate_ns, slot_at
from trading_pipeline.adapters.durable_files import open_lock, storage_errors, take_lock
from trading_pipeline.errors import InputError, StorageError

LOCK_SECONDS = 5.0
"""A change is one small file on the disk; whoever keeps the replay running has other things to do."""


class Pace(StrEnum):
    """How a replay runs."""

    INTRADAY = "intraday"
    """start + speed x real time."""
    DAILY = "daily"
    """One session in every so many seconds, see `daily_instant`."""


def aware(instant: datetime) -> datetime:
    """The instant in UTC; InputError without a time zone."""
    if instant.tzinfo is None:
        raise InputError(
            f"{instant} has no time zone.", value=instant, rule="instants are aware", remedy="add the offset, such as -04:00 or Z",
        )
    return instant.astimezone(UTC)


Aware = Annotated[datetime, AfterValidator(aware)]


class ReplayFile(BaseModel):
    """clock.json: when the monotonic clock of boot `boot_id` stood at `anchor_ns`, the replay had run `elapsed_ns` at its pace.

    It stands still from `kept_until_ns` on; during any other boot it stands there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: int = Field(default=1, ge=1, le=1)
    market: str
    pace: Pace
    start: Aware
    end: Aware
    speed: float = Field(gt=0)
    session_seconds: float = Field(gt=0)
    boot_id: str
    anchor_ns: int
    elapsed_ns: int = Field(ge=0)
    kept_until_ns: int
    gate: int | None = Field(default=None, ge=0)
    """Of a daily replay: the gate that it does not pass until its keeper opens it; None while nobody keeps the gates."""
    lingered_gate: int = -1
    lingered_ns: int = Field(default=0, ge=0)
    real_until_ns: int = 0
    """Of an intraday replay faster than real time: until then, in boot `boot_id`, it runs in real time."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay has come: real time in its slots, and at the newest gate where it had to linger."""

    elapsed_ns: int
    lingered_gate: int
    lingered_ns: int
    at_gate: bool


def progress_of(file: ReplayFile, boot_id: str, now_ns: int) -> Progress:
    """Where the replay is when the monotonic clock of this boot shows `now_ns`."""
    # How long it ran in a boot that is over nobody knows: all it was allowed, so that no instant that was told comes again.
    until = min(now_ns, file.kept_until_ns) if file.boot_id == boot_id else file.kept_until_ns
    ran = max(0, until - file.anchor_ns)
    lingered_gate, lingered_ns = file.lingered_gate, file.lingered_ns
    if file.gate is None:
        real = min(max(0, file.real_until_ns - file.anchor_ns), ran)
        return Progress(file.elapsed_ns + ran - real + int(real / file.speed), lingered_gate, lingered_ns, at_gate=False)
    room = max(0, gate_ns(file.gate, file.session_seconds) - file.elapsed_ns)
    if ran > room:
        lingered_ns = ran - room + (lingered_ns if lingered_gate == file.gate else 0)
        lingered_gate = file.gate
    return Progress(file.elapsed_ns + min(ran, room), lingered_gate, lingered_ns, at_gate=ran >= room)


def first_closed(file: ReplayFile, progress: Progress) -> int:
    """The gate that is closed already, or the first one that has not been passed."""
    if file.gate is not None:
        return file.gate
    gate = 2 * slot_at(progress.elapsed_ns, file.session_seconds)
    while gate_ns(gate, file.session_seconds) < progress.elapsed_ns:
        gate += 1
    return gate


def next_closed(file: ReplayFile, progress: Progress) -> int | None:
    """The gate after the one it is at; the same one when it is not there yet."""
    return file.gate + 1 if file.gate is not None and progress.at_gate else file.gate


def read_file(path: Path) -> ReplayFile:
    """The file as it is; StorageError when it is absent, unreadable or damaged."""
    with storage_errors("The replay clock", path):
        content = path.read_bytes()
    try:
        return ReplayFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StorageError(
            f"The replay clock {path} is damaged: {where}: {first['msg']}.", value=str(path),
            rule="clock.json is written by the replay alone", remedy="restore it from a backup, or start a new replay in another home",
        ) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time changes the file; StorageError when another does not let go of it."""
    with storage_errors("The replay clock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open_lock(path.with_suffix(".lock"))
    with lock:
        take_lock(lock, path.with_suffix(".lock"), LOCK_SECONDS)
        yield
