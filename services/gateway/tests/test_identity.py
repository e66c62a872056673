"""Who is behind a token: asked once, remembered for seconds, kept while contacts is away, never against a refusal."""

import asyncio
from typing import Any

import aiohttp
import pytest

from common.clients import ServiceClient
from common.errors import Forbidden, Unavailable
from gateway.auth import Claims, read_claims
from gateway.identity import Identities

from .conftest import SECRET, Clock, Issuer, Upstream


@pytest.fixture
async def contacts(upstreams: dict[str, Upstream]) -> Any:
    client = ServiceClient(upstreams["contacts"].url, issuer="gateway", audience="contacts", secret=SECRET)
    yield client
    await client.close()


@pytest.fixture
def upstream(upstreams: dict[str, Upstream]) -> Upstream:
    return upstreams["contacts"]


@pytest.fixture
def claims(issuer: Issuer) -> Claims:
    return read_claims(issuer.claims(iat=1_772_424_862))


async def test_contacts_is_asked_once_for_many_requests(
    contacts: ServiceClient, upstream: Upstream, claims: Claims
) -> None:
    identities = Identities(contacts, ttl_s=5)
    found = await asyncio.gather(*(identities.resolve(claims) for _ in range(50)))
    assert len(upstream.asked_identity) == 1
    asked = upstream.asked_identity[0]
    caller = asked.pop("caller")
    assert (caller.role, caller.organisation_id) == ("system", "")
    assert asked == {
        "clerk_user_id": "user_1",
        "clerk_organisation_id": "org_7",
        "organisation_slug": "example-co",
        "role": "admin",
        "first_seen_at": "2026-03-02T04:14:22+00:00",
    }
    assert {(i.caller.organisation_id, i.caller.user_id, i.caller.role) for i in found} == {("org_7", 42, "admin")}


async def test_answer_is_asked_for_again_after_seconds(
    contacts: ServiceClient, upstream: Upstream, claims: Claims, clock: Clock
) -> None:
    identities = Identities(contacts, ttl_s=5, clock=clock)
    first = await identities.resolve(claims)
    clock.now += 6
    assert await identities.resolve(claims) is first
    assert len(upstream.asked_identity) == 2


async def test_refusal_is_told_and_not_remembered(
    contacts: ServiceClient, upstream: Upstream, claims: Claims, clock: Clock
) -> None:
    identities = Identities(contacts, ttl_s=5, clock=clock)
    await identities.resolve(claims)
    upstream.identity = (403, {"detail": "The organisation is closed.", "code": "permission_denied"})
    clock.now += 6
    for _ in range(2):
        with pytest.raises(Forbidden, match="The organisation is closed"):
            await identities.resolve(claims)
    upstream.identity = (503, {})
    with pytest.raises(Unavailable):  # what was known before the refusal is forgotten
        await identities.resolve(claims)
    upstream.identity = (200, {"organisation_id": "org_7", "user_id": 43})
    assert (await identities.resolve(claims)).caller.user_id == 43


async def test_last_answer_serves_while_contacts_is_away_but_not_for_ever(
    contacts: ServiceClient, upstream: Upstream, claims: Claims, clock: Clock
) -> None:
    identities = Identities(contacts, ttl_s=5, clock=clock)
    await identities.resolve(claims)
    upstream.identity = (503, {})
    clock.now += 100
    assert (await identities.resolve(claims)).caller.user_id == 42
    asked = len(upstream.asked_identity)
    await identities.resolve(claims)
    assert len(upstream.asked_identity) == asked  # it is not asked for each request
    clock.now += 250
    with pytest.raises(Unavailable):
        await identities.resolve(claims)


async def test_another_role_is_another_question(contacts: ServiceClient, upstream: Upstream, issuer: Issuer) -> None:
    identities = Identities(contacts, ttl_s=5)
    admin = await identities.resolve(read_claims(issuer.claims()))
    member = await identities.resolve(
        read_claims(issuer.claims(o={"id": "org_7", "slg": "example-co", "rol": "member"}))
    )
    assert (admin.caller.role, member.caller.role, member.caller.permissions) == ("admin", "member", ())
    assert len(upstream.asked_identity) == 2


async def test_oldest_is_forgotten_when_there_are_too_many(
    contacts: ServiceClient, upstream: Upstream, issuer: Issuer
) -> None:
    identities = Identities(contacts, ttl_s=5, remembered=2)
    for user in ("user_1", "user_2", "user_3", "user_3", "user_1"):
        await identities.resolve(read_claims(issuer.claims(sub=user)))
    assert [asked["clerk_user_id"] for asked in upstream.asked_identity] == ["user_1", "user_2", "user_3", "user_1"]


async def test_waiter_that_leaves_does_not_end_the_question_for_others(
    contacts: ServiceClient, upstream: Upstream, claims: Claims
) -> None:
    identities = Identities(contacts, ttl_s=5)
    first = asyncio.create_task(identities.resolve(claims))
    second = asyncio.create_task(identities.resolve(claims))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).caller.user_id == 42
    assert len(upstream.asked_identity) == 1


async def test_internal_token_is_reused_while_it_lasts(contacts: ServiceClient, claims: Claims, clock: Clock) -> None:
    identity = await Identities(contacts, ttl_s=5, clock=clock).resolve(claims)
    token = identity.token("delivery", SECRET)
    assert identity.token("delivery", SECRET) is token
    assert identity.token("contacts", SECRET) != token
    clock.now += 46
    assert identity.token("delivery", SECRET) is not token


@pytest.mark.parametrize(
    ("identity", "status"),
    [((403, {"detail": "Removed."}), 403), ((503, {}), 503), ((401, {}), 503), ((500, "x"), 503)],
)
async def test_refusal_at_the_door(
    gateway: aiohttp.ClientSession, issuer: Issuer, upstream: Upstream, identity: tuple[int, Any], status: int
) -> None:
    upstream.identity = identity
    async with gateway.get("/api/contacts/", headers=issuer.headers()) as answer:
        body = await answer.json()
    assert (answer.status, body["request_id"]) == (status, answer.headers["X-Request-ID"])
    assert not upstream.asked
