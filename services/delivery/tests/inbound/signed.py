"""Inbound messages as each provider posts and signs them."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from itertools import count
from urllib.parse import urlencode

import httpx
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twilio.request_validator import RequestValidator

from services.delivery.tests.providers.contract import serve
from services.delivery.tests.providers.test_sns import TOPIC, certificate, envelope

PUBLIC_URL = "https://sms.example.com"
SECRET = "whsec"
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PROVIDERS = ("mobile_message", "messagemedia", "twilio", "aws")
_numbers = count(1)


async def serve_certificate() -> tuple[web.AppRunner, str]:
    """Serve the certificate with which SNS signs. Return the runner, to be cleaned up, and the address."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=certificate())

    app = web.Application()
    app.router.add_get("/{name}", answer)
    return await serve(app)


def environment(aws_url: str) -> dict[str, str]:
    """Return the settings of the four providers, none of which is a real one."""
    return {
        "MOBILE_MESSAGE_USERNAME": "user",
        "MOBILE_MESSAGE_PASSWORD": "password",
        "MOBILE_MESSAGE_SENDER_ID": "Cooee",
        "MOBILE_MESSAGE_WEBHOOK_SECRET": SECRET,
        "MESSAGEMEDIA_API_KEY": "key",
        "MESSAGEMEDIA_API_SECRET": "secret",
        "MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY": PEM,
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_AUTH_TOKEN": SECRET,
        "TWILIO_SENDER_ID": "+61491570110",
        "AWS_BASE_URL": aws_url,
        "AWS_TOPIC_ARNS": TOPIC,
    }


class SignedWebhooks:
    """Posts inbound messages of all providers to delivery's application, signed as the providers sign."""

    def __init__(self, client: httpx.AsyncClient, aws_url: str) -> None:
        self._client = client
        self._aws_url = aws_url
        self._at = datetime.now(UTC).isoformat()

    async def post(self, provider: str, text: str, *, phone: str, to: str, message_id: str | None = None) -> None:
        """Post an inbound message. A repeated `message_id` is a repeated delivery of the same message."""
        given = message_id or f"inbound-{next(_numbers)}"
        make = {
            "mobile_message": self._mobile_message,
            "messagemedia": self._messagemedia,
            "twilio": self._twilio,
            "aws": self._aws,
        }[provider]
        kind = "events" if provider == "aws" else "inbound"
        path = f"/api/webhooks/providers/{provider}/{kind}/"
        headers, body = make(path, text, phone, to, given)
        answer = await self._client.post(path, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        forged = await self._client.post(path, content=body.replace(given.encode(), b"forged"), headers=headers)
        assert forged.status_code == 403, forged.text

    def _mobile_message(self, _: str, text: str, phone: str, to: str, message_id: str) -> tuple[dict[str, str], bytes]:
        fields = {"sender": phone, "to": to, "message": text, "type": "inbound", "received_at": self._at}
        # The provider gives an inbound message no id. What makes it another one is what it answers, among others.
        body = json.dumps(fields | {"original_message_id": message_id}).encode()
        at = str(int(time.time()))
        signature = hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {"X-MM-Timestamp": at, "X-MM-Signature": signature}, body

    def _messagemedia(self, path: str, text: str, phone: str, to: str, message_id: str) -> tuple[dict[str, str], bytes]:
        fields = {"reply_id": message_id, "source_number": phone, "destination_number": to, "content": text}
        body = json.dumps(fields | {"date_received": self._at}).encode()
        signed = f"POST {path} HTTP/1.1".encode() + b"Mon" + body
        signature = base64.b64encode(KEY.sign(signed, padding.PKCS1v15(), hashes.SHA256())).decode()
        headers = {"Date": "Mon", "X-Messagemedia-Digest-Type": "SHA256", "X-Messagemedia-Signature": signature}
        return headers, body

    def _twilio(self, path: str, text: str, phone: str, to: str, message_id: str) -> tuple[dict[str, str], bytes]:
        fields = {"MessageSid": message_id, "From": phone, "To": to, "Body": text}
        signature = RequestValidator(SECRET).compute_signature(PUBLIC_URL + path, fields)
        headers = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}
        return headers, urlencode(fields).encode()

    def _aws(self, _: str, text: str, phone: str, to: str, message_id: str) -> tuple[dict[str, str], bytes]:
        event = {"originationNumber": phone, "destinationNumber": to, "messageBody": text}
        signed = envelope(self._aws_url, event | {"inboundMessageId": message_id}, Timestamp=self._at)
        return {}, json.dumps(signed).encode()
