"""Google Cloud Storage, by its XML API with HMAC keys, which is compatible with S3.

There is no emulator of this API, so only the set-up is tested.
"""

from typing import ClassVar

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from delivery.settings import OwnSettings, Settings
from delivery.storage.s3 import S3Storage


class GcsSettings(OwnSettings):
    """The settings GCS_… The HMAC key is of a service account that may create, read and delete objects."""

    model_config = SettingsConfigDict(env_prefix="GCS_")

    bucket: str = ""
    hmac_key: str = ""
    hmac_secret: SecretStr = SecretStr("")


class GcsStorage(S3Storage):
    """One bucket."""

    name = "gcs"
    settings_class = GcsSettings
    endpoint_url: ClassVar[str] = "https://storage.googleapis.com"

    def __init__(self, settings: Settings, own: GcsSettings | None = None) -> None:
        own = own or GcsSettings.from_environment()
        own.require("bucket", "hmac_key", "hmac_secret")
        self._prepare(
            own.bucket,
            region_name="auto",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=own.hmac_key,
            aws_secret_access_key=own.hmac_secret.get_secret_value(),
        )
