"""One contract for all storages: a folder, Azure by Microsoft's emulator, S3 and what speaks like it by moto."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from botocore.session import get_session
from moto.server import ThreadedMotoServer

from common.settings import UnusableSetting
from delivery.settings import Settings
from delivery.storage import make_storage
from delivery.storage.base import Storage, StorageFault
from delivery.storage.gcs import GcsStorage
from delivery.storage.local import LocalStorage
from tools.azurite import ACCOUNT, KEY, Azurite, AzuriteUnavailable

Make = Callable[..., Settings]
NAME = "6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c11.png"
CONTENT = bytes(range(256)) * 1600


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    try:
        with Azurite() as running:
            with BlobServiceClient.from_connection_string(running.connection_string) as client:
                client.create_container("media")
            yield running
    except AzuriteUnavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = get_session().create_client(
        "s3", "ap-southeast-2", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="s3cret"
    )
    client.create_bucket(Bucket="media", CreateBucketConfiguration={"LocationConstraint": "ap-southeast-2"})
    client.close()
    yield url
    server.stop()


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    return moto


def azure_settings(running: Azurite, way: str) -> dict[str, Any]:
    common = {"storage_provider": "azure", "azure_container": "media"}
    if way == "connection string":
        return common | {"azure_storage_connection_string": running.connection_string}
    if way == "key":
        return common | {"azure_blob_url": running.url + "/", "azure_storage_key": KEY}
    may = ContainerSasPermissions(read=True, create=True, write=True, delete=True)
    sas = generate_container_sas(ACCOUNT, "media", KEY, permission=may, expiry="2100-01-01T00:00:00Z")
    return common | {"azure_blob_url": running.url, "azure_blob_sas": "?" + sas}


def s3_settings(url: str) -> dict[str, Any]:
    return {
        "storage_provider": "s3",
        "s3_bucket": "media",
        "s3_region": "ap-southeast-2",
        "s3_endpoint_url": url,
    }


GCS = {"storage_provider": "gcs", "gcs_bucket": "media", "gcs_hmac_key": "GOOG1", "gcs_hmac_secret": "s3cret"}
AZURE_WAYS = [pytest.param(f"azure by {way}", marks=pytest.mark.azurite) for way in ("connection string", "key", "SAS")]


@pytest.fixture
async def storage(
    request: pytest.FixtureRequest, make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storage]:
    kind: str = request.param
    if kind.startswith("azure"):
        given = azure_settings(request.getfixturevalue("azurite"), kind.removeprefix("azure by "))
    elif kind == "local":
        given = {"media_folder": str(tmp_path / "media")}
    else:
        url = request.getfixturevalue("bucket")
        monkeypatch.setattr(GcsStorage, "endpoint_url", url)
        given = GCS if kind == "gcs" else s3_settings(url)
    made = make_storage(make_settings(**given))
    assert kind.startswith(made.name)
    yield made
    await made.close()


@pytest.mark.parametrize("storage", ["local", *AZURE_WAYS, "s3", "gcs"], indirect=True)
async def test_what_was_put_is_there_until_it_is_deleted(storage: Storage) -> None:
    assert await storage.get(NAME) is None
    await storage.put(NAME, CONTENT, "image/png")
    assert await storage.get(NAME) == CONTENT
    await storage.put(NAME, CONTENT, "image/png")  # a second try, after an answer that was lost
    assert await storage.get(NAME) == CONTENT
    await storage.delete(NAME)
    assert await storage.get(NAME) is None
    await storage.delete(NAME)


@pytest.mark.azurite
async def test_azure_keeps_the_media_type_and_how_long_it_may_be_cached(azurite: Azurite, make_settings: Make) -> None:
    storage = make_storage(make_settings(**azure_settings(azurite, "key")))
    await storage.put("typed.png", CONTENT, "image/png")
    await storage.close()
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        told = client.get_blob_client("media", "typed.png").get_blob_properties()
    assert told.content_settings.content_type == "image/png"
    assert "immutable" in told.content_settings.cache_control


async def test_s3_keeps_the_media_type_and_how_long_it_may_be_cached(bucket: str, make_settings: Make) -> None:
    storage = make_storage(make_settings(**s3_settings(bucket)))
    await storage.put("typed.png", CONTENT, "image/png")
    await storage.close()
    client = get_session().create_client("s3", region_name="ap-southeast-2", endpoint_url=bucket)
    told = client.head_object(Bucket="media", Key="typed.png")
    client.close()
    assert told["ContentType"] == "image/png"
    assert "immutable" in told["CacheControl"]


async def check_fault(storage: Storage, *told: str) -> None:
    """Everything that a storage is asked fails with a StorageFault, which tells no secret."""
    for ask in (storage.put(NAME, b"x", "image/png"), storage.get(NAME), storage.delete(NAME)):
        with pytest.raises(StorageFault) as raised:
            await ask
        cause = repr(raised.value.__cause__)
        assert all(word in cause for word in told), cause
        assert "s3cret" not in cause
        assert "sig=" not in cause
    await storage.close()


@pytest.mark.azurite
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"azure_container": "elsewhere"}, "ContainerNotFound"),
        ({"azure_blob_sas": "sv=2024-11-04&sr=c&sp=rcd&se=2100-01-01T00%3A00%3A00Z&sig=s3cret%3D"}, "403"),
    ],
)
async def test_azure_that_refuses_is_a_fault_that_tells_no_signature(
    azurite: Azurite, make_settings: Make, changes: dict[str, Any], told: str
) -> None:
    way = "SAS" if "azure_blob_sas" in changes else "connection string"
    await check_fault(make_storage(make_settings(**(azure_settings(azurite, way) | changes))), told)


async def test_s3_that_refuses_is_a_fault(bucket: str, make_settings: Make) -> None:
    given = s3_settings(bucket) | {"s3_bucket": "elsewhere"}
    await check_fault(make_storage(make_settings(**given)), "NoSuchBucket")


@pytest.mark.parametrize("kind", ["azure", "s3"])
async def test_a_storage_that_is_away_is_a_fault(kind: str, make_settings: Make, bucket: str) -> None:
    nowhere = "http://127.0.0.1:9"
    azure = {"storage_provider": "azure", "azure_blob_url": nowhere, "azure_container": "media"}
    given = {"azure": azure | {"azure_blob_sas": "sp=rcd&sig=s3cret"}, "s3": s3_settings(nowhere)}[kind]
    await check_fault(make_storage(make_settings(**given)))


async def test_a_folder_that_cannot_be_used_is_a_fault(make_settings: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    await check_fault(make_storage(make_settings(media_folder=str(tmp_path / "file" / "media"))))


class Attic(LocalStorage):
    """A storage from outside the tree."""

    name = "attic"


async def test_a_storage_may_come_from_anywhere(make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    outside = types.ModuleType("outside_storage")
    outside.Attic = Attic  # type: ignore[attr-defined]
    outside.number = 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "outside_storage", outside)
    assert isinstance(make_storage(make_settings(storage_provider="outside_storage:Attic")), Attic)
    for wrong in ("attic", "outside_storage:Cellar", "no_such_module:Attic", "outside_storage:number", ":", "os:"):
        with pytest.raises(UnusableSetting, match="STORAGE_PROVIDER"):
            make_storage(make_settings(storage_provider=wrong))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"storage_provider": "azure"}, "AZURE_CONTAINER, AZURE_STORAGE_CONNECTION_STRING"),
        ({"storage_provider": "azure", "azure_container": "m", "azure_blob_url": "https://x"}, "AZURE_STORAGE_KEY"),
        ({"storage_provider": "azure", "azure_container": "m", "azure_storage_connection_string": "x"}, "malformed"),
        ({"storage_provider": "s3", "s3_bucket": "m"}, "S3_REGION"),
        ({"storage_provider": "gcs", "gcs_bucket": "m"}, "GCS_HMAC_KEY, GCS_HMAC_SECRET"),
    ],
)
def test_what_is_missing_is_named(given: dict[str, Any], told: str, make_settings: Make) -> None:
    with pytest.raises(UnusableSetting, match=told):
        make_storage(make_settings(**given))
