"""The storages as a table of two: a folder, and a stand-in that speaks Azure's REST."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from delivery.settings import Settings
from delivery.storage import make_storage
from delivery.storage.base import StorageFault

SAS = "sv=2021-12-02&sr=c&sig=s3cret%3D"


class Blobs:
    """Keeps what is put, as Azure does; answers `status` when it is set."""

    def __init__(self) -> None:
        self.url = ""
        self.kept: dict[str, tuple[bytes, str | None]] = {}
        self.status = 0

    async def put(self, request: web.Request) -> web.Response:
        assert request.query_string == SAS
        assert request.headers["x-ms-blob-type"] == "BlockBlob"
        assert request.headers["x-ms-version"]
        if self.status:
            return web.Response(status=self.status, headers={"x-ms-error-code": "AuthorizationFailure"})
        if request.path in self.kept and request.headers["If-None-Match"] == "*":
            return web.Response(status=409, headers={"x-ms-error-code": "BlobAlreadyExists"})
        self.kept[request.path] = (await request.read(), request.headers.get("Content-Type"))
        return web.Response(status=201)


@pytest.fixture
async def blobs() -> AsyncIterator[Blobs]:
    made = Blobs()
    app = web.Application()
    app.router.add_put("/{container}/{name}", made.put)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    made.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def azure(blobs: Blobs, make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        azure = {"azure_blob_url": blobs.url, "azure_container": "media", "azure_blob_sas": SAS}
        given = {"storage_provider": "azure", **azure}
        return make_settings(**(given | changes))

    return make


async def test_azure_keeps_a_blob_and_hands_out_its_url_without_the_signature(blobs: Blobs, azure: Any) -> None:
    storage = make_storage(azure())
    url = await storage.put("a.png", b"x" * 1000, "image/png")
    assert url == f"{blobs.url}/media/a.png"
    assert blobs.kept == {"/media/a.png": (b"x" * 1000, "image/png")}
    with pytest.raises(StorageFault):
        await storage.put("a.png", b"other", "image/png")
    await storage.close()


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_azure_that_refuses_is_a_fault_that_tells_no_signature(blobs: Blobs, azure: Any, status: int) -> None:
    blobs.status = status
    storage = make_storage(azure())
    with pytest.raises(StorageFault) as raised:
        await storage.put("a.png", b"x", "image/png")
    assert "s3cret" not in repr(raised.value.__cause__)
    await storage.close()


async def test_azure_that_is_away_is_a_fault(azure: Any) -> None:
    storage = make_storage(azure(azure_blob_url="http://127.0.0.1:9"))
    with pytest.raises(StorageFault):
        await storage.put("a.png", b"x", "image/png")
    await storage.close()


async def test_a_folder_that_cannot_be_written_is_a_fault(make_settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    storage = make_storage(make_settings(media_folder=str(tmp_path / "file" / "media")))
    with pytest.raises(StorageFault):
        await storage.put("a.png", b"x", "image/png")


def test_what_is_missing_or_unknown_is_named(make_settings: Any, azure: Any) -> None:
    with pytest.raises(ValueError, match="AZURE_BLOB_SAS"):
        azure(azure_blob_sas="")
    with pytest.raises(ValueError, match="attic"):
        make_storage(make_settings(storage_provider="attic"))
