"""Where settings come from: a `.env` that other programs share, and the places where secrets may and may not stand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model_servers.claude_code import StandIn
from trading_pipeline.adapters.llm.providers import open_providers
from trading_pipeline.current_home import current_home
from trading_pipeline.domain.models import ModelReply, ModelRequest, Provider
from trading_pipeline.emergency_settings import settings_at_hand
from trading_pipeline.errors import SettingsError
from trading_pipeline.ports import Home
from trading_pipeline.settings import MODEL_KEYS, ModelSettings, Settings

ROOT = Path(__file__).parents[1]
FOREIGN = "OTHER_SECRET=x\nDATABASE_URL=postgresql://somebody:else@db/shop\nexport AWS_REGION=eu-west-1\nMODEL=gpt\nlimits=9\n"
TOKEN = "sk-ant-oat01-canary-0123456789"
OWNER = "postgresql://owner:canary@db/trading"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder one stands in, where `.env` is read; nothing of this machine's is set."""
    monkeypatch.chdir(tmp_path)
    for name in (*MODEL_KEYS, "TRADING_SCRUBBED", "TRADING_OWNER_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_what_other_programs_keep_in_the_env_file_is_passed_over(folder: Path) -> None:
    (folder / ".env").write_text(FOREIGN + "ANTHROPIC_API_KEY=sk-ant-ours\nTRADING_WEBSERVER_PORT=4321\n")
    settings = Settings.load(folder)
    assert (settings.webserver_port, settings.database_url) == (4321, None)
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "sk-ant-ours"
    stopping, left_out = settings_at_hand(folder)
    assert (stopping.webserver_port, left_out) == (4321, []), "an emergency stop has nothing to say of them either"


@pytest.mark.parametrize("name", ["TRADING_BOGUS", "trading_bogus"])
def test_a_setting_of_ours_that_there_is_none_of_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / ".env").write_text(f"{FOREIGN}{name}=1\n")
    with pytest.raises(SettingsError, match="The setting trading_bogus is unknown") as refused:
        Settings.load(folder)
    assert refused.value.remedy == "correct trading_bogus in trading.toml, .env or the environment"


@pytest.mark.parametrize("name", ["CLAUDE_CODE_OAUTH_TOKEN", "TRADING_CLAUDE_CODE_OAUTH_TOKEN"])
def test_a_login_token_in_the_env_file_reaches_claude_code_and_is_shown_nowhere(folder: Path, monkeypatch, name: str) -> None:
    """79: it comes before a key, which would be billed by the token, and nothing that is printed or written down has it."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-key")
    (folder / ".env").write_text(f"{name}={TOKEN}\n")
    stand_in = StandIn(folder / "claude")
    home = Home(folder / "home")
    settings = Settings.load(home.root, model=ModelSettings.model_validate({"claude_code": {"command": stand_in.command}}))
    llm = open_providers(settings, home)[Provider.CLAUDE_CODE]
    reply = llm.ask(ModelRequest(Provider.CLAUDE_CODE, "claude-sonnet-4-5", "system", f"what is {TOKEN}?", "{}"), 20.0)
    llm.close()
    assert isinstance(reply, ModelReply), reply
    (call,) = stand_in.calls
    assert call["environment"]["CLAUDE_CODE_OAUTH_TOKEN"] == TOKEN
    assert not {"ANTHROPIC_API_KEY", "TRADING_CLAUDE_CODE_OAUTH_TOKEN"} & call["environment"].keys()
    assert settings.shown()["claude_code_oauth_token"] == "set"
    assert "canary" not in repr(settings) + json.dumps(settings.shown())
    written = [path.read_text() for path in home.calls.iterdir()]
    assert len(written) == 1
    assert "canary" not in written[0], "the log of calls"


def test_a_token_that_cannot_be_one_is_refused_and_not_shown(folder: Path) -> None:
    (folder / ".env").write_text('CLAUDE_CODE_OAUTH_TOKEN="canary\nof two lines"\n')
    with pytest.raises(SettingsError, match="CLAUDE_CODE_OAUTH_TOKEN contains characters that no key has") as refused:
        open_providers(
            Settings.load(folder, model=ModelSettings.model_validate({"claude_code": {"command": (sys.executable,)}})), Home(folder),
        )
    assert "canary" not in str(refused.value)


AS_A_WARM_RUN = """
import sys
from pathlib import Path
from resources.launcher.environment import scrub

scrub([])
from trading_pipeline.emergency_settings import settings_at_hand
from trading_pipeline.settings import Settings

home = Path(sys.argv[1])
settings = Settings.load(home)
print(settings.owner_database_url, settings_at_hand(home)[0].owner_database_url, settings.database_url.get_secret_value())
"""


def test_a_warm_run_finds_the_owner_of_the_ledger_nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the launcher leaves out of the environment is not read again from `.env`, which the application's own address is."""
    (folder / ".env").write_text(f"TRADING_OWNER_DATABASE_URL={OWNER}\nTRADING_DATABASE_URL=postgresql://app@db/trading\n")
    settings = Settings.load(folder)
    assert settings.owner_database_url is not None, "where nothing is scrubbed: the command line, the desk"
    assert settings.owner_database_url.get_secret_value() == OWNER
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-c", AS_A_WARM_RUN, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.stdout, ran.stderr) == ("None None postgresql://app@db/trading\n", "")


def test_the_owner_of_the_ledger_is_refused_in_the_settings_file(folder: Path) -> None:
    """Every run reads that file."""
    (folder / "trading.toml").write_text(f'owner_database_url = "{OWNER}"\n')
    with pytest.raises(SettingsError, match=r"^owner_database_url stands in trading\.toml\.") as refused:
        Settings.load(folder)
    assert "give it as TRADING_OWNER_DATABASE_URL in the environment, or in .env with mode 0600" in refused.value.remedy
    assert "canary" not in f"{refused.value.value} {refused.value.rule} {refused.value.remedy}"


def test_a_home_that_the_environment_names_is_the_same_folder_for_everybody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """52: a stop latches in it, and every submission reads the latch there."""
    monkeypatch.setenv("HOME", str(folder))
    for named, home in (("~/desk", folder / "desk"), ("desk", folder / "desk")):
        monkeypatch.setenv("TRADING_HOME", named)
        assert Settings.load().home == current_home() == home
