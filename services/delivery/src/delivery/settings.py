"""What delivery is told from outside, beside what all services are told."""

from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from common.settings import StoreSettings

# A provider or storage that is named → the settings that it cannot do without.
CREDENTIALS: dict[str, tuple[str, ...]] = {
    "mobile_message": ("mobile_message_username", "mobile_message_password", "mobile_message_sender"),
    "azure": ("azure_blob_url", "azure_container", "azure_blob_sas"),
}


def split_names(text: str) -> list[str]:
    """The names of a list with commas, in order."""
    return [name for part in text.split(",") if (name := part.strip())]


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


class Settings(StoreSettings):
    """Delivery's settings. Times in seconds."""

    service: ClassVar[str] = "delivery"

    port: int = Field(8083, validation_alias="DELIVERY_PORT")
    worker_port: int = Field(8183, validation_alias="DELIVERY_WORKER_PORT")
    database_url: SecretStr = Field(validation_alias="DELIVERY_DATABASE_URL")
    scheduling_url: str = "http://127.0.0.1:8082"

    sms_providers: str = Field("log", description="providers of SMS by preference: names, or package.module:Class")
    mms_providers: str = Field("log", description="providers of MMS by preference: names, or package.module:Class")
    request_timeout_s: float = Field(10.0, gt=0, description="a provider's whole answer")
    lease_s: float = Field(30.0, gt=0, description="how long a call belongs to who makes it")
    max_attempts: int = Field(5, ge=1)
    retry_base_s: float = Field(60.0, gt=0, description="back-off before the second attempt; doubles to 15 minutes")
    message_deadline_s: float = Field(86_400.0, gt=0, description="after its scheduled time a message is too late")
    replay_after_s: float = Field(60.0, gt=0, description="pause before a call of unknown outcome is repeated")
    replay_window_s: float = Field(43_200.0, gt=0, description="how long a provider remembers our keys, halved")

    mobile_message_base_url: str = "https://api.mobilemessage.com.au"
    mobile_message_username: str = ""
    mobile_message_password: SecretStr = SecretStr("")
    mobile_message_sender: str = ""
    mobile_message_concurrency: int = Field(5, ge=1, description="requests in flight; the vendor allows an account 5")
    mobile_message_batch_size: int = Field(100, ge=1, le=10_000)

    storage_provider: str = Field("local", description="where uploaded media lie: local or azure")
    media_folder: str = Field(".cooee/media", description="the folder of the local storage")
    public_url: str = Field("http://127.0.0.1:8080", description="the gateway's address as carriers reach it")

    azure_blob_url: str = Field("", description="the storage account's address")
    azure_container: str = ""
    azure_blob_sas: SecretStr = Field(SecretStr(""), description="shared access signature that may create blobs")

    @property
    def chains(self) -> dict[str, list[str]]:
        """Format → its providers as they are named, the preferred one first."""
        return {"sms": split_names(self.sms_providers), "mms": split_names(self.mms_providers)}

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_s < self.request_timeout_s * 1.5:
            raise ValueError("LEASE_S must be half as long again as REQUEST_TIMEOUT_S")
        return self

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        named = {name for chain in self.chains.values() for name in chain} | {self.storage_provider}
        needed = [field for name, fields in CREDENTIALS.items() if name in named for field in fields]
        missing = [field.upper() for field in needed if not _plain(getattr(self, field))]
        if missing:
            raise ValueError(f"needed with the providers and the storage that are chosen: {', '.join(missing)}")
        return self
