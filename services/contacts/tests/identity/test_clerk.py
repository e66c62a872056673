"""What Clerk tells: signed, repeated, late and out of order."""

import itertools
import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from svix.webhooks import Webhook

from common.errors import Forbidden
from common.events import OrganisationChanged
from contacts.identity import service
from contacts.identity.schemas import ClerkEvent, IdentityIn

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
T0 = 1_772_424_870_000


def envelope(kind: str, data: dict[str, Any], at: int) -> dict[str, Any]:
    return {"object": "event", "type": kind, "data": data, "timestamp": T0 + at}


def user(kind: str, at: int, *, born: int = 0, name: str = "Alex") -> dict[str, Any]:
    if kind == "deleted":
        return envelope("user.deleted", {"object": "user", "id": "user_1", "deleted": True}, at)
    emails = [{"id": "idn_0", "email_address": "old@example.com"}, {"id": "idn_1", "email_address": "a@example.com"}]
    data = {"id": "user_1", "first_name": name, "last_name": None, "primary_email_address_id": "idn_1"}
    times = {"email_addresses": emails, "created_at": T0 + born, "updated_at": T0 + at}
    return envelope(f"user.{kind}", {**data, **times}, at)


def organisation(kind: str, at: int, *, born: int = 0, name: str = "Mine") -> dict[str, Any]:
    if kind == "deleted":
        return envelope("organization.deleted", {"id": "org_mine", "slug": "mine", "deleted": True}, at)
    data = {"id": "org_mine", "name": name, "slug": "mine", "created_at": T0 + born, "updated_at": T0 + at}
    return envelope(f"organization.{kind}", data, at)


def membership(kind: str, at: int, *, born: int = 0, role: str = "org:member") -> dict[str, Any]:
    data = {
        "id": "orgmem_1",
        "role": role,
        "organization": {"id": "org_mine", "name": "Mine", "slug": "mine", "created_at": T0, "updated_at": T0},
        "public_user_data": {"user_id": "user_1", "first_name": "Al", "last_name": "N", "identifier": "al@example.com"},
        "created_at": T0 + born,
        "updated_at": T0 + at,
    }
    return envelope(f"organizationMembership.{kind}", data, at)


@pytest.fixture
def http(app: Any, serve: Any, database: Any) -> httpx.AsyncClient:
    return serve(app)


async def deliver(http: httpx.AsyncClient, event: dict[str, Any] | bytes, **headers: str) -> httpx.Response:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    now = datetime.now(UTC)
    signature = Webhook(SECRET).sign("msg_1", now, body.decode())
    signed = {"svix-id": "msg_1", "svix-timestamp": str(int(now.timestamp())), "svix-signature": signature}
    return await http.post("/api/webhooks/clerk/", content=body, headers={**signed, **headers})


async def deliver_all(http: httpx.AsyncClient, *events: dict[str, Any]) -> None:
    for event in events:
        answer = await deliver(http, event)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def identify(client_of: Any, *, seen: int = 5) -> httpx.Response:
    body = {"clerk_user_id": "user_1", "clerk_organisation_id": "org_mine", "role": "member"}
    at = datetime.fromtimestamp((T0 + seen) / 1000, UTC).isoformat()
    gateway = client_of("", role="system", user_id=None)
    return await gateway.call("POST", "/internal/identity/", json={**body, "first_seen_at": at})


async def me(client_of: Any) -> Any:
    identity = await identify(client_of)
    assert identity.status_code == 200, identity.text
    return await client_of("org_mine", user_id=identity.json()["user_id"]).get("/api/users/me/")


async def test_a_delivery_must_be_signed_and_fresh(http: Any) -> None:
    event = user("created", 0)
    stale = str(int(time.time()) - 301)
    for headers in ({"svix-signature": "v1,AAAA"}, {"svix-signature": "nonsense"}, {"svix-timestamp": stale}):
        answer = await deliver(http, event, **headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert (await http.post("/api/webhooks/clerk/", content=b"{}")).status_code == 400
    assert (await deliver(http, b'{"test": 2432232314}')).status_code == 400
    assert (await deliver(http, b"no json")).status_code == 400
    assert (await deliver(http, b" " * 1_000_001)).status_code == 413
    assert (await deliver(http, envelope("session.created", {}, 0))).status_code == 200
    assert (await deliver(http, envelope("user.updated", {"no": "id"}, 0))).status_code == 400
    for id_, at in (("user_\0", 0), ("user_1", 10**30), ("user_1", -(10**16))):
        assert (await deliver(http, envelope("user.updated", {"id": id_}, at))).status_code == 400
    assert (await deliver(http, envelope("user.updated", {"id": "user_1", "created_at": 10**25}, 0))).status_code == 400


async def test_users_organisations_and_memberships_are_as_clerk_says(http: Any, client_of: Any) -> None:
    await deliver_all(
        http, organisation("created", 0), user("created", 0), membership("created", 1, role="org:admin"),
        organisation("updated", 2, name="Ours"), user("updated", 3, name="Sam"), membership("updated", 4),
    )  # fmt: skip
    shown = await me(client_of)
    assert (shown["first_name"], shown["last_name"], shown["email"], shown["role"]) == (
        "Sam", "", "a@example.com", "member"
    )  # fmt: skip
    assert (shown["organisation"]["name"], shown["organisation"]["slug"]) == ("Ours", "mine")


async def test_who_was_seen_first_in_a_token_gets_names_when_they_are_told(http: Any, client_of: Any) -> None:
    before = await me(client_of)
    await deliver_all(http, membership("created", 1, role="org:admin"), organisation("created", 0))
    after = await me(client_of)
    assert (after["id"], after["first_name"], after["email"], after["role"]) == (
        before["id"], "Al", "al@example.com", "admin"
    )  # fmt: skip
    await deliver_all(http, user("created", 0), membership("updated", 9))
    assert (await me(client_of))["first_name"] == "Alex"


MAKERS = {"user": user, "organisation": organisation, "membership": membership}


@pytest.mark.parametrize("what", MAKERS)
async def test_every_order_ends_in_the_newest_state(database: Any, what: str) -> None:
    make = MAKERS[what]
    told = [make("created", 0), make("updated", 10), make("deleted", 20), make("created", 30, born=30)]
    told.append(make("updated", 40, born=30))
    events = [ClerkEvent.model_validate(event) for event in told]
    asked = IdentityIn(clerk_user_id="user_1", clerk_organisation_id="org_mine", first_seen_at=datetime.now(UTC))
    async with database.all_tenants() as session:
        for count, is_let_in in ((3, False), (5, True)):
            for order in itertools.permutations(events[:count]):
                trial = await session.begin_nested()
                for event in (*order, *order[: 2 if is_let_in else 3]):
                    await service.apply_event(session, event)
                try:
                    await service.identify(session, asked)
                    assert is_let_in, [event.type for event in order]
                except Forbidden:
                    assert not is_let_in, [event.type for event in order]
                await trial.rollback()


async def test_a_deleted_one_is_forbidden_until_a_newer_created_arrives(http: Any, client_of: Any) -> None:
    for make in MAKERS.values():
        await deliver_all(http, make("deleted", 100))
        assert (await identify(client_of, seen=5)).status_code == 403
        await deliver_all(http, make("created", 50), make("updated", 200))
        assert (await identify(client_of)).status_code == 403
        await deliver_all(http, make("created", 300, born=300))
        assert (await identify(client_of)).status_code == 200


async def test_a_deletion_from_before_the_token_was_issued_is_over_for_a_membership(http: Any, client_of: Any) -> None:
    assert (await identify(client_of, seen=500)).status_code == 200
    await deliver_all(http, membership("deleted", 100))
    assert (await identify(client_of)).status_code == 200
    await deliver_all(http, membership("deleted", 600))
    assert (await identify(client_of)).status_code == 403


async def test_times_in_seconds_or_none_are_understood(http: Any, client_of: Any) -> None:
    await deliver_all(http, user("created", 0), {**user("deleted", 0), "timestamp": T0 // 1000})
    assert (await identify(client_of)).status_code == 403
    reborn = user("created", 10_000, born=10_000)
    del reborn["timestamp"]
    await deliver_all(http, reborn)
    assert (await identify(client_of)).status_code == 200
    late = user("deleted", 0)
    del late["timestamp"]
    await deliver_all(http, late)
    assert (await identify(client_of)).status_code == 403


async def test_a_member_who_left_is_no_longer_listed_but_readable(http: Any, client_of: Any) -> None:
    shown = await me(client_of)
    client = client_of("org_mine", user_id=shown["id"])
    contact = await client.contact("0491570006", user=shown["id"])
    await deliver_all(http, membership("deleted", 100))
    assert (await client.get("/api/users/"))["pagination"]["total"] == 0
    assert (await client.get(f"/api/users/{shown['id']}/"))["is_active"] is False
    path = f"/api/contacts/{contact['id']}/"
    assert (await client.patch(path, {"user": shown["id"], "first_name": "A"}))["user"] == shown["id"]
    assert "user" in await client.post("/api/contacts/", {"phone": "0491570110", "user": shown["id"]}, 400)


async def test_a_closed_organisation_is_deleted_with_all_in_it_and_told(
    http: Any, client_of: Any, database: Any, outbox_events: Any
) -> None:
    await me(client_of)
    client, other = client_of("org_mine"), client_of("org_theirs")
    contact = await client.contact("0491570006")
    group = await client.group("A", contact["id"])
    kept = await other.contact("0491570006")
    await deliver_all(http, organisation("deleted", 100), organisation("deleted", 100))
    assert (await client.get(f"/api/contacts/{contact['id']}/"))["is_active"] is False
    assert (await client.get(f"/api/groups/{group['id']}/"))["is_active"] is False
    assert (await other.get(f"/api/contacts/{kept['id']}/"))["is_active"] is True
    await deliver_all(http, organisation("created", 200, born=200), organisation("created", 200, born=200))
    events = await outbox_events(database)
    assert all(isinstance(event, OrganisationChanged) and event.organisation_id == "org_mine" for event in events)
    assert [(event.closed, event.version) for event in events] == [(True, 2), (False, 3)]
