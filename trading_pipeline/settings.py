"""Settings in one place: environment (`TRADING_*`), `.env`, `trading.toml`; printed without secrets.

The first that names a value wins: arguments, environment, `.env`, the home's `trading.toml`, defaults. `.env` is shared by many
programs: what of it is not ours is passed over. Neither keys nor the ledger's owner stand in `trading.toml`; a warm run lacks the latter.
Limits that no setting may lift are not here but in `domain.limits`. Text from outside enters here once,
is checked, and leaves as domain values.
"""

import os
import tomllib
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from trading_pipeline.current_home import current_home
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits, unless_off
from trading_pipeline.domain.models import CassetteMode, ModelBudget, Provider
from trading_pipeline.errors import SettingsError, StorageError


class Environment(StrEnum):
    """What an installation is for; a ledger of one refuses orders of another (D31)."""

    LIVE = "live"
    PAPER = "paper"
    BACKTEST = "backtest"
    DEMO = "demo"


class Market(StrEnum):
    """Which market clock runs: the real one, or one that replays history."""

    LIVE = "live"
    REPLAY = "replay"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_DEFAULTS = AccountLimits()


class LimitSettings(_Section):
    """The account's limits, `[limits]` in trading.toml. Money in USD, shares of equity as fractions; "off" where a limit can be."""

    max_order_value: Decimal = _DEFAULTS.max_order_value
    max_position_value: Decimal = _DEFAULTS.max_position_value
    max_concentration: Decimal = Field(_DEFAULTS.max_concentration, le=1)
    position_target: Decimal = Field(_DEFAULTS.position_target, le=1)
    sector_target: Decimal = Field(_DEFAULTS.sector_target, le=1)
    max_day_loss: Decimal = _DEFAULTS.max_day_loss
    max_day_risk: Annotated[Decimal | None, BeforeValidator(unless_off)] = _DEFAULTS.max_day_risk
    max_day_notional: Decimal = _DEFAULTS.max_day_notional
    max_open_orders: int = _DEFAULTS.max_open_orders
    max_consecutive_rejects: int = _DEFAULTS.max_consecutive_rejects
    max_volume_share: Decimal = Field(_DEFAULTS.max_volume_share, le=1)
    max_spread: Decimal = Field(_DEFAULTS.max_spread, le=1)
    price_collar: Decimal = Field(_DEFAULTS.price_collar, le=1)
    max_bar_gap: Decimal = _DEFAULTS.max_bar_gap
    volatility_trip: Decimal = _DEFAULTS.volatility_trip
    volatility_clear: Decimal = _DEFAULTS.volatility_clear
    forbidden_symbols: frozenset[str] = _DEFAULTS.forbidden_symbols

    def limits(self) -> AccountLimits:
        """As a domain value; SettingsError above a hard limit or not above zero."""
        return AccountLimits(**self.model_dump())


_CAN_BE_OFF = frozenset(
    f"limits.{name}" for name, field in LimitSettings.model_fields.items()
    if any(getattr(each, "func", None) is unless_off for each in field.metadata)
)


class PaperBrokerSettings(_Section):
    """The paper broker, `[paper]` in trading.toml."""

    account: str = "PAPER-1"
    cash: Decimal = Decimal(100_000)
    spread: Decimal = Field(Decimal("0.0002"), ge=0, le=Decimal("0.1"), description="bid to ask, as a fraction of the price")
    slippage: Decimal = Field(Decimal("0.0002"), ge=0, le=Decimal("0.1"), description="fraction of the price, against the order")
    commission_per_share: Decimal = Field(Decimal("0.005"), ge=0)
    commission_minimum: Decimal = Field(Decimal(1), ge=0)
    commission_rate: Decimal = Field(Decimal(0), ge=0, le=Decimal("0.1"), description="of the value that fills, beside the shares'")
    volume_share: Decimal = Field(Decimal("0.10"), gt=0, le=1, description="most of a bar's volume one order takes")


class Source(StrEnum):
    """Where bars come from."""

    SAMPLES = "samples"
    FILES = "files"
    SYNTHETIC = "synthetic"
    YFINANCE = "yfinance"


class Launcher(StrEnum):
    """Which run launcher `trading up` uses."""

    WARM = "warm"
    DEFAULT = "default"


class MarketSettings(_Section):
    """Where bars come from and which clock runs, `[market]` in trading.toml."""

    clock: Market = Market.REPLAY
    source: Source = Source.SAMPLES
    symbols: tuple[str, ...] = ()
    """For `synthetic` and `yfinance`."""
    interval: Interval = Interval.DAY1
    """For `synthetic`."""
    first: date | None = None
    last: date | None = None
    """The sessions of `synthetic`."""
    seed: int = 7
    decision_seconds: float = Field(60, ge=0, le=600, description="real time a person gets: of daily bars a session, of minutes a proposal")


class AnthropicSettings(_Section):
    """Anthropic's Messages API, `[model.anthropic]`."""

    base_url: str | None = None


class OpenAISettings(_Section):
    """OpenAI, or whoever speaks its API, `[model.openai]`."""

    base_url: str | None = None
    api: Literal["auto", "responses", "chat"] = "auto"
    """`auto`: Responses, and chat completions where a server has none."""
    key_required: bool = True
    """False for servers of one's own (Ollama, vLLM): then none is sent."""


class ClaudeCodeSettings(_Section):
    """Claude Code without a terminal, `[model.claude_code]`."""

    command: tuple[str, ...] = ("claude",)
    max_cost_per_call: Decimal = Field(Decimal("0.25"), gt=0, description="USD; what a call reserves, and what it is told to stop at")


class ModelSettings(_Section):
    """Models and what may be spent on them, `[model]` in trading.toml. USD a day of New York."""

    budget_per_day: Decimal = Field(ModelBudget().per_day, gt=0, le=10_000)
    budget_per_provider: dict[Provider, Decimal] = {}
    calls_per_hour: int = Field(ModelBudget().calls_per_hour, ge=1, le=100_000)
    concurrency: int = Field(ModelBudget().concurrency, ge=1, le=64)
    timeout_seconds: float = Field(ModelBudget().timeout_seconds, gt=0, le=600)
    cassette: CassetteMode = CassetteMode.RECORD
    anthropic: AnthropicSettings = AnthropicSettings()
    openai: OpenAISettings = OpenAISettings()
    claude_code: ClaudeCodeSettings = ClaudeCodeSettings()

    def budget(self) -> ModelBudget:
        """As a domain value."""
        providers = tuple(sorted(self.budget_per_provider.items()))
        return ModelBudget(self.budget_per_day, providers, self.calls_per_hour, self.concurrency, self.timeout_seconds)


class WatchdogSettings(_Section):
    """What the watchdog allows, `[watchdog]` in trading.toml; real seconds, which a replay at another speed stretches."""

    bar_seconds: float = Field(60, gt=0, description="after a bar's interval is over, in market hours")
    tick_seconds: float = Field(60, gt=0, description="a schedule or sensor may be late")
    heartbeat_seconds: float = Field(90, gt=0, description="between two heartbeats of a daemon of Dagster's, which beats every 30 s")

    def bars(self, pace: float) -> timedelta:
        """As market time, at a pace of so many market seconds a real one."""
        return timedelta(seconds=self.bar_seconds * pace)


MODEL_KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
"""Environment variables under which keys of models are known; only what asks models is given them."""


OWNER_VARIABLE = "TRADING_OWNER_DATABASE_URL"
_OWNER = "owner_database_url"
_SCRUBBED = "TRADING_SCRUBBED"
"""Set in the processes of the warm launcher (`resources.launcher.environment`), which have no use for the owner's role."""


def _without_owner(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != _OWNER} if _SCRUBBED in os.environ else values


class FromEnvironment(EnvSettingsSource):
    """The environment's part of the settings."""

    def __call__(self) -> dict[str, Any]:
        return _without_owner(super().__call__())


class FromEnvFile(DotEnvSettingsSource):
    """Our part of `.env`: what settings are read from, and whatever else says that it is ours."""

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        return _without_owner({
            name: value for name, value in super().__call__().items()
            if name in fields or name.upper().startswith("TRADING_") or name in MODEL_KEYS
        })


class _HomeFile(TomlConfigSettingsSource):
    """trading.toml, in which neither keys nor the ledger's owner stand: it is copied, shown around and put under version control."""

    def __call__(self) -> dict[str, Any]:
        for name in sorted(self.toml_data):
            bare = name.upper().removeprefix("TRADING_")
            if bare not in MODEL_KEYS and bare != _OWNER.upper():
                continue
            raise SettingsError(
                f"{name} stands in trading.toml.", value=name,
                rule="keys, and the role that owns the ledger, come from the environment, never from the settings' file",
                remedy=f"take it out of trading.toml, and give it as {bare if bare in MODEL_KEYS else OWNER_VARIABLE} in the environment, "
                "or in .env with mode 0600",
            )
        return super().__call__()


def _key(variable: str) -> Any:
    """A model's key, known to others by that name; by ours where it is to serve this program alone."""
    return Field(None, validation_alias=AliasChoices(f"TRADING_{variable}", variable))


def _absolute(home: Path) -> Path:
    """As `current_home` has it: the latch files of one home are found by everybody who is given it."""
    return home.expanduser().absolute()


class Settings(BaseSettings):
    """All settings of one home."""

    model_config = SettingsConfigDict(
        env_prefix="TRADING_", env_file=".env", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True,
    )

    home: Annotated[Path, AfterValidator(_absolute)] = Field(default_factory=current_home)
    environment: Environment = Environment.PAPER
    database_url: SecretStr | None = None
    """A PostgreSQL of one's own; None: the embedded one under the home."""
    owner_database_url: SecretStr | None = None
    """The same database as the role that owns and migrates the ledger; None in warm runs, which only append to it."""
    dagster_database_url: SecretStr | None = None
    """A PostgreSQL database for Dagster's event log; None: the embedded one under the home."""
    webserver_port: int = Field(3000, ge=1, le=65535)
    launcher: Launcher = Launcher.WARM
    """What begins a run under `trading up`: a process forked from a warm one, or Dagster's default, a fresh one."""
    keep_runs_days: int = Field(14, ge=1)
    """Dagster's runs are purged after so many days, except the newest of each job and session."""
    run_variables: tuple[str, ...] = ()
    """Environment variables that warm runs are given besides TRADING_*, the keys of models and the few all need."""
    keep_protective_stops: bool = False
    """An emergency stop leaves working orders that protect a position where they are, instead of cancelling them with the rest."""
    alert_command: tuple[str, ...] = ()
    """A program and its arguments, run with each alarm as JSON on its standard input; shown by `doctor`, so no secret in it."""
    watchdog: WatchdogSettings = WatchdogSettings()
    anthropic_api_key: SecretStr | None = _key("ANTHROPIC_API_KEY")
    openai_api_key: SecretStr | None = _key("OPENAI_API_KEY")
    claude_code_oauth_token: SecretStr | None = _key("CLAUDE_CODE_OAUTH_TOKEN")
    """What `claude setup-token` prints; handed to Claude Code."""
    model: ModelSettings = ModelSettings()
    limits: LimitSettings = LimitSettings()
    paper: PaperBrokerSettings = PaperBrokerSettings()
    market: MarketSettings = MarketSettings()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_others: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The home's trading.toml comes last; ours stand in the place of pydantic's own."""
        given, environment, file = init_settings(), FromEnvironment(settings_cls), FromEnvFile(settings_cls)
        home = _absolute(Path(given.get("home") or environment().get("home") or file().get("home") or current_home()))
        return init_settings, environment, file, _HomeFile(settings_cls, home / "trading.toml")

    @classmethod
    def load(cls, home: Path | None = None, **given: Any) -> Self:
        """Read the settings of a home.

        Raises:
            SettingsError: A key or value that is refused, named, with the remedy.
            StorageError: trading.toml cannot be read.
        """
        if home is not None:
            given["home"] = home
        try:
            settings = cls(**given)
            settings.limits.limits()
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            unknown = first["type"] == "extra_forbidden"
            or_off = ', or set it to "off"' if name in _CAN_BE_OFF else ""
            raise SettingsError(
                f"The setting {name} is {'unknown' if unknown else 'refused: ' + first['msg']}.",
                value=name if unknown else first.get("input"),
                rule="settings are those that `trading doctor` lists" if unknown else "each setting has a type and bounds",
                remedy=f"correct {name} in trading.toml, .env or the environment{or_off}",
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"trading.toml is no TOML: {error}.", value=str(home or current_home()),
                rule="settings are written as TOML", remedy="correct the line it names",
            ) from None
        except OSError as error:
            raise StorageError(
                f"The settings of {home} cannot be read: {error.strerror}.", value=str(home),
                rule="the home is readable", remedy="check the path and its permissions",
            ) from None
        return settings

    def shown(self) -> dict[str, Any]:
        """All settings for people, secrets as `set` or `not set`."""
        values = self.model_dump(mode="json")
        for name in (name for name, field in type(self).model_fields.items() if field.annotation == SecretStr | None):
            values[name] = "set" if getattr(self, name) is not None else "not set"
        return values


