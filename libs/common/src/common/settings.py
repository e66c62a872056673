"""Settings of the services: environment variables, checked once at the start."""

import sys
from typing import ClassVar, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class CommonSettings(BaseSettings):
    """Settings that all services share. A service adds its own, with its port and database under its name."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    service: ClassVar[str]

    port: int
    bind_host: str = "127.0.0.1"
    api_workers: int = Field(1, ge=1, le=64, description="processes of each API, which share its port")
    log_format: str = Field("auto", pattern="^(auto|json|console)$", description="json, console, or auto")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    internal_token_secret: SecretStr = Field(min_length=32, description="signs internal tokens")
    stop_timeout_s: float = Field(60.0, gt=0, description="longest graceful stop")


class StoreSettings(CommonSettings):
    """Settings of the services that own a schema and use Kafka."""

    database_url: SecretStr
    worker_port: int
    kafka_bootstrap_servers: str
    kafka_session_timeout_ms: int = Field(30_000, ge=1000)
    find_work_interval_ms: int = Field(1000, ge=1, description="how often a worker looks for work without being woken")


class InvalidSetting(ValueError):
    """A setting that only the part which uses it can check. The message names it; the process ends with code 2."""


SettingsT = TypeVar("SettingsT", bound=CommonSettings)


def env_name(settings: type[BaseSettings], field: str) -> str:
    """Return the environment variable that sets a field; of several names the first, which is the documented one."""
    alias = settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        alias = str(alias.choices[0])
    return alias if isinstance(alias, str) else f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def load_settings(settings: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment.

    A missing or invalid setting ends the process with code 2. The message has the setting's name, never its value.
    """
    try:
        return settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0]) if problem["loc"] else "settings"
            variable = env_name(settings, name) if name in settings.model_fields else name
            print(f"{settings.service}: {variable}: {problem['msg']}", file=sys.stderr)
        raise SystemExit(2) from None
