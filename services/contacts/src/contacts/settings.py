"""The settings of the contacts service: environment variables, checked once at the start."""

from typing import ClassVar

from pydantic import Field, SecretStr, field_validator
from svix.webhooks import Webhook

from common.settings import StoreSettings


class Settings(StoreSettings):
    """Settings of the contacts service."""

    service: ClassVar[str] = "contacts"

    port: int = Field(8081, validation_alias="CONTACTS_PORT")
    worker_port: int = Field(8181, validation_alias="CONTACTS_WORKER_PORT", description="port of the worker's health")
    database_url: SecretStr = Field(validation_alias="CONTACTS_DATABASE_URL")
    delivery_url: str = Field("http://127.0.0.1:8083", description="internal address of delivery")
    scheduling_url: str = Field("http://127.0.0.1:8082", description="internal address of scheduling")
    retention_import_days: int = Field(7, ge=1, le=36_500, description="after that a finished import is deleted")
    retention_erasure_days: int = Field(
        2555, ge=365, le=36_500, description="after that the record of an erasure is deleted"
    )
    clerk_webhook_signing_secret: SecretStr = Field(description="signing secret (whsec_…) of Clerk's webhook endpoint")

    @field_validator("clerk_webhook_signing_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr) -> SecretStr:
        try:
            Webhook(secret.get_secret_value())
        except (RuntimeError, ValueError):
            raise ValueError("must be the signing secret of Clerk's webhook endpoint: whsec_ and base64") from None
        return secret
