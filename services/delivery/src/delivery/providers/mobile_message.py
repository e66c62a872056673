"""Mobile Message (mobilemessage.com.au), API v1. SMS only."""

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic_core import from_json, to_json

from common.events import FailureCategory
from common.sms import measure
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
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.providers.http import Answer, HttpApi, basic, failure_of, is_host_of, read_reason
from delivery.providers.webhook_parsing import Mark, clean, digest, is_same, need, read_id, read_json, read_parts, read_time
from delivery.settings import Settings, require

VENDOR_HOST = "api.mobilemessage.com.au"
_FRESH_S = 300.0
# Words of the vendor's texts → our category. Its errors have no codes.
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
    "refused",
    failure_category="opted_out",
    error="The recipient has unsubscribed from this sender at the provider.",
    raw="blocked",
)
_STATUSES: dict[str, Literal["sent", "delivered", "failed"]] = {
    "pending": "sent",
    "scheduled": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "failed": "failed",
    "cancelled": "failed",
}


class MobileMessage(Provider):
    """One account. The answer is read item by item: HTTP 200 says nothing about a message."""

    name = "mobile_message"
    deduplicates = True
    sends_receipts = True
    can_look_up = True
    handles_opt_outs = True

    def __init__(self, settings: Settings) -> None:
        self.batch_size = settings.mobile_message_batch_size
        self.concurrency = settings.mobile_message_concurrency
        self.rate = settings.mobile_message_rate
        self.reaches_people = is_host_of(settings.mobile_message_base_url, VENDOR_HOST)
        self._mark = Mark(settings)
        self._sender_id = settings.mobile_message_sender
        self._secret = settings.mobile_message_webhook_secret.get_secret_value()
        username, password = settings.mobile_message_username, settings.mobile_message_password.get_secret_value()
        needed = {"USERNAME": username, "PASSWORD": password, "SENDER": self._sender_id}
        require(self.name, {f"MOBILE_MESSAGE_{name}": value for name, value in needed.items()})
        self._api = HttpApi(
            settings.mobile_message_base_url,
            {"Authorization": basic(username, password)},
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
                        "sender": (message.sender_id or self._sender_id).removeprefix("+"),
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
        raise failure_of(answer, reason)

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        self._verify(request)
        fields = read_json(request.body)
        if request.kind == "receipts":
            return _read_receipt(fields, self._mark)
        if request.kind == "inbound":
            return [_read_inbound(fields, self._mark)]
        raise WebhookRefused(f"mobile_message has no webhook {request.kind!r}")

    def _verify(self, request: WebhookRequest) -> None:
        """X-MM-Signature over the time and the body, at most five minutes old."""
        if not self._secret:
            raise WebhookRefused("no webhook is believed before MOBILE_MESSAGE_WEBHOOK_SECRET is set")
        at = request.headers.get("x-mm-timestamp", "")
        expected = hmac.new(
            self._secret.encode(), at.encode(errors="replace") + b"." + request.body, hashlib.sha256
        ).hexdigest()
        if not is_same(request.headers.get("x-mm-signature", "").lower(), expected):
            raise WebhookRefused("X-MM-Signature does not fit MOBILE_MESSAGE_WEBHOOK_SECRET and the request")
        if not (at.isascii() and at.isdigit()) or abs(time.time() - int(at[:15])) > _FRESH_S:
            raise WebhookRefused("X-MM-Timestamp is not of the last five minutes")

    async def look_up(self, provider_message_id: str) -> DeliveryReceipt | None:
        fields = await self._ask("/v1/messages", {"message_id": provider_message_id})
        items = fields.get("results") or fields.get("messages") or []
        if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
            raise OutcomeUnknown("an answer that cannot be read")
        found = next((item for item in items if read_id(item.get("message_id")) == provider_message_id), None)
        if found is None or found.get("status") not in _STATUSES:
            return None
        # All parts in one word, so that it is another notice than that of a part.
        return _receipt(found, self._mark, "look-up", read_parts(found.get("cost")))

    async def check(self) -> AccountStatus:
        account = await self._ask("/v1/account")
        senders = (await self._ask("/v1/senders")).get("results")
        listed = [entry for entry in senders if isinstance(entry, dict)] if isinstance(senders, list) else []
        names = [str(entry.get("sender") or entry.get("name") or "") for entry in listed]
        balance = account.get("credit_balance")
        return AccountStatus(None if balance is None else clean(str(balance)), tuple(clean(name) for name in names if name))

    async def _ask(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        answer = await self._api.get(path, query)
        if answer.status != 200:
            raise failure_of(answer, read_reason(answer, "error", "message"))
        return answer.fields()

    async def close(self) -> None:
        await self._api.close()


def _read_results(answer: Answer, references: Sequence[int], mark: Mark) -> list[Outcome]:
    """Pairs the items by our reference: their order is not promised."""
    try:
        items = {mark.read(item["custom_ref"]): item for item in from_json(answer.body)["results"]}
    except (ValueError, KeyError, TypeError):
        raise OutcomeUnknown("an answer that cannot be read") from None
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
    return Outcome("refused", failure_category=_category(reason), error=clean(reason), raw="error")


def _category(reason: str) -> FailureCategory:
    lowered = reason.lower()
    return next((category for word, category in _CATEGORIES if word in lowered), "unknown")


def _read_receipt(fields: Mapping[str, Any], mark: Mark) -> list[DeliveryReceipt]:
    """One webhook a part. A status that is new to us is no news, and no fault of the vendor's."""
    if need(fields, "status") not in _STATUSES:
        return []
    part, of_parts = (fields.get(name, 1) for name in ("part_number", "total_parts"))
    if not (type(part) is int and type(of_parts) is int and 1 <= part <= of_parts <= 255):
        raise WebhookMalformed("part_number, total_parts: not a part of a message")
    return [_receipt(fields, mark, f"{part}/{of_parts}", None, part, of_parts)]


def _receipt(
    fields: Mapping[str, Any], mark: Mark, told_by: str, billed: int | None, part: int = 1, of_parts: int = 1
) -> DeliveryReceipt:
    message_id, reference = read_id(fields.get("message_id")), mark.read(fields.get("custom_ref"))
    if message_id is None and reference is None:
        raise WebhookMalformed("message_id: missing")
    word = str(fields["status"])
    failed = _STATUSES[word] == "failed"
    return DeliveryReceipt(
        id=f"{message_id or reference}/{told_by}/{word}",
        status=_STATUSES[word],
        raw=word,
        reference=reference,
        provider_message_id=message_id,
        failure_category="unknown" if failed else None,
        error="The provider could not deliver the message, and does not say why." if failed else None,
        part=part,
        of_parts=of_parts,
        billed_parts=billed,
        occurred_at=read_time(fields, "received_at") if fields.get("received_at") else None,
    )


def _read_inbound(fields: Mapping[str, Any], mark: Mark) -> InboundMessage:
    """No id comes with it, so what it says is its id."""
    phone, to, at = need(fields, "sender"), need(fields, "to"), read_time(fields, "received_at")
    text, kind, answers = (str(fields.get(name) or "") for name in ("message", "type", "original_message_id"))
    return InboundMessage(
        id=digest(phone, to, text, at.isoformat(), kind, answers),
        phone=phone,
        to=to,
        text=text,
        received_at=at,
        reference=mark.read(fields.get("original_custom_ref")),
        in_reply_to=read_id(answers),
        keyword="stop" if kind == "unsubscribe" else None,
    )
