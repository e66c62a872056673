"""Identities: resolved once, cached for seconds, used while contacts is unavailable, but not after a refusal."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from common.clients import ServiceClient
from common.errors import Forbidden, Unavailable
from gateway.auth import Claims, read_claims
from gateway.identity import Identities

from .conftest import SECRET, Clock, Issuer, Upstream


@pytest.fixture
async def contacts(upstreams: dict[str, Upstream]) -> AsyncIterator[ServiceClient]:
    client = ServiceClient(upstreams["contacts"].url, issuer="gateway", audience="contacts", secret=SECRET)
    yield client
    await client.close()


@pytest.fixture
def upstream(upstreams: dict[str, Upstream]) -> Upstream:
    return upstreams["contacts"]


@pytest.fixture
def claims(issuer: Issuer) -> Claims:
    return read_claims(issuer.claims(iat=1_772_424_862))


async def test_simultaneous_requests_of_a_user_call_contacts_once(
    contacts: ServiceClient, upstream: Upstream, claims: Claims
) -> None:
    identities = Identities(contacts, ttl_s=5)
    found = await asyncio.gather(*(identities.resolve(claims) for _ in range(50)))
    assert len(upstream.identity_requests) == 1
    request = upstream.identity_requests[0]
    caller = request.pop("caller")
    assert (caller.role, caller.organisation_id) == ("system", "")
    assert request == {
        "clerk_user_id": "user_1",
        "clerk_organisation_id": "org_7",
        "organisation_slug": "example-co",
        "role": "admin",
        "first_seen_at": "2026-03-02T04:14:22+00:00",
    }
    assert {(i.caller.organisation_id, i.caller.user_id, i.caller.role) for i in found} == {("org_7", 42, "admin")}


async def test_identity_is_confirmed_again_after_its_lifetime(
    contacts: ServiceClient, upstream: Upstream, claims: Claims, clock: Clock
) -> None:
    identities = Identities(contacts, ttl_s=5, clock=clock)
    first = await identities.resolve(claims)
    clock.now += 6
    assert await identities.resolve(claims) is first
    assert len(upstream.identity_requests) == 2


async def test_refusal_raises_forbidden_and_removes_the_cached_identity(
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
    with pytest.raises(Unavailable):  # the identity from before the refusal is gone
        await identities.resolve(claims)
    upstream.identity = (200, {"organisation_id": "org_7", "user_id": 43})
    assert (await identities.resolve(claims)).caller.user_id == 43


async def test_cached_identity_is_used_for_five_minutes_while_contacts_is_unavailable(
    contacts: ServiceClient, upstream: Upstream, claims: Claims, clock: Clock
) -> None:
    identities = Identities(contacts, ttl_s=5, clock=clock)
    await identities.resolve(claims)
    upstream.identity = (503, {})
    clock.now += 100
    assert (await identities.resolve(claims)).caller.user_id == 42
    calls = len(upstream.identity_requests)
    await identities.resolve(claims)
    assert len(upstream.identity_requests) == calls  # contacts is not called for each request
    clock.now += 250
    with pytest.raises(Unavailable):
        await identities.resolve(claims)


async def test_another_role_is_resolved_separately(contacts: ServiceClient, upstream: Upstream, issuer: Issuer) -> None:
    identities = Identities(contacts, ttl_s=5)
    admin = await identities.resolve(read_claims(issuer.claims()))
    member = await identities.resolve(
        read_claims(issuer.claims(o={"id": "org_7", "slg": "example-co", "rol": "member"}))
    )
    assert (admin.caller.role, member.caller.role, member.caller.permissions) == ("admin", "member", ())
    assert len(upstream.identity_requests) == 2


async def test_full_cache_drops_the_oldest_identity(
    contacts: ServiceClient, upstream: Upstream, issuer: Issuer
) -> None:
    identities = Identities(contacts, ttl_s=5, max_cached=2)
    for user in ("user_1", "user_2", "user_3", "user_3", "user_1"):
        await identities.resolve(read_claims(issuer.claims(sub=user)))
    assert [request["clerk_user_id"] for request in upstream.identity_requests] == [
        "user_1",
        "user_2",
        "user_3",
        "user_1",
    ]


async def test_cancelled_request_does_not_cancel_the_shared_call(
    contacts: ServiceClient, upstream: Upstream, claims: Claims
) -> None:
    identities = Identities(contacts, ttl_s=5)
    first = asyncio.create_task(identities.resolve(claims))
    second = asyncio.create_task(identities.resolve(claims))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).caller.user_id == 42
    assert len(upstream.identity_requests) == 1


async def test_internal_token_is_used_again_while_it_is_valid(
    contacts: ServiceClient, claims: Claims, clock: Clock
) -> None:
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
async def test_unresolved_identity_answers_403_or_503(
    gateway: aiohttp.ClientSession, issuer: Issuer, upstream: Upstream, identity: tuple[int, Any], status: int
) -> None:
    upstream.identity = identity
    async with gateway.get("/api/contacts/", headers=issuer.headers()) as answer:
        body = await answer.json()
    assert (answer.status, body["request_id"]) == (status, answer.headers["X-Request-ID"])
    assert not upstream.requests
