"""kill -9 of any one process during a group send: every message arrives exactly once, and the usage is exact."""

import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import asyncpg
import pytest

from common.sms import measure
from tools.demo.journey import CSV, Api, check_exactly_once, expected_messages, read_handset, run_journey
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

# The chaos run of three minutes kills the same processes, at random.
pytestmark = [pytest.mark.stack, pytest.mark.slow]

# Ten messages per request, five slow requests in flight: sending lasts some seconds, so a kill finds some in flight.
SETTINGS = {
    "MOBILE_MESSAGE_BATCH_SIZE": "10",
    "MOBILE_MESSAGE_CONCURRENCY": "5",
    "HANDSET_LATENCY_MS": "250",
    "REPLAY_AFTER_S": "3",
    "REQUEST_TIMEOUT_S": "4",
    "LEASE_S": "6",
    "SWEEP_AFTER_S": "8",
    "THROTTLE_RATE_USER": "100000/min",
    "THROTTLE_RATE_IMPORT": "1000/min",
}
KILLED = ("delivery worker", "scheduling worker", "contacts worker", "handset", "broker")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Start a stack with short time-outs and a slow handset."""
    home = tmp_path_factory.mktemp("chaos")
    async with Stack(home, SETTINGS, free_ports=True) as stack:
        yield stack


async def requests(session: aiohttp.ClientSession, stack: Stack) -> dict[str, Any]:
    """Return the handset's counts of requests."""
    async with session.get(f"{stack.url('handset')}/api/requests/") as answer:
        found: dict[str, Any] = await answer.json()
        return found


@pytest.mark.parametrize("name", KILLED)
async def test_killed_process_loses_and_duplicates_no_message(stack: Stack, name: str) -> None:
    organisation = f"org_{name.replace(' ', '_')}"
    rows = CSV.read_bytes()
    killed: list[int] = []
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
    async with aiohttp.ClientSession() as session:
        api = Api(session, stack.url("gateway"), lambda: mint(Session("user", organisation, "admin"), issuer))
        before = len(await read_handset(session, stack.url("handset")))
        repeated = (await requests(session, stack))["repeated"]

        async def kill(counts: dict[str, int]) -> None:
            if not killed and counts.get("sent", 0) >= 100:
                in_flight = (await requests(session, stack))["in_flight"]
                if in_flight > 0:
                    os.kill(stack.pid(name), signal.SIGKILL)
                    killed.append(in_flight)

        result = await run_journey(api, rows=rows, due_in_s=4, while_sending=kill, timeout_s=240)
        assert killed, "no request was in flight when the process should have been killed, so the test proves nothing"
        expected = expected_messages(rows, result.refused, result.opted_out_phone)
        check_exactly_once((await read_handset(session, stack.url("handset")))[before:], expected)
        assert result.counts == {"sent": len(expected)}
        if name in ("delivery worker", "handset"):
            assert (await requests(session, stack))["repeated"] > repeated, "no submission was resent with its key"
        await stack.wait_ready()
    parts = sum(measure(text).parts for text in expected.values())
    assert await usage(stack, organisation) == result.parts == parts


async def usage(stack: Stack, organisation: str) -> int:
    """Return the parts that count against the organisation's limit, from delivery's table."""
    connection = await asyncpg.connect(stack.environment["DATABASE_URL"])
    try:
        return int(
            await connection.fetchval(
                "SELECT sum(usage) FROM delivery.limit_usage WHERE organisation_id = $1", organisation
            )
        )
    finally:
        await connection.close()
