"""Twilio Programmable Messaging: SMS and MMS, one message in a request.

It uses the HTTP interface: the provider's own package cannot be pointed at another address for a rehearsal, and builds
each request from arguments, where a submission is stored as bytes.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from common.events import FailureCategory
from common.settings import InvalidSetting
from delivery.providers.base import (
    AccountError,
    AccountStatus,
    DeliveryReceipt,
    InboundMessage,
    Keyword,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    ProviderEvent,
    ReceiptStatus,
    Throttled,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.providers.http import UNREADABLE, Answer, HttpApi, basic, error_of, is_host_of, read_reason, seconds
from delivery.providers.webhook_parsing import Mark, is_same, require, storable_text
from delivery.settings import OwnSettings, Settings

# Error code of a refused request or a failed receipt → our category (https://www.twilio.com/docs/api/errors).
_CATEGORIES: dict[int, FailureCategory] = {
    21211: "invalid_number",
    21266: "invalid_number",
    21614: "invalid_number",
    21635: "invalid_number",
    21610: "opted_out",
    21612: "unroutable",
    21602: "content_rejected",
    21617: "content_rejected",
    21620: "content_rejected",
    21623: "content_rejected",
    21658: "content_rejected",
    21212: "account_error",  # the sender ID, which may be one organisation's own, so it is no error of the account
    21606: "account_error",
    21608: "account_error",  # a trial account, and a recipient that is not verified
    30001: "rate_limited",
    30002: "account_error",
    30003: "unroutable",
    30004: "blocked",
    30005: "invalid_number",
    30006: "unroutable",
    30007: "content_rejected",
}
_ACCOUNT_ERRORS = frozenset({20003, 21408, 30002})
_THROTTLED = frozenset({20429, 21611, 63017})
_STATUSES: dict[str, ReceiptStatus] = {
    "accepted": "sent",
    "scheduled": "sent",
    "queued": "sent",
    "sending": "sent",
    "sent": "sent",
    "partially_delivered": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "failed",
}
_KEYWORDS: dict[str, Keyword] = {"STOP": "stop", "START": "start", "HELP": "help"}


class TwilioSettings(OwnSettings):
    """The settings TWILIO_…"""

    model_config = SettingsConfigDict(env_prefix="TWILIO_")

    base_url: str = "https://api.twilio.com"
    account_sid: str = ""
    auth_token: SecretStr = Field(SecretStr(""), description="verifies webhooks; signs requests if there is no API key")
    api_key_sid: str = ""
    api_key_secret: SecretStr = SecretStr("")
    sender_id: str = Field(
        "",
        validation_alias=AliasChoices("TWILIO_SENDER_ID", "TWILIO_SENDER"),
        description="this, or a messaging service",
    )
    messaging_service_sid: str = ""
    concurrency: int = Field(16, ge=1, description="maximum of requests at once")
    rate: float = Field(0.0, ge=0, description="maximum of parts per second; 0: no maximum")


class Twilio(Provider):
    """One account. It does not recognise a repeated request, so an unknown outcome waits for a receipt or a look-up."""

    name = "twilio"
    settings_class = TwilioSettings
    formats = frozenset({"sms", "mms"})
    sends_receipts = True
    webhook_kinds = frozenset({"receipts", "inbound"})
    can_look_up = True
    handles_opt_outs = True
    webhook_answer = ("text/xml", '<?xml version="1.0" encoding="UTF-8"?><Response></Response>')

    def __init__(self, settings: Settings, own: TwilioSettings | None = None) -> None:
        own = own or TwilioSettings.from_environment()
        own.require("account_sid", "auth_token")
        if not (own.sender_id or own.messaging_service_sid):
            raise InvalidSetting("TWILIO_SENDER_ID or TWILIO_MESSAGING_SERVICE_SID: required")
        self.concurrency = own.concurrency
        self.rate = own.rate
        self.reaches_people = is_host_of(own.base_url, "twilio.com")
        self.default_sender_id = own.sender_id
        self._mark = Mark(settings)
        self._service = own.messaging_service_sid
        self._receipts_url = f"{settings.public_url.rstrip('/')}/api/webhooks/providers/twilio/receipts/"
        self._token = own.auth_token.get_secret_value()
        user, secret = own.account_sid, self._token
        if own.api_key_sid:
            user, secret = own.api_key_sid, own.api_key_secret.get_secret_value()
        self._account = f"/2010-04-01/Accounts/{own.account_sid}"
        self._api = HttpApi(
            own.base_url,
            {"Authorization": basic(user, secret)},
            timeout_s=settings.request_timeout_s,
            concurrency=self.concurrency,
        )

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        (message,) = messages
        fields = {"To": message.phone, "Body": message.text}
        if message.sender_id or not self._service:
            fields["From"] = message.sender_id or self.default_sender_id
        else:
            fields["MessagingServiceSid"] = self._service
        if message.media_url:
            fields["MediaUrl"] = message.media_url
        # A receipt may arrive before the answer with Twilio's id, or the answer never. Our reference is in the address.
        fields["StatusCallback"] = f"{self._receipts_url}?reference={self._mark.write(message.id)}"
        return urlencode(fields).encode()

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        answer = await self._api.post(
            f"{self._account}/Messages.json", body, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        if answer.status in (200, 201):
            return [_read_accepted(answer.fields())]
        return [_read_refused(answer)]

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        fields = self._verify(request)
        if request.kind == "receipts":
            return _read_receipt(fields, self._mark.read(request.query.get("reference")))
        if request.kind == "inbound":
            return [_read_inbound(fields)]
        raise WebhookRefused(f"twilio has no webhook {request.kind!r}")

    def _verify(self, request: WebhookRequest) -> Mapping[str, str]:
        """Check Twilio's signature and return the parameters (https://www.twilio.com/docs/usage/security)."""
        given = request.headers.get("x-twilio-signature", "")
        pairs: list[tuple[str, str]] = []
        body_hash = parse_qs(urlsplit(request.url).query).get("bodySHA256")
        if body_hash is None:
            pairs = parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)
        elif not is_same(body_hash[0], hashlib.sha256(request.body).hexdigest()):
            raise WebhookRefused("bodySHA256 does not fit the body.")
        signed = "".join(name + value for name, value in sorted(set(pairs)))
        # Twilio signs the address sometimes with its port and sometimes without.
        if not any(is_same(given, self._sign(url + signed)) for url in _with_and_without_port(request.url)):
            raise WebhookRefused("X-Twilio-Signature does not fit TWILIO_AUTH_TOKEN, PUBLIC_URL and the request.")
        return dict(pairs)

    def _sign(self, signed: str) -> str:
        mac = hmac.new(self._token.encode(), signed.encode(errors="replace"), hashlib.sha1)
        return base64.b64encode(mac.digest()).decode()

    async def look_up(self, provider_message_id: str) -> DeliveryReceipt | None:
        answer = await self._api.get(f"{self._account}/Messages/{quote(provider_message_id, safe='')}.json")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise error_of(answer, read_reason(answer, "message"))
        fields = answer.fields()
        found = _receipt(str(fields.get("sid") or ""), str(fields.get("status") or ""), fields.get("error_code"))
        if found is None:
            raise OutcomeUnknown(UNREADABLE)
        if found.status == "failed":
            _, error = _read_code(fields.get("error_code"), found.raw, fields.get("error_message"))
            return replace(found, error=error)
        return found

    async def check(self) -> AccountStatus:
        answer = await self._api.get(f"{self._account}.json")
        if answer.status != 200:
            raise error_of(answer, read_reason(answer, "message"))
        if (status := str(answer.fields().get("status"))) != "active":
            raise AccountError(f"The account is {storable_text(status)}.")
        return AccountStatus(sender_ids=tuple(filter(None, (self.default_sender_id, self._service))))

    async def close(self) -> None:
        await self._api.close()


def _read_accepted(fields: Mapping[str, Any]) -> Outcome:
    sid, status = str(fields.get("sid") or ""), str(fields.get("status") or "")
    if not sid:
        raise OutcomeUnknown("The answer has no id.")
    if _STATUSES.get(status) == "failed":
        category, error = _read_code(fields.get("error_code"), status, fields.get("error_message"))
        return Outcome(
            status="refused",
            provider_message_id=storable_text(sid),
            failure_category=category,
            error=error,
            raw=storable_text(status),
        )
    segments = str(fields.get("num_segments") or "")
    # With a messaging service the number of segments is 0 until Twilio has chosen a sender.
    parts = int(segments) or None if segments.isascii() and segments.isdigit() else None
    return Outcome("accepted", storable_text(sid), parts=parts, raw=storable_text(status) or None)


def _read_refused(answer: Answer) -> Outcome:
    """Read a refused request. It has one message, so the refusal is about this message."""
    reason = read_reason(answer, "message", "title")
    code = _code(answer)
    text = f"{code} {reason}".strip() if code else reason
    if code in _THROTTLED:
        raise Throttled(text, seconds(answer.retry_after))
    if code in _ACCOUNT_ERRORS:
        raise AccountError(text)
    if answer.status in (400, 413, 422):
        return Outcome("refused", failure_category=_CATEGORIES.get(code, "unknown"), error=text or "Refused.")
    raise error_of(answer, text)


def _code(answer: Answer) -> int:
    try:
        return int(answer.fields().get("code") or 0)
    except (OutcomeUnknown, TypeError, ValueError):
        return 0


def _read_receipt(fields: Mapping[str, str], reference: int | None) -> list[DeliveryReceipt]:
    sid, status = require(fields, "MessageSid"), require(fields, "MessageStatus")
    receipt = _receipt(sid, status, fields.get("ErrorCode"), reference)
    return [] if receipt is None else [receipt]  # a status that we do not know is ignored


def _receipt(sid: str, status: str, code: object, reference: int | None = None) -> DeliveryReceipt | None:
    known = _STATUSES.get(status)
    if known is None or not sid:
        return None
    category, error = _read_code(code, status) if known == "failed" else (None, None)
    return DeliveryReceipt(
        id=f"{sid}/{status}",
        status=known,
        raw=storable_text(status),
        reference=reference,
        provider_message_id=storable_text(sid),
        failure_category=category,
        error=error,
    )


def _read_code(code: object, status: str, message: object = None) -> tuple[FailureCategory, str]:
    """Return the category of a failure, and Twilio's text: status, code, and the message if it gives one."""
    digits, end = str(code or ""), f": {message}" if message else ""
    if not (digits.isascii() and digits.isdigit()):
        return "unknown", storable_text(status + end)
    return _CATEGORIES.get(int(digits[:9]), "unknown"), storable_text(f"{status}, code {digits}{end}")


def _read_inbound(fields: Mapping[str, str]) -> InboundMessage:
    sid = require(fields, "MessageSid")
    media = fields.get("NumMedia") or "0"
    if not (media.isascii() and media.isdigit() and int(media) <= 10):
        raise WebhookMalformed("NumMedia: not a number from 0 to 10")
    return InboundMessage(
        id=sid,
        phone=require(fields, "From"),
        to=require(fields, "To"),
        text=fields.get("Body", ""),
        received_at=datetime.now(UTC),  # Twilio does not say when
        provider_message_id=storable_text(sid),
        keyword=_KEYWORDS.get(fields.get("OptOutType", "").upper()),
        media_urls=tuple(require(fields, f"MediaUrl{index}") for index in range(int(media))),
    )


def _with_and_without_port(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    host = parts.netloc.rsplit("@")[-1].split(":")[0]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    bare, full = parts._replace(netloc=host), parts._replace(netloc=f"{host}:{port}")
    return bare.geturl(), full.geturl()
