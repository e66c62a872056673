"""What SNS brings: envelopes that are proven, subscriptions that are confirmed, events and replies."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from delivery.providers.aws import Aws
from delivery.providers.base import InboundMessage, NotConnected, DeliveryReceipt, WebhookMalformed, WebhookRefused
from delivery.providers.sns import Sns

from .conftest import MARK

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
    """An envelope as SNS signs it."""
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
def aws(make: Callable[..., Any]) -> Aws:
    made: Aws = make(Aws, aws_topic_arns=f"arn:other, {TOPIC}")
    return made


@pytest.fixture
def read(aws: Aws, webhook: Any, vendor: Any) -> Any:
    async def one(fields: Any, kind: str = "events") -> Any:
        if not vendor.requests:
            vendor.answers(200, certificate())
        return await aws.read_webhook(webhook("aws", kind, json.dumps(fields).encode()))

    return one


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("changes", [{}, {"Subject": "News"}])
async def test_both_signatures_are_believed_and_the_certificate_is_fetched_once(
    vendor: Any, read: Any, version: str, changes: dict[str, str]
) -> None:
    for _ in range(2):
        assert len(await read(envelope(vendor.url, EVENT, version, **changes))) == 1
    assert [taken.path for taken in vendor.requests] == ["/SimpleNotificationService-1a2b.pem"]


@pytest.mark.parametrize(
    ("changes", "receipt"),
    [
        ({}, DeliveryReceipt(f"{ID}/TEXT_DELIVERED", "delivered", "TEXT_DELIVERED", 7, ID, billed_parts=2, occurred_at=AT)),
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
async def test_an_event(
    vendor: Any, read: Any, changes: dict[str, Any], receipt: DeliveryReceipt | None, by_event_bridge: bool
) -> None:
    event: dict[str, Any] = EVENT | changes
    if by_event_bridge:
        event = {
            "source": "aws.sms-voice",
            "detail-type": "Text Message Delivery Status Updated",
            "detail": event,
        }
    assert await read(envelope(vendor.url, event)) == ([receipt] if receipt else [])


@pytest.mark.parametrize("told", ["abcdef-7", "7"])
async def test_what_is_not_marked_as_ours_names_no_message_of_ours(vendor: Any, read: Any, told: str) -> None:
    (receipt,) = await read(envelope(vendor.url, EVENT | {"context": {"reference": told}}))
    assert (receipt.reference, receipt.provider_message_id) == (None, ID)


async def test_a_reply(vendor: Any, read: Any) -> None:
    at = datetime(2026, 3, 2, 4, 15, 9, tzinfo=UTC)
    assert await read(envelope(vendor.url, INBOUND)) == [
        InboundMessage("c2b4a1d0", "+61491570006", "+61491570110", "STOP", at, "c2b4a1d0", in_reply_to=ID)
    ]


async def test_a_subscription_is_confirmed_once_it_is_proven(vendor: Any, read: Any) -> None:
    asked = {"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": f"{vendor.url}/?Action=Confirm&Token=t"}
    with pytest.raises(WebhookRefused, match="Signature"):
        await read(envelope(vendor.url, "Confirm", **asked) | {"Token": "u"})
    vendor.answers(200, "<ConfirmSubscriptionResponse/>")
    assert await read(envelope(vendor.url, "Confirm", **asked)) == []
    assert [taken.path for taken in vendor.requests][1:] == ["/?Action=Confirm&Token=t"]
    vendor.answers(403, "")
    with pytest.raises(WebhookRefused, match="403"):
        await read(envelope(vendor.url, "Confirm", **asked))
    elsewhere = asked | {"SubscribeURL": "http://127.0.0.1:9/"}
    with pytest.raises(WebhookRefused, match="SubscribeURL"):
        await read(envelope(vendor.url, "Confirm", **elsewhere))


async def test_the_end_of_a_subscription_is_no_news(vendor: Any, read: Any) -> None:
    ended = {"Type": "UnsubscribeConfirmation", "Token": "t", "SubscribeURL": f"{vendor.url}/"}
    assert await read(envelope(vendor.url, "Ended", **ended)) == []
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
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
async def test_what_is_not_proven_is_refused(vendor: Any, read: Any, changes: dict[str, str], told: str) -> None:
    fields = {name: value.replace("{url}", vendor.url) for name, value in changes.items()}
    with pytest.raises(WebhookRefused, match=told):
        await read(envelope(vendor.url, EVENT) | fields)


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
async def test_an_envelope_that_is_none_is_named(read: Any, fields: Any, named: str) -> None:
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
async def test_a_message_that_says_nothing_is_named(vendor: Any, read: Any, message: Any, named: str) -> None:
    with pytest.raises(WebhookMalformed, match=named):
        await read(envelope(vendor.url, message))


@pytest.mark.parametrize("body", [b"no certificate", certificate(ec.generate_private_key(ec.SECP256R1()))])
async def test_a_certificate_that_is_none_is_refused(vendor: Any, aws: Aws, webhook: Any, body: bytes) -> None:
    vendor.answers(200, body)
    with pytest.raises(WebhookRefused, match="RSA"):
        await aws.read_webhook(webhook("aws", "events", json.dumps(envelope(vendor.url, EVENT)).encode()))


async def test_a_certificate_that_cannot_be_had_now_is_asked_for_again(vendor: Any, read: Any) -> None:
    vendor.script += [None, None]  # the client asks a second time by itself, for it only reads
    with pytest.raises(NotConnected):
        await read(envelope(vendor.url, EVENT))
    vendor.script.appendleft(web.Response(status=503))
    with pytest.raises(NotConnected, match="503"):
        await read(envelope(vendor.url, EVENT))
    assert len(await read(envelope(vendor.url, EVENT))) == 1


async def test_without_topics_nothing_is_believed(vendor: Any, make: Any, webhook: Any) -> None:
    with pytest.raises(WebhookRefused, match="AWS_TOPIC_ARNS"):
        await make(Aws).read_webhook(webhook("aws", "events", json.dumps(envelope(vendor.url, EVENT)).encode()))
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
def test_in_earnest_only_aws_vouches(url: str, is_trusted: bool) -> None:
    sns = Sns(TOPIC, "", 1.0)
    if is_trusted:
        assert sns._trusted(url, "SigningCertURL") == url
    else:
        with pytest.raises(WebhookRefused):
            sns._trusted(url, "SigningCertURL")


def test_with_aws_itself_no_other_address_vouches(make: Any) -> None:
    for url in ("", "https://sms-voice.ap-southeast-2.amazonaws.com"):
        assert make(Aws, aws_base_url=url)._sns._rehearsal is None
