"""Amazon S3, and what speaks like it: one bucket, by aiobotocore."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, NoReturn

import aiohttp
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from delivery.settings import Settings, require
from delivery.storage.base import Storage, StorageFault

_CACHE = "public, max-age=31536000, immutable"
_MISSING = "NoSuchKey"  # a bucket that is missing is a fault, not a file that is not there
_FAULTS = (BotoCoreError, ClientError, aiohttp.ClientError, TimeoutError, OSError)


class S3Storage(Storage):
    """`S3_BUCKET` in `S3_REGION`; credentials where AWS's own tools find them: environment, file, role.

    `S3_ENDPOINT_URL` is for stores that speak S3's interface elsewhere.
    """

    name = "s3"

    def __init__(self, settings: Settings) -> None:
        require(self.name, {"S3_BUCKET": settings.s3_bucket, "S3_REGION": settings.s3_region})
        self._bucket = settings.s3_bucket
        self._connect(region_name=settings.s3_region, endpoint_url=settings.s3_endpoint_url or None)

    def _connect(self, **options: Any) -> None:
        """Keeps how the client is made, at the first use: that needs a running event loop."""
        self._options = options
        self._opening = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._client: Any = None

    async def put(self, name: str, content: bytes, content_type: str) -> None:
        try:
            client = await self._get_client()
            await client.put_object(
                Bucket=self._bucket, Key=name, Body=content, ContentType=content_type, CacheControl=_CACHE
            )
        except _FAULTS as error:
            _fail(error)

    async def get(self, name: str) -> bytes | None:
        try:
            client = await self._get_client()
            answer = await client.get_object(Bucket=self._bucket, Key=name)
            async with answer["Body"] as body:
                content: bytes = await body.read()
            return content
        except _FAULTS as error:
            if _code(error) != _MISSING:
                _fail(error)
            return None

    async def delete(self, name: str) -> None:
        try:
            client = await self._get_client()
            await client.delete_object(Bucket=self._bucket, Key=name)
        except _FAULTS as error:
            if _code(error) != _MISSING:
                _fail(error)

    async def close(self) -> None:
        await self._opened.aclose()

    async def _get_client(self) -> Any:
        async with self._opening:
            if self._client is None:
                config = AioConfig(
                    connect_timeout=5,
                    read_timeout=20,
                    retries={"mode": "standard", "total_max_attempts": 3},
                    # Stores that only speak like S3 refuse the checksums that newer clients add.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                made = get_session().create_client("s3", config=config, **self._options)
                self._client = await self._opened.enter_async_context(made)
        return self._client


def _code(error: BaseException) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _fail(error: BaseException) -> NoReturn:
    raise StorageFault from RuntimeError(f"{type(error).__name__} {_code(error)}".strip())
