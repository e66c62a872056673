"""The webhooks: which requests are accepted, what is stored, and that no request causes a 500."""

import asyncio
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from twilio.request_validator import RequestValidator

from common.http.requests import MAX_JSON_BYTES
from delivery.app import create_app
from delivery.providers.webhook_parsing import Mark
from delivery.settings import Settings
from services.delivery.tests.webhook_stage import ADDRESS, PHONE, SIGNATURE, WebhookStage

SECRET = "whsec"
Serve = Callable[[FastAPI], httpx.AsyncClient]


async def test_the_provider_gets_the_request_as_it_was_signed_and_its_answer_is_returned(stage: WebhookStage) -> None:
    answer = await stage.client.post(
        f"{ADDRESS}/receipts/?a=1&b=x%20y&a=2",
        content=b"[]",
        headers={"X-Signature": SIGNATURE, "X-Request-ID": "req-7"},
    )
    assert (answer.status_code, answer.text) == (200, "<Response/>")
    assert answer.headers["content-type"].startswith("text/xml")
    (request,) = stage.json_provider.requests
    assert request.url == f"https://sms.example.com{ADDRESS}/receipts/?a=1&b=x%20y&a=2"
    assert (request.kind, request.body) == ("receipts", b"[]")
    assert (request.query["b"], request.headers["x-request-id"]) == ("x y", "req-7")


async def test_an_event_is_stored_once_with_its_request_id(stage: WebhookStage) -> None:
    item = {"id": "same", "status": "sent", "reference": 5}
    await stage.post("receipts", item, item)
    await asyncio.gather(*(stage.post("receipts", item) for _ in range(5)))
    await stage.post("inbound", {"id": "same", "text": "Hi"})
    stored = await stage.rows("SELECT kind, request_id, due_at IS NOT NULL AS due FROM webhook_events ORDER BY kind")
    assert [(row.kind, row.due) for row in stored] == [("inbound", True), ("receipt", True)]
    assert all(row.request_id for row in stored)


async def test_a_repeated_webhook_gets_the_same_answer_and_changes_nothing(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    for _ in range(3):
        await stage.post("receipts", {"id": "a", "status": "delivered", "reference": message_id})
        await stage.receive("inbound", {"id": "b", "text": "stop", "reference": message_id})
    assert len(await stage.rows("SELECT 1 FROM inbound_messages")) == 1
    assert (await stage.get(message_id)).version == 2
    assert len({event.event_id for event in await stage.events()}) == 4


async def test_a_wrong_signature_is_403_and_stores_nothing(stage: WebhookStage) -> None:
    answer = await stage.post("receipts", {"status": "delivered", "reference": 1}, signature="guess")
    body = answer.json()
    assert (answer.status_code, body["code"], body["detail"]) == (403, "permission_denied", "not signed")
    assert await stage.rows("SELECT 1 FROM webhook_events") == []


async def test_a_malformed_webhook_is_400_and_names_the_field(stage: WebhookStage) -> None:
    headers = {"X-Signature": SIGNATURE}
    answer = await stage.client.post(f"{ADDRESS}/receipts/", content=b'[{"status": "sent"}]', headers=headers)
    assert (answer.status_code, answer.json()["non_field_errors"]) == (400, ["id: is missing"])


async def test_an_unknown_provider_or_kind_is_404_and_another_method_405(stage: WebhookStage) -> None:
    for path in ("/api/webhooks/providers/nonsuch/receipts/", f"{ADDRESS}/nonsuch/", f"{ADDRESS}/Receipts/"):
        answer = await stage.client.post(path, content=b"[]", headers={"X-Signature": SIGNATURE})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert (await stage.client.get(f"{ADDRESS}/receipts/")).status_code == 405


async def test_a_body_over_the_limit_is_413(stage: WebhookStage) -> None:
    answer = await stage.client.post(f"{ADDRESS}/receipts/", content=b"x" * (MAX_JSON_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_junk_never_causes_a_500(stage: WebhookStage) -> None:
    bodies = [os.urandom(length) for length in range(1, 30)]
    bodies += [b"", b"null", b"[]", b"[1]", b"[null]", b'{"a": 1}', b'[{"id": 1}]', b'[{"id": "x"}]', b"\xff\xfe"]
    bodies += [b"[" * 9000]
    bodies += [json.dumps([{"id": "x", "status": "sent", "raw": "x", name: 1}]).encode() for name in "abcdefghij"]
    bodies += [
        json.dumps([{"id": f"r{n}", "status": "sent", "raw": "x", "reference": 10**n}]).encode() for n in range(25)
    ]
    for kind in ("receipts", "inbound", "else"):
        for body in bodies:
            headers = {"X-Signature": SIGNATURE}
            answer = await stage.client.post(f"{ADDRESS}/{kind}/", content=body, headers=headers)
            assert answer.status_code in (200, 400), (kind, body, answer.text)
    await stage.apply()
    await stage.receive("receipts", {"status": "sent", "reference": 1})
    waiting = await stage.rows("SELECT checks FROM webhook_events WHERE due_at IS NOT NULL")
    assert {row.checks for row in waiting} == {1}


async def test_null_characters_and_lone_surrogates_are_removed(stage: WebhookStage) -> None:
    (message_id,) = await stage.sent(stage.due())
    nasty = "a\0b\ud800c\udc00 \U0001f600\u202e\x1b"
    receipt = {"id": nasty, "status": "failed", "reference": message_id, "raw": nasty, "error": nasty * 500}
    await stage.post("receipts", {**receipt, "provider_message_id": nasty})
    reply = {"id": nasty, "text": nasty, "to": nasty, "provider_message_id": nasty, "reference": message_id}
    await stage.post("inbound", reply)
    await stage.post("inbound", {"phone": nasty, "text": nasty, "reference": message_id, "media_urls": [nasty]})
    await stage.apply()
    row = await stage.get(message_id)
    assert row.provider_status == "ab\ufffdc\ufffd \U0001f600\u202e"
    assert len(row.error.removeprefix("The provider could not deliver this message. The provider says: ")) == 300
    stored = await stage.rows("SELECT text, phone FROM inbound_messages ORDER BY id")
    assert {one.text for one in stored} == {"ab\ufffdc\ufffd \U0001f600\u202e"}
    assert PHONE in {one.phone for one in stored}


@pytest.fixture
def mobile_message_app(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Return the application with the real Mobile Message provider."""
    values = {"USERNAME": "user", "PASSWORD": "password", "SENDER_ID": "Cooee", "WEBHOOK_SECRET": SECRET}
    for name, value in values.items():
        monkeypatch.setenv(f"MOBILE_MESSAGE_{name}", value)
    return create_app(make_settings(sms_providers="mobile_message"))


def sign(at: str, body: bytes) -> str:
    return hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


async def test_mobile_messages_webhooks_need_its_signature(
    stage: WebhookStage, mobile_message_app: FastAPI, serve: Serve
) -> None:
    (message_id,) = await stage.sent(stage.due())
    receipt = {"status": "delivered", "message_id": f"mm-{message_id}", "to": "61453000001"}
    body = json.dumps({**receipt, "custom_ref": Mark(stage.make_settings()).write(message_id)}).encode()
    at = str(int(time.time()))
    signature = sign(at, body)
    async with serve(mobile_message_app) as client, mobile_message_app.router.lifespan_context(mobile_message_app):
        for stamp, given, status in (
            (at, "0" * 64, 403),
            ("1", signature, 403),
            (at, signature, 200),
            (at, signature, 200),
        ):
            headers = {"X-MM-Timestamp": stamp, "X-MM-Signature": given}
            assert (await client.post(f"{ADDRESS}/receipts/", content=body, headers=headers)).status_code == status
    assert len(await stage.rows("SELECT 1 FROM webhook_events")) == 1
    await stage.apply()
    assert await stage.statuses() == ["delivered"]


async def test_a_receipt_of_another_installation_on_the_account_changes_no_open_message(
    stage: WebhookStage, mobile_message_app: FastAPI, serve: Serve
) -> None:
    stage.provider.script.append(stage.provider.accept_and_wait)
    await stage.add_due(stage.due())
    await stage.claim(stage.make_worker())
    message = await stage.message()
    assert message.status == "sending"
    at = str(int(time.time()))
    async with serve(mobile_message_app) as client, mobile_message_app.router.lifespan_context(mobile_message_app):
        for reference in (f"abcdef-{message.id}", str(message.id)):
            receipt = {"status": "delivered", "message_id": f"of {reference}", "custom_ref": reference}
            body = json.dumps(receipt).encode()
            headers = {"X-MM-Timestamp": at, "X-MM-Signature": sign(at, body)}
            assert (await client.post(f"{ADDRESS}/receipts/", content=body, headers=headers)).status_code == 200
    await stage.apply()
    unmatched = await stage.rows("SELECT checks FROM webhook_events WHERE message_id IS NULL")
    assert [row.checks for row in unmatched] == [1, 1]
    assert await stage.statuses() == ["sending"]
    stage.provider.release.set()


@pytest.mark.parametrize("path", ["receipts", "receipts/"])
@pytest.mark.parametrize("prefix", ["/api", "/api/v2"])
async def test_the_signature_covers_the_path_as_it_was_requested(
    stage: WebhookStage, serve: Serve, monkeypatch: pytest.MonkeyPatch, prefix: str, path: str
) -> None:
    """The gateway forwards such a request to the path of the route, and says which path was requested."""
    (message_id,) = await stage.sent(stage.due())
    await stage.execute("UPDATE messages SET provider = 'twilio'")
    for name, value in {"ACCOUNT_SID": "AC1", "AUTH_TOKEN": SECRET, "SENDER_ID": "+61491570006"}.items():
        monkeypatch.setenv(f"TWILIO_{name}", value)
    settings = stage.make_settings(sms_providers="twilio", public_url="https://sms.example.com")
    app = create_app(settings)
    query = f"?reference={Mark(settings).write(message_id)}"
    requested = f"{prefix}/webhooks/providers/twilio/{path}"
    fields: dict[str, Any] = {"MessageSid": "SM" + "1" * 32, "MessageStatus": "delivered"}
    signature = RequestValidator(SECRET).compute_signature(f"https://sms.example.com{requested}{query}", fields)
    async with serve(app) as client, app.router.lifespan_context(app):
        for forwarded, status in ((requested, 200), (f"{requested}/x", 403)):
            headers = {"X-Twilio-Signature": signature, "X-Forwarded-Path": forwarded}
            url = f"/api/webhooks/providers/twilio/receipts/{query}"
            answer = await client.post(url, data=fields, headers=headers)
            assert answer.status_code == status, answer.text
    await stage.apply()
    assert await stage.statuses() == ["delivered"]


async def test_twilios_signature_covers_the_public_address_with_its_query(
    stage: WebhookStage, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = await stage.sent(stage.due())
    await stage.execute("UPDATE messages SET provider = 'twilio'")
    account = "AC" + "0" * 32
    for name, value in {"ACCOUNT_SID": account, "AUTH_TOKEN": SECRET, "SENDER_ID": "+61491570006"}.items():
        monkeypatch.setenv(f"TWILIO_{name}", value)
    settings = stage.make_settings(sms_providers="twilio", public_url="https://sms.example.com")
    app = create_app(settings)
    reference = Mark(settings).write(message_id)
    path = f"/api/webhooks/providers/twilio/receipts/?reference={reference}"
    fields: dict[str, Any] = {"MessageSid": "SM" + "1" * 32, "MessageStatus": "delivered", "AccountSid": account}
    signature = RequestValidator(SECRET).compute_signature(f"https://sms.example.com{path}", fields)
    async with serve(app) as client, app.router.lifespan_context(app):
        for address, status in (
            (path, 200),
            (path.replace(reference, "abcdef-1"), 403),
            (path.partition("?")[0], 403),
        ):
            answer = await client.post(address, data=fields, headers={"X-Twilio-Signature": signature})
            assert answer.status_code == status, answer.text
    await stage.apply()
    assert await stage.statuses() == ["delivered"]
