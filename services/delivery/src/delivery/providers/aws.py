"""AWS End User Messaging SMS (the API pinpoint-sms-voice-v2): SMS only, one message a request.

By aiobotocore, which is asynchronous and well kept: it signs, finds credentials in every way that AWS knows, and
checks what is sent against AWS's own model. Its retries are off: a repeated call is another message.
AWS carries MMS to the United States and Canada only, so there is none here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import aiohttp
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore import exceptions as boto  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]
from pydantic_core import from_json, to_json

from common.events import FailureCategory
from delivery.providers.base import (
    AccountError,
    InboundMessage,
    NotConnected,
    ProviderEvent,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    DeliveryReceipt,
    AccountStatus,
    Throttled,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.providers.http import CONNECT_S, is_host_of, seconds
from delivery.providers.sns import Sns
from delivery.providers.webhook_parsing import Mark, clean, need, read_id, read_json, read_parts, read_time
from delivery.settings import Settings

# Before anything is sent: credentials, region, address.
_SET_UP = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.NoRegionError,
    boto.InvalidRegionError,
    boto.ProfileNotFound,
)
_THROTTLED = frozenset({"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"})
# All our numbers are Australian, so that a country that is not open is open for none of them.
_ACCOUNT_REASONS = frozenset(
    {
        "COUNTRY_NOT_ENABLED",
        "DESTINATION_COUNTRY_BLOCKED",
        "DESTINATION_COUNTRY_BLOCKED_BY_PROTECT_CONFIGURATION",
        "CHANNEL_NOT_ENABLED",
        "NO_ORIGINATION_IDENTITIES_FOUND",
    }
)
# The Reason of a refusal → our category.
_REASONS: dict[str, FailureCategory] = {
    "INVALID_IDENTITY_FOR_DESTINATION_COUNTRY": "account_error",
    "SENDER_ID_NOT_REGISTERED": "account_error",
    "SENDER_ID_NOT_SUPPORTED": "account_error",
    "SENDER_ID_REQUIRES_REGISTRATION": "account_error",
    "PRICE_OVER_THRESHOLD": "account_error",
    "INTERNATIONAL_SENDING_NOT_SUPPORTED": "unroutable",
    "MAXIMUM_SIZE_EXCEEDED": "content_rejected",
    "DESTINATION_PHONE_NUMBER_OPTED_OUT": "opted_out",
    "DESTINATION_PHONE_NUMBER_NOT_VERIFIED": "account_error",
    "DESTINATION_PHONE_NUMBER_BLOCKED_BY_PROTECT_NUMBER_OVERRIDE": "blocked",
    "RESOURCE_NOT_ACTIVE": "account_error",
    "MESSAGE_TYPE_MISMATCH": "account_error",
    "NUMBER_CAPABILITIES_MISMATCH": "account_error",
    "KEYWORD_MISMATCH": "account_error",
}
_FIELDS: dict[str, FailureCategory] = {
    "DestinationPhoneNumber": "invalid_number",
    "OriginationIdentity": "account_error",
    "MessageBody": "content_rejected",
}
_SENDERS = frozenset({"phone-number", "sender-id", "pool"})
_EVENTS: dict[str, tuple[Literal["sent", "delivered", "failed"], FailureCategory | None]] = {
    "SENT": ("sent", None),
    "PENDING": ("sent", None),
    "QUEUED": ("sent", None),
    "SUCCESSFUL": ("sent", None),  # the carrier has it; whether the handset's word follows depends on the country
    "DELIVERED": ("delivered", None),
    "INVALID": ("failed", "invalid_number"),
    "INVALID_MESSAGE": ("failed", "content_rejected"),
    "UNREACHABLE": ("failed", "unroutable"),
    "CARRIER_UNREACHABLE": ("failed", "unroutable"),
    "BLOCKED": ("failed", "blocked"),
    "CARRIER_BLOCKED": ("failed", "blocked"),
    "PROTECT_BLOCKED": ("failed", "blocked"),
    "SPAM": ("failed", "content_rejected"),
    "UNKNOWN": ("failed", "unknown"),
    "TTL_EXPIRED": ("failed", "expired"),
}


class Aws(Provider):
    """One account in one region. An unknown outcome waits for its event: AWS cannot be asked for a message."""

    name = "aws"
    sends_receipts = True
    handles_opt_outs = True

    def __init__(self, settings: Settings) -> None:
        self.concurrency = settings.aws_concurrency
        self.rate = settings.aws_rate
        self.reaches_people = not settings.aws_base_url or is_host_of(settings.aws_base_url, "amazonaws.com", "api.aws")
        self._base_url = settings.aws_base_url or None
        self._region = settings.aws_region
        self._mark = Mark(settings)
        self._sender_id = settings.aws_sender
        self._configuration_set = settings.aws_configuration_set
        self._timeout_s = settings.request_timeout_s
        # Pointed elsewhere nothing goes out by AWS, and only then may another than AWS sign what comes in.
        self._sns = Sns(settings.aws_topic_arns, "" if self.reaches_people else settings.aws_base_url, self._timeout_s)
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._client: Any = None

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        (message,) = messages
        fields: dict[str, Any] = {
            "DestinationPhoneNumber": message.phone,
            "MessageBody": message.text,
            "MessageType": "TRANSACTIONAL",
            "Context": {"reference": self._mark.write(message.id)},
        }
        if sender := message.sender_id or self._sender_id:
            fields["OriginationIdentity"] = sender
        if self._configuration_set:
            fields["ConfigurationSetName"] = self._configuration_set
        return to_json(fields)

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        try:
            answer = await self._call("send_text_message", **from_json(body))
        except boto.ParamValidationError as error:
            return [Outcome("refused", failure_category="content_rejected", error=clean(str(error)))]
        except boto.ClientError as error:
            return [_read_fault(error.response)]
        given = read_id(answer.get("MessageId"))
        if given is None:
            raise OutcomeUnknown("an answer without an id")
        return [Outcome("accepted", given)]

    async def _call(self, operation: str, **fields: Any) -> Mapping[str, Any]:
        """Raises a SubmissionError when there was no answer; ClientError and ParamValidationError are for the caller."""
        try:
            client = await self._get_client()
            async with asyncio.timeout(self._timeout_s):
                answer: Mapping[str, Any] = await getattr(client, operation)(**fields)
        except _SET_UP as error:
            raise AccountError(type(error).__name__) from None
        except (boto.ConnectTimeoutError, boto.SSLError, boto.ProxyConnectionError) as error:
            raise NotConnected(type(error).__name__) from None
        except boto.EndpointConnectionError as error:
            # A connection that breaks after writing has this name too; only the cause tells them apart.
            cause = error.kwargs.get("error")
            never = isinstance(cause, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
            raise (NotConnected if never else OutcomeUnknown)(type(cause).__name__) from None
        except (boto.ParamValidationError, boto.ClientError):
            raise
        except (boto.BotoCoreError, boto.HTTPClientError, ResponseParserError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(type(error).__name__) from None
        except (AttributeError, TypeError, ValueError, RecursionError):
            # botocore's reader trusts that an answer has the shape of its model.
            raise OutcomeUnknown("an answer that cannot be read") from None
        return answer or {}

    async def _get_client(self) -> Any:
        async with self._opening:
            if self._client is None:
                config = AioConfig(
                    connect_timeout=min(CONNECT_S, self._timeout_s),
                    read_timeout=self._timeout_s,
                    max_pool_connections=self.concurrency,
                    retries={"total_max_attempts": 1},
                )
                opened = get_session().create_client(
                    "pinpoint-sms-voice-v2", region_name=self._region, endpoint_url=self._base_url, config=config
                )
                self._client = await self._stack.enter_async_context(opened)
        return self._client

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        if request.kind != "events":
            raise WebhookRefused(f"aws has no webhook {request.kind!r}")
        envelope = await self._sns.open(request.body)
        if envelope is None:
            return []
        event = read_json(need(envelope, "Message").encode(errors="replace"))
        if event.get("source") == "aws.sms-voice":  # by way of EventBridge
            event = event["detail"] if isinstance(event.get("detail"), dict) else {}
        if "inboundMessageId" in event:
            return [_read_inbound(event, read_time(envelope, "Timestamp"))]
        return _read_event(event, self._mark)

    async def check(self) -> AccountStatus:
        try:
            phones = (await self._call("describe_phone_numbers")).get("PhoneNumbers") or []
            names = (await self._call("describe_sender_ids")).get("SenderIds") or []
        except boto.ClientError as error:
            outcome = _read_fault(error.response)
            raise AccountError(outcome.error or "refused") from None
        return AccountStatus(sender_ids=(*_named(phones, "PhoneNumber"), *_named(names, "SenderId")))

    async def close(self) -> None:
        await self._stack.aclose()


def _named(found: Sequence[Mapping[str, Any]], name: str) -> tuple[str, ...]:
    return tuple(clean(str(entry[name])) for entry in found if entry.get(name))


def _read_fault(answer: Mapping[str, Any]) -> Outcome:
    """What a refused request means for its message. Raises a SubmissionError where it means nothing for it."""
    meta, error = answer.get("ResponseMetadata", {}), answer.get("Error", {})
    status, code = int(meta.get("HTTPStatusCode", 0)), str(error.get("Code", ""))
    reason = str(answer.get("Reason") or "")
    told = clean(" ".join(filter(None, (code, reason, str(error.get("Message") or "")))))
    retry_after = (meta.get("HTTPHeaders") or {}).get("retry-after")
    if code in _THROTTLED or status == 429 or (status == 503 and retry_after):
        raise Throttled(told, seconds(retry_after))
    if status >= 500 or status < 300 or code == "InternalServerException":
        raise OutcomeUnknown(told)
    category = _category(code, reason, answer)
    if category is None:
        raise AccountError(told)
    return Outcome("refused", failure_category=category, error=told, raw=clean(reason or code))


def _category(code: str, reason: str, answer: Mapping[str, Any]) -> FailureCategory | None:
    """Why this message is refused; None when any would be."""
    if code == "ResourceNotFoundException":
        return "account_error" if answer.get("ResourceType") in _SENDERS else None
    if code not in ("ValidationException", "ConflictException") or reason in _ACCOUNT_REASONS:
        return None
    fields = [str(field.get("Name")) for field in answer.get("Fields") or []]
    named = next((_FIELDS[name] for name in fields if name in _FIELDS), None)
    return _REASONS.get(reason) or named or "unknown"


def _read_event(event: Mapping[str, Any], mark: Mark) -> list[DeliveryReceipt]:
    kind, message_id = need(event, "eventType"), read_id(need(event, "messageId"))
    known = _EVENTS.get(kind.removeprefix("TEXT_"))
    if known is None:
        return []  # a word that is new to us is no news, and no fault of AWS's
    status, category = known
    context, at = event.get("context"), event.get("eventTimestamp")
    receipt = DeliveryReceipt(
        id=f"{message_id}/{kind}",
        status=status,
        raw=clean(kind),
        reference=mark.read(context.get("reference")) if isinstance(context, dict) else None,
        provider_message_id=message_id,
        failure_category=category,
        error=clean(str(event.get("messageStatusDescription") or kind)) if category else None,
        billed_parts=read_parts(event.get("totalMessageParts")),
        occurred_at=None if at is None else _from_milliseconds(at),
    )
    return [receipt]


def _read_inbound(event: Mapping[str, Any], at: datetime) -> InboundMessage:
    given = need(event, "inboundMessageId")
    return InboundMessage(
        id=given,
        phone=need(event, "originationNumber"),
        to=need(event, "destinationNumber"),
        text=str(event.get("messageBody") or ""),
        received_at=at,
        provider_message_id=read_id(given),
        in_reply_to=read_id(event.get("previousPublishedMessageId")),
    )


def _from_milliseconds(told: Any) -> datetime:
    try:
        return datetime.fromtimestamp(int(told) / 1000, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise WebhookMalformed("eventTimestamp: not a time") from None
