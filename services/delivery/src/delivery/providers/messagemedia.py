"""MessageMedia's Messages API, sold as Sinch Engage too: SMS and MMS, up to 100 a request.

Over its HTTP interface: the vendor's own package blocks the thread it is called in.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, urlsplit
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic_core import to_json

from common.events import FailureCategory
from common.settings import InvalidSetting
from delivery.providers.base import (
    MISSING,
    SubmissionRefused,
    InboundMessage,
    ProviderEvent,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    DeliveryReceipt,
    AccountStatus,
    WebhookRefused,
    WebhookRequest,
)
from delivery.providers.http import Answer, HttpApi, basic, failure_of, is_host_of, read_reason
from delivery.providers.webhook_parsing import (
    Mark,
    clean,
    is_same,
    is_signed,
    load_public_key,
    need,
    read_id,
    read_json,
    read_parts,
    read_time,
)
from delivery.settings import Settings, require

_DIGESTS = {"SHA224": hashes.SHA224(), "SHA256": hashes.SHA256(), "SHA512": hashes.SHA512()}
_LONGEST_SUBJECT = 64
_STATUSES: dict[str, Literal["sent", "delivered", "failed"]] = {
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
# A report's status says what became of the message, its code only why: code → our category.
_CATEGORIES: dict[str, FailureCategory] = {
    "301": "account_error",
    "302": "opted_out",  # the account's own list of who wants nothing more
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
# Fields that a refused request names → our category.
_FIELDS: tuple[tuple[str, FailureCategory], ...] = (
    ("destination_number", "invalid_number"),
    ("source_number", "account_error"),
    ("content", "content_rejected"),
    ("media", "content_rejected"),
    ("subject", "content_rejected"),
)


class MessageMedia(Provider):
    """One account. Nothing recognises a repetition, so an unknown outcome waits for its receipt or a look-up."""

    name = "messagemedia"
    formats = frozenset({"sms", "mms"})
    sends_receipts = True
    can_look_up = True
    handles_opt_outs = True

    def __init__(self, settings: Settings) -> None:
        self.batch_size = settings.messagemedia_batch_size
        self.concurrency = settings.messagemedia_concurrency
        self.rate = settings.messagemedia_rate
        self.reaches_people = is_host_of(settings.messagemedia_base_url, "messagemedia.com", "sinch.com")
        self._mark = Mark(settings)
        self._sender_id = settings.messagemedia_sender
        self._public_key = _load_key(settings.messagemedia_webhook_public_key)
        # What the vendor is asked to send with the callbacks of each message, which it does not sign.
        self._token = hmac.new(
            settings.internal_token_secret.get_secret_value().encode(), b"messagemedia webhooks", hashlib.sha256
        ).hexdigest()
        self._callback_url = (
            f"{settings.public_url.rstrip('/')}/api/webhooks/providers/messagemedia/receipts/?token={self._token}"
        )
        api_key, api_secret = settings.messagemedia_api_key, settings.messagemedia_api_secret.get_secret_value()
        require(self.name, {"MESSAGEMEDIA_API_KEY": api_key, "MESSAGEMEDIA_API_SECRET": api_secret})
        account = {"Account": settings.messagemedia_account} if settings.messagemedia_account else {}
        self._api = HttpApi(
            settings.messagemedia_base_url,
            {"Authorization": basic(api_key, api_secret), "Accept": "application/json", **account},
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
        if sender := message.sender_id or self._sender_id:
            item["source_number"] = sender
        if message.format == "mms":
            item["media"] = [message.media_url]
            item["subject"] = (message.subject or "")[:_LONGEST_SUBJECT]
        return item

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        answer = await self._api.post("/v1/messages", body, {"Content-Type": "application/json"})
        if answer.status in (200, 201, 202):
            return _read_results(answer, references, self._mark)
        if answer.status in (400, 413, 422):
            raise _read_refused(answer)
        raise failure_of(answer, read_reason(answer, "message"))

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        """Receipts and replies come to one address: a message has one callback for both."""
        self._verify(request)
        if request.kind not in ("receipts", "inbound"):
            raise WebhookRefused(f"messagemedia has no webhook {request.kind!r}")
        fields = read_json(request.body)
        if "delivery_report_id" in fields:
            return _read_report(fields, self._mark)
        return [_read_inbound(fields, self._mark)]

    def _verify(self, request: WebhookRequest) -> None:
        """Either the token of our own callbacks, or the signature of the account's webhooks."""
        if is_same(request.query.get("token", ""), self._token):
            return
        headers = request.headers
        if "x-messagemedia-signature" not in headers:
            raise WebhookRefused("neither the token of our callback_url nor X-Messagemedia-Signature")
        if self._public_key is None:
            raise WebhookRefused("no signed webhook is believed before MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY is set")
        algorithm = _DIGESTS.get(headers.get("x-messagemedia-digest-type", "").upper().replace("-", ""))
        if algorithm is None or headers.get("x-messagemedia-cipher-type", "RSA").upper() != "RSA":
            raise WebhookRefused("X-Messagemedia-Digest-Type, X-Messagemedia-Cipher-Type: not known")
        url = urlsplit(request.url)
        request_line = f"POST {url.path}{'?' + url.query if url.query else ''} HTTP/1.1"
        signed = request_line.encode(errors="replace") + headers.get("date", "").encode(errors="replace") + request.body
        if not is_signed(self._public_key, headers["x-messagemedia-signature"], signed, algorithm):
            raise WebhookRefused(
                "X-Messagemedia-Signature does not fit MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY, PUBLIC_URL and the request"
            )

    async def look_up(self, provider_message_id: str) -> DeliveryReceipt | None:
        answer = await self._api.get(f"/v1/messages/{quote(provider_message_id, safe='')}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise failure_of(answer, read_reason(answer, "message"))
        fields = answer.fields()
        if fields.get("status") not in _STATUSES:
            return None
        return _receipt(fields, self._mark, f"{provider_message_id}/{fields['status']}")

    async def check(self) -> AccountStatus:
        answer = await self._api.get("/v1/messaging/credits")
        if answer.status != 200:
            raise failure_of(answer, read_reason(answer, "message"))
        credit = answer.fields().get("credits")
        return AccountStatus(None if credit is None else clean(str(credit)), (self._sender_id,) if self._sender_id else ())

    async def close(self) -> None:
        await self._api.close()


def _load_key(told: str) -> rsa.RSAPublicKey | None:
    try:
        return load_public_key(told) if told else None
    except ValueError:
        raise InvalidSetting("MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY: not a public RSA key as PEM") from None


def _read_results(answer: Answer, references: Sequence[int], mark: Mark) -> list[Outcome]:
    """Pairs the items by our reference, which is echoed: their order is not promised."""
    items = answer.fields().get("messages")
    if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
        raise OutcomeUnknown("an answer that cannot be read")
    by_reference = {_reference(item, mark): item for item in items}
    return [_read_item(by_reference.get(reference)) for reference in references]


def _read_item(item: Mapping[str, Any] | None) -> Outcome:
    given = read_id(item.get("message_id")) if item else None
    if item is None or given is None:
        return MISSING
    status = clean(str(item.get("status")))
    if _STATUSES.get(status) == "failed":
        return Outcome("refused", given, "unknown", f"The provider answered: {status}.", raw=status)
    return Outcome("accepted", given, raw=status)


def _read_refused(answer: Answer) -> SubmissionRefused:
    """All or nothing: one bad message refuses its hundred. `details` name the field by its JSON pointer."""
    reason = read_reason(answer, "message")
    try:
        details = answer.fields().get("details")
    except OutcomeUnknown:
        details = None
    named = clean(" ".join(map(str, details))) if isinstance(details, list) else ""
    category: FailureCategory = next((category for field, category in _FIELDS if f"/{field}" in named), "unknown")
    item = Outcome("refused", failure_category=category, error=named or reason or "Refused.")
    return SubmissionRefused(f"{answer.status} {reason}".strip(), item)


def _reference(fields: Mapping[str, Any], mark: Mark) -> int | None:
    metadata = fields.get("metadata")
    return mark.read(metadata.get("reference")) if isinstance(metadata, dict) else None


def _read_report(fields: Mapping[str, Any], mark: Mark) -> list[DeliveryReceipt]:
    need(fields, "message_id")
    if need(fields, "status") not in _STATUSES:
        return []  # a status that is new to us is no news, and no fault of the vendor's
    return [_receipt(fields, mark, need(fields, "delivery_report_id"))]


def _receipt(fields: Mapping[str, Any], mark: Mark, told_as: str) -> DeliveryReceipt:
    word, code = str(fields["status"]), str(fields.get("error_code") or "")
    status = _STATUSES[word]
    category: FailureCategory | None = None
    if status == "failed":
        category = _CATEGORIES.get(code, "expired" if word == "expired" else "unknown")
    return DeliveryReceipt(
        id=told_as,
        status=status,
        raw=clean(f"{word} {code}"),
        reference=_reference(fields, mark),
        provider_message_id=read_id(fields.get("message_id")),
        failure_category=category,
        error=clean(f"{word}, code {code}" if code else word) if category else None,
        billed_parts=read_parts(fields.get("billing_units")),
        occurred_at=read_time(fields, "date_received") if fields.get("date_received") else None,
    )


def _read_inbound(fields: Mapping[str, Any], mark: Mark) -> InboundMessage:
    """A reply, or the account's word of an opt-out (which has a `notification_id`)."""
    opted_out = "notification_id" in fields
    return InboundMessage(
        id=need(fields, "notification_id" if opted_out else "reply_id"),
        phone=need(fields, "source_number"),
        to=str(fields.get("destination_number") or ""),  # absent when the message had no sender of its own
        text=str(fields.get("content") or ""),
        received_at=read_time(fields, "date_received"),
        reference=_reference(fields, mark),
        in_reply_to=read_id(fields.get("message_id")),
        keyword="stop" if opted_out else None,
    )
