"""What delivery is told from outside, beside what all services are told."""

from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from common.settings import StoreSettings


class Settings(StoreSettings):
    """Delivery's settings. Times in seconds."""

    service: ClassVar[str] = "delivery"

    port: int = Field(8083, validation_alias="DELIVERY_PORT")
    worker_port: int = Field(8183, validation_alias="DELIVERY_WORKER_PORT")
    database_url: SecretStr = Field(validation_alias="DELIVERY_DATABASE_URL")
    scheduling_url: str = "http://127.0.0.1:8082"

    sms_providers: str = Field("log", description="providers of SMS by preference, separated by commas")
    mms_providers: str = Field("log", description="providers of MMS by preference, separated by commas")
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
    def providers(self) -> dict[str, str]:
        """Format → name of the provider that is used: the first of its list."""
        return {
            "sms": self.sms_providers.split(",")[0].strip(),
            "mms": self.mms_providers.split(",")[0].strip(),
        }

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_s < self.request_timeout_s * 1.5:
            raise ValueError("LEASE_S must be half as long again as REQUEST_TIMEOUT_S")
        return self

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        needed: dict[str, str] = {}
        if "mobile_message" in self.providers.values():
            needed |= {
                "MOBILE_MESSAGE_USERNAME": self.mobile_message_username,
                "MOBILE_MESSAGE_PASSWORD": self.mobile_message_password.get_secret_value(),
                "MOBILE_MESSAGE_SENDER": self.mobile_message_sender,
            }
        if self.storage_provider == "azure":
            needed |= {
                "AZURE_BLOB_URL": self.azure_blob_url,
                "AZURE_CONTAINER": self.azure_container,
                "AZURE_BLOB_SAS": self.azure_blob_sas.get_secret_value(),
            }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ValueError(f"needed with the providers and the storage that are chosen: {', '.join(missing)}")
        return self
