"""Old media are deleted unless a schedule needs them. A fake scheduling service says which it needs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from common.clients import ServiceClient
from common.database import Database
from common.errors import Unavailable
from delivery.media.loops import remove_old_media
from delivery.settings import Settings
from delivery.storage.base import StorageError
from delivery.storage.local import LocalSettings, LocalStorage

from ..conftest import SECRET

RETENTION = timedelta(days=30)
Rows = Callable[..., Awaitable[list[Any]]]
Put = Callable[..., Awaitable[str]]
Names = Callable[[], Awaitable[set[str]]]


class FakeScheduling:
    """Answers which files are used, and records the questions."""

    def __init__(self) -> None:
        self.url = ""
        self.used: set[str] = set()
        self.asked: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        return web.json_response({"used": [name for name in self.asked[-1]["names"] if name in self.used]})


@pytest.fixture
async def scheduling() -> AsyncIterator[FakeScheduling]:
    fake = FakeScheduling()
    app = web.Application()
    app.router.add_post("/internal/media/used/", fake.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    fake.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def client(scheduling: FakeScheduling) -> AsyncIterator[ServiceClient]:
    opened = ServiceClient(scheduling.url, issuer="delivery", audience="scheduling", secret=SECRET)
    yield opened
    await opened.close()


@pytest.fixture
def storage(make_settings: Callable[..., Settings], tmp_path: Path) -> LocalStorage:
    return LocalStorage(make_settings(), LocalSettings(folder=str(tmp_path)))


@pytest.fixture
def put(storage: LocalStorage, execute: Callable[..., Awaitable[None]], organisation: str) -> Put:
    """`await put("a", days=40)` stores a file with its record, uploaded that long ago and due for a check."""

    async def store(stem: str, days: float, storage_name: str = "local") -> str:
        name = f"{stem}.png"
        await storage.put(name, b"x", "image/png")
        await execute(
            "INSERT INTO media (organisation_id, name, storage, content_type, size, created_at, check_at)"
            " VALUES (:o, :n, :s, 'image/png', 1, now() - make_interval(secs => :age), now())",
            o=organisation,
            n=name,
            s=storage_name,
            age=days * 86_400,
        )
        return name

    return store


@pytest.fixture
def names(rows: Rows, tmp_path: Path) -> Names:
    """`await names()` returns the files that have a record. The folder has exactly these files."""

    async def read() -> set[str]:
        found = {row.name for row in await rows("SELECT name FROM media")}
        assert found == {path.name for path in tmp_path.iterdir()}
        return found

    return read


async def test_only_old_files_that_no_schedule_needs_are_deleted(
    database: Database, storage: LocalStorage, client: ServiceClient, scheduling: FakeScheduling, put: Put, names: Names
) -> None:
    await put("forgotten", 31)
    young = await put("young", 29)
    needed = await put("needed", 400)
    elsewhere = await put("elsewhere", 400, storage_name="azure")
    scheduling.used.add(needed)
    assert not await remove_old_media(database, storage, client, RETENTION)
    assert await names() == {young, needed, elsewhere}
    (asked,) = scheduling.asked
    assert sorted(asked["names"]) == ["forgotten.png", "needed.png"]
    assert datetime.now(UTC) - datetime.fromisoformat(asked["since"]) >= RETENTION


async def test_a_file_that_stays_is_checked_again_when_it_may_be_old(
    database: Database, storage: LocalStorage, client: ServiceClient, scheduling: FakeScheduling, put: Put, rows: Rows
) -> None:
    await put("young", 9)
    scheduling.used.add(await put("needed", 400))
    await remove_old_media(database, storage, client, RETENTION)
    found = await rows("SELECT name, round(extract(epoch FROM check_at - now()) / 86400) AS days FROM media")
    assert {row.name: row.days for row in found} == {"young.png": 21, "needed.png": 1}
    assert not await remove_old_media(database, storage, client, RETENTION)
    assert len(scheduling.asked) == 1


async def test_while_scheduling_is_unavailable_nothing_is_deleted(
    database: Database, storage: LocalStorage, put: Put, names: Names
) -> None:
    name = await put("old", 400)
    unavailable = ServiceClient("http://127.0.0.1:9", issuer="delivery", audience="scheduling", secret=SECRET)
    with pytest.raises(Unavailable):
        await remove_old_media(database, storage, unavailable, RETENTION)
    await unavailable.close()
    assert await names() == {name}


async def test_a_file_that_the_storage_does_not_delete_is_tried_again(
    database: Database,
    storage: LocalStorage,
    client: ServiceClient,
    put: Put,
    rows: Rows,
    execute: Callable[..., Awaitable[None]],
) -> None:
    class FailingStorage(LocalStorage):
        async def delete(self, name: str) -> None:
            if name == "stuck.png":
                raise StorageError
            await super().delete(name)

    failing = FailingStorage.__new__(FailingStorage)
    failing.__dict__ |= storage.__dict__
    await put("stuck", 40)
    await put("loose", 40)
    await remove_old_media(database, failing, client, RETENTION)
    (row,) = await rows(
        "SELECT name, check_at > now() AS later, check_at < now() + interval '2 hours' AS soon FROM media"
    )
    assert (row.name, row.later, row.soon) == ("stuck.png", True, True)
    await execute("UPDATE media SET check_at = now()")
    await remove_old_media(database, storage, client, RETENTION)
    assert not await rows("SELECT 1 FROM media")


async def test_the_record_of_a_missing_file_is_deleted(
    database: Database, storage: LocalStorage, client: ServiceClient, put: Put, names: Names
) -> None:
    await storage.delete(await put("gone", 40))
    await remove_old_media(database, storage, client, RETENTION)
    assert await names() == set()


async def test_more_than_a_batch_needs_several_runs(
    database: Database, storage: LocalStorage, client: ServiceClient, put: Put, names: Names, scheduling: FakeScheduling
) -> None:
    for number in range(201):
        await put(str(number), 40)
    assert await remove_old_media(database, storage, client, RETENTION)
    assert not await remove_old_media(database, storage, client, RETENTION)
    assert await names() == set()
    assert [len(asked["names"]) for asked in scheduling.asked] == [200, 1]
