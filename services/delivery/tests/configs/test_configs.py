"""`/api/configs/`: any member reads, admins write."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from common.database import Database
from common.events import SettingsChanged
from delivery.configs import service
from services.delivery.tests.stage import Stage

Bearer = Callable[..., dict[str, str]]
Create = Callable[..., Awaitable[Any]]
OTHER = "org_other"


@pytest.fixture
def admin(bearer: Bearer, organisation: str) -> dict[str, str]:
    """Return headers of an admin of the organisation."""
    return bearer("delivery", organisation, role="admin")


@pytest.fixture
def member(bearer: Bearer, organisation: str) -> dict[str, str]:
    """Return headers of a member of the organisation."""
    return bearer("delivery", organisation)


@pytest.fixture
def create(client: httpx.AsyncClient, admin: dict[str, str]) -> Create:
    """`await create(name, value)` creates a config and returns its body."""

    async def post(name: str, value: str) -> Any:
        answer = await client.post("/api/configs/", json={"name": name, "value": value}, headers=admin)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return post


async def test_a_config_is_created_read_replaced_and_changed(
    client: httpx.AsyncClient, create: Create, admin: dict[str, str], member: dict[str, str]
) -> None:
    made = await create("sms_limit", " 500 ")
    assert made == {"id": made["id"], "name": "sms_limit", "value": "500"}
    url = f"/api/configs/{made['id']}/"
    assert (await client.get(url, headers=member)).json() == made
    replaced = await client.put(url, json={**made, "value": "unlimited"}, headers=admin)
    assert (replaced.status_code, replaced.json()["value"]) == (200, "unlimited")
    changed = await client.patch(url, json={"name": "mms_limit"}, headers=admin)
    assert changed.json() == {"id": made["id"], "name": "mms_limit", "value": "unlimited"}


async def test_the_list_is_sorted_by_name_in_any_case_and_paged(
    client: httpx.AsyncClient, create: Create, member: dict[str, str]
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
async def test_an_invalid_body_answers_400_under_its_field(
    client: httpx.AsyncClient, admin: dict[str, str], body: Any, field: str
) -> None:
    answer = await client.post("/api/configs/", json=body, headers=admin)
    assert answer.status_code == 400
    assert list(answer.json()) == [field, "code", "request_id"]
    assert answer.json()["code"] == "invalid"


async def test_a_name_exists_once_in_an_organisation(
    client: httpx.AsyncClient, create: Create, admin: dict[str, str], bearer: Bearer
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


async def test_a_patch_checks_the_value_for_the_new_name(
    client: httpx.AsyncClient, create: Create, admin: dict[str, str]
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
async def test_a_sender_id_is_accepted_only_from_the_organisation_that_it_is_assigned_to(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    bearer: Bearer,
    assign: Callable[..., Awaitable[None]],
    execute: Callable[..., Awaitable[None]],
    assigned: str,
    spellings: list[str],
) -> None:
    other = bearer("delivery", OTHER, role="admin")
    others = (await client.post("/api/configs/", json={"name": "x", "value": spellings[0]}, headers=other)).json()
    url = f"/api/configs/{others['id']}/"
    await assign(assigned)
    for spelling in spellings:
        body = {"name": "sender", "value": spelling}
        for answer in (
            await client.post("/api/configs/", json=body, headers=other),
            await client.put(url, json=body, headers=other),
            await client.patch(url, json=body, headers=other),
            await client.patch(url, json={"name": "sender"}, headers=other),
        ):
            assert (answer.status_code, answer.json()["value"]) == (
                400,
                ["This sender ID is not assigned to your organisation. Ask the operator of this installation."],
            )
    mine = await client.post("/api/configs/", json={"name": "sender", "value": spellings[0]}, headers=admin)
    assert (mine.status_code, mine.json()["value"]) == (201, spellings[0])
    url = f"/api/configs/{mine.json()['id']}/"
    for spelling in (*spellings, ""):
        answer = await client.patch(url, json={"value": spelling}, headers=admin)
        assert (answer.status_code, answer.json()["value"]) == (200, spelling)
    await execute("DELETE FROM sender_ids")
    assert (await client.patch(url, json={"value": spellings[0]}, headers=admin)).status_code == 400


async def test_members_read_but_do_not_write(client: httpx.AsyncClient, create: Create, member: dict[str, str]) -> None:
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


async def test_a_config_of_another_organisation_is_not_found(
    client: httpx.AsyncClient, create: Create, bearer: Bearer
) -> None:
    made = await create("a", "b")
    other = bearer("delivery", OTHER, role="admin")
    url = f"/api/configs/{made['id']}/"
    assert (await client.get("/api/configs/", headers=other)).json()["results"] == []
    for answer in (
        await client.get(url, headers=other),
        await client.put(url, json={"name": "x", "value": "y"}, headers=other),
        await client.patch(url, json={"value": "y"}, headers=other),
        await client.get("/api/configs/99999999999999999999/", headers=other),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_without_a_token_of_the_gateway_the_answer_is_401_or_403(
    client: httpx.AsyncClient, bearer: Bearer, organisation: str
) -> None:
    assert (await client.get("/api/configs/")).status_code == 401
    wrong = bearer("delivery", organisation, issuer="scheduling")
    assert (await client.get("/api/configs/", headers=wrong)).status_code == 401
    assert (await client.get("/api/configs/", headers=bearer("delivery", ""))).status_code == 403


async def test_a_changed_time_zone_is_published_with_a_higher_version_each_time(
    client: httpx.AsyncClient,
    create: Create,
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


async def test_settings_are_published_again_in_batches_with_new_versions(
    stage: Stage,
) -> None:
    await stage.set_config("timezone", "Australia/Perth")
    await stage.add_due(stage.due(organisation_id="zz_other"))
    after: str | None = ""
    while after is not None:
        async with stage.database.all_tenants() as session:
            after = await service.republish_settings(session, datetime.now(UTC), after, 1)
    events = await stage.events()
    zones = [(event.organisation_id, event.timezone) for event in events]
    assert zones == [(stage.organisation, "Australia/Perth"), ("zz_other", "Australia/Adelaide")]
    assert events[0].version < events[1].version
