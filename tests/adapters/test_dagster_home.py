"""The rendered DAGSTER_HOME: what is replaced, what is refused, and which home a process works on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from trading_pipeline.adapters import dagster_home
from trading_pipeline.adapters.dagster_home import instance_text, project_text, render
from trading_pipeline.current_home import current_home, named_home
from trading_pipeline.errors import SettingsError, StorageError
from trading_pipeline.settings import Settings

PROJECT = Path(__file__).parents[2]


def test_every_rendering_writes_the_same_text(tmp_path: Path) -> None:
    first = render(tmp_path / "home", {})
    before = (first.folder / "dagster.yaml").stat().st_mtime_ns
    assert render(tmp_path / "home", {}) == first
    assert (first.folder / "dagster.yaml").stat().st_mtime_ns == before
    assert sorted(path.name for path in first.folder.iterdir()) == ["dagster.yaml", "workspace.yaml"]


def test_the_folder_is_private(tmp_path: Path) -> None:
    assert render(tmp_path / "home", {}).folder.stat().st_mode & 0o077 == 0


def test_the_settings_are_those_decided(tmp_path: Path) -> None:
    settings = yaml.safe_load(instance_text(tmp_path))
    assert settings["storage"] == {
        "custom": {"module": "resources.storage", "class": "TradingPostgresStorage", "config": {"home": str(tmp_path)}}
    }
    assert settings["run_monitoring"]["max_resume_run_attempts"] == 0
    assert settings["run_monitoring"]["free_slots_after_run_end_seconds"] == 30
    assert settings["run_queue"] == {"dequeue_interval_seconds": 1}
    assert settings["telemetry"] == {"enabled": False}
    assert "run_launcher" not in settings and "run_retries" not in settings


def test_an_external_database_is_named_by_its_variable_and_its_password_never_written(tmp_path: Path) -> None:
    home = render(tmp_path / "home", {"TRADING_DAGSTER_DATABASE_URL": "postgresql://me:hunter2@db/dagster"})
    text = (home.folder / "dagster.yaml").read_text()
    assert yaml.safe_load(text)["storage"]["custom"]["config"]["database_url"] == {"env": "TRADING_DAGSTER_DATABASE_URL"}
    assert "hunter2" not in text


def test_the_project_files_are_the_rendered_ones() -> None:
    assert (PROJECT / "dagster.yaml").read_text() == project_text()
    workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text())
    module = workspace["load_from"][0]["python_module"]
    assert module == {"module_name": "trading_pipeline.definitions", "location_name": dagster_home.LOCATION}


def test_the_project_has_the_settings_of_a_home(tmp_path: Path) -> None:
    project, home = yaml.safe_load(project_text()), yaml.safe_load(instance_text(tmp_path))
    assert project["storage"]["custom"]["config"] == {}
    own = {"storage", "compute_logs"}  # the home's own folder; and a developer likes to see a run's output in the terminal
    assert [key for key in home.keys() - own if home[key] != project[key]] == []


def test_a_hand_edited_line_is_refused_and_named(tmp_path: Path) -> None:
    path = render(tmp_path / "home", {}).folder / "dagster.yaml"
    edited = path.read_text().replace("max_runtime_seconds: 900", "max_runtime_seconds: 9000")
    line = 1 + next(i for i, text in enumerate(edited.splitlines()) if "9000" in text)
    path.write_text(edited)
    with pytest.raises(SettingsError) as info:
        render(tmp_path / "home", {})
    assert f"line {line} is `max_runtime_seconds: 9000" in info.value.message
    assert "ours is `max_runtime_seconds: 900 " in info.value.message
    assert info.value.rule and str(path) in info.value.remedy
    assert path.read_text() == edited


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "dagster"
    folder.mkdir(parents=True)
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: true\n")
    with pytest.raises(SettingsError, match="line 2 is `enabled: true`"):
        render(tmp_path / "home", {})


def test_a_missing_last_line_is_refused(tmp_path: Path) -> None:
    path = render(tmp_path / "home", {}).folder / "workspace.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(SettingsError, match="is ``, ours is `- grpc_server"):
        render(tmp_path / "home", {})


def test_an_older_versions_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(dagster_home, "_SETTINGS", "telemetry: {enabled: false}\n")
        path = render(tmp_path / "home", {}).folder / "dagster.yaml"
        assert "run_monitoring" not in path.read_text()
    render(tmp_path / "home", {})
    assert "run_monitoring" in path.read_text()


def test_an_older_versions_file_edited_by_hand_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(dagster_home, "_SETTINGS", "telemetry: {enabled: false}\n")
        path = render(tmp_path / "home", {}).folder / "dagster.yaml"
    path.write_text(path.read_text().replace("enabled: false", "enabled: true"))
    with pytest.raises(SettingsError, match="edited by hand"):
        render(tmp_path / "home", {})


def test_a_home_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageError, match="DAGSTER_HOME cannot be written"):
        render(tmp_path / "home", {})


def test_a_home_gets_the_warm_launcher_unless_the_default_one_is_wanted(tmp_path: Path) -> None:
    warm = render(tmp_path / "home", {})
    assert warm.launcher == warm.folder / "runs.sock"
    assert yaml.safe_load((warm.folder / "dagster.yaml").read_text())["run_launcher"]["config"] == {"socket": str(warm.launcher)}
    default = render(tmp_path / "home", {"TRADING_LAUNCHER": "default"})
    assert default.launcher is None
    assert "run_launcher" not in yaml.safe_load((default.folder / "dagster.yaml").read_text())


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    assert len(str(render(deep, {}).socket)) <= 103
    assert render(deep, {}).socket != render(tmp_path / ("y" * 100), {}).socket


def test_without_variables_the_newest_home_is_worked_on(tmp_path: Path) -> None:
    project = tmp_path / ".trading"
    assert current_home({}, tmp_path) == project / "paper"
    for name, at in (("paper", 100), ("demo", 200), ("demo-20261120-101500", 50)):
        (project / name).mkdir(parents=True)
        (project / name / "trading.toml").touch()
        os.utime(project / name / "trading.toml", (at, at))
    (project / "notes").mkdir()
    assert current_home({}, tmp_path) == project / "demo"
    assert named_home({}, tmp_path) is None


def test_the_environment_names_the_home_before_the_file_does(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TRADING_HOME=/elsewhere\n")
    assert current_home({}, tmp_path) == named_home({}, tmp_path) == Path("/elsewhere")
    assert current_home({"TRADING_HOME": "/named"}, tmp_path) == Path("/named")


def test_command_line_settings_and_code_location_mean_the_same_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("TRADING_HOME", "DAGSTER_HOME"):
        monkeypatch.delenv(variable, raising=False)
    made = tmp_path / ".trading" / "demo"
    made.mkdir(parents=True)
    (made / "trading.toml").write_text('environment = "demo"\n')
    settings = Settings.load()
    assert (settings.home, settings.environment.value) == (current_home(), "demo")
    assert settings.home == made


def test_the_variable_names_the_home(tmp_path: Path) -> None:
    (tmp_path / ".trading" / "demo").mkdir(parents=True)
    assert current_home({"TRADING_HOME": str(tmp_path / "mine")}, tmp_path) == tmp_path / "mine"


def test_a_rendered_dagster_home_names_the_home_around_it(tmp_path: Path) -> None:
    home = render(tmp_path / "mine", {})
    assert current_home({"DAGSTER_HOME": str(home.folder)}, tmp_path) == tmp_path / "mine"
    assert current_home(home.environment(), tmp_path) == tmp_path / "mine"


def test_processes_of_a_home_load_no_code_from_the_folder_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "dagster_webserver.py").write_text("print('a stranger ran')")
    environment = {**os.environ, **render(tmp_path / "mine", {}).environment()}
    command = [sys.executable, "-m", "dagster_webserver", "--version"]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert "a stranger ran" not in answer.stdout


def test_a_dagster_home_of_another_project_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert current_home({"DAGSTER_HOME": str(tmp_path / "other")}, tmp_path) == tmp_path / ".trading" / "paper"


def test_two_homes_at_once_are_refused(tmp_path: Path) -> None:
    home = render(tmp_path / "mine", {})
    with pytest.raises(SettingsError, match=r"TRADING_HOME is .*, but DAGSTER_HOME is"):
        current_home({"DAGSTER_HOME": str(home.folder), "TRADING_HOME": str(tmp_path / "another")}, tmp_path)
