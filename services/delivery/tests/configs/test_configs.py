"""/api/configs/: any member reads, admins write."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.database import Database
from common.events import SettingsChanged

Bearer = Callable[..., dict[str, str]]
OTHER = "org_other"


@pytest.fixture
def admin(bearer: Bearer, organisation: str) -> dict[str, str]:
    return bearer("delivery", organisation, role="admin")


@pytest.fixture
def member(bearer: Bearer, organisation: str) -> dict[str, str]:
    return bearer("delivery", organisation)


@pytest.fixture
def create(client: httpx.AsyncClient, admin: dict[str, str]) -> Callable[..., Awaitable[Any]]:
    async def post(name: str, value: str) -> Any:
        answer = await client.post("/api/configs/", json={"name": name, "value": value}, headers=admin)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return post


async def test_a_config_is_created_read_replaced_and_changed(
    client: httpx.AsyncClient, create: Any, admin: dict[str, str], member: dict[str, str]
) -> None:
    made = await create("sms_limit", " 500 ")
    assert made == {"id": made["id"], "name": "sms_limit", "value": "500"}
    url = f"/api/configs/{made['id']}/"
    assert (await client.get(url, headers=member)).json() == made
    replaced = await client.put(url, json={**made, "value": "unlimited"}, headers=admin)
    assert (replaced.status_code, replaced.json()["value"]) == (200, "unlimited")
    changed = await client.patch(url, json={"name": "mms_limit"}, headers=admin)
    assert changed.json() == {"id": made["id"], "name": "mms_limit", "value": "unlimited"}


async def test_the_list_is_by_name_in_any_case_and_paged(
    client: httpx.AsyncClient, create: Any, member: dict[str, str]
) -> None:
    for name in ("beta", "Alpha", "alpha", "Gamma"):
        await create(name, "x")
    answer = (await client.get("/api/configs/?limit=3", headers=member)).json()
    assert [config["name"] for config in answer["results"]] == ["Alpha", "alpha", "beta"]
    assert answer["pagination"] == {
        "total": 4,
        "page": 1,
        "limit": 3,
        "totalPages": 2,
        "hasNext": True,
        "hasPrev": False,
    }
    assert (await client.get("/api/configs/?page=9", headers=member)).json()["results"] == []
    assert (await client.get("/api/configs/?page=0", headers=member)).json()["page"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": "x"}, "name"),
        ({"name": "x"}, "value"),
        ({"name": "", "value": "x"}, "name"),
        ({"name": "x" * 101, "value": "x"}, "name"),
        ({"name": "x", "value": "x" * 1001}, "value"),
        ({"name": "x", "value": None}, "value"),
        ({"name": "x", "value": 5}, "value"),
        ({"name": "x\0", "value": "5"}, "name"),
        ({"name": "sms_limit", "value": "many"}, "value"),
        ({"name": "mms_limit", "value": "-1"}, "value"),
        ({"name": "timezone", "value": "Mars/Base"}, "value"),
        ([], "non_field_errors"),
    ],
)
async def test_what_cannot_be_is_named(client: httpx.AsyncClient, admin: dict[str, str], body: Any, field: str) -> None:
    answer = await client.post("/api/configs/", json=body, headers=admin)
    assert answer.status_code == 400
    assert list(answer.json()) == [field, "code", "request_id"]
    assert answer.json()["code"] == "invalid"


async def test_a_name_is_there_once_in_an_organisation(
    client: httpx.AsyncClient, create: Any, admin: dict[str, str], bearer: Bearer
) -> None:
    await create("sms_limit", "1")
    second = await create("other", "2")
    again = {"name": "sms_limit", "value": "2"}
    for answer in (
        await client.post("/api/configs/", json=again, headers=admin),
        await client.patch(f"/api/configs/{second['id']}/", json={"name": "sms_limit", "value": "3"}, headers=admin),
    ):
        assert answer.status_code == 400
        assert "name" in answer.json()
    elsewhere = await client.post("/api/configs/", json=again, headers=bearer("delivery", OTHER, role="admin"))
    assert elsewhere.status_code == 201


async def test_a_patch_checks_the_value_against_the_name_it_will_have(
    client: httpx.AsyncClient, create: Any, admin: dict[str, str]
) -> None:
    made = await create("greeting", "hello")
    url = f"/api/configs/{made['id']}/"
    assert (await client.patch(url, json={"name": "sms_limit"}, headers=admin)).status_code == 400
    assert (await client.patch(url, json={"value": None}, headers=admin)).status_code == 400
    assert (await client.patch(url, json={}, headers=admin)).json() == made
    assert (await client.put(url, json={"name": "greeting"}, headers=admin)).status_code == 400


@pytest.mark.parametrize(
    ("assigned", "spellings"),
    [("+61412345678", ["0412 345 678", "+61412345678", "61412345678"]), ("fern", ["Fern", "FERN"])],
)
async def test_a_sender_is_taken_from_the_organisation_it_is_assigned_to_alone(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    bearer: Bearer,
    assign: Any,
    execute: Any,
    assigned: str,
    spellings: list[str],
) -> None:
    stranger = bearer("delivery", OTHER, role="admin")
    strangers = (await client.post("/api/configs/", json={"name": "x", "value": spellings[0]}, headers=stranger)).json()
    url = f"/api/configs/{strangers['id']}/"
    await assign(assigned)
    for spelling in spellings:
        body = {"name": "sender", "value": spelling}
        for answer in (
            await client.post("/api/configs/", json=body, headers=stranger),
            await client.put(url, json=body, headers=stranger),
            await client.patch(url, json=body, headers=stranger),
            await client.patch(url, json={"name": "sender"}, headers=stranger),
        ):
            assert (answer.status_code, answer.json()["value"]) == (
                400,
                ["This sender is not assigned to your organisation; ask who runs this installation."],
            )
    mine = await client.post("/api/configs/", json={"name": "sender", "value": spellings[0]}, headers=admin)
    assert (mine.status_code, mine.json()["value"]) == (201, spellings[0])
    url = f"/api/configs/{mine.json()['id']}/"
    for spelling in (*spellings, ""):
        answer = await client.patch(url, json={"value": spelling}, headers=admin)
        assert (answer.status_code, answer.json()["value"]) == (200, spelling)
    await execute("DELETE FROM senders")
    assert (await client.patch(url, json={"value": spellings[0]}, headers=admin)).status_code == 400


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO senders (sender, organisation_id) VALUES ('mine', :organisation)",
        "UPDATE senders SET sender = 'other'",
        "DELETE FROM senders",
    ],
)
async def test_an_organisation_sees_its_own_senders_and_assigns_none(
    database: Database, assign: Any, organisation: str, statement: str
) -> None:
    await assign("fern")
    await assign("oak", OTHER)
    async with database.tenant(organisation) as session:
        assert list(await session.scalars(text("SELECT sender FROM senders"))) == ["fern"]
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant(organisation) as session:
            await session.execute(text(statement), {"organisation": organisation} if ":" in statement else {})


async def test_members_read_and_do_not_write(client: httpx.AsyncClient, create: Any, member: dict[str, str]) -> None:
    made = await create("a", "b")
    body = {"name": "c", "value": "d"}
    for method, url in (
        ("POST", "/api/configs/"),
        ("PUT", f"/api/configs/{made['id']}/"),
        ("PATCH", f"/api/configs/{made['id']}/"),
    ):
        answer = await client.request(method, url, json=body, headers=member)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    answer = await client.delete(f"/api/configs/{made['id']}/", headers=member)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PATCH, PUT")


async def test_another_organisations_config_does_not_exist(
    client: httpx.AsyncClient, create: Any, bearer: Bearer
) -> None:
    made = await create("a", "b")
    stranger = bearer("delivery", OTHER, role="admin")
    url = f"/api/configs/{made['id']}/"
    assert (await client.get("/api/configs/", headers=stranger)).json()["results"] == []
    for answer in (
        await client.get(url, headers=stranger),
        await client.put(url, json={"name": "x", "value": "y"}, headers=stranger),
        await client.patch(url, json={"value": "y"}, headers=stranger),
        await client.get("/api/configs/99999999999999999999/", headers=stranger),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_without_a_token_of_the_gateway_there_is_no_answer(
    client: httpx.AsyncClient, bearer: Bearer, organisation: str
) -> None:
    assert (await client.get("/api/configs/")).status_code == 401
    wrong = bearer("delivery", organisation, issuer="scheduling")
    assert (await client.get("/api/configs/", headers=wrong)).status_code == 401
    assert (await client.get("/api/configs/", headers=bearer("delivery", ""))).status_code == 403


async def test_a_zone_that_changes_is_told_with_a_higher_version_each_time(
    client: httpx.AsyncClient,
    create: Any,
    admin: dict[str, str],
    database: Database,
    outbox_events: Callable[[Database], Awaitable[list[Any]]],
) -> None:
    made = await create("timezone", "Australia/Perth")
    url = f"/api/configs/{made['id']}/"
    await client.patch(url, json={"value": "Australia/Sydney"}, headers=admin)
    await client.patch(url, json={"value": "Australia/Sydney"}, headers=admin)
    await client.patch(url, json={"name": "zone"}, headers=admin)
    await create("sms_limit", "5")
    events = await outbox_events(database)
    assert all(isinstance(event, SettingsChanged) for event in events)
    assert [event.timezone for event in events] == ["Australia/Perth", "Australia/Sydney", "Australia/Adelaide"]
    versions = [event.version for event in events]
    assert versions == sorted(set(versions))
