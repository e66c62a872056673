"""Mobile Message (mobilemessage.com.au), API v1. SMS only."""

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr
from pydantic_core import from_json, to_json
from pydantic_settings import SettingsConfigDict

from common.events import FailureCategory
from common.sms import measure
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
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.providers.http import UNREADABLE, Answer, HttpApi, basic, error_of, is_host_of, read_reason
from delivery.providers.webhook_parsing import (
    Mark,
    digest,
    is_same,
    read_id,
    read_json,
    read_parts,
    read_time,
    require,
    storable_text,
)
from delivery.settings import OwnSettings, Settings

_HOST = "api.mobilemessage.com.au"
_MAX_AGE_S = 300.0
# Part of an error text → our category: the errors have no codes. The first match counts.
_CATEGORIES: tuple[tuple[str, FailureCategory], ...] = (
    ("unsubscribed", "opted_out"),
    ("sender", "account_error"),
    ("credit", "account_error"),
    ("permission", "account_error"),
    ("phone number", "invalid_number"),
    ("recipient", "invalid_number"),
    ("blocked", "blocked"),
    ("content", "content_rejected"),
    ("message", "content_rejected"),
)
_BLOCKED = Outcome(
    status="refused",
    failure_category="opted_out",
    error="The recipient has unsubscribed from this sender at the provider.",
    raw="blocked",
)
_STATUSES: dict[str, ReceiptStatus] = {
    "pending": "sent",
    "scheduled": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "failed": "failed",
    "cancelled": "failed",
}


class MobileMessageSettings(OwnSettings):
    """The settings MOBILE_MESSAGE_…"""

    model_config = SettingsConfigDict(env_prefix="MOBILE_MESSAGE_")

    base_url: str = f"https://{_HOST}"
    username: str = ""
    password: SecretStr = SecretStr("")
    sender_id: str = Field("", validation_alias=AliasChoices("MOBILE_MESSAGE_SENDER_ID", "MOBILE_MESSAGE_SENDER"))
    concurrency: int = Field(5, ge=1, description="maximum of requests at once; the provider allows an account 5")
    batch_size: int = Field(100, ge=1, le=10_000, description="maximum of messages in one request")
    rate: float = Field(0.0, ge=0, description="maximum of parts per second; 0: no maximum")
    webhook_secret: SecretStr = Field(SecretStr(""), description="verifies webhooks; empty: all are refused")


class MobileMessage(Provider):
    """One account. The answer is read message by message: HTTP 200 says nothing about a message."""

    name = "mobile_message"
    settings_class = MobileMessageSettings
    deduplicates = True
    sends_receipts = True
    webhook_kinds = frozenset({"receipts", "inbound"})
    can_look_up = True
    handles_opt_outs = True

    def __init__(self, settings: Settings, own: MobileMessageSettings | None = None) -> None:
        own = own or MobileMessageSettings.from_environment()
        own.require("username", "password", "sender_id")
        self.batch_size = own.batch_size
        self.concurrency = own.concurrency
        self.rate = own.rate
        self.reaches_people = is_host_of(own.base_url, _HOST)
        self.default_sender_id = own.sender_id
        self._mark = Mark(settings)
        self._secret = own.webhook_secret.get_secret_value()
        self._api = HttpApi(
            own.base_url,
            {"Authorization": basic(own.username, own.password.get_secret_value())},
            timeout_s=settings.request_timeout_s,
            concurrency=self.concurrency,
        )

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        return to_json(
            {
                "enable_unicode": any(measure(message.text).encoding != "GSM-7" for message in messages),
                "messages": [
                    {
                        "to": message.phone.removeprefix("+"),
                        "message": message.text,
                        "sender": (message.sender_id or self.default_sender_id).removeprefix("+"),
                        "custom_ref": self._mark.write(message.id),
                    }
                    for message in messages
                ],
            }
        )

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(key)}
        answer = await self._api.post("/v1/messages", body, headers)
        if answer.status == 200:
            return _read_results(answer, references, self._mark)
        reason = read_reason(answer, "error", "message")
        if answer.status in (400, 413, 422):
            item = Outcome("refused", failure_category=_category(reason), error=reason or "Refused.")
            raise SubmissionRefused(f"{answer.status} {reason}".strip(), item)
        raise error_of(answer, reason)

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        self._verify(request)
        fields = read_json(request.body)
        if request.kind == "receipts":
            return _read_receipt(fields, self._mark)
        if request.kind == "inbound":
            return [_read_inbound(fields, self._mark)]
        raise WebhookRefused(f"mobile_message has no webhook {request.kind!r}")

    def _verify(self, request: WebhookRequest) -> None:
        """Check X-MM-Signature, which covers the time and the body. A webhook may be five minutes old."""
        if not self._secret:
            raise WebhookRefused("Set MOBILE_MESSAGE_WEBHOOK_SECRET: until then every webhook is refused.")
        at = request.headers.get("x-mm-timestamp", "")
        expected = hmac.new(
            self._secret.encode(), at.encode(errors="replace") + b"." + request.body, hashlib.sha256
        ).hexdigest()
        if not is_same(request.headers.get("x-mm-signature", "").lower(), expected):
            raise WebhookRefused("X-MM-Signature does not fit MOBILE_MESSAGE_WEBHOOK_SECRET and the request.")
        if not (at.isascii() and at.isdigit()) or abs(time.time() - int(at[:15])) > _MAX_AGE_S:
            raise WebhookRefused("X-MM-Timestamp is not within the last five minutes.")

    async def look_up(self, provider_message_id: str) -> DeliveryReceipt | None:
        fields = await self._get("/v1/messages", {"message_id": provider_message_id})
        items = fields.get("results") or fields.get("messages") or []
        if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
            raise OutcomeUnknown(UNREADABLE)
        found = next((item for item in items if read_id(item.get("message_id")) == provider_message_id), None)
        if found is None or found.get("status") not in _STATUSES:
            return None
        # A look-up covers all parts, so its id differs from those of the parts' receipts.
        return _receipt(found, self._mark, "look-up", billed_parts=read_parts(found.get("cost")))

    async def check(self) -> AccountStatus:
        account = await self._get("/v1/account")
        senders = (await self._get("/v1/senders")).get("results")
        entries = [entry for entry in senders if isinstance(entry, dict)] if isinstance(senders, list) else []
        names = [storable_text(str(entry.get("sender") or entry.get("name") or "")) for entry in entries]
        balance = account.get("credit_balance")
        credit = None if balance is None else storable_text(str(balance))
        return AccountStatus(credit=credit, sender_ids=tuple(filter(None, names)))

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        answer = await self._api.get(path, query)
        if answer.status != 200:
            raise error_of(answer, read_reason(answer, "error", "message"))
        return answer.fields()

    async def close(self) -> None:
        await self._api.close()


def _read_results(answer: Answer, references: Sequence[int], mark: Mark) -> list[Outcome]:
    """Match the results to our references: the provider does not promise their order."""
    try:
        items = {mark.read(item["custom_ref"]): item for item in from_json(answer.body)["results"]}
    except (ValueError, KeyError, TypeError):
        raise OutcomeUnknown(UNREADABLE) from None
    return [_read_item(items.get(reference)) for reference in references]


def _read_item(item: dict[str, Any] | None) -> Outcome:
    status = item.get("status") if item else None
    if item is None or status not in ("success", "error", "blocked"):
        return MISSING
    if status == "success":
        return Outcome("accepted", read_id(item.get("message_id")), parts=read_parts(item.get("cost")), raw="success")
    if status == "blocked":
        return _BLOCKED
    error = item.get("error")
    reason = " ".join(map(str, error)) if isinstance(error, list) else str(error or "Refused.")
    return Outcome("refused", failure_category=_category(reason), error=storable_text(reason), raw="error")


def _category(reason: str) -> FailureCategory:
    lowered = reason.lower()
    return next((category for text, category in _CATEGORIES if text in lowered), "unknown")


def _read_receipt(fields: Mapping[str, Any], mark: Mark) -> list[DeliveryReceipt]:
    """Read the receipt of one part. A status that we do not know is ignored."""
    if require(fields, "status") not in _STATUSES:
        return []
    part, of_parts = (read_parts(fields.get(name, 1)) for name in ("part_number", "total_parts"))
    if part is None or of_parts is None or part > of_parts:
        raise WebhookMalformed("part_number, total_parts: not a part of a message")
    return [_receipt(fields, mark, f"{part}/{of_parts}", part=part, of_parts=of_parts)]


def _receipt(
    fields: Mapping[str, Any],
    mark: Mark,
    source: str,
    *,
    billed_parts: int | None = None,
    part: int = 1,
    of_parts: int = 1,
) -> DeliveryReceipt:
    """Build a receipt. `source`, the part or the look-up, makes its id differ from those of other sources."""
    message_id, reference = read_id(fields.get("message_id")), mark.read(fields.get("custom_ref"))
    if message_id is None and reference is None:
        raise WebhookMalformed("message_id: missing")
    status = str(fields["status"])
    has_failed = _STATUSES[status] == "failed"
    return DeliveryReceipt(
        id=f"{message_id or reference}/{source}/{status}",
        status=_STATUSES[status],
        raw=status,
        reference=reference,
        provider_message_id=message_id,
        failure_category="unknown" if has_failed else None,
        error="The provider could not deliver the message, and does not say why." if has_failed else None,
        part=part,
        of_parts=of_parts,
        billed_parts=billed_parts,
        occurred_at=read_time(fields, "received_at") if fields.get("received_at") else None,
    )


def _read_inbound(fields: Mapping[str, Any], mark: Mark) -> InboundMessage:
    """Read an inbound message. It has no id, so the id is derived from its content."""
    phone, to, at = require(fields, "sender"), require(fields, "to"), read_time(fields, "received_at")
    text, kind, original = (str(fields.get(name) or "") for name in ("message", "type", "original_message_id"))
    return InboundMessage(
        id=digest(phone, to, text, at.isoformat(), kind, original),
        phone=phone,
        to=to,
        text=text,
        received_at=at,
        reference=mark.read(fields.get("original_custom_ref")),
        in_reply_to=read_id(original),
        keyword="stop" if kind == "unsubscribe" else None,
    )
