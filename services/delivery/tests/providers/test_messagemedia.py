"""MessageMedia's wire format as a table. It follows the published descriptions; nothing else checks it."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.settings import InvalidSetting
from delivery.providers.base import (
    AccountError,
    DeliveryReceipt,
    InboundMessage,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    SubmissionError,
    SubmissionRefused,
    Throttled,
    WebhookMalformed,
    WebhookRefused,
)
from delivery.providers.messagemedia import MessageMedia

from .conftest import MARK, Make, ProviderApi, Webhook

ID = "3d9c6a52-7f41-4c0e-9b8d-2a6e5f10c7b3"
GIVEN = {"api_key": "key", "api_secret": "s3cret", "sender_id": "+61491570110"}
MESSAGES = [
    OutgoingMessage(7, "+61491570006", "Hi Ana"),
    OutgoingMessage(8, "+61491570156", "Map", "mms", "Fern", "M" * 70, "https://m.example.com/a.png"),
]
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
REPORT = {
    "delivery_report_id": "r-1",
    "message_id": ID,
    "source_number": "+61491570006",
    "status": "delivered",
    "error_code": "220",
    "date_received": "2026-03-02T04:14:31.000Z",
    "metadata": {"reference": f"{MARK}-7"},
}
REPLY = {
    "reply_id": "e-1",
    "message_id": ID,
    "source_number": "+61491570006",
    "destination_number": "+61491570110",
    "content": "Thanks",
    "date_received": "2026-03-02T04:20:11.000Z",
    "metadata": {"reference": f"{MARK}-7"},
}
AT = datetime(2026, 3, 2, 4, 14, 31, tzinfo=UTC)


@pytest.fixture
def provider(make: Make) -> MessageMedia:
    return make(MessageMedia, **GIVEN)


async def send(provider: MessageMedia, messages: list[OutgoingMessage] = MESSAGES) -> list[Outcome]:
    return await provider.send(uuid4(), provider.prepare(messages), [message.id for message in messages])


def echo(reference: int, **fields: Any) -> dict[str, Any]:
    metadata = {"reference": f"{MARK}-{reference}"}
    return {"message_id": f"m-{reference}", "status": "queued", "metadata": metadata} | fields


async def test_a_batch_is_sent_in_one_request(api: ProviderApi, make: Make) -> None:
    api.answers(202, {"messages": [echo(8), echo(7)]})
    provider = make(MessageMedia, **GIVEN, account="Sub")
    assert await send(provider) == [Outcome("accepted", f"m-{i}", raw="queued") for i in (7, 8)]
    request = api.requests[0]
    assert (request.method, request.path, request.headers["Account"]) == ("POST", "/v1/messages", "Sub")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"key:s3cret").decode()
    sms, mms = json.loads(request.body)["messages"]
    callback = sms["callback_url"]
    assert callback.startswith("https://sms.example.com/api/webhooks/providers/messagemedia/receipts/?token=")
    common = {"delivery_report": True, "callback_url": callback}
    assert sms == common | {
        "content": "Hi Ana",
        "destination_number": "+61491570006",
        "format": "SMS",
        "source_number": "+61491570110",
        "metadata": {"reference": f"{MARK}-7"},
    }
    assert mms == common | {
        "content": "Map",
        "destination_number": "+61491570156",
        "format": "MMS",
        "source_number": "Fern",
        "subject": "M" * 64,
        "media": ["https://m.example.com/a.png"],
        "metadata": {"reference": f"{MARK}-8"},
    }


def test_without_a_sender_id_the_provider_chooses(make: Make) -> None:
    provider = make(MessageMedia, **(GIVEN | {"sender_id": ""}))
    assert "source_number" not in json.loads(provider.prepare(MESSAGES[:1]))["messages"][0]


async def test_a_message_that_is_not_in_the_answer_is_missing(api: ProviderApi, provider: MessageMedia) -> None:
    api.answers(202, {"messages": [echo(7, status="rejected"), echo(9)]})
    assert await send(provider) == [
        Outcome("refused", "m-7", "unknown", "rejected", raw="rejected"),
        Outcome("missing"),
    ]


@pytest.mark.parametrize(
    ("details", "category"),
    [
        (["/messages/0/destination_number: must be between 8 and 15 characters"], "invalid_number"),
        (["/messages/0/source_number: not authorised"], "account_error"),
        (["/messages/0/content: too long"], "content_rejected"),
        ("odd", "unknown"),
        (None, "unknown"),
    ],
)
async def test_one_bad_message_refuses_the_whole_request(
    api: ProviderApi, provider: MessageMedia, details: Any, category: Any
) -> None:
    api.answers(400, {"message": "Request failed to parse.", "details": details})
    with pytest.raises(SubmissionRefused) as raised:
        await send(provider)
    named = details[0] if isinstance(details, list) else "Request failed to parse."
    assert raised.value.item == Outcome("refused", failure_category=category, error=named)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (422, "TLS", SubmissionRefused),
        (401, {"message": "Invalid authentication credentials"}, AccountError),
        (403, "", AccountError),
        (404, {"message": "Resource not found."}, AccountError),
        (429, "", Throttled),
        (500, "", OutcomeUnknown),
        (502, "<html>", OutcomeUnknown),
        (202, "", OutcomeUnknown),
        (202, {"messages": [1]}, OutcomeUnknown),
        (202, {}, OutcomeUnknown),
        (204, "", OutcomeUnknown),
    ],
)
async def test_a_failed_request_raises_one_of_the_submission_errors(
    api: ProviderApi, provider: MessageMedia, status: int, body: Any, error: type[SubmissionError]
) -> None:
    api.answers(status, body)
    with pytest.raises(error):
        await send(provider)


@pytest.fixture
def read(provider: MessageMedia, webhook: Webhook) -> Any:
    token = json.loads(provider.prepare(MESSAGES))["messages"][0]["callback_url"].partition("token=")[2]

    async def one(body: Any, kind: str = "receipts", token: str = token) -> Any:
        raw = json.dumps(body).encode()
        return await provider.read_webhook(webhook("messagemedia", kind, raw, token=token))

    return one


@pytest.mark.parametrize(
    ("changes", "receipt"),
    [
        ({}, DeliveryReceipt("r-1", "delivered", "delivered 220", 7, ID, occurred_at=AT)),
        (
            {"status": "enroute", "error_code": "101"},
            DeliveryReceipt("r-1", "sent", "enroute 101", 7, ID, occurred_at=AT),
        ),
        (
            {"status": "rejected", "error_code": "302", "metadata": None, "billing_units": 2},
            DeliveryReceipt(
                "r-1",
                "failed",
                "rejected 302",
                None,
                ID,
                "opted_out",
                "rejected, code 302",
                billed_parts=2,
                occurred_at=AT,
            ),
        ),
        # The status decides, not the code.
        (
            {"status": "delivered", "error_code": "301"},
            DeliveryReceipt("r-1", "delivered", "delivered 301", 7, ID, occurred_at=AT),
        ),
        (
            {"status": "expired", "error_code": None, "date_received": None},
            DeliveryReceipt("r-1", "failed", "expired", 7, ID, "expired", "expired"),
        ),
        ({"status": "dancing"}, None),
    ],
)
async def test_a_report_is_a_receipt(read: Any, changes: dict[str, Any], receipt: DeliveryReceipt | None) -> None:
    assert await read(REPORT | changes) == ([receipt] if receipt else [])


@pytest.mark.parametrize("kind", ["receipts", "inbound"])
async def test_an_inbound_message_is_accepted_at_both_addresses(read: Any, kind: str) -> None:
    at = datetime(2026, 3, 2, 4, 20, 11, tzinfo=UTC)
    expected = InboundMessage("e-1", "+61491570006", "+61491570110", "Thanks", at, reference=7, in_reply_to=ID)
    assert await read(REPLY, kind) == [expected]


@pytest.mark.parametrize("reference", ["abcdef-7", "7"])
async def test_a_reference_without_our_mark_names_no_message(read: Any, reference: str) -> None:
    for body in (REPORT, REPLY):
        (event,) = await read(body | {"metadata": {"reference": reference}})
        assert event.reference is None


async def test_an_opt_out_notification_is_a_stop(read: Any) -> None:
    fields = {name: value for name, value in REPLY.items() if name not in ("reply_id", "message_id", "metadata")}
    (inbound,) = await read(fields | {"notification_id": "n-1", "content": "STOP"}, "inbound")
    assert (inbound.id, inbound.keyword, inbound.in_reply_to, inbound.reference) == ("n-1", "stop", None, None)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([], "body"),
        (REPORT | {"status": None}, "status"),
        (REPORT | {"message_id": ""}, "message_id"),
        (REPORT | {"date_received": "soon"}, "date_received"),
        ({}, "reply_id"),
        (REPLY | {"source_number": {}}, "source_number"),
        (REPLY | {"date_received": 5}, "date_received"),
    ],
)
async def test_a_malformed_webhook_names_the_field(read: Any, body: Any, named: str) -> None:
    with pytest.raises(WebhookMalformed, match=named):
        await read(body)


async def test_without_the_token_of_our_address_a_webhook_is_refused(read: Any) -> None:
    for token in ("", "guess", "ž"):
        with pytest.raises(WebhookRefused, match="neither"):
            await read(REPORT, token=token)


def sign(body: bytes, algorithm: hashes.HashAlgorithm, kind: str = "receipts", date: str = "Mon") -> str:
    line = f"POST /api/webhooks/providers/messagemedia/{kind}/ HTTP/1.1"
    return base64.b64encode(KEY.sign(line.encode() + date.encode() + body, padding.PKCS1v15(), algorithm)).decode()


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("SHA224", hashes.SHA224()), ("SHA-256", hashes.SHA256()), ("sha512", hashes.SHA512())],
)
@pytest.mark.parametrize("key", [PEM, PEM.replace("\n", "\\n"), "".join(PEM.splitlines()[1:-1])])
async def test_a_webhook_is_accepted_only_with_its_signature(
    make: Make, webhook: Webhook, name: str, algorithm: hashes.HashAlgorithm, key: str
) -> None:
    provider = make(MessageMedia, **GIVEN, webhook_public_key=key)
    body = json.dumps(REPORT).encode()
    headers = {
        "Date": "Mon",
        "X-Messagemedia-Signature": sign(body, algorithm),
        "X-Messagemedia-Digest-Type": name,
        "X-Messagemedia-Cipher-Type": "RSA",
    }
    assert len(await provider.read_webhook(webhook("messagemedia", "receipts", body, headers))) == 1
    for change in (
        {"Date": "Tue"},
        {"X-Messagemedia-Signature": "e30="},
        {"X-Messagemedia-Signature": "%"},
        {"X-Messagemedia-Digest-Type": "MD5"},
        {"X-Messagemedia-Cipher-Type": "DSA"},
    ):
        with pytest.raises(WebhookRefused):
            await provider.read_webhook(webhook("messagemedia", "receipts", body, headers | change))
    with pytest.raises(WebhookRefused):
        await provider.read_webhook(webhook("messagemedia", "inbound", body, headers))
    with pytest.raises(WebhookRefused):
        await provider.read_webhook(webhook("messagemedia", "receipts", body + b" ", headers))


async def test_without_a_key_every_signed_webhook_is_refused(provider: MessageMedia, webhook: Webhook) -> None:
    with pytest.raises(WebhookRefused, match="MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY"):
        await provider.read_webhook(webhook("messagemedia", "receipts", b"{}", {"X-Messagemedia-Signature": "e30="}))


def test_an_invalid_key_is_an_invalid_setting(make: Make) -> None:
    with pytest.raises(InvalidSetting, match="MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY"):
        make(MessageMedia, **GIVEN, webhook_public_key="key")


async def test_a_look_up_returns_a_receipt(api: ProviderApi, provider: MessageMedia) -> None:
    api.answers(200, {"message_id": ID, "status": "submitted", "metadata": {"reference": f"{MARK}-7"}})
    assert await provider.look_up(ID) == DeliveryReceipt(f"{ID}/submitted", "sent", "submitted", 7, ID)
    api.answers(404, {"message": "Resource not found."})
    assert await provider.look_up(ID) is None
    api.answers(200, {"message_id": ID, "status": "dancing"})
    assert await provider.look_up(ID) is None
    api.answers(500)
    with pytest.raises(OutcomeUnknown):
        await provider.look_up("a/../b")
    assert [request.path for request in api.requests][-1] == "/v1/messages/a%2F..%2Fb"


async def test_check_returns_credit_and_sender_ids(api: ProviderApi, provider: MessageMedia) -> None:
    api.answers(200, {"credits": 250})
    status = await provider.check()
    assert (status.credit, status.sender_ids) == ("250", ("+61491570110",))
    api.answers(401, {"message": "Invalid authentication credentials"})
    with pytest.raises(AccountError, match="credentials"):
        await provider.check()
