"""Azure Blob Storage, by its REST interface: one container, readable by anyone who has a blob's URL."""

import aiohttp

from delivery.settings import Settings
from delivery.storage.base import Storage, StorageFault

_VERSION = "2021-12-02"
_TIMEOUT_S = 20.0


class AzureStorage(Storage):
    """`AZURE_BLOB_URL` is the account's address, `AZURE_BLOB_SAS` a signature that may create blobs in the container.

    The URLs that are handed out do not hold the signature: the container has public access to blobs.
    """

    name = "azure"

    def __init__(self, settings: Settings) -> None:
        self._container = f"{settings.azure_blob_url.rstrip('/')}/{settings.azure_container}"
        self._sas = settings.azure_blob_sas.get_secret_value().removeprefix("?")
        self._session: aiohttp.ClientSession | None = None

    async def put(self, name: str, content: bytes, content_type: str) -> str:
        url = f"{self._container}/{name}"
        headers = {
            "x-ms-version": _VERSION,
            "x-ms-blob-type": "BlockBlob",
            "x-ms-blob-cache-control": "public, max-age=31536000, immutable",
            "Content-Type": content_type,
            "If-None-Match": "*",
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        try:
            async with self._session.put(f"{url}?{self._sas}", data=content, headers=headers) as answer:
                status, code = answer.status, answer.headers.get("x-ms-error-code", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The error's own words may hold the address with its signature.
            raise StorageFault from RuntimeError(type(error).__name__)
        if status != 201:
            raise StorageFault from RuntimeError(f"{status} {code}")
        return url

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
