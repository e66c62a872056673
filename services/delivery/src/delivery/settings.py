"""What delivery is told from outside, beside what all services are told."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from common.settings import StoreSettings, UnusableSetting


def split_names(text: str) -> list[str]:
    """The names of a list with commas, in order."""
    return [name for part in text.split(",") if (name := part.strip())]


def require(name: str, settings: Mapping[str, str]) -> None:
    """Raises UnusableSetting that names what is empty of the settings (variable → value) that a provider or a storage
    cannot do without."""
    missing = [variable for variable, value in settings.items() if not value]
    if missing:
        raise UnusableSetting(f"{name} needs {', '.join(missing)}")


class Settings(StoreSettings):
    """Delivery's settings. Times in seconds."""

    service: ClassVar[str] = "delivery"

    port: int = Field(8083, validation_alias="DELIVERY_PORT")
    worker_port: int = Field(8183, validation_alias="DELIVERY_WORKER_PORT")
    database_url: SecretStr = Field(validation_alias="DELIVERY_DATABASE_URL")
    scheduling_url: str = "http://127.0.0.1:8082"
    contacts_url: str = "http://127.0.0.1:8081"

    sms_providers: str = Field("log", description="providers of SMS by preference: names, or package.module:Class")
    mms_providers: str = Field("log", description="providers of MMS by preference: names, or package.module:Class")
    request_timeout_s: float = Field(10.0, gt=0, description="a provider's whole answer")
    lease_s: float = Field(30.0, gt=0, description="how long a call belongs to who makes it")
    max_attempts: int = Field(5, ge=1)
    retry_base_s: float = Field(60.0, gt=0, description="back-off before the second attempt; doubles to 15 minutes")
    message_deadline_s: float = Field(86_400.0, gt=0, description="after its scheduled time a message is too late")
    replay_after_s: float = Field(60.0, gt=0, description="pause before a call of unknown outcome is repeated")
    replay_window_s: float = Field(43_200.0, gt=0, description="how long a provider remembers our keys, halved")

    stop_answered_by: str = Field(
        "mobile_message,messagemedia,aws,twilio", description="providers that answer STOP, START and HELP themselves"
    )

    mobile_message_base_url: str = "https://api.mobilemessage.com.au"
    mobile_message_username: str = ""
    mobile_message_password: SecretStr = SecretStr("")
    mobile_message_sender: str = ""
    mobile_message_concurrency: int = Field(5, ge=1, description="requests in flight; the vendor allows an account 5")
    mobile_message_batch_size: int = Field(100, ge=1, le=10_000)
    mobile_message_rate: float = Field(0.0, ge=0, description="parts a second, 0: no bound")
    mobile_message_webhook_secret: SecretStr = Field(SecretStr(""), description="without it no webhook is believed")

    messagemedia_base_url: str = "https://api.messagemedia.com"
    messagemedia_api_key: str = ""
    messagemedia_api_secret: SecretStr = SecretStr("")
    messagemedia_account: str = Field("", description="a sub-account, for the header Account")
    messagemedia_sender: str = Field("", description="empty: the vendor chooses one of the account's")
    messagemedia_webhook_public_key: str = Field("", description="PEM of the account's signature key")
    messagemedia_concurrency: int = Field(4, ge=1)
    messagemedia_batch_size: int = Field(100, ge=1, le=100)
    messagemedia_rate: float = Field(0.0, ge=0, description="parts a second, 0: no bound")

    twilio_base_url: str = "https://api.twilio.com"
    twilio_account_sid: str = ""
    twilio_auth_token: SecretStr = Field(SecretStr(""), description="signs webhooks, and requests without an API key")
    twilio_api_key_sid: str = ""
    twilio_api_key_secret: SecretStr = SecretStr("")
    twilio_sender: str = Field("", description="this, or a messaging service")
    twilio_messaging_service_sid: str = ""
    twilio_concurrency: int = Field(16, ge=1)
    twilio_rate: float = Field(0.0, ge=0, description="parts a second, 0: no bound")

    aws_base_url: str = Field("", description="empty: AWS; another address also vouches for the webhooks' signatures")
    aws_region: str = "ap-southeast-2"
    aws_sender: str = Field("", description="number, sender ID or pool; empty: AWS chooses")
    aws_configuration_set: str = Field("", description="decides where delivery events go")
    aws_topic_arns: str = Field("", description="SNS topics that are believed, by commas; without them no webhook is")
    aws_concurrency: int = Field(16, ge=1)
    aws_rate: float = Field(0.0, ge=0, description="parts a second, 0: no bound")

    storage_provider: str = Field("local", description="where media lie: local, azure, s3, gcs, package.module:Class")
    media_folder: str = Field(".cooee/media", description="the folder of the local storage")
    media_retention_days: int = Field(30, ge=1, description="after that media that no schedule needs are removed")
    media_link_secret: SecretStr = Field(SecretStr(""), description="signs links; empty: INTERNAL_TOKEN_SECRET does")
    media_public_url: str = Field("", description="where anyone can read media; empty: delivery serves them, signed")
    public_url: str = Field("http://127.0.0.1:8080", description="the gateway's address as carriers reach it")

    azure_container: str = ""
    azure_storage_connection_string: SecretStr = Field(SecretStr(""), description="this, or the address with one of:")
    azure_blob_url: str = Field("", description="the storage account's address")
    azure_storage_key: SecretStr = SecretStr("")
    azure_blob_sas: SecretStr = Field(SecretStr(""), description="may create, read and delete the container's blobs")

    s3_bucket: str = Field("", description="credentials as for AWS's own tools")
    s3_region: str = ""
    s3_endpoint_url: str = Field("", description="of a store that speaks S3's interface; empty: AWS")

    gcs_bucket: str = ""
    gcs_hmac_key: str = ""
    gcs_hmac_secret: SecretStr = SecretStr("")

    @property
    def chains(self) -> dict[str, list[str]]:
        """Format → its providers as they are named, the preferred one first."""
        return {"sms": split_names(self.sms_providers), "mms": split_names(self.mms_providers)}

    @property
    def own_numbers(self) -> frozenset[str]:
        """Where messages come from whose organisation has no sender of its own."""
        senders = (self.mobile_message_sender, self.messagemedia_sender, self.twilio_sender, self.aws_sender)
        return frozenset(filter(None, senders))

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_s < self.request_timeout_s * 1.5:
            raise ValueError("LEASE_S must be half as long again as REQUEST_TIMEOUT_S")
        return self
