"""MessageMedia's Messages API, also sold as Sinch Engage: SMS and MMS, up to 100 messages in a request.

It uses the HTTP interface: the provider's own package blocks the thread that calls it.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import AliasChoices, Field, SecretStr
from pydantic_core import to_json
from pydantic_settings import SettingsConfigDict

from common.events import FailureCategory
from common.settings import InvalidSetting
from delivery.providers.base import (
    MISSING,
    AccountStatus,
    DeliveryReceipt,
    InboundMessage,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    ProviderEvent,
    ReceiptStatus,
    SubmissionRefused,
    WebhookRefused,
    WebhookRequest,
)
from delivery.providers.http import UNREADABLE, Answer, HttpApi, basic, error_of, is_host_of, read_reason
from delivery.providers.webhook_parsing import (
    Mark,
    is_same,
    is_signed,
    load_public_key,
    read_id,
    read_json,
    read_parts,
    read_time,
    require,
    storable_text,
)
from delivery.settings import OwnSettings, Settings

_DIGESTS = {"SHA224": hashes.SHA224(), "SHA256": hashes.SHA256(), "SHA512": hashes.SHA512()}
_MAX_SUBJECT = 64
_STATUSES: dict[str, ReceiptStatus] = {
    "queued": "sent",
    "processing": "sent",
    "processed": "sent",
    "scheduled": "sent",
    "held": "sent",
    "enroute": "sent",
    "submitted": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "expired": "failed",
    "rejected": "failed",
    "failed": "failed",
    "cancelled": "failed",
}
# Error code of a failed delivery receipt → our category.
_CATEGORIES: dict[str, FailureCategory] = {
    "301": "account_error",
    "302": "opted_out",  # the number is on the account's own list of opt-outs
    "303": "account_error",
    "305": "blocked",
    "320": "expired",
    "330": "provider_unavailable",
    "332": "unroutable",
    "333": "unroutable",
    "400": "unroutable",
    "401": "expired",
    "402": "blocked",
    "403": "blocked",
    "410": "account_error",
    "411": "invalid_number",
    "412": "blocked",
    "413": "unroutable",
    "414": "unroutable",
}
# Field that a refused request names → our category.
_FIELDS: tuple[tuple[str, FailureCategory], ...] = (
    ("destination_number", "invalid_number"),
    ("source_number", "account_error"),
    ("content", "content_rejected"),
    ("media", "content_rejected"),
    ("subject", "content_rejected"),
)


class MessageMediaSettings(OwnSettings):
    """The settings MESSAGEMEDIA_…"""

    model_config = SettingsConfigDict(env_prefix="MESSAGEMEDIA_")

    base_url: str = "https://api.messagemedia.com"
    api_key: str = ""
    api_secret: SecretStr = SecretStr("")
    account: str = Field("", description="a sub-account, sent as the header Account")
    sender_id: str = Field(
        "",
        validation_alias=AliasChoices("MESSAGEMEDIA_SENDER_ID", "MESSAGEMEDIA_SENDER"),
        description="empty: the provider chooses one of the account's numbers",
    )
    webhook_public_key: str = Field("", description="PEM of the account's signature key, verifies webhooks")
    concurrency: int = Field(4, ge=1, description="maximum of requests at once")
    batch_size: int = Field(100, ge=1, le=100, description="maximum of messages in one request")
    rate: float = Field(0.0, ge=0, description="maximum of parts per second; 0: no maximum")


class MessageMedia(Provider):
    """One account. It does not recognise a repeated request, so an unknown outcome waits for a receipt or a look-up."""

    name = "messagemedia"
    settings_class = MessageMediaSettings
    formats = frozenset({"sms", "mms"})
    sends_receipts = True
    webhook_kinds = frozenset({"receipts", "inbound"})
    can_look_up = True
    handles_opt_outs = True

    def __init__(self, settings: Settings, own: MessageMediaSettings | None = None) -> None:
        own = own or MessageMediaSettings.from_environment()
        own.require("api_key", "api_secret")
        self.batch_size = own.batch_size
        self.concurrency = own.concurrency
        self.rate = own.rate
        self.reaches_people = is_host_of(own.base_url, "messagemedia.com", "sinch.com")
        self.default_sender_id = own.sender_id
        self._mark = Mark(settings)
        self._public_key = _load_key(own.webhook_public_key)
        # The provider does not sign the callbacks that a message asks for, so their address has a token.
        self._token = hmac.new(
            settings.internal_token_secret.get_secret_value().encode(), b"messagemedia webhooks", hashlib.sha256
        ).hexdigest()
        self._callback_url = (
            f"{settings.public_url.rstrip('/')}/api/webhooks/providers/messagemedia/receipts/?token={self._token}"
        )
        self._api = HttpApi(
            own.base_url,
            {
                "Authorization": basic(own.api_key, own.api_secret.get_secret_value()),
                "Accept": "application/json",
                **({"Account": own.account} if own.account else {}),
            },
            timeout_s=settings.request_timeout_s,
            concurrency=self.concurrency,
        )

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        return to_json({"messages": [self._item(message) for message in messages]})

    def _item(self, message: OutgoingMessage) -> dict[str, Any]:
        item: dict[str, Any] = {
            "content": message.text,
            "destination_number": message.phone,
            "format": message.format.upper(),
            "delivery_report": True,
            "callback_url": self._callback_url,
            "metadata": {"reference": self._mark.write(message.id)},
        }
        if sender := message.sender_id or self.default_sender_id:
            item["source_number"] = sender
        if message.format == "mms":
            item["media"] = [message.media_url]
            item["subject"] = (message.subject or "")[:_MAX_SUBJECT]
        return item

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        answer = await self._api.post("/v1/messages", body, {"Content-Type": "application/json"})
        if answer.status in (200, 201, 202):
            return _read_results(answer, references, self._mark)
        if answer.status in (400, 413, 422):
            raise _read_refused(answer)
        raise error_of(answer, read_reason(answer, "message"))

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        """Verify and read a webhook. Receipts and inbound messages have one address: a message has one callback."""
        self._verify(request)
        if request.kind not in ("receipts", "inbound"):
            raise WebhookRefused(f"messagemedia has no webhook {request.kind!r}")
        fields = read_json(request.body)
        if "delivery_report_id" in fields:
            return _read_report(fields, self._mark)
        return [_read_inbound(fields, self._mark)]

    def _verify(self, request: WebhookRequest) -> None:
        """Check the token of our own callbacks, or else the signature of the account's webhooks."""
        if is_same(request.query.get("token", ""), self._token):
            return
        headers = request.headers
        if "x-messagemedia-signature" not in headers:
            raise WebhookRefused("The request has neither the token of our callback_url nor X-Messagemedia-Signature.")
        if self._public_key is None:
            raise WebhookRefused("Set MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY: until then every signed webhook is refused.")
        algorithm = _DIGESTS.get(headers.get("x-messagemedia-digest-type", "").upper().replace("-", ""))
        if algorithm is None or headers.get("x-messagemedia-cipher-type", "RSA").upper() != "RSA":
            raise WebhookRefused("X-Messagemedia-Digest-Type or X-Messagemedia-Cipher-Type is unknown.")
        url = urlsplit(request.url)
        request_line = f"POST {url.path}{'?' + url.query if url.query else ''} HTTP/1.1"
        signed = request_line.encode(errors="replace") + headers.get("date", "").encode(errors="replace") + request.body
        if not is_signed(self._public_key, headers["x-messagemedia-signature"], signed, algorithm):
            raise WebhookRefused(
                "X-Messagemedia-Signature does not fit MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY, PUBLIC_URL and the request."
            )

    async def look_up(self, provider_message_id: str) -> DeliveryReceipt | None:
        answer = await self._api.get(f"/v1/messages/{quote(provider_message_id, safe='')}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise error_of(answer, read_reason(answer, "message"))
        fields = answer.fields()
        if fields.get("status") not in _STATUSES:
            return None
        return _receipt(fields, self._mark, f"{provider_message_id}/{fields['status']}")

    async def check(self) -> AccountStatus:
        answer = await self._api.get("/v1/messaging/credits")
        if answer.status != 200:
            raise error_of(answer, read_reason(answer, "message"))
        credit = answer.fields().get("credits")
        return AccountStatus(
            credit=None if credit is None else storable_text(str(credit)),
            sender_ids=(self.default_sender_id,) if self.default_sender_id else (),
        )

    async def close(self) -> None:
        await self._api.close()


def _load_key(text: str) -> rsa.RSAPublicKey | None:
    try:
        return load_public_key(text) if text else None
    except ValueError:
        raise InvalidSetting("MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY: not a public RSA key in PEM format") from None


def _read_results(answer: Answer, references: Sequence[int], mark: Mark) -> list[Outcome]:
    """Match the items to our references, which are echoed: the provider does not promise their order."""
    items = answer.fields().get("messages")
    if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
        raise OutcomeUnknown(UNREADABLE)
    by_reference = {_reference(item, mark): item for item in items}
    return [_read_item(by_reference.get(reference)) for reference in references]


def _read_item(item: Mapping[str, Any] | None) -> Outcome:
    given = read_id(item.get("message_id")) if item else None
    if item is None or given is None:
        return MISSING
    status = storable_text(str(item.get("status")))
    if _STATUSES.get(status) == "failed":
        return Outcome(
            status="refused",
            provider_message_id=given,
            failure_category="unknown",
            error=status,
            raw=status,
        )
    return Outcome("accepted", given, raw=status)


def _read_refused(answer: Answer) -> SubmissionRefused:
    """Read a request that was refused as a whole because of one bad message. `details` name its field."""
    reason = read_reason(answer, "message")
    try:
        details = answer.fields().get("details")
    except OutcomeUnknown:
        details = None
    named = storable_text(" ".join(map(str, details))) if isinstance(details, list) else ""
    category: FailureCategory = next((category for field, category in _FIELDS if f"/{field}" in named), "unknown")
    item = Outcome("refused", failure_category=category, error=named or reason or "Refused.")
    return SubmissionRefused(f"{answer.status} {reason}".strip(), item)


def _reference(fields: Mapping[str, Any], mark: Mark) -> int | None:
    metadata = fields.get("metadata")
    return mark.read(metadata.get("reference")) if isinstance(metadata, dict) else None


def _read_report(fields: Mapping[str, Any], mark: Mark) -> list[DeliveryReceipt]:
    require(fields, "message_id")
    if require(fields, "status") not in _STATUSES:
        return []  # a status that we do not know is ignored
    return [_receipt(fields, mark, require(fields, "delivery_report_id"))]


def _receipt(fields: Mapping[str, Any], mark: Mark, receipt_id: str) -> DeliveryReceipt:
    provider_status, code = str(fields["status"]), str(fields.get("error_code") or "")
    status = _STATUSES[provider_status]
    category: FailureCategory | None = None
    if status == "failed":
        category = _CATEGORIES.get(code, "expired" if provider_status == "expired" else "unknown")
    error = f"{provider_status}, code {code}" if code else provider_status
    return DeliveryReceipt(
        id=receipt_id,
        status=status,
        raw=storable_text(f"{provider_status} {code}"),
        reference=_reference(fields, mark),
        provider_message_id=read_id(fields.get("message_id")),
        failure_category=category,
        error=storable_text(error) if category else None,
        billed_parts=read_parts(fields.get("billing_units")),
        occurred_at=read_time(fields, "date_received") if fields.get("date_received") else None,
    )


def _read_inbound(fields: Mapping[str, Any], mark: Mark) -> InboundMessage:
    """Read an inbound message, or the account's notification of an opt-out, which has a `notification_id`."""
    opted_out = "notification_id" in fields
    return InboundMessage(
        id=require(fields, "notification_id" if opted_out else "reply_id"),
        phone=require(fields, "source_number"),
        to=str(fields.get("destination_number") or ""),  # absent if the message had no sender ID of its own
        text=str(fields.get("content") or ""),
        received_at=read_time(fields, "date_received"),
        reference=_reference(fields, mark),
        in_reply_to=read_id(fields.get("message_id")),
        keyword="stop" if opted_out else None,
    )
