"""One contract for all storages: a folder, Azure with Microsoft's emulator, S3 and compatible stores with moto."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from botocore.session import get_session
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from common.settings import InvalidSetting, env_name
from delivery.settings import Settings
from delivery.storage import make_storage, settings_classes
from delivery.storage.azure import AzureSettings, AzureStorage
from delivery.storage.base import Storage, StorageError
from delivery.storage.gcs import GcsSettings, GcsStorage
from delivery.storage.local import LocalSettings, LocalStorage
from delivery.storage.s3 import S3Settings, S3Storage
from tools.azurite import ACCOUNT, KEY, Azurite, AzuriteUnavailable
from tools.npm import NpmUnavailable

MakeSettings = Callable[..., Settings]
NOWHERE = "http://127.0.0.1:9"
NAME = "6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c11.png"
CONTENT = bytes(range(256)) * 1600


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    try:
        with Azurite() as running:
            with BlobServiceClient.from_connection_string(running.connection_string) as client:
                client.create_container("media")
            yield running
    except (AzuriteUnavailable, NpmUnavailable) as reason:
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


def azure_settings(running: Azurite, way: str) -> AzureSettings:
    if way == "connection string":
        return AzureSettings(container="media", storage_connection_string=SecretStr(running.connection_string))
    if way == "key":
        return AzureSettings(container="media", blob_url=running.url + "/", storage_key=SecretStr(KEY))
    may = ContainerSasPermissions(read=True, create=True, write=True, delete=True)
    sas = generate_container_sas(ACCOUNT, "media", KEY, permission=may, expiry="2100-01-01T00:00:00Z")
    return AzureSettings(container="media", blob_url=running.url, blob_sas=SecretStr("?" + sas))


def s3_settings(url: str, bucket: str = "media") -> S3Settings:
    return S3Settings(bucket=bucket, region="ap-southeast-2", endpoint_url=url)


GCS = GcsSettings(bucket="media", hmac_key="GOOG1", hmac_secret=SecretStr("s3cret"))
AZURE_WAYS = [pytest.param(f"azure by {way}", marks=pytest.mark.azurite) for way in ("connection string", "key", "SAS")]


@pytest.fixture
async def storage(
    request: pytest.FixtureRequest, make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storage]:
    kind: str = request.param
    settings = make_settings()
    opened: Storage
    if kind.startswith("azure"):
        own = azure_settings(request.getfixturevalue("azurite"), kind.removeprefix("azure by "))
        opened = AzureStorage(settings, own)
    elif kind == "local":
        opened = LocalStorage(settings, LocalSettings(folder=str(tmp_path / "media")))
    else:
        url = request.getfixturevalue("bucket")
        monkeypatch.setattr(GcsStorage, "endpoint_url", url)
        opened = GcsStorage(settings, GCS) if kind == "gcs" else S3Storage(settings, s3_settings(url))
    assert kind.startswith(opened.name)
    yield opened
    await opened.close()


@pytest.mark.parametrize("storage", ["local", *AZURE_WAYS, "s3", "gcs"], indirect=True)
async def test_a_stored_file_can_be_read_until_it_is_deleted(storage: Storage) -> None:
    assert await storage.get(NAME) is None
    await storage.put(NAME, CONTENT, "image/png")
    assert await storage.get(NAME) == CONTENT
    await storage.put(NAME, CONTENT, "image/png")  # a second try after a lost answer
    assert await storage.get(NAME) == CONTENT
    await storage.delete(NAME)
    assert await storage.get(NAME) is None
    await storage.delete(NAME)


@pytest.mark.azurite
async def test_azure_stores_the_media_type_and_the_cache_control(azurite: Azurite, make_settings: MakeSettings) -> None:
    storage = AzureStorage(make_settings(), azure_settings(azurite, "key"))
    await storage.put("typed.png", CONTENT, "image/png")
    await storage.close()
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        properties = client.get_blob_client("media", "typed.png").get_blob_properties()
    assert properties.content_settings.content_type == "image/png"
    assert "immutable" in properties.content_settings.cache_control


async def test_s3_stores_the_media_type_and_the_cache_control(bucket: str, make_settings: MakeSettings) -> None:
    storage = S3Storage(make_settings(), s3_settings(bucket))
    await storage.put("typed.png", CONTENT, "image/png")
    await storage.close()
    client = get_session().create_client("s3", region_name="ap-southeast-2", endpoint_url=bucket)
    answer = client.head_object(Bucket="media", Key="typed.png")
    client.close()
    assert answer["ContentType"] == "image/png"
    assert "immutable" in answer["CacheControl"]


async def check_error(storage: Storage, *expected: str) -> None:
    """Check that every operation raises a StorageError whose cause has these texts and no secret."""
    for operation in (storage.put(NAME, b"x", "image/png"), storage.get(NAME), storage.delete(NAME)):
        with pytest.raises(StorageError) as raised:
            await operation
        cause = repr(raised.value.__cause__)
        assert all(text in cause for text in expected), cause
        assert "s3cret" not in cause
        assert "sig=" not in cause
    await storage.close()


@pytest.mark.azurite
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"container": "elsewhere"}, "ContainerNotFound"),
        ({"blob_sas": SecretStr("sv=2024-11-04&sr=c&sp=rcd&se=2100-01-01T00%3A00%3A00Z&sig=s3cret%3D")}, "403"),
    ],
)
async def test_a_refusal_of_azure_is_an_error_without_the_signature(
    azurite: Azurite, make_settings: MakeSettings, changes: dict[str, Any], expected: str
) -> None:
    own = azure_settings(azurite, "SAS" if "blob_sas" in changes else "connection string")
    await check_error(AzureStorage(make_settings(), own.model_copy(update=changes)), expected)


async def test_a_refusal_of_s3_is_an_error(bucket: str, make_settings: MakeSettings) -> None:
    await check_error(S3Storage(make_settings(), s3_settings(bucket, "elsewhere")), "NoSuchBucket")


async def test_an_unavailable_azure_is_an_error(make_settings: MakeSettings) -> None:
    own = AzureSettings(container="media", blob_url=NOWHERE, blob_sas=SecretStr("sp=rcd&sig=s3cret"))
    await check_error(AzureStorage(make_settings(), own))


async def test_an_unavailable_s3_is_an_error(make_settings: MakeSettings, bucket: str) -> None:
    await check_error(S3Storage(make_settings(), s3_settings(NOWHERE)))


async def test_an_unusable_folder_is_an_error(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    await check_error(LocalStorage(make_settings(), LocalSettings(folder=str(tmp_path / "file" / "media"))))


class Attic(LocalStorage):
    """A storage from outside the repository."""

    name = "attic"


async def test_a_storage_may_be_a_class_from_outside(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    outside = types.ModuleType("outside_storage")
    outside.Attic = Attic  # type: ignore[attr-defined]
    outside.number = 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "outside_storage", outside)
    assert isinstance(make_storage(make_settings(storage_provider="outside_storage:Attic")), Attic)
    for wrong in ("attic", "outside_storage:Cellar", "no_such_module:Attic", "outside_storage:number", ":", "os:"):
        with pytest.raises(InvalidSetting, match="STORAGE_PROVIDER"):
            make_storage(make_settings(storage_provider=wrong))


@pytest.mark.parametrize(
    ("name", "variables", "expected"),
    [
        ("azure", {}, "AZURE_CONTAINER: required"),
        ("azure", {"AZURE_CONTAINER": "m"}, "AZURE_STORAGE_CONNECTION_STRING"),
        ("azure", {"AZURE_CONTAINER": "m", "AZURE_BLOB_URL": "https://x"}, "AZURE_STORAGE_KEY"),
        ("azure", {"AZURE_CONTAINER": "m", "AZURE_STORAGE_CONNECTION_STRING": "x"}, "malformed"),
        ("s3", {"S3_BUCKET": "m"}, "S3_REGION: required"),
        ("gcs", {"GCS_BUCKET": "m"}, "GCS_HMAC_KEY, GCS_HMAC_SECRET: required"),
    ],
)
def test_a_missing_variable_is_named(
    name: str,
    variables: dict[str, str],
    expected: str,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting, match=expected):
        make_storage(make_settings(storage_provider=name))


async def test_the_configured_storage_reads_its_variables(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIA_FOLDER", str(tmp_path))
    storage = make_storage(make_settings())
    await storage.put(NAME, CONTENT, "image/png")
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_every_storage_has_settings_of_its_own() -> None:
    variables = [env_name(cls, field) for cls in settings_classes() for field in cls.model_fields]
    assert {"MEDIA_FOLDER", "AZURE_CONTAINER", "S3_BUCKET", "GCS_BUCKET"} <= set(variables)
    assert len(variables) == len(set(variables))
