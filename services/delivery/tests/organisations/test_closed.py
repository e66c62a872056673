"""Every route refuses a closed organisation until it is opened again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from common.database import Database
from common.events import OrganisationChanged
from delivery.app import create_app
from delivery.organisations import consumers
from delivery.settings import Settings

ROUTES = [
    ("GET", "/api/configs/", None),
    ("POST", "/api/configs/", {"name": "greeting", "value": "Hi"}),
    ("GET", "/api/configs/1/", None),
    ("PUT", "/api/configs/1/", {"name": "greeting", "value": "Hi"}),
    ("PATCH", "/api/configs/1/", {"value": "Hi"}),
    ("GET", "/api/messages/", None),
]
Consume = Callable[..., Awaitable[None]]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture
async def client(
    database: Database,
    make_settings: Callable[..., Settings],
    serve: Callable[[Any], httpx.AsyncClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("MEDIA_FOLDER", str(tmp_path))
    app = create_app(make_settings())
    async with serve(app) as client, app.router.lifespan_context(app):
        yield client


@pytest.fixture
def consume(database: Database) -> Consume:
    """`await consume(event, …)` consumes one batch of Kafka records."""

    async def run(*events: OrganisationChanged) -> None:
        records: list[Any] = [
            SimpleNamespace(
                topic=event.topic, partition=0, offset=offset, key=b"1", value=event.model_dump_json().encode()
            )
            for offset, event in enumerate(events)
        ]
        await consumers.on_organisation_changed(database, records)

    return run


async def test_all_routes_answer_403_while_it_is_closed(
    client: httpx.AsyncClient, consume: Consume, bearer: Callable[..., dict[str, str]], organisation: str
) -> None:
    closed = OrganisationChanged(organisation_id=organisation, closed=True, version=2)
    older = OrganisationChanged(organisation_id=organisation, closed=False, version=1)
    await consume(closed, older)
    await consume(older)
    admin = bearer("delivery", organisation, role="admin")
    for method, path, body in ROUTES:
        answer = await client.request(method, path, json=body, headers=admin)
        assert (answer.status_code, answer.json()["detail"]) == (403, "This organisation is closed."), path
    upload = await client.post("/api/sms/upload-file/", files={"file": ("a.png", PNG)}, headers=admin)
    assert upload.status_code == 403
    other = bearer("delivery", "org_other", role="admin")
    assert (await client.get("/api/configs/", headers=other)).status_code == 200
    await consume(OrganisationChanged(organisation_id=organisation, closed=False, version=3))
    assert (await client.get("/api/configs/", headers=admin)).status_code == 200
