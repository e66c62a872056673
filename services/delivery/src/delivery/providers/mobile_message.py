"""Mobile Message (mobilemessage.com.au), API v1. SMS only."""

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
from pydantic_core import from_json, to_json

from common.context import request_id
from common.events import Category
from common.sms import measure
from delivery.providers.base import (
    MISSING,
    AccountFault,
    BatchRefused,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    Throttled,
)
from delivery.settings import Settings

VENDOR_HOST = "api.mobilemessage.com.au"
_CONNECT_S = 3.0
_KEEP_ALIVE_S = 15.0  # shorter than servers' own, so that a request rarely meets a connection that is being closed
_RETRY_AFTER_S = 2.0
_LONGEST_RETRY_AFTER_S = 900.0
_LONGEST_REASON = 300
# Words of the vendor's texts → our category. Its errors have no codes.
_CATEGORIES: tuple[tuple[str, Category], ...] = (
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
    "refused", category="opted_out", error="The recipient has unsubscribed from this sender at the provider."
)


class MobileMessage(Provider):
    """One account. The answer is read item by item: HTTP 200 says nothing about a message."""

    name = "mobile_message"
    idempotent = True

    def __init__(self, settings: Settings) -> None:
        self.batch_size = settings.mobile_message_batch_size
        self.concurrency = settings.mobile_message_concurrency
        base_url = settings.mobile_message_base_url.rstrip("/")
        self.is_vendor = urlsplit(base_url).hostname == VENDOR_HOST
        self._url = base_url + "/v1/messages"
        self._sender = settings.mobile_message_sender
        self._timeout = aiohttp.ClientTimeout(
            total=settings.request_timeout_s, connect=min(_CONNECT_S, settings.request_timeout_s)
        )
        account = f"{settings.mobile_message_username}:{settings.mobile_message_password.get_secret_value()}"
        self._headers = {
            "Authorization": "Basic " + base64.b64encode(account.encode()).decode(),
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
        }
        self._session: aiohttp.ClientSession | None = None

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        return to_json(
            {
                "enable_unicode": any(measure(message.text).encoding != "GSM-7" for message in messages),
                "messages": [
                    {
                        "to": message.phone.removeprefix("+"),
                        "message": message.text,
                        "sender": self._sender,
                        "custom_ref": str(message.id),
                    }
                    for message in messages
                ],
            }
        )

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        headers = {**self._headers, "Idempotency-Key": str(key)}
        if (set_off_by := request_id()) != "":
            headers["X-Request-ID"] = set_off_by
        try:
            async with self._get_session().post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status, answer = response.status, await response.read()
                retry_after = response.headers.get("Retry-After")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise NotConnected(type(error).__name__) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(type(error).__name__) from None
        if status == 200:
            return _read_results(answer, references)
        _raise_for(status, retry_after, _read_reason(answer))
        return []

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=self.concurrency, keepalive_timeout=_KEEP_ALIVE_S),
                skip_auto_headers=("User-Agent", "Accept"),
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _raise_for(status: int, retry_after: str | None, reason: str) -> None:
    told = f"{status} {reason}".strip()
    if status == 429 or (status == 503 and retry_after):
        raise Throttled(told, _seconds(retry_after))
    if status in (400, 413, 422):
        raise BatchRefused(told, Outcome("refused", category=_category(reason), error=reason or "Refused."))
    if status in (408, 409, 425) or status >= 500 or status < 300:
        raise OutcomeUnknown(told)
    raise AccountFault(told)  # 401, 403; another address or a redirection is a matter of set-up too


def _read_results(answer: bytes, references: Sequence[int]) -> list[Outcome]:
    """Pairs the items by our reference: their order is not promised."""
    try:
        items = {str(item["custom_ref"]): item for item in from_json(answer)["results"]}
    except (ValueError, KeyError, TypeError):
        raise OutcomeUnknown("an answer that cannot be read") from None
    return [_read_item(items.get(str(reference))) for reference in references]


def _read_item(item: dict[str, Any] | None) -> Outcome:
    status = item.get("status") if item else None
    if item is None or status not in ("success", "error", "blocked"):
        return MISSING
    if status == "success":
        given = item.get("message_id")
        return Outcome("accepted", provider_message_id=_clean(str(given)) if given else None)
    if status == "blocked":
        return _BLOCKED
    error = item.get("error")
    reason = " ".join(map(str, error)) if isinstance(error, list) else str(error or "Refused.")
    return Outcome("refused", category=_category(reason), error=_clean(reason))


def _read_reason(answer: bytes) -> str:
    """The vendor's word: `error` or `message`, or the text itself when it is no JSON."""
    try:
        fields = from_json(answer)
        reason = str(fields.get("error") or fields.get("message") or "")
    except (ValueError, AttributeError):
        reason = answer[:_LONGEST_REASON].decode(errors="replace")
    return _clean(reason)


def _clean(told: str) -> str:
    """A vendor's words as a row can hold them: what cannot be written would hold up all results behind it."""
    return told.replace("\0", "").strip()[:_LONGEST_REASON]


def _category(reason: str) -> Category:
    lowered = reason.lower()
    return next((category for word, category in _CATEGORIES if word in lowered), "unknown")


def _seconds(retry_after: str | None) -> float:
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), _LONGEST_RETRY_AFTER_S)
    return _RETRY_AFTER_S
