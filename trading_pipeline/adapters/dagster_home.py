"""Renders DAGSTER_HOME of a home, `<home>/dagster`: the instance settings and the workspace, as text.

Every command of ours renders the same text, so the settings that ran are the settings in the code. A file
carries the digest of its own text: one that still matches was written by us and is replaced when a newer
version renders differently; one that does not was edited by hand and is refused, never overwritten.
Artifacts and schedules stay at Dagster's defaults, which lie inside DAGSTER_HOME, and so do compute logs.
Deliberately absent: the dagster package. The CLI imports this module.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from trading_pipeline.current_home import HOME_VARIABLE, RENDERED_MARK
from trading_pipeline.errors import SettingsError, StorageError
from trading_pipeline.ports import Home

LOCATION = "trading_pipeline"
DATABASE_VARIABLE = "TRADING_DAGSTER_DATABASE_URL"
LAUNCHER_VARIABLE, DEFAULT_LAUNCHER = "TRADING_LAUNCHER", "default"
MAX_SOCKET_PATH = 103
"""Bytes: macOS allows 104 with the terminating zero, Linux 108."""

_NOTE = "# Rendered by every command of trading; an edit is refused. Settings live in trading.toml.\n"

_STORAGE = """\
storage:
  custom:
    module: resources.storage
    class: TradingPostgresStorage
    config: {config}
"""

_COMPUTE_LOGS = """\
compute_logs:
  module: resources.compute_logs
  class: DirectLogs
  config: {config}
"""

_WARM_LAUNCHER = """\
run_launcher:
  module: resources.launcher.run_launcher
  class: WarmRunLauncher
  config: {config}
run_coordinator:
  module: resources.launcher.run_coordinator
  class: PromptRunCoordinator
  config: {{max_concurrent_runs: 4, dequeue_interval_seconds: 1}}
concurrency:
  pools: {{default_limit: 1, granularity: op}}  # backtests take one, runs that trade none
"""

_DEFAULT_LAUNCHER = """\
# run_launcher: Dagster's default, one fresh process a run.
run_queue: {dequeue_interval_seconds: 1}
concurrency:
  runs: {max_concurrent_runs: 4}
  pools: {default_limit: 1, granularity: op}  # backtests take one, runs that trade none
"""

_SETTINGS = """\
run_monitoring:
  enabled: true
  start_timeout_seconds: 60
  cancel_timeout_seconds: 30
  max_runtime_seconds: 900  # longer jobs carry the tag dagster/max_runtime
  max_resume_run_attempts: 0  # a resumed run starts again at its first step: the ledger continues, never Dagster
  poll_interval_seconds: 10
  free_slots_after_run_end_seconds: 30  # without it, slots of cancelled runs are never freed
retention:
  schedule: {purge_after_days: 30}
  sensor:
    purge_after_days: {skipped: 1, success: 14, failure: 30}
telemetry: {enabled: false}
nux: {enabled: false}  # no newsletter dialog before the page
"""

_PROJECT_FOLDERS = """\
# Without DAGSTER_HOME, Dagster keeps these in a temporary folder and deletes it at the end.
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {base_dir: .trading/dev/dagster}
compute_logs:
  module: dagster._core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config: {base_dir: .trading/dev/dagster/storage}
"""


@dataclass(frozen=True, slots=True)
class DagsterHome:
    """What was rendered: DAGSTER_HOME, its workspace file, and the Unix sockets of the code server and, if there is one, the launcher."""

    folder: Path
    workspace: Path
    socket: Path
    launcher: Path | None

    def environment(self) -> dict[str, str]:
        """Variables for every process that works on this home.

        The folder one happens to stand in holds no code of ours; events of many partitions and assets are written in batches, which
        Dagster does not do by itself.
        """
        return {
            "DAGSTER_HOME": str(self.folder), HOME_VARIABLE: str(self.folder.parent), "PYTHONSAFEPATH": "1",
            "DAGSTER_EVENT_BATCH_SIZE": "500",
        }


def instance_text(home: Path, *, external_database: bool = False, launcher: Path | None = None) -> str:
    """`dagster.yaml` of a home.

    Args:
        home: The home's folder, written absolute.
        launcher: The warm launcher's socket; None for Dagster's default launcher.
        external_database: The storage is the PostgreSQL named by the variable TRADING_DAGSTER_DATABASE_URL instead of the
            home's embedded one; the URL itself, a secret, is never written.
    """
    given: dict[str, object] = {"home": str(home.absolute())}
    if external_database:
        given["database_url"] = {"env": DATABASE_VARIABLE}
    runs = _DEFAULT_LAUNCHER if launcher is None else _WARM_LAUNCHER.format(config=json.dumps({"socket": str(launcher)}))
    logs = _COMPUTE_LOGS.format(config=json.dumps({"base_dir": str(Home(home.absolute()).dagster / "storage")}))
    return _sealed(_NOTE + _STORAGE.format(config=json.dumps(given)) + logs + runs + _SETTINGS)


def project_text() -> str:
    """`dagster.yaml` of the project folder, for plain `dagster dev`; its home is `current_home()`."""
    return _STORAGE.format(config="{}") + _DEFAULT_LAUNCHER + _SETTINGS + _PROJECT_FOLDERS


def workspace_text(socket: Path) -> str:
    """`workspace.yaml` of a home: the code server at a Unix socket. The project's own loads the module itself."""
    return f"load_from:\n  - grpc_server: {{socket: {json.dumps(str(socket))}, location_name: {LOCATION}}}\n"


def render(home: Path, environ: Mapping[str, str] = os.environ) -> DagsterHome:
    """Write DAGSTER_HOME of a home (0700); files that say the same already are left alone.

    Args:
        home: Made when absent.
        environ: Whether TRADING_DAGSTER_DATABASE_URL is set in it decides between that server and the embedded one;
            TRADING_LAUNCHER=default keeps the warm launcher out.

    Raises:
        SettingsError: A file there differs from what we wrote, by hand; its first differing line is named.
        StorageError: The folder cannot be written.
    """
    home = home.absolute()
    folder = Home(home).dagster
    socket = _socket(folder, "code")
    launcher = None if environ.get(LAUNCHER_VARIABLE) == DEFAULT_LAUNCHER else _socket(folder, "runs")
    text = instance_text(home, external_database=bool(environ.get(DATABASE_VARIABLE)), launcher=launcher)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        _place(folder / "dagster.yaml", text)
        _place(folder / "workspace.yaml", _sealed(_NOTE + workspace_text(socket)))
    except OSError as error:
        raise StorageError(
            f"DAGSTER_HOME cannot be written: {error.strerror}.", value=str(folder), rule="the home is writable",
            remedy="check the folder's permissions and the space on its disk",
        ) from error
    return DagsterHome(folder, folder / "workspace.yaml", socket, launcher)


def _socket(folder: Path, name: str) -> Path:
    """Inside the folder, or, as a socket's path has a length limit, in a short one derived from it."""
    socket = folder / f"{name}.sock"
    if len(os.fsencode(socket)) <= MAX_SOCKET_PATH:
        return socket
    short = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"trading-{os.getuid()}-{short}" / f"{name}.sock"


def _sealed(body: str) -> str:
    return f"{RENDERED_MARK}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def _place(path: Path, text: str) -> None:
    if path.exists():
        found = path.read_text(encoding="utf-8", errors="replace")
        if found == text:
            return
        if found != _sealed(found.partition("\n")[2]):
            raise _edited(path, found, text)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _edited(path: Path, found: str, text: str) -> SettingsError:
    # The seal in line 1 differs between versions: it is named only when nothing else does.
    pairs = list(enumerate(zip_longest(found.splitlines(), text.splitlines(), fillvalue=""), 1))
    number, (line, ours) = next((pair for pair in pairs[1:] if pair[1][0] != pair[1][1]), pairs[0])
    return SettingsError(
        f"{path} was edited by hand: line {number} is `{line.strip()}`, ours is `{ours.strip()}`.", value=line.strip(),
        rule="the settings of a home are rendered by every command, so that what ran is what the code says",
        remedy=f"undo the edit, or delete {path}",
    )
