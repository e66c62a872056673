"""The door for providers: who may come in, what is kept, and that nothing that is sent there is a 500."""

import asyncio
import hashlib
import hmac
import json
import os
import time
from typing import Any

import httpx
from twilio.request_validator import RequestValidator

from common.http.app import MAX_JSON_BYTES
from delivery.app import create_app
from delivery.providers.webhook_parsing import Mark

from .conftest import ADDRESS, PHONE, WORD

SECRET = "whsec"


async def test_a_webhook_is_seen_as_it_was_signed_and_answered_as_its_provider_expects(
    client: httpx.AsyncClient, teller: Any
) -> None:
    answer = await client.post(
        f"{ADDRESS}/receipts/?a=1&b=x%20y&a=2", content=b"[]", headers={"X-Word": WORD, "X-Request-ID": "req-7"}
    )
    assert (answer.status_code, answer.text) == (200, "<Response/>")
    assert answer.headers["content-type"].startswith("text/xml")
    (heard,) = teller.heard
    assert heard.url == f"https://sms.example.com{ADDRESS}/receipts/?a=1&b=x%20y&a=2"
    assert (heard.kind, heard.body, heard.query["b"], heard.headers["x-request-id"]) == (
        "receipts",
        b"[]",
        "x y",
        "req-7",
    )


async def test_a_notice_is_kept_once_with_the_request_that_told_it(tell: Any, client: Any, rows: Any) -> None:
    item = {"id": "same", "status": "sent", "reference": 5}
    await tell("receipts", item, item)
    await asyncio.gather(*(tell("receipts", item) for _ in range(5)))
    await tell("inbound", {"id": "same", "text": "Hi"})
    kept = await rows("SELECT kind, request_id, due_at IS NOT NULL AS due FROM notices ORDER BY kind")
    assert [(row.kind, row.due) for row in kept] == [("inbound", True), ("receipt", True)]
    assert all(row.request_id for row in kept)


async def test_a_replay_is_answered_the_same_and_changes_nothing(
    tell: Any, apply: Any, sent: Any, due: Any, rows: Any, database: Any, outbox_events: Any
) -> None:
    (number,) = await sent(due())
    for _ in range(3):
        await tell("receipts", {"id": "a", "status": "delivered", "reference": number})
        await tell("inbound", {"id": "b", "text": "stop", "reference": number})
        await apply()
    assert len(await rows("SELECT 1 FROM inbound_messages")) == 1
    assert [row.version for row in await rows("SELECT version FROM messages WHERE answers IS NULL")] == [2]
    assert len({event.event_id for event in await outbox_events(database)}) == 4


async def test_who_is_not_believed_is_told_403_and_leaves_nothing(tell: Any, rows: Any) -> None:
    answer = await tell("receipts", {"status": "delivered", "reference": 1}, word="guess")
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (
        403,
        "permission_denied",
        "not signed",
    )
    assert await rows("SELECT 1 FROM notices") == []


async def test_what_cannot_be_understood_is_400_and_names_the_field(client: httpx.AsyncClient) -> None:
    headers = {"X-Word": WORD}
    answer = await client.post(f"{ADDRESS}/receipts/", content=b'[{"status": "sent"}]', headers=headers)
    assert (answer.status_code, answer.json()["non_field_errors"]) == (400, ["id: is missing"])


async def test_an_unknown_provider_is_404_and_another_method_405(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/webhooks/providers/pigeon/receipts/", content=b"{}")).status_code == 404
    assert (await client.get(f"{ADDRESS}/receipts/")).status_code == 405


async def test_a_body_over_the_limit_is_413(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{ADDRESS}/receipts/", content=b"x" * (MAX_JSON_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_sixty_pieces_of_junk_are_never_a_500(
    client: httpx.AsyncClient, tell: Any, apply: Any, rows: Any
) -> None:
    bodies = [os.urandom(length) for length in range(1, 30)]
    bodies += [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b"[null]",
        b'{"a": 1}',
        b'[{"id": 1}]',
        b'[{"id": "x"}]',
        b"\xff\xfe",
        b"[" * 9000,
    ]
    bodies += [json.dumps([{"id": "x", "status": "sent", "raw": "x", name: 1}]).encode() for name in "abcdefghij"]
    bodies += [
        json.dumps([{"id": f"r{n}", "status": "sent", "raw": "x", "reference": 10**n}]).encode() for n in range(25)
    ]
    for kind in ("receipts", "inbound", "else"):
        for body in bodies:
            answer = await client.post(f"{ADDRESS}/{kind}/", content=body, headers={"X-Word": WORD})
            assert answer.status_code in (200, 400), (kind, body, answer.text)
    await apply()
    await tell("receipts", {"status": "sent", "reference": 1})
    await apply()
    assert {row.looks for row in await rows("SELECT looks FROM notices WHERE due_at IS NOT NULL")} == {1}


async def test_nul_and_half_characters_hold_up_nothing(tell: Any, apply: Any, sent: Any, due: Any, rows: Any) -> None:
    (number,) = await sent(due())
    nasty = "a\0b\ud800c\udc00 \U0001f600\u202e\x1b"
    receipt = {"id": nasty, "status": "failed", "reference": number, "raw": nasty, "error": nasty * 500}
    await tell("receipts", {**receipt, "provider_message_id": nasty})
    await tell("inbound", {"id": nasty, "text": nasty, "to": nasty, "provider_message_id": nasty, "reference": number})
    await tell("inbound", {"phone": nasty, "text": nasty, "reference": number, "media_urls": [nasty]})
    await apply()
    (row,) = await rows("SELECT error, provider_status FROM messages WHERE id = :id", id=number)
    assert row.provider_status == "ab\ufffdc\ufffd \U0001f600\u202e"
    assert len(row.error) == 300
    texts = await rows("SELECT text, phone FROM inbound_messages ORDER BY id")
    assert {one.text for one in texts} == {"ab\ufffdc\ufffd \U0001f600\u202e"}
    assert PHONE in {one.phone for one in texts}


def sign(at: str, body: bytes) -> str:
    return hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


async def test_mobile_message_is_believed_by_its_signature_alone(
    make_settings: Any, serve: Any, sent: Any, due: Any, rows: Any, apply: Any
) -> None:
    (number,) = await sent(due())
    settings = make_settings(sms_providers="mobile_message", mobile_message_webhook_secret=SECRET)
    app = create_app(settings)
    told = {"status": "delivered", "message_id": f"mm-{number}", "to": "61453000001"}
    body = json.dumps({**told, "custom_ref": Mark(settings).write(number)}).encode()
    at = str(int(time.time()))
    signature = sign(at, body)
    async with serve(app) as client, app.router.lifespan_context(app):
        for stamp, word, status in (
            (at, "0" * 64, 403),
            ("1", signature, 403),
            (at, signature, 200),
            (at, signature, 200),
        ):
            headers = {"X-MM-Timestamp": stamp, "X-MM-Signature": word}
            assert (await client.post(f"{ADDRESS}/receipts/", content=body, headers=headers)).status_code == status
    assert len(await rows("SELECT 1 FROM notices")) == 1
    await apply()
    assert [row.status for row in await rows("SELECT status FROM messages")] == ["delivered"]


async def test_a_receipt_of_another_installation_on_the_account_settles_no_message_in_flight(
    make_settings: Any,
    make_sender: Any,
    take_in: Any,
    claim: Any,
    carrier: Any,
    serve: Any,
    due: Any,
    rows: Any,
    apply: Any,
) -> None:
    carrier.script.append(carrier.take_and_wait)
    await take_in(due())
    await claim(make_sender())
    (row,) = await rows("SELECT id, status FROM messages")
    assert row.status == "sending"
    app = create_app(make_settings(sms_providers="mobile_message", mobile_message_webhook_secret=SECRET))
    at = str(int(time.time()))
    async with serve(app) as client, app.router.lifespan_context(app):
        for reference in (f"abcdef-{row.id}", str(row.id)):
            told = {"status": "delivered", "message_id": f"of {reference}", "custom_ref": reference}
            body = json.dumps(told).encode()
            headers = {"X-MM-Timestamp": at, "X-MM-Signature": sign(at, body)}
            assert (await client.post(f"{ADDRESS}/receipts/", content=body, headers=headers)).status_code == 200
    await apply()
    assert [row.looks for row in await rows("SELECT looks FROM notices WHERE message_id IS NULL")] == [1, 1]
    assert [row.status for row in await rows("SELECT status FROM messages")] == ["sending"]


async def test_what_twilio_signs_is_the_public_address_with_its_query(
    make_settings: Any, serve: Any, sent: Any, due: Any, rows: Any, apply: Any, execute: Any
) -> None:
    (number,) = await sent(due())
    await execute("UPDATE messages SET provider = 'twilio'")
    account = {"twilio_account_sid": "AC" + "0" * 32, "twilio_auth_token": SECRET, "twilio_sender": "+61491570006"}
    settings = make_settings(sms_providers="twilio", public_url="https://sms.example.com", **account)
    app = create_app(settings)
    reference = Mark(settings).write(number)
    path = f"/api/webhooks/providers/twilio/receipts/?reference={reference}"
    fields = {"MessageSid": "SM" + "1" * 32, "MessageStatus": "delivered", "AccountSid": account["twilio_account_sid"]}
    signature = RequestValidator(SECRET).compute_signature(f"https://sms.example.com{path}", fields)
    async with serve(app) as client, app.router.lifespan_context(app):
        for address, status in (
            (path, 200),
            (path.replace(reference, "abcdef-1"), 403),
            (path.partition("?")[0], 403),
        ):
            answer = await client.post(address, data=fields, headers={"X-Twilio-Signature": signature})
            assert answer.status_code == status, answer.text
    await apply()
    assert [row.status for row in await rows("SELECT status FROM messages")] == ["delivered"]
