"""Clerk's webhook events: signed, repeated, late and out of order."""

import base64
import itertools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from svix.webhooks import Webhook

from common.errors import Forbidden
from common.events import OrganisationChanged
from contacts.identity import service
from contacts.identity.schemas import ClerkEvent, IdentityIn

from ..conftest import WEBHOOK_SECRET, Stage

T0 = 1_772_424_870_000
Json = dict[str, Any]


def envelope(kind: str, data: Json, at: int) -> Json:
    return {"object": "event", "type": kind, "data": data, "timestamp": T0 + at}


def user(kind: str, at: int, *, created: int = 0, name: str = "Alex") -> Json:
    if kind == "deleted":
        return envelope("user.deleted", {"object": "user", "id": "user_1", "deleted": True}, at)
    emails = [{"id": "idn_0", "email_address": "old@example.com"}, {"id": "idn_1", "email_address": "a@example.com"}]
    data = {"id": "user_1", "first_name": name, "last_name": None, "primary_email_address_id": "idn_1"}
    times = {"email_addresses": emails, "created_at": T0 + created, "updated_at": T0 + at}
    return envelope(f"user.{kind}", {**data, **times}, at)


def organisation(kind: str, at: int, *, created: int = 0, name: str = "Mine") -> Json:
    if kind == "deleted":
        return envelope("organization.deleted", {"id": "org_mine", "slug": "mine", "deleted": True}, at)
    data = {"id": "org_mine", "name": name, "slug": "mine", "created_at": T0 + created, "updated_at": T0 + at}
    return envelope(f"organization.{kind}", data, at)


def membership(kind: str, at: int, *, created: int = 0, role: str = "org:member") -> Json:
    data = {
        "id": "orgmem_1",
        "role": role,
        "organization": {"id": "org_mine", "name": "Mine", "slug": "mine", "created_at": T0, "updated_at": T0},
        "public_user_data": {"user_id": "user_1", "first_name": "Al", "last_name": "N", "identifier": "al@example.com"},
        "created_at": T0 + created,
        "updated_at": T0 + at,
    }
    return envelope(f"organizationMembership.{kind}", data, at)


MAKERS: dict[str, Callable[..., Json]] = {"user": user, "organisation": organisation, "membership": membership}


async def deliver(stage: Stage, event: Json | bytes, **headers: str) -> httpx.Response:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    now = datetime.now(UTC)
    signature = Webhook(WEBHOOK_SECRET).sign("msg_1", now, body.decode())
    signed = {"svix-id": "msg_1", "svix-timestamp": str(int(now.timestamp())), "svix-signature": signature}
    return await stage.http.post("/api/webhooks/clerk/", content=body, headers={**signed, **headers})


async def deliver_all(stage: Stage, *events: Json) -> None:
    for event in events:
        answer = await deliver(stage, event)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def resolve(stage: Stage, *, seen: int = 5) -> httpx.Response:
    """Resolve the identity of user_1 in org_mine, with a token issued `seen` ms after T0."""
    body = {"clerk_user_id": "user_1", "clerk_organisation_id": "org_mine", "role": "member"}
    at = datetime.fromtimestamp((T0 + seen) / 1000, UTC).isoformat()
    return await stage.gateway.call("POST", "/internal/identity/", json={**body, "first_seen_at": at})


async def read_me(stage: Stage) -> Json:
    identity = await resolve(stage)
    assert identity.status_code == 200, identity.text
    me: Json = await stage.client_of("org_mine", user_id=identity.json()["user_id"]).get("/api/users/me/")
    return me


async def test_event_without_a_fresh_signature_answers_400(stage: Stage) -> None:
    event = user("created", 0)
    stale = str(int(time.time()) - 301)
    for headers in ({"svix-signature": "v1,AAAA"}, {"svix-signature": "nonsense"}, {"svix-timestamp": stale}):
        answer = await deliver(stage, event, **headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert (await stage.http.post("/api/webhooks/clerk/", content=b"{}")).status_code == 400


@pytest.mark.parametrize(
    "header",
    ["junk {good}", "{good} junk", "v1 {good}", "v1,!!! {good}", "v1,AAAA {good}", "v2,a,b  {good}"],
)
async def test_one_valid_signature_among_several_is_enough(stage: Stage, header: str) -> None:
    body = json.dumps(user("created", 0)).encode()
    now = datetime.now(UTC)
    good = Webhook(WEBHOOK_SECRET).sign("msg_1", now, body.decode())
    other = Webhook(base64.b64encode(b"another secret").decode()).sign("msg_1", now, body.decode())
    for signature, status in ((good, 200), (other, 400)):
        answer = await deliver(stage, body, **{"svix-signature": header.format(good=signature)})
        assert answer.status_code == status, answer.text


async def test_malformed_event_answers_400_and_unknown_type_200(stage: Stage) -> None:
    assert (await deliver(stage, b'{"test": 2432232314}')).status_code == 400
    assert (await deliver(stage, b"no json")).status_code == 400
    assert (await deliver(stage, b" " * 1_000_001)).status_code == 413
    assert (await deliver(stage, envelope("session.created", {}, 0))).status_code == 200
    assert (await deliver(stage, envelope("user.updated", {"no": "id"}, 0))).status_code == 400
    for id_, at in (("user_\0", 0), ("user_1", 10**30), ("user_1", -(10**16))):
        assert (await deliver(stage, envelope("user.updated", {"id": id_}, at))).status_code == 400
    far = {"id": "user_1", "created_at": 10**25}
    assert (await deliver(stage, envelope("user.updated", far, 0))).status_code == 400


async def test_created_and_updated_events_are_shown_to_the_member(stage: Stage) -> None:
    await deliver_all(
        stage, organisation("created", 0), user("created", 0), membership("created", 1, role="org:admin"),
        organisation("updated", 2, name="Ours"), user("updated", 3, name="Sam"), membership("updated", 4),
    )  # fmt: skip
    me = await read_me(stage)
    assert (me["first_name"], me["last_name"], me["email"], me["role"]) == ("Sam", "", "a@example.com", "member")
    assert (me["organisation"]["name"], me["organisation"]["slug"]) == ("Ours", "mine")


async def test_user_known_from_a_token_gets_names_from_later_events(stage: Stage) -> None:
    before = await read_me(stage)
    await deliver_all(stage, membership("created", 1, role="org:admin"), organisation("created", 0))
    after = await read_me(stage)
    assert (after["id"], after["first_name"]) == (before["id"], "Al")
    assert (after["email"], after["role"]) == ("al@example.com", "admin")
    await deliver_all(stage, user("created", 0), membership("updated", 9))
    assert (await read_me(stage))["first_name"] == "Alex"


@pytest.mark.parametrize("subject", MAKERS)
async def test_events_in_every_order_end_in_the_newest_state(stage: Stage, subject: str) -> None:
    make = MAKERS[subject]
    given = [make("created", 0), make("updated", 10), make("deleted", 20), make("created", 30, created=30)]
    given.append(make("updated", 40, created=30))
    events = [ClerkEvent.model_validate(event) for event in given]
    claims = IdentityIn(clerk_user_id="user_1", clerk_organisation_id="org_mine", first_seen_at=datetime.now(UTC))
    async with stage.database.all_tenants() as session:
        for count, is_accepted in ((3, False), (5, True)):
            for order in itertools.permutations(events[:count]):
                trial = await session.begin_nested()
                for event in (*order, *order[: 2 if is_accepted else 3]):
                    await service.apply_event(session, event)
                try:
                    await service.resolve_identity(session, claims)
                    assert is_accepted, [event.type for event in order]
                except Forbidden:
                    assert not is_accepted, [event.type for event in order]
                await trial.rollback()


async def test_deleted_subject_is_forbidden_until_a_newer_created_event(stage: Stage) -> None:
    for make in MAKERS.values():
        await deliver_all(stage, make("deleted", 100))
        assert (await resolve(stage, seen=5)).status_code == 403
        await deliver_all(stage, make("created", 50), make("updated", 200))
        assert (await resolve(stage)).status_code == 403
        await deliver_all(stage, make("created", 300, created=300))
        assert (await resolve(stage)).status_code == 200


async def test_membership_deleted_before_the_token_was_issued_stays_valid(stage: Stage) -> None:
    assert (await resolve(stage, seen=500)).status_code == 200
    await deliver_all(stage, membership("deleted", 100))
    assert (await resolve(stage)).status_code == 200
    await deliver_all(stage, membership("deleted", 600))
    assert (await resolve(stage)).status_code == 403


async def test_timestamp_in_seconds_or_missing_is_understood(stage: Stage) -> None:
    await deliver_all(stage, user("created", 0), {**user("deleted", 0), "timestamp": T0 // 1000})
    assert (await resolve(stage)).status_code == 403
    created_again = user("created", 10_000, created=10_000)
    del created_again["timestamp"]
    await deliver_all(stage, created_again)
    assert (await resolve(stage)).status_code == 200
    late = user("deleted", 0)
    del late["timestamp"]
    await deliver_all(stage, late)
    assert (await resolve(stage)).status_code == 403


async def test_member_who_left_is_read_by_id_but_not_listed(stage: Stage) -> None:
    me = await read_me(stage)
    client = stage.client_of("org_mine", user_id=me["id"])
    contact = await client.add_contact("0491570006", user=me["id"])
    await deliver_all(stage, membership("deleted", 100))
    assert (await client.get("/api/users/"))["pagination"]["total"] == 0
    assert (await client.get(f"/api/users/{me['id']}/"))["is_active"] is False
    path = f"/api/contacts/{contact['id']}/"
    assert (await client.patch(path, {"user": me["id"], "first_name": "A"}))["user"] == me["id"]
    assert "user" in await client.post("/api/contacts/", {"phone": "0491570110", "user": me["id"]}, 400)


async def test_closed_organisation_loses_its_contacts_and_groups_and_is_published(stage: Stage) -> None:
    await read_me(stage)
    contact = await stage.mine.add_contact("0491570006")
    group = await stage.mine.add_group("A", contact["id"])
    foreign = await stage.theirs.add_contact("0491570006")
    await deliver_all(stage, organisation("deleted", 100), organisation("deleted", 100))
    assert (await stage.mine.get_contact(contact["id"]))["is_active"] is False
    assert (await stage.mine.get_group(group["id"]))["is_active"] is False
    assert (await stage.theirs.get_contact(foreign["id"]))["is_active"] is True
    for user in ("user_1", "user_never_seen"):
        identity = {"clerk_user_id": user, "clerk_organisation_id": "org_mine", "role": "member"}
        answer = await stage.gateway.call(
            "POST", "/internal/identity/", json={**identity, "first_seen_at": "2026-03-02T04:14:22Z"}
        )
        assert (answer.status_code, answer.json()["detail"]) == (403, "This organisation was closed.")
    opened = organisation("created", 200, created=200)
    await deliver_all(stage, opened, opened)
    events = await stage.events()
    assert all(isinstance(event, OrganisationChanged) and event.organisation_id == "org_mine" for event in events)
    assert [(event.closed, event.version) for event in events] == [(True, 2), (False, 3)]


async def test_republishing_publishes_organisations_that_were_ever_closed_in_batches(stage: Stage) -> None:
    await stage.run_sql(
        "INSERT INTO organisations (organisation_id, version, deleted_at, updated_at) VALUES ('a', 2, now(), now()),"
        " ('b', 3, NULL, now()), ('c', 1, NULL, now()), ('d', 2, now(), now() - interval '1 hour')"
    )
    since, batches = datetime.now(UTC) - timedelta(minutes=5), 0
    after: str | None = ""
    while after is not None:
        async with stage.database.all_tenants() as session:
            after = await service.republish_organisations(session, since, after, 1)
        batches += 1
    events = [event for event in await stage.events() if isinstance(event, OrganisationChanged)]
    assert [(e.organisation_id, e.closed, e.version) for e in events] == [("a", True, 2), ("b", False, 3)]
    assert batches == 3
