"""Amazon S3 and compatible stores: one bucket, by aiobotocore."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, ClassVar, NoReturn

import aiohttp
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from delivery.settings import OwnSettings, Settings
from delivery.storage.base import Storage, StorageError

_CACHE = "public, max-age=31536000, immutable"
_MISSING = "NoSuchKey"  # a missing bucket is an error, a missing file is not
_ERRORS = (BotoCoreError, ClientError, aiohttp.ClientError, TimeoutError, OSError)


class S3Settings(OwnSettings):
    """The settings S3_… Credentials are read by AWS's library: from the environment, a file or a role."""

    model_config = SettingsConfigDict(env_prefix="S3_")

    bucket: str = Field("", description="credentials as for AWS's own tools")
    region: str = ""
    endpoint_url: str = Field("", description="address of a store that is compatible with S3; empty: AWS")


class S3Storage(Storage):
    """One bucket."""

    name = "s3"
    settings_class: ClassVar[type[BaseSettings]] = S3Settings

    def __init__(self, settings: Settings, own: S3Settings | None = None) -> None:
        own = own or S3Settings.from_environment()
        own.require("bucket", "region")
        self._prepare(own.bucket, region_name=own.region, endpoint_url=own.endpoint_url or None)

    def _prepare(self, bucket: str, **options: Any) -> None:
        """Set the bucket and the options of the client, which is created at its first use: it needs an event loop."""
        self._bucket = bucket
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
        except _ERRORS as error:
            _fail(error)

    async def get(self, name: str) -> bytes | None:
        try:
            client = await self._get_client()
            answer = await client.get_object(Bucket=self._bucket, Key=name)
            async with answer["Body"] as body:
                content: bytes = await body.read()
            return content
        except _ERRORS as error:
            if _code(error) != _MISSING:
                _fail(error)
            return None

    async def delete(self, name: str) -> None:
        try:
            client = await self._get_client()
            await client.delete_object(Bucket=self._bucket, Key=name)
        except _ERRORS as error:
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
                    # Compatible stores refuse the checksums that newer clients add.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                client = get_session().create_client("s3", config=config, **self._options)
                self._client = await self._opened.enter_async_context(client)
        return self._client


def _code(error: BaseException) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _fail(error: BaseException) -> NoReturn:
    raise StorageError from RuntimeError(f"{type(error).__name__} {_code(error)}".strip())
