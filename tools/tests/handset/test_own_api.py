"""The handset's own API, and that its log survives a kill."""

import json
import signal

import aiohttp
import pytest

from tools.tests.handset.conftest import RunningHandset, Send

FIELDS = {
    *("id", "received_at", "provider", "from", "to", "text", "subject", "media_urls", "reference", "parts"),
    *("encoding", "status", "raw_status", "webhook_status"),
}


async def page(session: aiohttp.ClientSession, handset: RunningHandset, **query: str | int) -> dict[str, list[object]]:
    """Return a page of messages."""
    async with session.get(f"{handset.url}/api/messages/", params=query) as response:
        assert response.status == 200
        answer: dict[str, list[object]] = await response.json()
        return answer


async def texts(session: aiohttp.ClientSession, handset: RunningHandset) -> list[str]:
    """Return the texts of all messages."""
    async with session.get(f"{handset.url}/api/messages/") as response:
        return [message["text"] for message in (await response.json())["messages"]]


async def test_pages_follow_each_other_in_order_of_arrival(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    await send(*[f"041234567{number}" for number in range(5)])
    first = await page(session, handset, limit=2)
    second = await page(session, handset, limit=2, after=str(first["next"]))
    third = await page(session, handset, limit=2, after=str(second["next"]))
    arrived = [message for answer in (first, second, third) for message in answer["messages"]]
    assert [message["to"] for message in arrived] == [f"+6141234567{number}" for number in range(5)]  # type: ignore[index]
    assert third["next"] is None
    assert set(arrived[0]) == FIELDS  # type: ignore[call-overload]


async def test_messages_of_one_recipient_are_found(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    await send("0412345678", "0412345679", "0412345678")
    found = await page(session, handset, to="+61412345678", limit=1)
    rest = await page(session, handset, to="+61412345678", limit=1, after=str(found["next"]))
    assert (len(found["messages"]), len(rest["messages"]), rest["next"]) == (1, 1, None)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=-1"])
async def test_invalid_query_is_a_400(handset: RunningHandset, session: aiohttp.ClientSession, query: str) -> None:
    async with session.get(f"{handset.url}/api/messages/?{query}") as response:
        assert response.status == 400


@pytest.mark.parametrize(
    "body", ["[]", '{"latency_ms": -1}', '{"receipts": "maybe"}', '{"latency_ms": "1"}', '{"port": 1}', "{"]
)
async def test_invalid_settings_are_a_400_and_change_nothing(
    handset: RunningHandset, session: aiohttp.ClientSession, body: str
) -> None:
    headers = {"Content-Type": "application/json"}
    async with session.patch(f"{handset.url}/api/settings/", data=body, headers=headers) as response:
        assert response.status == 400
    async with session.get(f"{handset.url}/api/settings/") as response:
        assert await response.json() == {"latency_ms": 0, "concurrency": 0, "receipts": "off"}


async def test_killed_handset_has_every_answered_request(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    first = await send("0412345678", key="k", text="saved")
    refused = await send("0491570313", key="other")
    assert refused[0] == 429
    handset.end(signal.SIGKILL)
    with handset.log.open("ab") as log:
        log.write(handset.log.read_bytes()[:50])  # an incomplete line
    handset.start()
    assert await texts(session, handset) == ["saved"]
    assert (await send("0412345678", key="k", text="saved"))[2] == first[2]
    assert (await send("0491570313", key="other"))[0] == 429
    assert (await send("0491570313", key="other"))[0] == 200
    handset.end(signal.SIGKILL)
    handset.start()
    assert await texts(session, handset) == ["saved", "Hello"]
    async with session.get(f"{handset.url}/api/requests/") as response:
        answer = json.loads(await response.read())
    assert (answer["total"], answer["repeated"]) == (5, 1)


async def test_deleted_messages_stay_deleted_after_a_kill(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    first = await send("0412345678", key="k")
    async with session.delete(f"{handset.url}/api/messages/") as response:
        assert response.status == 204
    handset.end(signal.SIGKILL)
    handset.start()
    assert await texts(session, handset) == []
    assert (await send("0412345678", key="k"))[2] != first[2]


async def test_conversation_is_read_page_by_page_from_the_newest(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    for number in range(5):
        await send("0412345678", text=str(number))
    url = f"{handset.url}/api/phones/%2B61412345678/"
    async with session.get(url, params={"limit": 2}) as response:
        newest = await response.json()
    async with session.get(url, params={"limit": 2, "before": newest["before"]}) as response:
        earlier = await response.json()
    assert [[entry["text"] for entry in page["entries"]] for page in (newest, earlier)] == [["3", "4"], ["1", "2"]]
    assert (newest["replies_to"], newest["scenario"], newest["stopped"]) == ("61491570110", None, [])


@pytest.mark.parametrize(
    ("search", "found"),
    [("0412 345", 1), ("345678", 1), ("61498", 1), ("04", 2), ("777", 0), ("+61 (412)", 1), ("Ana", 0)],
)
async def test_phones_are_found_by_a_part_of_their_number(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send, search: str, found: int
) -> None:
    await send("0412345678", "0498765432")
    async with session.get(f"{handset.url}/api/phones/", params={"search": search}) as response:
        answer = await response.json()
    assert (len(answer["phones"]), answer["total"]) == (found, 2)


async def test_new_message_is_sent_to_the_event_stream(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    async with session.get(f"{handset.url}/api/events/") as stream:
        assert await stream.content.readline() == b"retry: 1000\n"
        await send("0412345678", text="Hello")
        line = b""
        while not line.startswith(b"data: "):
            line = await stream.content.readline()
        (phone,) = json.loads(line.removeprefix(b"data: "))["phones"]
    assert (phone["phone"], phone["text"], phone["status"]) == ("+61412345678", "Hello", "accepted")


async def test_killed_handset_has_replies_and_receipts(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send
) -> None:
    _, _, body = await send("0412345678")
    message_id = json.loads(body)["results"][0]["message_id"]
    for path, fields in (
        (f"messages/{message_id}/receipts", {"status": "delivered"}),
        ("phones/+61412345678/replies", {"text": "STOP"}),
    ):
        async with session.post(f"{handset.url}/api/{path}/", json=fields) as response:
            assert response.status in (201, 202)
    handset.end(signal.SIGKILL)
    handset.start()
    (message,) = (await page(session, handset))["messages"]
    assert message["status"] == "delivered"  # type: ignore[index]
    assert json.loads((await send("0412345678"))[2])["results"][0]["status"] == "blocked"


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("messages/none/receipts", {"status": "delivered"}, 404),
        ("phones/+61412345678/replies", {"text": "Hello"}, 400),
        ("phones/+61412345678/replies", {"text": "Hello", "to": "61491570110", "provider": "nonsuch"}, 400),
        ("phones/+61412345678/replies", {"text": "", "to": "61491570110", "provider": "twilio"}, 400),
        ("phones/+61412345678/replies", {"text": "Hello", "to": "61491570110", "provider": "twilio"}, 201),
    ],
)
async def test_impossible_receipts_and_replies_are_refused(
    handset: RunningHandset, session: aiohttp.ClientSession, path: str, fields: dict[str, str], status: int
) -> None:
    async with session.post(f"{handset.url}/api/{path}/", json=fields) as response:
        assert response.status == status


@pytest.mark.parametrize(
    "fields", [{}, {"status": "lost"}, {"after_s": -1}, {"after_s": True}, {"times": 0}, {"times": 1.5}]
)
async def test_invalid_receipt_is_a_400(
    handset: RunningHandset, session: aiohttp.ClientSession, send: Send, fields: dict[str, object]
) -> None:
    message_id = json.loads((await send("0412345678"))[2])["results"][0]["message_id"]
    body = {"status": "delivered", **fields} if fields else {}
    async with session.post(f"{handset.url}/api/messages/{message_id}/receipts/", json=body) as response:
        assert response.status == 400


async def test_page_of_another_origin_cannot_send_replies(
    handset: RunningHandset, session: aiohttp.ClientSession
) -> None:
    """Send a simple request, with another media type. A browser asks before it sends JSON, and is not allowed to."""
    async with session.post(f"{handset.url}/api/phones/+61412345678/replies/", data='{"text": "STOP"}') as response:
        assert response.status == 415
    async with session.get(handset.url) as response:
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("host", "sources"),
    [
        ("127.0.0.1:8090", "http://127.0.0.1:* https://127.0.0.1:* http://localhost:* https://localhost:*"),
        ("handset.example.com", "http://handset.example.com:* https://handset.example.com:*"),
        ("[::1]:8090", ""),
        ("x; script-src *", ""),
    ],
)
async def test_page_shows_pictures_of_its_own_host_only(
    handset: RunningHandset, session: aiohttp.ClientSession, host: str, sources: str
) -> None:
    async with session.get(handset.url, headers={"Host": host}) as response:
        policy = response.headers["Content-Security-Policy"]
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert directives["img-src"].split() == ["'self'", *sources.split()]
    assert directives["script-src"] == "'self'"
