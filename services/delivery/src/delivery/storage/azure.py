"""Azure Blob Storage: one container of one account, by Microsoft's own client library."""

import logging
from typing import Any, NoReturn

from azure.core.credentials import AzureSasCredential
from azure.core.exceptions import AzureError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import ContainerClient, LinearRetry
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from common.settings import InvalidSetting
from delivery.settings import OwnSettings, Settings
from delivery.storage.base import Storage, StorageError

# The library logs the address of every request at INFO, and addresses may have signatures.
logging.getLogger("azure").setLevel(logging.WARNING)
_CACHE = "public, max-age=31536000, immutable"
_MISSING = "BlobNotFound"  # a missing container is an error, a missing file is not


class AzureSettings(OwnSettings):
    """The settings AZURE_…: a connection string, or the account's address with a key or a signature (SAS)."""

    model_config = SettingsConfigDict(env_prefix="AZURE_")

    container: str = ""
    storage_connection_string: SecretStr = Field(SecretStr(""), description="this, or the address with one of:")
    blob_url: str = Field("", description="the storage account's address")
    storage_key: SecretStr = SecretStr("")
    blob_sas: SecretStr = Field(SecretStr(""), description="may create, read and delete the container's blobs")


class AzureStorage(Storage):
    """One container."""

    name = "azure"
    settings_class = AzureSettings

    def __init__(self, settings: Settings, own: AzureSettings | None = None) -> None:
        own = own or AzureSettings.from_environment()
        own.require("container")
        self._container = _make_client(own)

    async def put(self, name: str, content: bytes, content_type: str) -> None:
        headers = ContentSettings(content_type=content_type, cache_control=_CACHE)
        try:
            # A second try after a lost answer finds its own blob. No other file has this name, so it may overwrite.
            await self._container.upload_blob(name, content, overwrite=True, content_settings=headers)
        except AzureError as error:
            _fail(error)

    async def get(self, name: str) -> bytes | None:
        try:
            return await (await self._container.download_blob(name)).readall()
        except AzureError as error:
            if _code(error) != _MISSING:
                _fail(error)
            return None

    async def delete(self, name: str) -> None:
        try:
            await self._container.delete_blob(name)
        except AzureError as error:
            if _code(error) != _MISSING:
                _fail(error)

    async def close(self) -> None:
        await self._container.close()


def _make_client(own: AzureSettings) -> ContainerClient:
    """Return the client. Raises InvalidSetting if the settings do not suffice."""
    connection, key = own.storage_connection_string.get_secret_value(), own.storage_key.get_secret_value()
    url, sas = own.blob_url.rstrip("/"), own.blob_sas.get_secret_value().removeprefix("?")
    if not (connection or (url and (key or sas))):
        raise InvalidSetting(
            "AZURE_STORAGE_CONNECTION_STRING, or AZURE_BLOB_URL with AZURE_STORAGE_KEY or AZURE_BLOB_SAS: required"
        )
    # A person waits for an upload, so there are only two more tries, one second apart.
    options: dict[str, Any] = {
        "retry_policy": LinearRetry(backoff=1, retry_total=2, random_jitter_range=0),
        "connection_timeout": 5,
        "read_timeout": 20,
    }
    try:
        if connection:
            return ContainerClient.from_connection_string(connection, own.container, **options)
        credential = key or AzureSasCredential(sas)
        return ContainerClient(url, own.container, credential=credential, **options)
    except ValueError as error:
        raise InvalidSetting(f"AZURE_STORAGE_CONNECTION_STRING, AZURE_BLOB_URL: {error}") from None


def _code(error: AzureError) -> str:
    return str(getattr(getattr(error, "error_code", ""), "value", getattr(error, "error_code", "")))


def _fail(error: AzureError) -> NoReturn:
    status = getattr(error, "status_code", "")
    raise StorageError from RuntimeError(f"{type(error).__name__} {status} {_code(error)}".strip())
