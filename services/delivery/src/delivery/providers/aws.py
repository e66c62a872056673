"""AWS End User Messaging SMS (the API pinpoint-sms-voice-v2): SMS only, one message in a request.

It uses aiobotocore, which signs requests, finds credentials in every place that AWS knows, and checks requests against
AWS's own model. Its retries are off, because a repeated request sends another message. AWS carries MMS only in the
United States and Canada, so this provider has none.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore import exceptions as boto  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]
from pydantic import AliasChoices, Field
from pydantic_core import from_json, to_json
from pydantic_settings import SettingsConfigDict

from common.events import FailureCategory
from delivery.providers.base import (
    AccountError,
    AccountStatus,
    DeliveryReceipt,
    InboundMessage,
    NotConnected,
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
from delivery.providers.http import CONNECT_S, UNREADABLE, is_host_of, seconds
from delivery.providers.sns import Sns
from delivery.providers.webhook_parsing import (
    Mark,
    read_id,
    read_json,
    read_parts,
    read_time,
    require,
    storable_text,
)
from delivery.settings import OwnSettings, Settings

# Errors before anything is sent: credentials, region, address.
_SET_UP_ERRORS = (
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
# All our numbers are Australian, so a closed country is closed for every message.
_ACCOUNT_REASONS = frozenset(
    {
        "COUNTRY_NOT_ENABLED",
        "DESTINATION_COUNTRY_BLOCKED",
        "DESTINATION_COUNTRY_BLOCKED_BY_PROTECT_CONFIGURATION",
        "CHANNEL_NOT_ENABLED",
        "NO_ORIGINATION_IDENTITIES_FOUND",
    }
)
# Reason of a refusal → our category.
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
_SENDER_ID_TYPES = frozenset({"phone-number", "sender-id", "pool"})
# Event type → status of the message and our category.
_EVENTS: dict[str, tuple[ReceiptStatus, FailureCategory | None]] = {
    "SENT": ("sent", None),
    "PENDING": ("sent", None),
    "QUEUED": ("sent", None),
    "SUCCESSFUL": ("sent", None),  # the carrier has it; not every country reports the handset's receipt
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


class AwsSettings(OwnSettings):
    """The settings AWS_… Credentials are read by AWS's library, in its own ways."""

    model_config = SettingsConfigDict(env_prefix="AWS_")

    base_url: str = Field(
        "", description="empty: AWS; any other address is a rehearsal, which may sign the webhooks itself"
    )
    region: str = "ap-southeast-2"
    sender_id: str = Field(
        "",
        validation_alias=AliasChoices("AWS_SENDER_ID", "AWS_SENDER"),
        description="number, sender ID or pool; empty: AWS chooses",
    )
    configuration_set: str = Field("", description="decides where delivery events go")
    topic_arns: str = Field("", description="SNS topics that may send webhooks, by commas; empty: all are refused")
    concurrency: int = Field(16, ge=1, description="maximum of requests at once")
    rate: float = Field(0.0, ge=0, description="maximum of parts per second; 0: no maximum")


class Aws(Provider):
    """One account in one region. An unknown outcome waits for its event: AWS has no look-up of a message."""

    name = "aws"
    settings_class = AwsSettings
    sends_receipts = True
    webhook_kinds = frozenset({"events"})
    handles_opt_outs = True

    def __init__(self, settings: Settings, own: AwsSettings | None = None) -> None:
        own = own or AwsSettings.from_environment()
        self.concurrency = own.concurrency
        self.rate = own.rate
        self.reaches_people = not own.base_url or is_host_of(own.base_url, "amazonaws.com", "api.aws")
        self.default_sender_id = own.sender_id
        self._base_url = own.base_url or None
        self._region = own.region
        self._mark = Mark(settings)
        self._configuration_set = own.configuration_set
        self._timeout_s = settings.request_timeout_s
        # Another server may sign webhooks only if nothing is sent through AWS.
        rehearsal = "" if self.reaches_people else own.base_url
        self._sns = Sns(own.topic_arns, rehearsal, settings.request_timeout_s)
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
        if sender := message.sender_id or self.default_sender_id:
            fields["OriginationIdentity"] = sender
        if self._configuration_set:
            fields["ConfigurationSetName"] = self._configuration_set
        return to_json(fields)

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        try:
            answer = await self._request("send_text_message", **from_json(body))
        except boto.ParamValidationError as error:
            return [Outcome("refused", failure_category="content_rejected", error=storable_text(str(error)))]
        except boto.ClientError as error:
            return [_read_error(error.response)]
        given = read_id(answer.get("MessageId"))
        if given is None:
            raise OutcomeUnknown("The answer has no id.")
        return [Outcome("accepted", given)]

    async def _request(self, operation: str, **fields: Any) -> Mapping[str, Any]:
        """Send one request. Raises a SubmissionError if there was no answer.

        Also raises botocore's ClientError and ParamValidationError, which say something about the message.
        """
        try:
            client = await self._get_client()
            async with asyncio.timeout(self._timeout_s):
                answer: Mapping[str, Any] = await getattr(client, operation)(**fields)
        except _SET_UP_ERRORS as error:
            raise AccountError(type(error).__name__) from None
        except (boto.ConnectTimeoutError, boto.SSLError, boto.ProxyConnectionError) as error:
            raise NotConnected(type(error).__name__) from None
        except boto.EndpointConnectionError as error:
            # A connection that breaks after the request was written has the same class. Only the cause differs.
            cause = error.kwargs.get("error")
            is_unsent = isinstance(cause, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
            raise (NotConnected if is_unsent else OutcomeUnknown)(type(cause).__name__) from None
        except (boto.ParamValidationError, boto.ClientError):
            raise
        except (boto.BotoCoreError, boto.HTTPClientError, ResponseParserError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(type(error).__name__) from None
        except (AttributeError, TypeError, ValueError, RecursionError):
            # botocore's parser fails on answers that do not have the shape of its model.
            raise OutcomeUnknown(UNREADABLE) from None
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
        event = read_json(require(envelope, "Message").encode(errors="replace"))
        if event.get("source") == "aws.sms-voice":  # sent through EventBridge
            event = event["detail"] if isinstance(event.get("detail"), dict) else {}
        if "inboundMessageId" in event:
            return [_read_inbound(event, read_time(envelope, "Timestamp"))]
        return _read_event(event, self._mark)

    async def check(self) -> AccountStatus:
        try:
            phones = (await self._request("describe_phone_numbers")).get("PhoneNumbers") or []
            names = (await self._request("describe_sender_ids")).get("SenderIds") or []
        except boto.ClientError as error:
            outcome = _read_error(error.response)
            raise AccountError(outcome.error or "Refused.") from None
        return AccountStatus(sender_ids=(*_values(phones, "PhoneNumber"), *_values(names, "SenderId")))

    async def close(self) -> None:
        await self._stack.aclose()


def _values(found: Sequence[Mapping[str, Any]], name: str) -> tuple[str, ...]:
    return tuple(storable_text(str(entry[name])) for entry in found if entry.get(name))


def _read_error(answer: Mapping[str, Any]) -> Outcome:
    """Read a refused request. Raises a SubmissionError if the refusal is not about the message."""
    meta, error = answer.get("ResponseMetadata", {}), answer.get("Error", {})
    status, code = int(meta.get("HTTPStatusCode", 0)), str(error.get("Code", ""))
    reason = str(answer.get("Reason") or "")
    text = storable_text(" ".join(filter(None, (code, reason, str(error.get("Message") or "")))))
    retry_after = (meta.get("HTTPHeaders") or {}).get("retry-after")
    if code in _THROTTLED or status == 429 or (status == 503 and retry_after):
        raise Throttled(text, seconds(retry_after))
    if status >= 500 or status < 300 or code == "InternalServerException":
        raise OutcomeUnknown(text)
    category = _category(code, reason, answer)
    if category is None:
        raise AccountError(text)
    return Outcome("refused", failure_category=category, error=text, raw=storable_text(reason or code))


def _category(code: str, reason: str, answer: Mapping[str, Any]) -> FailureCategory | None:
    """Return the category of a refused message; None if AWS would refuse any message."""
    if code == "ResourceNotFoundException":
        return "account_error" if answer.get("ResourceType") in _SENDER_ID_TYPES else None
    if code not in ("ValidationException", "ConflictException") or reason in _ACCOUNT_REASONS:
        return None
    fields = [str(field.get("Name")) for field in answer.get("Fields") or []]
    by_field = next((_FIELDS[name] for name in fields if name in _FIELDS), None)
    return _REASONS.get(reason) or by_field or "unknown"


def _read_event(event: Mapping[str, Any], mark: Mark) -> list[DeliveryReceipt]:
    kind, message_id = require(event, "eventType"), read_id(require(event, "messageId"))
    known = _EVENTS.get(kind.removeprefix("TEXT_"))
    if known is None:
        return []  # an event that we do not know is ignored
    status, category = known
    context, at = event.get("context"), event.get("eventTimestamp")
    receipt = DeliveryReceipt(
        id=f"{message_id}/{kind}",
        status=status,
        raw=storable_text(kind),
        reference=mark.read(context.get("reference")) if isinstance(context, dict) else None,
        provider_message_id=message_id,
        failure_category=category,
        error=storable_text(str(event.get("messageStatusDescription") or kind)) if category else None,
        billed_parts=read_parts(event.get("totalMessageParts")),
        occurred_at=None if at is None else _from_milliseconds(at),
    )
    return [receipt]


def _read_inbound(event: Mapping[str, Any], at: datetime) -> InboundMessage:
    given = require(event, "inboundMessageId")
    return InboundMessage(
        id=given,
        phone=require(event, "originationNumber"),
        to=require(event, "destinationNumber"),
        text=str(event.get("messageBody") or ""),
        received_at=at,
        provider_message_id=read_id(given),
        in_reply_to=read_id(event.get("previousPublishedMessageId")),
    )


def _from_milliseconds(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(int(value) / 1000, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise WebhookMalformed("eventTimestamp: not a time") from None
