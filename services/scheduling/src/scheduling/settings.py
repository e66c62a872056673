"""The settings of scheduling's processes, besides those that all services have."""

from typing import ClassVar

from pydantic import Field, SecretStr

from common.settings import MessageStoreSettings


class Settings(MessageStoreSettings):
    """Settings of scheduling's processes."""

    service: ClassVar[str] = "scheduling"

    port: int = Field(8082, validation_alias="SCHEDULING_PORT")
    worker_port: int = Field(8182, validation_alias="SCHEDULING_WORKER_PORT")
    database_url: SecretStr = Field(validation_alias="SCHEDULING_DATABASE_URL")
    contacts_url: str = Field("http://127.0.0.1:8081", description="internal address of contacts")
    delivery_url: str = Field("http://127.0.0.1:8083", description="internal address of delivery")
    sms_max_parts: int = Field(10, ge=1, le=255, description="parts of the longest SMS that is accepted")
    bulk_window: int = Field(3000, ge=1, description="messages of one batch that are in processing at a time")
    sweep_after_s: float = Field(120.0, gt=0, description="seconds in processing before delivery is asked")
