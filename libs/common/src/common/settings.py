"""Settings of the services: environment variables, checked once at the start."""

import os
import ssl
import sys
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
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
    otel_exporter_otlp_endpoint: str = Field(
        "",
        pattern="^(https?://[^ ]+)?$",
        description="address of an OpenTelemetry collector (OTLP by HTTP) that gets the traces; empty: no traces",
    )
    otel_traces_sampler: str = Field(
        "parentbased_always_on",
        pattern="^(parentbased_)?(always_on|always_off|traceidratio)$",
        description="which traces are recorded; parentbased_traceidratio with a share",
    )
    otel_traces_sampler_arg: float = Field(1.0, ge=0, le=1, description="share of the traces that are recorded")
    sentry_dsn: SecretStr | None = Field(None, description="the Sentry project that gets errors; empty: none")
    stop_timeout_s: float = Field(
        60.0,
        gt=0,
        description="longest graceful stop of a worker; an API waits half of it for open requests, after DRAIN_S",
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        description="after SIGTERM an API refuses connections, serves the open ones for up to this time, and closes"
        " each after its next answer, so that clients change to another replica; needs API_WORKERS=1",
    )
    http_max_header_bytes: int = Field(
        32_768, ge=4096, le=1_048_576, description="request line and headers of a request; a half of it is for the line"
    )
    http_max_headers: int = Field(100, ge=20, le=10_000, description="headers of a request")
    http_header_timeout_s: float = Field(10.0, gt=0, description="time for the headers of a request to arrive")
    http_body_timeout_s: float = Field(
        30.0, gt=0, description="longest pause of a body; a body arrives in this time and 1 s for each 1000 bytes"
    )
    http_max_connections: int = Field(
        10_000, ge=1, description="open connections of a process, at most half of the files that it may open"
    )
    http_max_connections_per_address: int = Field(
        0, ge=0, description="open connections of a client address to a process; 0: no limit; 1000 at the gateway"
    )
    forwarded_allow_ips: str | None = Field(
        None,
        description="reverse proxies, by address or network: their X-Forwarded-For is used, and their connections are"
        " not limited by address; by default X-Forwarded-For is used from 127.0.0.1",
    )

    @model_validator(mode="after")
    def _check_drain(self) -> Self:
        if self.drain_s and self.api_workers > 1:
            raise ValueError("DRAIN_S needs API_WORKERS=1: start more replicas instead")
        return self


class StoreSettings(CommonSettings):
    """Settings of the services that own a schema and use Kafka."""

    database_url: SecretStr
    worker_port: int
    kafka_bootstrap_servers: str
    kafka_ca_file: str = Field("", description="PEM file that verifies the brokers; empty: connections without TLS")
    kafka_certificate_file: str = Field("", description="PEM file with the certificate that the brokers are shown")
    kafka_key_file: str = Field("", description="PEM file with the private key of this certificate")
    kafka_session_timeout_ms: int = Field(30_000, ge=1000)
    retention_dead_letter_days: int = Field(
        90, ge=1, le=36_500, description="after that acknowledged dead letters are deleted"
    )
    find_work_interval_ms: int = Field(
        1000, ge=1, description="how often a worker looks for work without being woken; less often when a look is slow"
    )

    @cached_property
    def kafka_tls(self) -> ssl.SSLContext | None:
        """The TLS context of connections to Kafka, or None without TLS. It has the files as they were at the start."""
        if not self.kafka_ca_file:
            return None
        context = ssl.create_default_context(cafile=self.kafka_ca_file)
        if self.kafka_certificate_file:
            context.load_cert_chain(self.kafka_certificate_file, self.kafka_key_file)
        return context

    @model_validator(mode="after")
    def _check_kafka_tls(self) -> Self:
        if bool(self.kafka_certificate_file) != bool(self.kafka_key_file):
            raise ValueError("KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE must be set together")
        if self.kafka_certificate_file and not self.kafka_ca_file:
            raise ValueError("KAFKA_CERTIFICATE_FILE needs KAFKA_CA_FILE")
        try:
            _ = self.kafka_tls
        except OSError as error:  # also what ssl raises
            names = "KAFKA_CA_FILE, KAFKA_CERTIFICATE_FILE or KAFKA_KEY_FILE"
            raise ValueError(f"{names} cannot be used: {error.strerror or error}") from None
        return self


class MessageStoreSettings(StoreSettings):
    """Settings of the services that store messages. The statistics of the last 12 months need the rows."""

    retention_message_text_days: int = Field(
        90, ge=1, le=36_500, description="after that the content of a sent, failed or cancelled message is removed"
    )
    retention_message_days: int = Field(
        730, ge=400, le=36_500, description="after that a message without content is deleted; statistics need 400"
    )

    @model_validator(mode="after")
    def _check_retention(self) -> Self:
        if self.retention_message_days < self.retention_message_text_days:
            raise ValueError("RETENTION_MESSAGE_DAYS must be at least RETENTION_MESSAGE_TEXT_DAYS")
        return self


class InvalidSetting(ValueError):
    """A setting that only the part which uses it can check. The message names it; the process ends with code 2."""


SettingsT = TypeVar("SettingsT", bound=CommonSettings)


def env_name(settings: type[BaseSettings], field: str) -> str:
    """Return the environment variable that sets a field; of several names the first, which is the documented one."""
    alias = settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        alias = str(alias.choices[0])
    return alias if isinstance(alias, str) else f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def read_secret_files() -> None:
    """Set the environment variables that the files of the folder SECRETS_FOLDER name, unless they have a value.

    The file `database_url` sets DATABASE_URL to its content without white space around it. An empty file sets nothing.
    Raises InvalidSetting for a folder or file that cannot be read. The message has its path, never its content.
    """
    folder = os.environ.get("SECRETS_FOLDER")
    if not folder:
        return
    path = Path(folder)
    try:
        for path in sorted(Path(folder).iterdir()):
            # A store of secrets may place its own files beside them, with a dot at the beginning.
            if not path.name.startswith(".") and path.is_file() and (value := path.read_text("utf-8").strip()):
                name = path.name.upper()
                os.environ[name] = os.environ.get(name) or value
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InvalidSetting(f"SECRETS_FOLDER: {path}: {reason}") from None


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
