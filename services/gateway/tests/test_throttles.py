"""Rate limits in one process and, when VALKEY_URL names a server, across replicas with a real Valkey."""

import asyncio
import os
import secrets
from collections.abc import Callable

import aiohttp
import pytest

from common.errors import Throttled
from gateway.settings import Settings
from gateway.throttles import PeriodicMemory, Throttles, address_of, parse_rate

from .conftest import Issuer, Start, Upstream

VALKEY_URL = os.environ.get("VALKEY_URL")
valkey = pytest.mark.skipif(not VALKEY_URL, reason="VALKEY_URL names no server")


@pytest.mark.parametrize(
    ("rate", "amount", "seconds"),
    [("5/s", 5, 1), ("1000/min", 1000, 60), ("10/m", 10, 60), ("7/hour", 7, 3600), ("3/day", 3, 86_400)],
)
def test_rate_setting_is_parsed(rate: str, amount: int, seconds: int) -> None:
    assert (parse_rate(rate).amount, parse_rate(rate).get_expiry()) == (amount, seconds)


@pytest.mark.parametrize(
    ("client", "bucket"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("a:nonsense", 1), "a:nonsense"),
        (None, ""),
    ],
)
def test_address_of_a_client_is_its_ip_or_ipv6_prefix(client: tuple[str, int] | None, bucket: str) -> None:
    assert address_of({"client": client}) == bucket


async def statuses(client: aiohttp.ClientSession, method: str, path: str, headers: dict[str, str], n: int) -> list[int]:
    found = []
    for _ in range(n):
        async with client.request(method, path, headers=headers) as answer:
            found.append(answer.status)
    return found


async def test_requests_over_the_limit_of_a_user_answer_429(
    start: Start, issuer: Issuer, upstreams: dict[str, Upstream]
) -> None:
    async with aiohttp.ClientSession(start(throttle_rate_user="3/day")) as client:
        one, two = issuer.headers(), issuer.headers(sub="user_2")
        assert await statuses(client, "GET", "/api/contacts/", one, 4) == [200, 200, 200, 429]
        assert await statuses(client, "GET", "/api/schedules/", one, 1) == [429]
        assert await statuses(client, "GET", "/api/contacts/", two, 1) == [200]
        async with client.get("/api/contacts/", headers=one) as answer:
            body = await answer.json()
        assert body["code"] == "throttled"
        assert body["request_id"] == answer.headers["X-Request-ID"]
        assert int(answer.headers["Retry-After"]) >= 1
        limits = [answer.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining")]
        assert limits == ["3", "0"]
        assert int(answer.headers["RateLimit-Reset"]) >= 0
    assert len(upstreams["contacts"].requests) == 4


async def test_sends_and_imports_have_limits_of_their_own(start: Start, issuer: Issuer) -> None:
    async with aiohttp.ClientSession(start(throttle_rate_sms="2/day", throttle_rate_import="1/day")) as client:
        headers = issuer.headers()
        assert await statuses(client, "POST", "/api/sms/send/", headers, 1) == [200]
        async with client.post("/api/v2/sms/send-mms", headers=headers) as answer:
            assert (answer.status, answer.headers["RateLimit-Limit"]) == (200, "2")
            assert answer.headers["RateLimit-Remaining"] == "0"
        assert await statuses(client, "POST", "/api/sms/send-to-group/", headers, 1) == [429]
        assert await statuses(client, "POST", "/api/contacts/import/", headers, 2) == [200, 429]
        assert await statuses(client, "POST", "/api/sms/preview/", headers, 1) == [200]
        async with client.get("/api/contacts/", headers=headers) as answer:
            assert (answer.status, answer.headers["RateLimit-Limit"]) == (200, "1000")


async def test_requests_without_a_user_are_counted_by_address(start: Start, issuer: Issuer) -> None:
    async with aiohttp.ClientSession(start(throttle_rate_anon="4/day")) as client:
        assert await statuses(client, "GET", "/api/contacts/", {}, 1) == [401]
        assert await statuses(client, "GET", "/api/contacts/", {"Authorization": "Bearer x"}, 1) == [401]
        assert await statuses(client, "GET", "/api/nothing/", {}, 1) == [404]
        async with client.get("/api/docs/") as answer:
            assert (answer.status, answer.headers["RateLimit-Remaining"]) == (200, "0")
        assert await statuses(client, "GET", "/api/nothing/", {}, 1) == [429]
        assert await statuses(client, "GET", "/api/contacts/", issuer.headers(), 1) == [200]
        assert await statuses(client, "POST", "/api/webhooks/providers/x/", {}, 6) == [200] * 6
        # 503 when a service did not answer within a second, as on a machine that pauses
        assert set(await statuses(client, "GET", "/api/health/", {}, 6)) <= {200, 503}


async def test_simultaneous_requests_stay_within_the_limit(settings: Callable[..., Settings]) -> None:
    throttles = Throttles(settings(throttle_rate_user="50/day"))
    assert await count_passed([throttles], "user_1", 200) == 50


async def test_memory_is_cleaned_up_every_ten_seconds() -> None:
    storage = PeriodicMemory()
    await storage.incr("one", 60)
    first = storage.timer
    assert first is not None
    await first
    await storage.incr("two", 60)
    assert storage.timer is first
    storage._cleaned_at -= 11
    storage.expirations = dict.fromkeys(storage.expirations, 0.0)
    await storage.incr("three", 60)
    assert storage.timer is not None
    await storage.timer
    assert set(storage.expirations) == {"three"}


async def count_passed(replicas: list[Throttles], user: str, requests: int) -> int:
    """Send requests at the same time, spread over the replicas. Return how many stay within the limit."""

    async def one(number: int) -> bool:
        try:
            await replicas[number % len(replicas)].count({}, ("user", user))
        except Throttled:
            return False
        return True

    return sum(await asyncio.gather(*(one(number) for number in range(requests))))


async def test_requests_pass_while_valkey_is_unavailable(
    start: Start, issuer: Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with aiohttp.ClientSession(start(valkey_url="valkey://127.0.0.1:1/0", throttle_rate_user="1/day")) as client:
        assert await statuses(client, "GET", "/api/contacts/", issuer.headers(), 5) == [200] * 5
    assert capsys.readouterr().out.count("rate limits not counted") == 1


@valkey
async def test_limit_is_shared_by_replicas(settings: Callable[..., Settings]) -> None:
    shared = settings(valkey_url=VALKEY_URL, throttle_rate_user="50/day")
    replicas = [Throttles(shared) for _ in range(3)]
    try:
        assert await count_passed(replicas, secrets.token_hex(8), 150) == 50
    finally:
        for replica in replicas:
            await replica.close()


@valkey
async def test_gateways_with_one_valkey_share_their_counts(start: Start, issuer: Issuer) -> None:
    user = f"user_{secrets.token_hex(8)}"
    changes = {"valkey_url": VALKEY_URL, "throttle_rate_user": "3/day"}
    async with (
        aiohttp.ClientSession(start(**changes)) as one,
        aiohttp.ClientSession(start(**changes)) as two,
    ):
        headers = issuer.headers(sub=user)
        assert await statuses(one, "GET", "/api/contacts/", headers, 2) == [200, 200]
        assert await statuses(two, "GET", "/api/contacts/", headers, 2) == [200, 429]
        async with one.get("/api/contacts/", headers=headers) as answer:
            assert (answer.status, answer.headers["RateLimit-Remaining"]) == (429, "0")
            assert int(answer.headers["Retry-After"]) >= 1
