"""Google Cloud Storage by its interface for S3's clients (XML API with HMAC keys). Unchecked: no emulator speaks it."""

from typing import ClassVar

from delivery.settings import Settings, require
from delivery.storage.s3 import S3Storage


class GcsStorage(S3Storage):
    """`GCS_BUCKET`, with the HMAC key of a service account that may make, read and delete its objects."""

    name = "gcs"
    endpoint_url: ClassVar[str] = "https://storage.googleapis.com"

    def __init__(self, settings: Settings) -> None:
        key, secret = settings.gcs_hmac_key, settings.gcs_hmac_secret.get_secret_value()
        require(self.name, {"GCS_BUCKET": settings.gcs_bucket, "GCS_HMAC_KEY": key, "GCS_HMAC_SECRET": secret})
        self._bucket = settings.gcs_bucket
        self._connect(
            region_name="auto",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
