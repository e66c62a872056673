"""Settings of delivery. Providers and storages have settings of their own, in their files."""

from typing import ClassVar, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.settings import InvalidSetting, MessageStoreSettings, env_name


def split_names(text: str) -> list[str]:
    """Return the names of a comma-separated list, in order."""
    return [name for part in text.split(",") if (name := part.strip())]


class OwnSettings(BaseSettings):
    """Settings that one provider or one storage reads for itself. Its `env_prefix` begins their names."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings. Raises InvalidSetting, which names the variable and never its value."""
        try:
            return cls()
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            name = str(problem["loc"][0])
            variable = env_name(cls, name) if name in cls.model_fields else name
            raise InvalidSetting(f"{variable}: {problem['msg']}") from None

    def require(self, *fields: str) -> None:
        """Raise InvalidSetting, which names the variables, if any of these fields is empty."""
        missing = [env_name(type(self), field) for field in fields if not getattr(self, field)]
        if missing:
            raise InvalidSetting(f"{', '.join(missing)}: required")


class Settings(MessageStoreSettings):
    """The settings of delivery. Times are in seconds."""

    service: ClassVar[str] = "delivery"

    port: int = Field(8083, validation_alias="DELIVERY_PORT")
    worker_port: int = Field(8183, validation_alias="DELIVERY_WORKER_PORT")
    database_url: SecretStr = Field(validation_alias="DELIVERY_DATABASE_URL")
    scheduling_url: str = "http://127.0.0.1:8082"
    contacts_url: str = "http://127.0.0.1:8081"

    sms_providers: str = Field("log", description="providers of SMS by preference: names, or package.module:Class")
    mms_providers: str = Field("log", description="providers of MMS by preference: names, or package.module:Class")
    request_timeout_s: float = Field(10.0, gt=0, description="time-out of a request to a provider")
    lease_s: float = Field(30.0, gt=0, description="after that a submission without an answer is unknown")
    max_attempts: int = Field(5, ge=1, description="attempts of a message before it fails")
    retry_base_s: float = Field(60.0, gt=0, description="longest first back-off; it doubles, up to 15 minutes")
    message_deadline_s: float = Field(86_400.0, gt=0, description="a message fails that long after its scheduled time")
    replay_after_s: float = Field(60.0, gt=0, description="pause before an unknown submission is resent")
    replay_window_s: float = Field(
        43_200.0, gt=0, description="an unknown submission is given up after that; half as long as providers store keys"
    )

    stop_answered_by: str | None = Field(
        None, description="providers that answer STOP, START and HELP themselves; empty: every provider that can"
    )

    storage_provider: str = Field("local", description="where media are stored: a name, or package.module:Class")
    retention_inbound_text_days: int = Field(
        90, ge=1, le=36_500, description="after that the text of an inbound message is removed"
    )
    retention_inbound_days: int = Field(
        730, ge=90, le=36_500, description="after that an inbound message without text is deleted"
    )
    retention_webhook_event_days: int = Field(
        30, ge=4, le=36_500, description="after that a webhook event is deleted; it is matched for three days"
    )
    media_retention_days: int = Field(30, ge=1, description="after that media that no schedule needs are removed")
    media_link_secret: SecretStr = Field(SecretStr(""), description="signs links; empty: INTERNAL_TOKEN_SECRET does")
    media_public_url: str = Field(
        "", description="public address of the media; empty: delivery serves them by signed links"
    )
    public_url: str = Field("http://127.0.0.1:8080", description="the gateway's address as providers reach it")

    @property
    def chains(self) -> dict[str, list[str]]:
        """The entries of the provider chains by format, the preferred one first."""
        return {"sms": split_names(self.sms_providers), "mms": split_names(self.mms_providers)}

    @model_validator(mode="after")
    def _check_inbound_retention(self) -> Self:
        if self.retention_inbound_days < self.retention_inbound_text_days:
            raise ValueError("RETENTION_INBOUND_DAYS must be at least RETENTION_INBOUND_TEXT_DAYS")
        return self

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_s < self.request_timeout_s * 1.5:
            raise ValueError("LEASE_S must be at least 1.5 times REQUEST_TIMEOUT_S")
        return self
