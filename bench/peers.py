"""The peers that `bench.backtest` measures us beside: their harness, its data, an environment for each, and one run of one of them.

The harness is a folder of scripts outside this checkout, one a library, all with the same strategy. What is made for it lies in the user's
cache folder, so that a checkout stays clean and a second run finds everything. Environments are made with pip as it is set up here. A peer
whose environment cannot be made is left out, with the reason: a machine without a network still measures what it has.
"""

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE")
"""As the harness numbers them: `data/sym0.npy` is AAA."""
BUILD_SECONDS = 900
"""At most for one environment."""


class NotMeasured(Exception):
    """Something cannot be run here; the message says why, in a sentence without a full stop."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A library: its script in the harness, and what its environment holds."""

    title: str
    script: str
    requirements: tuple[str, ...]


BTPY = Peer("backtesting.py 0.6.6", "btpy.py", ("backtesting==0.6.6", "TA-Lib"))
VBT = Peer("vectorbt 1.2.0, warm", "vbt.py", ("vectorbt==1.2.0", "TA-Lib"))
NAUTILUS = Peer("nautilus_trader 1.221.0", "naut.py", ("nautilus_trader==1.221.0", "TA-Lib"))
RAPTOR = Peer("raptorbt 0.13.4", "rap.py", ("raptorbt==0.13.4", "numpy", "pandas", "TA-Lib"))
PEERS = (BTPY, VBT, NAUTILUS, RAPTOR)


@dataclass(frozen=True, slots=True)
class Run:
    """One process: what it reported, and what the operating system says of the whole of it."""

    result: Mapping[str, Any]
    """Its line `RESULT {json}`; empty where it printed none."""
    cpu_s: float
    peak_mb: float


class Harness:
    """The folder of the peers' scripts, with data and environments in the cache. Nothing is made before it is asked for."""

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        """Over a harness.

        Args:
            folder: Holds `gen_data.py` and `peers/`.
            cache: Where data and environments are kept; the user's cache folder when None.

        Raises:
            NotMeasured: There is no harness.
        """
        if not (folder / "gen_data.py").is_file() or not (folder / "peers").is_dir():
            raise NotMeasured(f"there is no harness in {folder}: name the folder of gen_data.py and peers/ with PEERS=DIR")
        self.folder = folder.resolve()
        self.cache = cache or cache_folder()
        made_by = hashlib.sha256((folder / "gen_data.py").read_bytes()).hexdigest()[:12]
        self.root = self.cache / f"market-{made_by}"
        """What the harness calls BENCH_ROOT: `data/` and `out/`."""
        self._unmade: dict[Peer, NotMeasured] = {}

    def data(self) -> str:
        """Make the bars if they are not there; their digest as the generator prints it.

        Raises:
            NotMeasured: The generator failed, or what it wrote is not what it printed.
        """
        kept = self.root / "digest"
        if kept.is_file() and self._written() == kept.read_text("ascii"):
            return kept.read_text("ascii")
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        made = subprocess.run(
            [sys.executable, str(self.folder / "gen_data.py")], cwd=self.root, capture_output=True, text=True, timeout=300, check=False,
        )
        if made.returncode:
            raise NotMeasured(f"gen_data.py failed: {_last_line(made.stderr)}")
        printed = made.stdout.split()[-1]
        if self._written() != printed:
            raise NotMeasured(f"gen_data.py printed sha256 {printed} and wrote {self._written()}")
        kept.write_text(printed, "ascii")
        return printed

    def _written(self) -> str | None:
        """The digest of the files, None where one is missing."""
        digest = hashlib.sha256()
        try:
            for name in ("ts", *(f"sym{number}" for number in range(len(SYMBOLS)))):
                content = (self.root / "data" / f"{name}.npy").read_bytes()
                digest.update(content[10 + struct.unpack("<H", content[8:10])[0] :])
        except OSError:
            return None
        return digest.hexdigest()[:16]

    def python(self, peer: Peer, say: Callable[[str], None] | None = None) -> Path:
        """The interpreter of a peer's environment, which is made if it is not there.

        Args:
            say: Told when that begins; it takes a minute.

        Raises:
            NotMeasured: It cannot be made; a second try is not made.
        """
        if peer in self._unmade:
            raise self._unmade[peer]
        try:
            return self._python(peer, say)
        except NotMeasured as why:
            self._unmade[peer] = why
            raise

    def _python(self, peer: Peer, say: Callable[[str], None] | None) -> Path:
        folder = self.cache / "environments" / peer.script.removesuffix(".py")
        python, ready = folder / "bin" / "python", folder / "ready"
        wanted = "\n".join((sys.version, *peer.requirements))
        if ready.is_file() and ready.read_text("utf-8") == wanted:
            return python
        if say is not None:
            say(f"making an environment for {peer.title} in {folder} ...")
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements],
        ):
            try:
                made = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                raise NotMeasured(f"its environment was not made within {BUILD_SECONDS} s") from None
            if made.returncode:
                raise NotMeasured(f"its environment cannot be made: {_last_line(made.stderr)}")
        ready.write_text(wanted, "utf-8")
        return python

    def run(self, peer: Peer, symbols: int, bound_s: float = 600) -> Run:
        """Let a peer backtest so many symbols; its trades are in `trades_of` afterwards.

        Raises:
            NotMeasured: No environment, a failure, or it took longer than the bound.
        """
        return run_process([str(self.python(peer)), str(self.folder / "peers" / peer.script), str(symbols)], self.environment(), bound_s)

    def environment(self) -> dict[str, str]:
        """For processes that read the data; nothing is written beside the harness's scripts."""
        return os.environ | {
            "BENCH_ROOT": str(self.root), "NUMBA_CACHE_DIR": str(self.cache / "numba"), "PYTHONDONTWRITEBYTECODE": "1",
        }

    def trades_of(self, peer: Peer, symbols: int) -> list["TradeLine"]:
        """What it wrote in its last run with so many symbols."""
        return read_trades(self.root / "out" / f"trades_{peer.script.removesuffix('.py')}_{symbols}.csv")


TradeLine = tuple[int, int, str, int, str]
"""Symbol's number, start of the entry's bar, entry price, start of the exit's bar, exit price; ns, prices with four decimals."""


def read_trades(path: Path) -> list[TradeLine]:
    """A list as the harness writes them, without sizes."""
    rows = (line.split(",") for line in path.read_text("ascii").splitlines())
    return [(int(row[0]), int(row[1]), f"{float(row[2]):.4f}", int(row[3]), f"{float(row[4]):.4f}") for row in rows]


def run_process(command: Sequence[str], environment: Mapping[str, str], bound_s: float) -> Run:
    """Run to the end and measure the whole process, from its start on.

    Raises:
        NotMeasured: It failed, or took longer than the bound.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment))
        overdue = threading.Timer(bound_s, process.kill)
        overdue.start()
        with ExitStack() as unless_ended:
            unless_ended.callback(process.kill)
            unless_ended.callback(overdue.cancel)
            _, status, usage = os.wait4(process.pid, 0)
            unless_ended.pop_all()
        overdue.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    if process.returncode == -signal.SIGKILL:
        raise NotMeasured(f"it was stopped after {bound_s:.0f} s")
    if process.returncode:
        raise NotMeasured(f"it failed: {_last_line(said)}")
    results = [line.removeprefix("RESULT ") for line in said.splitlines() if line.startswith("RESULT ")]
    return Run(json.loads(results[-1]) if results else {}, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def cache_folder() -> Path:
    """Ours in the user's cache folder. Source: XDG Base Directory Specification 0.8, which has relative paths ignored."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "trading-pipeline" / "bench-backtest"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
