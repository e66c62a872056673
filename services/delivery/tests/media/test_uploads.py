"""POST /api/sms/upload-file/, and the links that it returns."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.database import Database
from delivery.app import create_app
from delivery.media.rules import Links
from delivery.settings import Settings

from ..conftest import SECRET

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100
LIMIT = 409_600


@pytest.fixture
async def client(
    database: Database,
    make_settings: Callable[..., Settings],
    serve: Callable[[Any], httpx.AsyncClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("MEDIA_FOLDER", str(tmp_path / "media"))
    app = create_app(make_settings(public_url="https://sms.test/"))
    async with serve(app) as client, app.router.lifespan_context(app):
        yield client


@pytest.fixture
def headers(bearer: Callable[..., dict[str, str]], organisation: str) -> dict[str, str]:
    return bearer("delivery", organisation, user_id=5)


@pytest.mark.parametrize(
    ("content", "content_type", "extension"),
    [
        (PNG, "image/png", ".png"),
        (b"\xff\xd8\xff\xe0" + b"x", "image/jpeg", ".jpg"),
        (b"GIF87a" + b"x", "image/gif", ".gif"),
        (b"GIF89a" + b"x", "image/gif", ".gif"),
        (PNG[:8] + b"x" * (LIMIT - 8), "image/png", ".png"),
    ],
)
async def test_an_image_is_stored_and_can_be_fetched_by_its_link(
    client: httpx.AsyncClient,
    headers: dict[str, str],
    rows: Any,
    organisation: str,
    content: bytes,
    content_type: str,
    extension: str,
) -> None:
    answer = await client.post("/api/sms/upload-file/", files={"file": ("x.exe", content)}, headers=headers)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["size"], body["content_type"]) == (len(content), content_type)
    assert body["file_id"].endswith(extension)
    assert body["url"].startswith("https://sms.test/media/")
    assert body["url"].endswith(body["file_id"])
    fetched = await client.get(body["url"].removeprefix("https://sms.test"))
    assert (fetched.status_code, fetched.content) == (200, content)
    assert fetched.headers["content-type"] == content_type
    (row,) = await rows("SELECT * FROM media")
    assert (row.organisation_id, row.name, row.created_by) == (organisation, body["file_id"], 5)


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7", b"<svg/>", b"RIFF....WEBP"])
async def test_anything_but_an_image_is_refused_under_file(
    client: httpx.AsyncClient, headers: dict[str, str], content: bytes, rows: Any
) -> None:
    answer = await client.post(
        "/api/sms/upload-file/", files={"file": ("x.png", content, "image/png")}, headers=headers
    )
    assert answer.status_code == 400
    assert "file" in answer.json()
    assert not await rows("SELECT id FROM media")


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 50_000, 3_000_000])
async def test_a_file_that_is_too_large_is_413(client: httpx.AsyncClient, headers: dict[str, str], size: int) -> None:
    content = PNG + b"x" * (size - len(PNG))
    answer = await client.post("/api/sms/upload-file/", files={"file": ("x.png", content)}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_request_that_is_no_upload_is_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    url = "/api/sms/upload-file/"
    assert (await client.post(url, json={"file": "x"}, headers=headers)).status_code == 415
    assert (await client.post(url, files={"other": ("x.png", PNG)}, headers=headers)).status_code == 400
    malformed = headers | {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await client.post(url, content=b"--y nonsense", headers=malformed)).status_code == 400
    without_boundary = headers | {"Content-Type": "multipart/form-data"}
    assert (await client.post(url, content=b"", headers=without_boundary)).status_code == 400
    assert (await client.post(url, files={"file": ("x.png", PNG)})).status_code == 401


async def test_an_upload_repeated_with_its_key_is_stored_once(
    client: httpx.AsyncClient, headers: dict[str, str], rows: Any
) -> None:
    keyed = headers | {"Idempotency-Key": "k1"}
    first = await client.post("/api/sms/upload-file/", files={"file": ("x.png", PNG)}, headers=keyed)
    again = await client.post("/api/sms/upload-file/", files={"file": ("x.png", PNG)}, headers=keyed)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len(await rows("SELECT id FROM media")) == 1


async def test_a_link_with_another_signature_is_404(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    upload = await client.post("/api/sms/upload-file/", files={"file": ("x.png", PNG)}, headers=headers)
    path = upload.json()["url"].removeprefix("https://sms.test")
    _, _, signature, name = path.split("/")
    for wrong in (
        f"/media/{'0' * 32}/{name}",
        f"/media/{signature}/other.png",
        f"/media/{signature}/..%2F..%2Fetc%2Fpasswd",
        f"/media/é/{name}",
    ):
        assert (await client.get(wrong)).status_code == 404


async def test_head_returns_the_headers_of_a_file(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    upload = await client.post("/api/sms/upload-file/", files={"file": ("x.png", PNG)}, headers=headers)
    answer = await client.head(upload.json()["url"].removeprefix("https://sms.test"))
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(PNG)))
    assert answer.headers["content-type"] == "image/png"


def test_links_survive_a_new_internal_secret_and_may_use_a_public_address(
    make_settings: Callable[..., Settings],
) -> None:
    before = Links.of(make_settings())
    name = "6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c11.png"
    signature = before.url(name).split("/")[-2]
    assert not Links.of(make_settings(internal_token_secret="n" * 32)).is_valid(signature, name)
    with_old_secret = make_settings(internal_token_secret="n" * 32, media_link_secret=SECRET)
    assert Links.of(with_old_secret).is_valid(signature, name)
    public = make_settings(media_public_url="https://cooee.blob.core.windows.net/media/")
    assert Links.of(public).url(name) == f"https://cooee.blob.core.windows.net/media/{name}"


async def test_an_unavailable_storage_is_503(
    client: httpx.AsyncClient, headers: dict[str, str], tmp_path: Path, rows: Any
) -> None:
    upload = await client.post("/api/sms/upload-file/", files={"file": ("x.png", PNG)}, headers=headers)
    path = upload.json()["url"].removeprefix("https://sms.test")
    (tmp_path / "media").rename(tmp_path / "moved")
    (tmp_path / "media").write_text("not a folder")
    assert (await client.get(path)).status_code == 503
    answer = await client.post("/api/sms/upload-file/", files={"file": ("x.png", PNG)}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert len(await rows("SELECT id FROM media")) == 1
