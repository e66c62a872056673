"""The handset as Mobile Message: answers, idempotency keys, scenarios, limits."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tools.handset.scenarios import SCENARIOS, Behaviour
from tools.tests.handset.conftest import RunningHandset, Send, credentials, message

PLAIN = "0412345678"
NUMBERS = {behaviour: number for number, behaviour in reversed(SCENARIOS.items())}


def results(body: bytes) -> list[dict[str, Any]]:
    """Return the results of an answer."""
    found: list[dict[str, Any]] = json.loads(body)["results"]
    return found


async def get(session: aiohttp.ClientSession, url: str) -> Any:
    """Return the JSON body of an address."""
    async with session.get(url) as response:
        assert response.status == 200
        return await response.json()


def test_scenarios_are_the_thirty_fictional_numbers() -> None:
    assert len(SCENARIOS) == 30
    assert all(number.startswith("+6149157") for number in SCENARIOS)
    assert set(NUMBERS) == set(Behaviour)


async def test_accepted_message_is_echoed_with_id_and_cost(send: Send) -> None:
    status, _, body = await send(PLAIN, text="x" * 161)
    answer = json.loads(body)
    (result,) = answer["results"]
    assert (status, answer["status"], answer["total_cost"]) == (200, "complete", 2)
    assert result.pop("message_id")
    assert result == {**message(PLAIN, "x" * 161), "status": "success", "cost": 2}


@pytest.mark.parametrize("form", ["0412345678", "61412345678", "+61412345678"])
async def test_every_spelling_of_a_number_arrives_as_e164(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send, form: str
) -> None:
    await send(form)
    found = await get(session, f"{handset.url}/api/messages/?to=%2B61412345678")
    assert [entry["to"] for entry in found["messages"]] == ["+61412345678"]


@pytest.mark.parametrize(
    ("behaviour", "status", "error"),
    [
        (Behaviour.BLOCK, "blocked", ""),
        (Behaviour.REFUSE_NUMBER, "error", "phone number"),
        (Behaviour.REFUSE_SENDER, "error", "permission to use this sender"),
        (Behaviour.REFUSE_CONTENT, "error", "content"),
    ],
)
async def test_refused_item_leaves_the_rest_of_its_batch(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send, behaviour: Behaviour, status: str, error: str
) -> None:
    code, _, body = await send(PLAIN, NUMBERS[behaviour], "0412345679")
    assert code == 200
    assert [result["status"] for result in results(body)] == ["success", status, "success"]
    assert error in results(body)[1].get("error", "")
    assert len((await get(session, f"{handset.url}/api/messages/"))["messages"]) == 2


async def test_landline_and_missing_text_are_refused_by_item(send: Send) -> None:
    _, _, body = await send("0212345678", text="Hello")
    assert results(body)[0]["status"] == "error"
    _, _, body = await send(PLAIN, text="")
    assert results(body)[0]["status"] == "error"


async def test_without_enable_unicode_other_characters_are_removed(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    await send(PLAIN, text="Hi 👋 there")
    await send(PLAIN, text="Hi 👋 there", enable_unicode=True)
    found = await get(session, f"{handset.url}/api/messages/")
    assert [entry["text"] for entry in found["messages"]] == ["Hi  there", "Hi 👋 there"]


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"messages": 1}', '{"messages": []}', '{"messages": [1]}'])
async def test_malformed_request_is_a_400(handset: RunningHandset, session: aiohttp.ClientSession, body: str) -> None:
    async with session.post(f"{handset.url}/v1/messages", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]


async def test_batch_of_ten_thousand_is_accepted_and_a_larger_one_refused(send: Send) -> None:
    status, _, body = await send(*[f"04{number:08}" for number in range(10_000)])
    assert (status, len(results(body))) == (200, 10_000)
    status, _, _ = await send(*[PLAIN] * 10_001)
    assert status == 400


async def test_credentials_are_checked_when_set(start_handset: Callable[..., RunningHandset]) -> None:
    handset = start_handset(HANDSET_USERNAME="user", HANDSET_PASSWORD="secret")
    async with aiohttp.ClientSession() as session:
        for header, status in [("", 401), (credentials("user", "no"), 401), (credentials("user", "secret"), 200)]:
            async with session.get(f"{handset.url}/v1/account", headers={"Authorization": header}) as response:
                assert response.status == status


async def test_repeated_key_gets_the_first_answer_and_adds_no_message(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    first = await send(PLAIN, "0412345679", key="k")
    assert (await send(PLAIN, "0412345679", key="k"))[2] == first[2]
    assert len((await get(session, f"{handset.url}/api/messages/"))["messages"]) == 2
    requests = await get(session, f"{handset.url}/api/requests/")
    assert (requests["total"], requests["repeated"]) == (2, 1)
    assert [entry["repeated"] for entry in requests["requests"]] == [False, True]
    assert requests["requests"][1]["references"] == ["ref-0412345678", "ref-0412345679"]


async def test_key_with_another_body_is_a_400(send: Send) -> None:
    await send(PLAIN, key="k")
    status, _, body = await send(PLAIN, text="Other", key="k")
    assert status == 400
    assert "key" in json.loads(body)["error"]


async def test_key_repeated_while_the_first_request_is_in_flight_gets_its_answer(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    async with session.patch(f"{handset.url}/api/settings/", json={"latency_ms": 500}) as response:
        assert await response.json() == {"latency_ms": 500, "concurrency": 0, "receipts": "off"}
    first, second = await asyncio.gather(send(PLAIN, key="k"), send(PLAIN, key="k"))
    assert first[2] == second[2]
    assert len((await get(session, f"{handset.url}/api/messages/"))["messages"]) == 1


@pytest.mark.parametrize(
    ("behaviour", "statuses", "retry_after"),
    [
        (Behaviour.THROTTLE, [429, 429, 429], True),
        (Behaviour.THROTTLE_TWICE, [429, 429, 200], False),
        (Behaviour.BUSY_TWICE, [503, 503, 200], True),
        (Behaviour.FAIL_ONCE, [500, 200, 200], False),
        (Behaviour.NO_CREDIT, [403, 403, 403], False),
    ],
)
async def test_refused_request_adds_no_message_and_does_not_use_up_its_key(
    handset: RunningHandset,
    session: aiohttp.ClientSession,
    send: Send,
    behaviour: Behaviour,
    statuses: list[int],
    retry_after: bool,
) -> None:
    answers = [await send(PLAIN, NUMBERS[behaviour], key="k") for _ in range(3)]
    assert [status for status, _, _ in answers] == statuses
    assert ("Retry-After" in answers[0][1]) == retry_after
    found = await get(session, f"{handset.url}/api/messages/")
    assert len(found["messages"]) == (2 if 200 in statuses else 0)


@pytest.mark.parametrize("behaviour", [Behaviour.NEVER_ANSWER, Behaviour.DROP])
async def test_unanswered_request_is_accepted_and_its_repetition_answered(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send, behaviour: Behaviour
) -> None:
    with pytest.raises((TimeoutError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await send(NUMBERS[behaviour], key="k", timeout=0.5)
    assert len((await get(session, f"{handset.url}/api/messages/"))["messages"]) == 1
    status, _, body = await send(NUMBERS[behaviour], key="k")
    assert (status, results(body)[0]["status"]) == (200, "success")
    assert len((await get(session, f"{handset.url}/api/messages/"))["messages"]) == 1


async def test_more_requests_in_flight_than_allowed_are_refused(
    start_handset: Callable[..., RunningHandset], session: aiohttp.ClientSession
) -> None:
    handset = start_handset(HANDSET_LATENCY_MS="1000", HANDSET_CONCURRENCY="2")

    async def post(number: int) -> tuple[int, str]:
        body = {"messages": [message(f"041234567{number}")]}
        async with session.post(f"{handset.url}/v1/messages", json=body) as response:
            return response.status, await response.text()

    answers = await asyncio.gather(*[post(number) for number in range(5)])
    assert sorted(status for status, _ in answers) == [200, 200, 429, 429, 429]
    assert all("Too many concurrent requests. Please wait." in text for status, text in answers if status == 429)


async def test_look_up_by_id_finds_the_message(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    _, _, body = await send(PLAIN)
    message_id = results(body)[0]["message_id"]
    found = await get(session, f"{handset.url}/v1/messages?message_id={message_id}")
    assert [(entry["custom_ref"], entry["status"]) for entry in found["results"]] == [(f"ref-{PLAIN}", "sent")]
    assert await get(session, f"{handset.url}/v1/messages?message_id=none") == {"results": []}
