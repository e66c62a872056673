"""Twilio's wire format as a table. Its own package checks the signatures."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import pytest
from twilio.request_validator import RequestValidator

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
from delivery.providers.twilio import Twilio

from .conftest import MARK, Make, ProviderApi, Webhook

TOKEN = "12345678901234567890123456789012"
ACCOUNT = "AC" + "b" * 32
SID = "SM" + "a" * 32
GIVEN = {"account_sid": ACCOUNT, "auth_token": TOKEN, "sender_id": "+61491570110"}
MESSAGE = OutgoingMessage(7, "+61491570006", "Hi Ana & Bo")
RECEIPTS_URL = "https://sms.example.com/api/webhooks/providers/twilio/receipts/"
CALLBACK = f"{RECEIPTS_URL}?reference={MARK}-7"


@pytest.fixture
def twilio(make: Make) -> Twilio:
    return make(Twilio, **GIVEN)


async def send(provider: Twilio, message: OutgoingMessage = MESSAGE) -> Outcome:
    (outcome,) = await provider.send(uuid4(), provider.prepare([message]), [message.id])
    return outcome


@pytest.mark.parametrize(
    ("settings", "message", "fields"),
    [
        ({}, MESSAGE, {"From": "+61491570110"}),
        ({"sender_id": "", "messaging_service_sid": "MGx"}, MESSAGE, {"MessagingServiceSid": "MGx"}),
        (
            {"messaging_service_sid": "MGx"},
            OutgoingMessage(7, "+61491570006", "Hi Ana & Bo", sender_id="Fern & Co"),
            {"From": "Fern & Co"},
        ),
        (
            {},
            OutgoingMessage(7, "+61491570006", "Hi Ana & Bo", "mms", media_url="https://m.example.com/a.png?s=1&t=2"),
            {"From": "+61491570110", "MediaUrl": "https://m.example.com/a.png?s=1&t=2"},
        ),
    ],
)
async def test_a_message_is_sent_as_one_form(
    api: ProviderApi, make: Make, settings: dict[str, str], message: OutgoingMessage, fields: dict[str, str]
) -> None:
    api.answers(201, {"sid": SID, "status": "queued", "num_segments": "2"})
    assert await send(make(Twilio, **(GIVEN | settings)), message) == Outcome("accepted", SID, parts=2, raw="queued")
    request = api.requests[0]
    assert (request.method, request.path) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    expected = {"To": "+61491570006", "Body": "Hi Ana & Bo", "StatusCallback": CALLBACK} | fields
    assert dict(parse_qsl(request.body.decode(), strict_parsing=True)) == expected


async def test_an_api_key_replaces_the_token(api: ProviderApi, make: Make) -> None:
    api.answers(201, {"sid": SID, "status": "accepted", "num_segments": "0"})
    provider = make(Twilio, **GIVEN, api_key_sid="SKx", api_key_secret="s3")
    assert await send(provider) == Outcome("accepted", SID, raw="accepted")
    assert api.requests[0].headers["Authorization"] == "Basic U0t4OnMz"


async def test_a_message_that_failed_at_once_has_its_id_and_the_words_of_the_provider(
    api: ProviderApi, twilio: Twilio
) -> None:
    api.answers(201, {"sid": SID, "status": "failed", "error_code": 30003, "error_message": "Unreachable handset"})
    error = "failed, code 30003: Unreachable handset"
    assert await send(twilio) == Outcome("refused", SID, "unroutable", error, raw="failed")


@pytest.mark.parametrize(
    ("code", "category"),
    [
        (21211, "invalid_number"),
        (21614, "invalid_number"),
        (21266, "invalid_number"),
        (21610, "opted_out"),
        (21612, "unroutable"),
        (21606, "account_error"),
        (21617, "content_rejected"),
        (21620, "content_rejected"),
        (21635, "invalid_number"),
        (21999, "unknown"),
    ],
)
async def test_a_refused_message_has_its_failure_category(
    api: ProviderApi, twilio: Twilio, code: int, category: Any
) -> None:
    api.answers(400, {"code": code, "message": "No.", "more_info": "", "status": 400})
    assert await send(twilio) == Outcome("refused", failure_category=category, error=f"{code} No.")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"code": 20003, "message": "Authenticate"}, AccountError),
        (403, "", AccountError),
        (404, {"code": 20404, "message": "not found"}, AccountError),
        (400, {"code": 21408, "message": "Permission"}, AccountError),
        (429, {"code": 20429, "message": "Too many"}, Throttled),
        (429, "", Throttled),
        (400, {"code": 21611, "message": "queue"}, Throttled),
        (500, "", OutcomeUnknown),
        (503, "", OutcomeUnknown),
        (201, "<html>", OutcomeUnknown),
        (201, {"status": "queued"}, OutcomeUnknown),
        (204, "", OutcomeUnknown),
    ],
)
async def test_a_failed_request_raises_one_of_the_submission_errors(
    api: ProviderApi, twilio: Twilio, status: int, body: Any, error: type[SubmissionError]
) -> None:
    api.answers(status, body)
    with pytest.raises(error) as raised:
        await send(twilio)
    assert not isinstance(raised.value, SubmissionRefused)


def signed(body: dict[str, str] | list[tuple[str, str]], url: str) -> tuple[bytes, dict[str, str]]:
    pairs = list(body.items()) if isinstance(body, dict) else body
    fields: Any = MultiDict(pairs)
    return urlencode(pairs).encode(), {"X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(url, fields)}


class MultiDict(dict[str, Any]):
    """A dictionary whose repeated parameters Twilio's package can read."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs

    def getall(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]


@pytest.mark.parametrize(
    ("fields", "receipt"),
    [
        (
            {"MessageSid": SID, "MessageStatus": "delivered"},
            DeliveryReceipt(f"{SID}/delivered", "delivered", "delivered", 7, SID),
        ),
        ({"MessageSid": SID, "MessageStatus": "sending"}, DeliveryReceipt(f"{SID}/sending", "sent", "sending", 7, SID)),
        (
            {"MessageSid": SID, "MessageStatus": "undelivered", "ErrorCode": "30005"},
            DeliveryReceipt(
                f"{SID}/undelivered", "failed", "undelivered", 7, SID, "invalid_number", "undelivered, code 30005"
            ),
        ),
        (
            {"MessageSid": SID, "MessageStatus": "failed"},
            DeliveryReceipt(f"{SID}/failed", "failed", "failed", 7, SID, "unknown", "failed"),
        ),
        ({"MessageSid": SID, "MessageStatus": "dancing"}, None),
    ],
)
async def test_a_receipt_is_read(
    twilio: Twilio, webhook: Webhook, fields: dict[str, str], receipt: DeliveryReceipt | None
) -> None:
    body, headers = signed(fields, CALLBACK)
    events = await twilio.read_webhook(webhook("twilio", "receipts", body, headers, reference=f"{MARK}-7"))
    assert events == ([receipt] if receipt else [])


@pytest.mark.parametrize("reference", ["abcdef-7", "7"])
async def test_a_reference_without_our_mark_names_no_message(twilio: Twilio, webhook: Webhook, reference: str) -> None:
    body, headers = signed({"MessageSid": SID, "MessageStatus": "delivered"}, f"{RECEIPTS_URL}?reference={reference}")
    (receipt,) = await twilio.read_webhook(webhook("twilio", "receipts", body, headers, reference=reference))
    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.reference, receipt.provider_message_id) == (None, SID)


INBOUND_URL = "https://sms.example.com/api/webhooks/providers/twilio/inbound/"


async def test_an_inbound_message_is_read(twilio: Twilio, webhook: Webhook) -> None:
    fields = {
        "MessageSid": SID,
        "From": "+61491570006",
        "To": "+61491570110",
        "Body": "Stop, bitte ž",
        "NumMedia": "2",
        "MediaUrl0": "https://m.example.com/0",
        "MediaUrl1": "https://m.example.com/1",
        "OptOutType": "STOP",
    }
    body, headers = signed(fields, INBOUND_URL)
    before = datetime.now(UTC)
    (inbound,) = await twilio.read_webhook(webhook("twilio", "inbound", body, headers))
    assert isinstance(inbound, InboundMessage)
    assert before <= inbound.received_at <= datetime.now(UTC)
    assert (inbound.id, inbound.phone, inbound.to, inbound.text) == (
        SID,
        "+61491570006",
        "+61491570110",
        fields["Body"],
    )
    assert inbound.keyword == "stop"
    assert inbound.media_urls == ("https://m.example.com/0", "https://m.example.com/1")
    assert twilio.webhook_answer[0] == "text/xml"


@pytest.mark.parametrize(
    ("port", "url"),
    [
        (False, INBOUND_URL),
        (True, INBOUND_URL.replace("example.com/", "example.com:443/")),
    ],
)
async def test_what_the_providers_validator_signs_is_accepted(
    twilio: Twilio, webhook: Webhook, port: bool, url: str
) -> None:
    """Sign repeated parameters in any order, and the address with its port or without."""
    pairs = [("To", "+2"), ("From", "+1"), ("MessageSid", SID), ("Tag", "b"), ("Tag", "a"), ("Tag", "b"), ("Empty", "")]
    body, headers = signed(pairs, url)
    request = webhook("twilio", "inbound", body, headers)
    validator = RequestValidator(TOKEN)
    assert validator.validate(request.url, MultiDict(pairs), headers["X-Twilio-Signature"])
    assert len(await twilio.read_webhook(request)) == 1


async def test_a_json_body_is_signed_by_its_hash(twilio: Twilio, webhook: Webhook) -> None:
    """Sign only the address, which has the hash of the body: there are no parameters."""
    body = b'{"a": 1}'
    url = f"{INBOUND_URL}?bodySHA256={sha256(body).hexdigest()}"
    headers = {"X-Twilio-Signature": RequestValidator(TOKEN).compute_signature(url, {})}
    assert RequestValidator(TOKEN).validate(url, body.decode(), headers["X-Twilio-Signature"])
    with pytest.raises(WebhookMalformed, match="MessageSid"):
        await twilio.read_webhook(webhook("twilio", "inbound", body, headers, bodySHA256=sha256(body).hexdigest()))
    with pytest.raises(WebhookRefused, match="bodySHA256"):
        await twilio.read_webhook(webhook("twilio", "inbound", b"{}", headers, bodySHA256=sha256(body).hexdigest()))


async def test_the_published_signature_example_is_accepted(twilio: Twilio) -> None:
    fields = {
        "AccountSid": ACCOUNT,
        "From": "+61400111222",
        "MessageSid": SID,
        "MessageStatus": "delivered",
        "To": "+61412345678",
    }
    url = "https://example.com/hooks/twilio/status?org=acme"
    signed_text = "".join(name + fields[name] for name in sorted(fields))
    assert twilio._sign(url + signed_text) == "E80mBVuTzFmXbKBy9go+N/dcIqU="


@pytest.mark.parametrize("change", ["signature", "body", "query", "none"])
async def test_a_webhook_with_a_wrong_signature_is_refused(twilio: Twilio, webhook: Webhook, change: str) -> None:
    body, headers = signed({"MessageSid": SID, "MessageStatus": "delivered"}, CALLBACK)
    if change == "signature":
        headers = {"X-Twilio-Signature": "ž" + headers["X-Twilio-Signature"][1:]}
    if change == "none":
        headers = {}
    request = webhook(
        "twilio",
        "receipts",
        body + (b"&To=%2B1" if change == "body" else b""),
        headers,
        reference=f"{MARK}-8" if change == "query" else f"{MARK}-7",
    )
    with pytest.raises(WebhookRefused):
        await twilio.read_webhook(request)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("receipts", {"MessageStatus": "sent"}, "MessageSid"),
        ("receipts", {"MessageSid": SID}, "MessageStatus"),
        ("inbound", {"MessageSid": SID, "To": "+2"}, "From"),
        ("inbound", {"MessageSid": SID, "From": "+1", "To": "+2", "NumMedia": "many"}, "NumMedia"),
        ("inbound", {"MessageSid": SID, "From": "+1", "To": "+2", "NumMedia": "1"}, "MediaUrl0"),
    ],
)
async def test_a_malformed_webhook_names_the_field(
    twilio: Twilio, webhook: Webhook, kind: str, fields: dict[str, str], named: str
) -> None:
    body, headers = signed(fields, f"https://sms.example.com/api/webhooks/providers/twilio/{kind}/")
    with pytest.raises(WebhookMalformed, match=named):
        await twilio.read_webhook(webhook("twilio", kind, body, headers))


async def test_a_look_up_returns_a_receipt(api: ProviderApi, twilio: Twilio) -> None:
    api.answers(200, {"sid": SID, "status": "undelivered", "error_code": 30003})
    assert await twilio.look_up(SID) == DeliveryReceipt(
        f"{SID}/undelivered", "failed", "undelivered", None, SID, "unroutable", "undelivered, code 30003"
    )
    api.answers(200, {"sid": SID, "status": "failed", "error_code": 30003, "error_message": "Unreachable"})
    found = await twilio.look_up(SID)
    assert found is not None
    assert found.error == "failed, code 30003: Unreachable"
    api.answers(404, {"code": 20404})
    assert await twilio.look_up(SID) is None
    api.answers(200, {"sid": SID, "status": "dancing"})
    with pytest.raises(OutcomeUnknown):
        await twilio.look_up(SID)
    assert api.requests[0].path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}.json"


async def test_check_returns_credit_and_sender_ids(api: ProviderApi, twilio: Twilio) -> None:
    api.answers(200, {"status": "active"})
    assert (await twilio.check()).sender_ids == ("+61491570110",)
    api.answers(200, {"status": "suspended"})
    with pytest.raises(AccountError, match="suspended"):
        await twilio.check()
    api.answers(401, {"code": 20003, "message": "Authenticate"})
    with pytest.raises(AccountError, match="Authenticate"):
        await twilio.check()


def test_without_a_sender_id_or_service_the_settings_are_invalid(make: Make) -> None:
    with pytest.raises(InvalidSetting, match="TWILIO_MESSAGING_SERVICE_SID"):
        make(Twilio, **(GIVEN | {"sender_id": ""}))
