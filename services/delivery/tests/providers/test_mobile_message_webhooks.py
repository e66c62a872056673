"""Mobile Message's webhooks (receipts by part, inbound messages, signatures) and its look-up."""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from delivery.providers.base import (
    AccountError,
    DeliveryReceipt,
    InboundMessage,
    OutcomeUnknown,
    OutgoingMessage,
    WebhookMalformed,
    WebhookRefused,
)
from delivery.providers.mobile_message import MobileMessage

from .conftest import MARK, Make, ProviderApi, Webhook

SECRET = "abc123"
GIVEN = {"username": "user", "password": "password", "sender_id": "Cooee"}
ID = "6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c11"
RECEIPT = {
    "to": "61491570006",
    "message": "Hi Ana",
    "sender": "61491570110",
    "custom_ref": f"{MARK}-7",
    "status": "delivered",
    "message_id": ID,
    "received_at": "2026-03-02 04:14:31",
    "part_number": 1,
    "total_parts": 1,
}
INBOUND = {
    "to": "61491570110",
    "sender": "61491570006",
    "message": "STOP",
    "received_at": "2026-03-02 04:15:09",
    "type": "unsubscribe",
    "original_message_id": ID,
    "original_custom_ref": f"{MARK}-7",
}
AT = datetime(2026, 3, 2, 4, 14, 31, tzinfo=UTC)


@pytest.fixture
def provider(make: Make) -> MobileMessage:
    return make(MobileMessage, **GIVEN, webhook_secret=SECRET)


@pytest.fixture
def read(provider: MobileMessage, webhook: Webhook) -> Any:
    async def one(kind: str, body: bytes | dict[str, Any], age_s: float = 0.0, secret: str = SECRET) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        stamp = str(int(time.time() - age_s))
        signature = hmac.new(secret.encode(), stamp.encode() + b"." + raw, hashlib.sha256).hexdigest()
        headers = {"X-MM-Timestamp": stamp, "X-MM-Signature": signature}
        return await provider.read_webhook(webhook("mobile_message", kind, raw, headers))

    return one


@pytest.mark.parametrize(
    ("changes", "receipt"),
    [
        ({}, DeliveryReceipt(f"{ID}/1/1/delivered", "delivered", "delivered", 7, ID, occurred_at=AT)),
        (
            {"status": "sent", "part_number": 2, "total_parts": 3},
            DeliveryReceipt(f"{ID}/2/3/sent", "sent", "sent", 7, ID, part=2, of_parts=3, occurred_at=AT),
        ),
        (
            {"status": "sent", "part_number": "2", "total_parts": " 3"},
            DeliveryReceipt(f"{ID}/2/3/sent", "sent", "sent", 7, ID, part=2, of_parts=3, occurred_at=AT),
        ),
        # Ids in capitals and references with leading zeros name the same message.
        (
            {"message_id": ID.upper(), "custom_ref": f"00{MARK.upper()}-0007", "received_at": ""},
            DeliveryReceipt(f"{ID}/1/1/delivered", "delivered", "delivered", 7, ID),
        ),
        (
            {"message_id": None},
            DeliveryReceipt("7/1/1/delivered", "delivered", "delivered", 7, None, occurred_at=AT),
        ),
    ],
)
async def test_a_receipt_is_about_one_part(read: Any, changes: dict[str, Any], receipt: DeliveryReceipt) -> None:
    assert await read("receipts", RECEIPT | changes) == [receipt]


@pytest.mark.parametrize(
    "reference",
    ["abcdef-7", "7", "-7", f"{MARK}7", f"{MARK}-", f"{MARK}-0", f"{MARK}-\u0667", f"{MARK}-{'9' * 19}", "7" * 9999],
)
async def test_a_reference_without_our_mark_names_no_message(read: Any, reference: str) -> None:
    (receipt,) = await read("receipts", RECEIPT | {"custom_ref": reference})
    (message,) = await read("inbound", INBOUND | {"original_custom_ref": reference})
    assert (receipt.reference, receipt.provider_message_id) == (None, ID)
    assert (message.reference, message.in_reply_to) == (None, ID)


async def test_a_failed_receipt_has_no_reason_but_an_error_text(read: Any) -> None:
    (receipt,) = await read("receipts", RECEIPT | {"status": "failed"})
    assert (receipt.status, receipt.failure_category) == ("failed", "unknown")
    assert receipt.error


async def test_an_unknown_status_is_ignored(read: Any) -> None:
    assert await read("receipts", RECEIPT | {"status": "dancing"}) == []


async def test_an_inbound_message_is_read(read: Any) -> None:
    (stop,) = await read("inbound", INBOUND)
    at = datetime(2026, 3, 2, 4, 15, 9, tzinfo=UTC)
    assert stop == InboundMessage(
        stop.id, "61491570006", "61491570110", "STOP", at, reference=7, in_reply_to=ID, keyword="stop"
    )
    assert await read("inbound", INBOUND) == [stop]
    (other,) = await read("inbound", INBOUND | {"message": "Hello", "type": "inbound", "original_custom_ref": ""})
    assert (other.text, other.keyword, other.reference) == ("Hello", None, None)
    assert other.id != stop.id


@pytest.mark.parametrize(
    ("kind", "body", "named"),
    [
        ("receipts", b"[]", "body"),
        ("receipts", b"{", "body"),
        ("receipts", {**RECEIPT, "status": ""}, "status"),
        ("receipts", {**RECEIPT, "message_id": "", "custom_ref": "x"}, "message_id"),
        ("receipts", {**RECEIPT, "part_number": 4}, "part_number"),
        *(("receipts", {**RECEIPT, "part_number": part}, "part_number") for part in ("4", "0", "-1", "1.0", "", True)),
        *(("receipts", {**RECEIPT, "part_number": part}, "part_number") for part in (None, "\u0661", "9" * 5000)),
        ("receipts", {**RECEIPT, "total_parts": "all"}, "total_parts"),
        ("receipts", {**RECEIPT, "received_at": "yesterday"}, "received_at"),
        ("inbound", {**INBOUND, "sender": None}, "sender"),
        ("inbound", {**INBOUND, "received_at": ""}, "received_at"),
    ],
)
async def test_a_malformed_webhook_names_the_field(read: Any, kind: str, body: Any, named: str) -> None:
    with pytest.raises(WebhookMalformed, match=named):
        await read(kind, body)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"secret": "another"}, "X-MM-Signature"),
        ({"age_s": 400}, "five minutes"),
        ({"age_s": -400}, "five minutes"),
    ],
)
async def test_a_webhook_with_a_wrong_signature_or_an_old_time_is_refused(
    read: Any, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(WebhookRefused, match=reason):
        await read("receipts", RECEIPT, **change)


async def test_without_a_secret_every_webhook_is_refused(make: Make, webhook: Webhook) -> None:
    provider = make(MobileMessage, **GIVEN)
    signature = hmac.new(b"", b"1.{}", hashlib.sha256).hexdigest()
    request = webhook("mobile_message", "receipts", b"{}", {"X-MM-Timestamp": "1", "X-MM-Signature": signature})
    with pytest.raises(WebhookRefused, match="MOBILE_MESSAGE_WEBHOOK_SECRET"):
        await provider.read_webhook(request)


async def test_the_published_signature_example_is_accepted(
    provider: MobileMessage, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {
        "X-MM-Timestamp": "1754640000",
        "X-MM-Signature": "52344b9592722e0241d82036e0920f4286bc0d47ba4624c5a1588193490a1efb",
    }
    monkeypatch.setattr(time, "time", lambda: 1754640000.0)
    with pytest.raises(WebhookMalformed):  # the signature is valid, the content is not
        await provider.read_webhook(webhook("mobile_message", "receipts", b'{"test":1}', headers))


async def test_a_look_up_returns_a_receipt(api: ProviderApi, provider: MobileMessage) -> None:
    found = {"message_id": ID.upper(), "custom_ref": f"{MARK}-7", "status": "delivered", "cost": 2}
    api.answers(200, {"results": [{"message_id": "another"}, found]})
    assert await provider.look_up(ID) == DeliveryReceipt(
        f"{ID}/look-up/delivered", "delivered", "delivered", 7, ID, billed_parts=2
    )
    api.answers(200, {"messages": [found | {"status": "pending"}]})
    assert (receipt := await provider.look_up(ID)) is not None
    assert receipt.status == "sent"
    api.answers(200, {"results": []})
    assert await provider.look_up(ID) is None
    api.answers(200, {"results": [1]})
    with pytest.raises(OutcomeUnknown):
        await provider.look_up(ID)
    assert api.requests[0].path == f"/v1/messages?message_id={ID}"


async def test_check_returns_credit_and_sender_ids(api: ProviderApi, provider: MobileMessage) -> None:
    api.answers(200, {"credit_balance": 1234})
    api.answers(200, {"results": [{"sender": "61491570110"}, {"sender": "Fern"}]})
    status = await provider.check()
    assert (status.credit, status.sender_ids) == ("1234", ("61491570110", "Fern"))
    api.answers(401, {"error": "Invalid API credentials."})
    with pytest.raises(AccountError, match="credentials"):
        await provider.check()


def test_an_organisations_own_sender_id_is_sent_without_plus(provider: MobileMessage) -> None:
    body = provider.prepare(
        [OutgoingMessage(7, "+61491570006", "Hi", sender_id="+61491570110"), OutgoingMessage(8, "+61491570156", "Hi")]
    )
    assert [item["sender"] for item in json.loads(body)["messages"]] == ["61491570110", "Cooee"]
