"""Azure Blob Storage: one container of one account, by Microsoft's own client."""

import logging
from typing import Any, NoReturn

from azure.core.credentials import AzureSasCredential
from azure.core.exceptions import AzureError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import ContainerClient, LinearRetry

from common.settings import InvalidSetting
from delivery.settings import Settings, require
from delivery.storage.base import Storage, StorageFault

# The client logs every request at INFO; what it leaves out of the address is its business, not ours.
logging.getLogger("azure").setLevel(logging.WARNING)
_CACHE = "public, max-age=31536000, immutable"
_MISSING = "BlobNotFound"  # a container that is missing is a fault, not a file that is not there


class AzureStorage(Storage):
    """By a connection string; or by the account's address with its key, or with a signature (SAS) for the container
    that may create, read and delete blobs."""

    name = "azure"

    def __init__(self, settings: Settings) -> None:
        url, container = settings.azure_blob_url.rstrip("/"), settings.azure_container
        connection = settings.azure_storage_connection_string.get_secret_value()
        key = settings.azure_storage_key.get_secret_value()
        sas = settings.azure_blob_sas.get_secret_value().removeprefix("?")
        ways = "AZURE_STORAGE_CONNECTION_STRING (or AZURE_BLOB_URL with AZURE_STORAGE_KEY or AZURE_BLOB_SAS)"
        require(self.name, {"AZURE_CONTAINER": container, ways: connection or (url and (key or sas))})
        # An upload waits for this: two more tries, a second apart.
        patience: dict[str, Any] = {
            "retry_policy": LinearRetry(backoff=1, retry_total=2, random_jitter_range=0),
            "connection_timeout": 5,
            "read_timeout": 20,
        }
        try:
            if connection:
                self._container = ContainerClient.from_connection_string(connection, container, **patience)
            else:
                credential = key or AzureSasCredential(sas)
                self._container = ContainerClient(url, container, credential=credential, **patience)
        except ValueError as error:
            raise InvalidSetting(f"AZURE_STORAGE_CONNECTION_STRING, AZURE_BLOB_URL: {error}") from None

    async def put(self, name: str, content: bytes, content_type: str) -> None:
        told = ContentSettings(content_type=content_type, cache_control=_CACHE)
        try:
            # A try after a lost answer finds its own blob: names are never used twice, so overwriting harms nobody.
            await self._container.upload_blob(name, content, overwrite=True, content_settings=told)
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


def _code(error: AzureError) -> str:
    return str(getattr(getattr(error, "error_code", ""), "value", getattr(error, "error_code", "")))


def _fail(error: AzureError) -> NoReturn:
    status = getattr(error, "status_code", "")
    raise StorageFault from RuntimeError(f"{type(error).__name__} {status} {_code(error)}".strip())
