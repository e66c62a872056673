"""Emulate AWS End User Messaging SMS (pinpoint-sms-voice-v2, AWS JSON 1.0) under /aws, and SNS for its events.

The signature of requests is parsed and not verified. AWS does not document the texts of its errors, so those here are
invented. Events are sent after the subscription to the topic is confirmed, as SNS does. AWS sends media to the United
States and Canada only, so media messages to other countries are refused.
"""

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web
from pydantic_core import from_json, to_json
from uuid_utils import uuid4

from common.sms import measure
from tools.handset.keys import certificate, sign
from tools.handset.provider import EmulatedProvider
from tools.handset.scenarios import Behaviour, behaviour_for
from tools.handset.settings import Settings
from tools.handset.store import Message, Reply, Request, Store
from tools.handset.webhooks import DeliveryReceipt, Webhook, Webhooks

_TARGET = "PinpointSMSVoiceV2."
_PHONE = re.compile(r"\+?[1-9][0-9]{1,18}")
_MEDIA_COUNTRIES = "+1"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]{8}/[^/]+/sms-voice/aws4_request, ?SignedHeaders=.+"
)
_TOPIC_ARN = "arn:aws:sns:ap-southeast-2:000000000000:handset"
_CERTIFICATE = "/aws/SimpleNotificationService-handset.pem"
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_DESCRIPTIONS = {
    "SUCCESSFUL": "Message has been accepted by phone carrier",
    "DELIVERED": "Message has been accepted by phone",
}
_Fault = tuple[int, str, dict[str, Any]]  # HTTP status, name of the exception, its members
_THROTTLED: _Fault = (400, "ThrottlingException", {"Message": "Rate exceeded"})
_OPTED_OUT: _Fault = (
    400,
    "ConflictException",
    {"Reason": "DESTINATION_PHONE_NUMBER_OPTED_OUT", "ResourceType": "opt-out-list", "ResourceId": "Default"},
)
_REFUSALS: dict[Behaviour, _Fault] = {
    Behaviour.THROTTLE: _THROTTLED,
    Behaviour.THROTTLE_TWICE: _THROTTLED,
    Behaviour.BUSY_TWICE: (503, "InternalServerException", {"RequestId": "handset"}),
    Behaviour.FAIL_ONCE: (500, "", {}),
    Behaviour.NO_CREDIT: (
        400,
        "ServiceQuotaExceededException",
        {"Reason": "MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT"},
    ),
}


def _invalid(reason: str, field: str) -> _Fault:
    fields = [{"Name": field, "Message": "The value is not valid."}]
    return 400, "ValidationException", {"Reason": reason, "Fields": fields}


_ITEM_FAULTS: dict[Behaviour, _Fault] = {
    Behaviour.BLOCK: _OPTED_OUT,
    Behaviour.REFUSE_NUMBER: _invalid("INVALID_PARAMETER", "DestinationPhoneNumber"),
    Behaviour.REFUSE_SENDER: _invalid("SENDER_ID_NOT_REGISTERED", "OriginationIdentity"),
    Behaviour.REFUSE_CONTENT: _invalid("INVALID_PARAMETER", "MessageBody"),
}


class Aws(EmulatedProvider):
    """One account in one region. One SNS topic gets the events of its configuration set and its inbound messages."""

    name = "aws"
    title = "AWS"
    embedded: ClassVar[Mapping[str, str]] = {"AWS_TOPIC_ARNS": _TOPIC_ARN}
    statuses: ClassVar[Mapping[str, tuple[str, str]]] = {
        "sent": ("SUCCESSFUL", ""),
        "delivered": ("DELIVERED", ""),
        "undelivered": ("UNREACHABLE", ""),
        "unknown_number": ("INVALID", ""),
        "expired": ("TTL_EXPIRED", ""),
        "blocked": ("CARRIER_BLOCKED", ""),
        "filtered": ("SPAM", ""),
        "opted_out": ("BLOCKED", ""),
    }

    def __init__(self, store: Store, settings: Settings, webhooks: Webhooks) -> None:
        """Begin without a confirmed subscription."""
        super().__init__(store, settings, webhooks)
        self._is_confirmed = False
        self._topic_arn = self.variable("AWS_TOPIC_ARNS").split(",")[0].strip() or _TOPIC_ARN
        self._origin = f"http://{settings.host}:{settings.port}"
        self._operations: dict[str, Callable[[web.Request, bytes], Awaitable[web.Response]]] = {
            "SendTextMessage": self._send,
            "SendMediaMessage": self._send,
            "DescribeAccountAttributes": self._describe(
                "AccountAttributes", [{"Name": "ACCOUNT_TIER", "Value": "PRODUCTION"}]
            ),
            "DescribeSpendLimits": self._describe("SpendLimits", []),
            "DescribePhoneNumbers": self._describe("PhoneNumbers", []),
            "DescribeSenderIds": self._describe("SenderIds", []),
        }

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.post("/aws", self.call),
            web.post("/aws/", self.call),
            web.get("/aws/sns/", self.confirm),
            web.get(_CERTIFICATE, self.certificate),
        ]

    async def call(self, request: web.Request) -> web.Response:
        """Run the operation that X-Amz-Target names."""
        self._origin = str(request.url.origin())  # the client reaches the certificate at the same address
        operation = self._operations.get(request.headers.get("X-Amz-Target", "").removeprefix(_TARGET))
        if operation is None:
            return _fault((400, "UnknownOperationException", {}))
        if not _AUTHORIZATION.match(request.headers.get("Authorization", "")):
            return _fault((403, "MissingAuthenticationTokenException", {"Message": "Missing Authentication Token"}))
        if self.is_full:
            return _fault(_THROTTLED)
        with self.in_flight():
            return await operation(request, await request.read())

    async def confirm(self, request: web.Request) -> web.Response:
        """Confirm the subscription. SubscribeURL has the token."""
        if request.query.get("Action") != "ConfirmSubscription" or request.query.get("Token") != self._token:
            raise web.HTTPForbidden
        self._is_confirmed = True
        arn = f"<SubscriptionArn>{self._topic_arn}:handset</SubscriptionArn>"
        answer = f"<ConfirmSubscriptionResponse><ConfirmSubscriptionResult>{arn}</ConfirmSubscriptionResult>"
        return web.Response(text=f"{answer}</ConfirmSubscriptionResponse>", content_type="text/xml")

    async def certificate(self, _: web.Request) -> web.Response:
        """Answer with the certificate whose key signs the envelopes."""
        return web.Response(
            body=certificate(self.settings.key_file, "sns.amazonaws.com"), content_type="application/x-pem-file"
        )

    def confirmation_request(self) -> Webhook | None:
        """Return the webhook that asks to confirm the subscription, or None when it is confirmed."""
        if self._is_confirmed:
            return None
        token = self._token
        query = f"Action=ConfirmSubscription&TopicArn={self._topic_arn}&Token={token}"
        more = {"Token": token, "SubscribeURL": f"{self._origin}/aws/sns/?{query}"}
        return self._envelope("SubscriptionConfirmation", "You have chosen to subscribe to the topic.", token, more)

    def write_receipt(self, receipt: DeliveryReceipt) -> Webhook | None:
        """Return a text message event."""
        message = receipt.message
        status, _ = self.statuses[receipt.status]
        event = {
            "eventType": f"TEXT_{status}",
            "eventVersion": "1.0",
            "eventTimestamp": int(receipt.at * 1000),
            "isFinal": status != "SUCCESSFUL",
            "originationPhoneNumber": message.sender_id,
            "destinationPhoneNumber": message.to,
            "isoCountryCode": "AU",
            "messageId": message.id.upper() if receipt.mangled else message.id,
            "messageRequestTimestamp": int(message.received_at * 1000),
            "messageEncoding": "GSM" if measure(message.text).encoding == "GSM-7" else "Unicode",
            "messageType": "TRANSACTIONAL",
            "messageStatus": status,
            "messageStatusDescription": _DESCRIPTIONS.get(status, status),
            "context": message.metadata,
            "totalMessageParts": message.parts,
            "totalMessagePrice": 0.03 * message.parts,
            "totalCarrierFee": 0.0,
        }
        about = f"{message.id}/{status}"
        return self._envelope("Notification", to_json(event).decode(), about, forged=receipt.forged)

    def write_reply(self, reply: Reply) -> list[Webhook]:
        """Return an inbound message."""
        body = {
            "originationNumber": reply.phone,
            "destinationNumber": reply.to,
            "messageKeyword": f"KEYWORD_{reply.to.removeprefix('+')}",
            "messageBody": reply.text,
            "inboundMessageId": reply.id,
            "previousPublishedMessageId": reply.message_id,
        }
        webhook = self._envelope("Notification", to_json(body).decode(), reply.id)
        return [webhook] if webhook else []

    def _envelope(
        self, kind: str, message: str, about: str, more: dict[str, str] | None = None, *, forged: bool = False
    ) -> Webhook | None:
        """Return an SNS request, signed with SHA-256 (version 2). `about` determines its MessageId."""
        url = self.settings.webhook(self.name, "events")
        if not url:
            return None
        fields = {
            "Type": kind,
            "MessageId": str(uuid5(NAMESPACE_URL, about)),
            "TopicArn": self._topic_arn,
            "Message": message,
            "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            **(more or {}),
        }
        signed = "".join(f"{name}\n{fields[name]}\n" for name in _SIGNED[kind] if name in fields)
        signature = sign(self.settings.key_file, (signed + "?" * forged).encode(), "SHA256")
        fields |= {
            "SignatureVersion": "2",
            "Signature": signature,
            "SigningCertURL": f"{self._origin}{_CERTIFICATE}",
        }
        headers = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": kind}
        return Webhook(url, headers, to_json(fields))

    @property
    def _token(self) -> str:
        return hashlib.sha256(sign(self.settings.key_file, b"subscription", "SHA256").encode()).hexdigest()

    def _describe(self, name: str, found: list[Any]) -> Callable[[web.Request, bytes], Awaitable[web.Response]]:
        async def describe(_request: web.Request, _body: bytes) -> web.Response:
            return _json(200, {name: found})

        return describe

    async def _send(self, request: web.Request, body: bytes) -> web.Response:
        try:
            fields = dict(from_json(body))
        except (ValueError, TypeError):
            return _fault((400, "SerializationException", {}))
        is_media = request.headers["X-Amz-Target"].endswith("SendMediaMessage")
        to = "+" + str(fields.get("DestinationPhoneNumber") or "").removeprefix("+")
        behaviour = behaviour_for(to)
        body_hash = hashlib.sha256(body).hexdigest()
        refused = f"{to} {body_hash[:16]}"
        if self.refuses(behaviour, refused):
            status, name, members = _REFUSALS[behaviour]
            self.save_refusal(refused, body_hash, status)
            return _fault((status, name, members)) if name else web.Response(status=status)
        fault = _validate(fields, is_media) or _ITEM_FAULTS.get(behaviour)
        if fault is None and self.store.is_opted_out(self.name, to):
            fault = _OPTED_OUT
        accepted = [] if fault or fields.get("DryRun") else [_read(fields, to)]
        message_id = accepted[0].id if accepted else str(uuid4())
        response = _fault(fault) if fault else _json(200, {"MessageId": message_id})
        entry = Request(
            at=time.time(),
            key="",
            body_hash=body_hash,
            status=response.status,
            answer=b"",
            references=[message.reference for message in accepted],
            messages=accepted,
        )
        self.store.append(entry)
        return await self.answer(request, behaviour, accepted, response)


def _validate(fields: dict[str, Any], is_media: bool) -> _Fault | None:
    to, text = str(fields.get("DestinationPhoneNumber") or ""), fields.get("MessageBody")
    if not _PHONE.fullmatch(to):
        return _invalid("FIELD_VALIDATION_FAILED", "DestinationPhoneNumber")
    if is_media and not fields.get("OriginationIdentity"):
        return _invalid("MISSING_PARAMETER", "OriginationIdentity")
    if is_media and not to.startswith(_MEDIA_COUNTRIES):
        return _invalid("COUNTRY_NOT_ENABLED", "DestinationPhoneNumber")
    if not is_media and not (isinstance(text, str) and text.strip() and len(text) <= 1600):
        return _invalid("FIELD_VALIDATION_FAILED", "MessageBody")
    return None


def _read(fields: dict[str, Any], to: str) -> Message:
    text = str(fields.get("MessageBody") or "")
    context = {str(name): str(value) for name, value in (fields.get("Context") or {}).items()}
    return Message(
        id=str(uuid4()),
        received_at=time.time(),
        provider=Aws.name,
        sender_id=str(fields.get("OriginationIdentity") or ""),
        to=to,
        text=text,
        reference=context.get("reference") or next(iter(context.values()), ""),
        parts=measure(text).parts,
        media_urls=[str(url) for url in fields.get("MediaUrls") or []],
        metadata=context,
    )


def _json(status: int, fields: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=to_json(fields), content_type="application/x-amz-json-1.0")


def _fault(fault: _Fault) -> web.Response:
    status, name, members = fault
    response = _json(status, {"__type": name, "Message": members.get("Reason", name), **members})
    response.headers["x-amzn-errortype"] = name
    return response
