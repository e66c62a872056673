"""AWS's webhooks through SNS: signed envelopes, subscriptions, events and inbound messages."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from delivery.providers.aws import Aws
from delivery.providers.base import DeliveryReceipt, InboundMessage, NotConnected, WebhookMalformed, WebhookRefused
from delivery.providers.sns import Sns

from .conftest import MARK, Make, ProviderApi, Webhook

TOPIC = "arn:aws:sns:ap-southeast-2:123456789012:sms"
ID = "0f9f3c5e-8f4d-4f0b-9f55-3b0e0a4c6d21"
KEY = rsa.generate_private_key(65537, 2048)
EVENT = {
    "eventType": "TEXT_DELIVERED",
    "eventTimestamp": 1772424871000,
    "isFinal": True,
    "destinationPhoneNumber": "+61491570006",
    "messageId": ID,
    "messageStatus": "DELIVERED",
    "messageStatusDescription": "Message has been accepted by phone",
    "context": {"reference": f"{MARK}-7"},
    "totalMessageParts": 2,
}
INBOUND = {
    "originationNumber": "+61491570006",
    "destinationNumber": "+61491570110",
    "messageKeyword": "KEYWORD_ExampleCo",
    "messageBody": "STOP",
    "inboundMessageId": "c2b4a1d0",
    "previousPublishedMessageId": ID.upper(),
}
AT = datetime.fromtimestamp(1772424871, UTC)
CONFIRMED = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
NOTIFIED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")


def certificate(key: Any = KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    begin = datetime.now(UTC) - timedelta(days=1)
    builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=9)).serial_number(1)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def envelope(url: str, message: Any, version: str = "2", **changes: Any) -> dict[str, Any]:
    """Return an envelope as SNS signs it."""
    fields = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2026-03-02T04:15:09.000Z",
    } | changes
    names = NOTIFIED if fields["Type"] == "Notification" else CONFIRMED
    signed = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields).encode()
    algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = base64.b64encode(KEY.sign(signed, padding.PKCS1v15(), algorithm)).decode()
    return fields | {
        "SignatureVersion": version,
        "Signature": signature,
        "SigningCertURL": f"{url}/SimpleNotificationService-1a2b.pem",
    }


@pytest.fixture
def aws(make: Make) -> Aws:
    return make(Aws, topic_arns=f"arn:other, {TOPIC}")


@pytest.fixture
def read(aws: Aws, webhook: Webhook, api: ProviderApi) -> Any:
    async def one(fields: Any, kind: str = "events") -> Any:
        if not api.requests:
            api.answers(200, certificate())
        return await aws.read_webhook(webhook("aws", kind, json.dumps(fields).encode()))

    return one


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("changes", [{}, {"Subject": "News"}])
async def test_both_signature_versions_are_accepted_and_the_certificate_is_fetched_once(
    api: ProviderApi, read: Any, version: str, changes: dict[str, str]
) -> None:
    for _ in range(2):
        assert len(await read(envelope(api.url, EVENT, version, **changes))) == 1
    assert [request.path for request in api.requests] == ["/SimpleNotificationService-1a2b.pem"]


@pytest.mark.parametrize(
    ("changes", "receipt"),
    [
        (
            {},
            DeliveryReceipt(
                f"{ID}/TEXT_DELIVERED", "delivered", "TEXT_DELIVERED", 7, ID, billed_parts=2, occurred_at=AT
            ),
        ),
        (
            {"eventType": "TEXT_SUCCESSFUL", "messageId": ID.upper(), "context": None, "eventTimestamp": None},
            DeliveryReceipt(f"{ID}/TEXT_SUCCESSFUL", "sent", "TEXT_SUCCESSFUL", None, ID, billed_parts=2),
        ),
        (
            {"eventType": "TEXT_SPAM", "messageStatusDescription": "Marked as spam", "totalMessageParts": "?"},
            DeliveryReceipt(
                f"{ID}/TEXT_SPAM",
                "failed",
                "TEXT_SPAM",
                7,
                ID,
                "content_rejected",
                "Marked as spam",
                occurred_at=AT,
            ),
        ),
        ({"eventType": "TEXT_DANCING"}, None),
    ],
)
@pytest.mark.parametrize("by_event_bridge", [False, True])
async def test_an_event_is_a_receipt(
    api: ProviderApi, read: Any, changes: dict[str, Any], receipt: DeliveryReceipt | None, by_event_bridge: bool
) -> None:
    event: dict[str, Any] = EVENT | changes
    if by_event_bridge:
        event = {
            "source": "aws.sms-voice",
            "detail-type": "Text Message Delivery Status Updated",
            "detail": event,
        }
    assert await read(envelope(api.url, event)) == ([receipt] if receipt else [])


@pytest.mark.parametrize("reference", ["abcdef-7", "7"])
async def test_a_reference_without_our_mark_names_no_message(api: ProviderApi, read: Any, reference: str) -> None:
    (receipt,) = await read(envelope(api.url, EVENT | {"context": {"reference": reference}}))
    assert (receipt.reference, receipt.provider_message_id) == (None, ID)


async def test_an_inbound_message_is_read(api: ProviderApi, read: Any) -> None:
    at = datetime(2026, 3, 2, 4, 15, 9, tzinfo=UTC)
    assert await read(envelope(api.url, INBOUND)) == [
        InboundMessage("c2b4a1d0", "+61491570006", "+61491570110", "STOP", at, "c2b4a1d0", in_reply_to=ID)
    ]


async def test_a_subscription_is_confirmed_only_with_a_valid_signature(api: ProviderApi, read: Any) -> None:
    confirmation = {
        "Type": "SubscriptionConfirmation",
        "Token": "t",
        "SubscribeURL": f"{api.url}/?Action=Confirm&Token=t",
    }
    with pytest.raises(WebhookRefused, match="Signature"):
        await read(envelope(api.url, "Confirm", **confirmation) | {"Token": "u"})
    api.answers(200, "<ConfirmSubscriptionResponse/>")
    assert await read(envelope(api.url, "Confirm", **confirmation)) == []
    assert [request.path for request in api.requests][1:] == ["/?Action=Confirm&Token=t"]
    api.answers(403, "")
    with pytest.raises(WebhookRefused, match="403"):
        await read(envelope(api.url, "Confirm", **confirmation))
    elsewhere = confirmation | {"SubscribeURL": "http://127.0.0.1:9/"}
    with pytest.raises(WebhookRefused, match="SubscribeURL"):
        await read(envelope(api.url, "Confirm", **elsewhere))


async def test_the_end_of_a_subscription_is_ignored(api: ProviderApi, read: Any) -> None:
    ended = {"Type": "UnsubscribeConfirmation", "Token": "t", "SubscribeURL": f"{api.url}/"}
    assert await read(envelope(api.url, "Ended", **ended)) == []
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Message": "{}"}, "Signature"),
        ({"Subject": "new"}, "Signature"),
        ({"Signature": "%"}, "Signature"),
        ({"SignatureVersion": "3"}, "SignatureVersion"),
        ({"TopicArn": "arn:aws:sns:ap-southeast-2:999999999999:sms"}, "TopicArn"),
        ({"SigningCertURL": "http://127.0.0.1:9/SimpleNotificationService-1.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "{url}/other.pem"}, "SigningCertURL"),
        ({"SigningCertURL": "{url}/SimpleNotificationService-1.pem?x=1"}, "SigningCertURL"),
    ],
)
async def test_an_envelope_with_a_wrong_signature_is_refused(
    api: ProviderApi, read: Any, changes: dict[str, str], reason: str
) -> None:
    fields = {name: value.replace("{url}", api.url) for name, value in changes.items()}
    with pytest.raises(WebhookRefused, match=reason):
        await read(envelope(api.url, EVENT) | fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ([], "body"),
        ({}, "TopicArn"),
        ({"TopicArn": TOPIC}, "Type"),
        ({"TopicArn": TOPIC, "Type": "Song"}, "Type"),
        ({"TopicArn": TOPIC, "Type": "Notification"}, "SignatureVersion"),
    ],
)
async def test_a_malformed_envelope_names_the_field(read: Any, fields: Any, named: str) -> None:
    with pytest.raises(WebhookMalformed, match=named):
        await read(fields)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("hello", "body"),
        ({}, "eventType"),
        ({"eventType": "TEXT_SENT"}, "messageId"),
        ({"source": "aws.sms-voice"}, "eventType"),
        (EVENT | {"eventTimestamp": "noon"}, "eventTimestamp"),
        (EVENT | {"eventTimestamp": 1e30}, "eventTimestamp"),
        (INBOUND | {"originationNumber": None}, "originationNumber"),
    ],
)
async def test_a_malformed_event_names_the_field(api: ProviderApi, read: Any, message: Any, named: str) -> None:
    with pytest.raises(WebhookMalformed, match=named):
        await read(envelope(api.url, message))


@pytest.mark.parametrize("body", [b"no certificate", certificate(ec.generate_private_key(ec.SECP256R1()))])
async def test_an_invalid_certificate_is_refused(api: ProviderApi, aws: Aws, webhook: Webhook, body: bytes) -> None:
    api.answers(200, body)
    with pytest.raises(WebhookRefused, match="RSA"):
        await aws.read_webhook(webhook("aws", "events", json.dumps(envelope(api.url, EVENT)).encode()))


async def test_a_certificate_that_is_unavailable_is_fetched_at_the_next_webhook(api: ProviderApi, read: Any) -> None:
    api.script += [None, None]  # the HTTP client repeats a GET request once by itself
    with pytest.raises(NotConnected):
        await read(envelope(api.url, EVENT))
    api.script.appendleft(web.Response(status=503))
    with pytest.raises(NotConnected, match="503"):
        await read(envelope(api.url, EVENT))
    assert len(await read(envelope(api.url, EVENT))) == 1


async def test_without_topics_every_webhook_is_refused(api: ProviderApi, make: Make, webhook: Webhook) -> None:
    with pytest.raises(WebhookRefused, match="AWS_TOPIC_ARNS"):
        await make(Aws).read_webhook(webhook("aws", "events", json.dumps(envelope(api.url, EVENT)).encode()))
    with pytest.raises(WebhookRefused, match="receipts"):
        await make(Aws).read_webhook(webhook("aws", "receipts", b""))


@pytest.mark.parametrize(
    ("url", "is_trusted"),
    [
        ("https://sns.ap-southeast-2.amazonaws.com/SimpleNotificationService-1a.pem", True),
        ("http://sns.ap-southeast-2.amazonaws.com/SimpleNotificationService-1a.pem", False),
        ("https://sns.ap-southeast-2.amazonaws.com:444/SimpleNotificationService-1a.pem", False),
        ("https://sns.ap-southeast-2.amazonaws.com.example.com/SimpleNotificationService-1a.pem", False),
        ("https://sns.ap-southeast-2.amazonaws.com@example.com/SimpleNotificationService-1a.pem", False),
        ("https://example.com\\@sns.ap-southeast-2.amazonaws.com/SimpleNotificationService-1a.pem", False),
        ("https://mysns.ap-southeast-2.amazonaws.com/SimpleNotificationService-1a.pem", False),
        ("https://bucket.s3.amazonaws.com/SimpleNotificationService-1a.pem", False),
        ("http://127.0.0.1:8090/SimpleNotificationService-1a.pem", False),
    ],
)
def test_only_addresses_of_aws_are_trusted(url: str, is_trusted: bool) -> None:
    sns = Sns(TOPIC, "", 1.0)
    if is_trusted:
        assert sns._trusted(url, "SigningCertURL") == url
    else:
        with pytest.raises(WebhookRefused):
            sns._trusted(url, "SigningCertURL")


def test_with_aws_itself_there_is_no_rehearsal_address(make: Make) -> None:
    for url in ("", "https://sms-voice.ap-southeast-2.amazonaws.com"):
        assert make(Aws, base_url=url)._sns._rehearsal is None
