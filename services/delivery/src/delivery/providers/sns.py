"""Amazon SNS, which carries AWS's events: verify an envelope and check that it comes from one of our topics.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from delivery.providers.base import NotConnected, WebhookMalformed, WebhookRefused
from delivery.providers.webhook_parsing import is_signed, read_json, require
from delivery.settings import split_names

_HOST = re.compile(r"sns\.[a-z0-9-]{3,40}\.amazonaws\.com")
_CERTIFICATE = re.compile(r"(/[a-z]+)?/SimpleNotificationService-[0-9A-Za-z]+\.pem")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
# A topic signs with SHA-1 unless its owner chose SignatureVersion 2.
_ALGORITHMS: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303
_MAX_CERTIFICATES = 8
_MAX_BYTES = 65_536


class Sns:
    """Verify SNS envelopes of these topics.

    `rehearsal` is the address of a server that plays AWS in a rehearsal; its own certificates are then accepted. It is
    empty in production.
    """

    def __init__(self, topic_arns: str, rehearsal: str, timeout_s: float) -> None:
        self._topics = frozenset(split_names(topic_arns))
        self._rehearsal = _origin(urlsplit(rehearsal)) if rehearsal else None
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._keys: dict[str, rsa.RSAPublicKey] = {}

    async def open(self, body: bytes) -> dict[str, Any] | None:
        """Verify an envelope and return it, or None if it is about the subscription. Confirm a new subscription.

        Raises WebhookRefused and WebhookMalformed, and NotConnected if the certificate cannot be fetched.
        """
        if not self._topics:
            raise WebhookRefused("Set AWS_TOPIC_ARNS: until then every webhook is refused.")
        envelope = read_json(body)
        if require(envelope, "TopicArn") not in self._topics:
            raise WebhookRefused("TopicArn is not one of AWS_TOPIC_ARNS.")
        kind = require(envelope, "Type")
        if kind not in _SIGNED:
            raise WebhookMalformed("Type: unknown")
        await self._verify(envelope, kind)
        if kind == "Notification":
            return envelope
        if kind == "SubscriptionConfirmation":
            await self._fetch(self._trusted(require(envelope, "SubscribeURL"), "SubscribeURL"))
        return None

    async def _verify(self, envelope: Mapping[str, Any], kind: str) -> None:
        algorithm = _ALGORITHMS.get(require(envelope, "SignatureVersion"))
        if algorithm is None:
            raise WebhookRefused("SignatureVersion is unknown.")
        key = await self._key(require(envelope, "SigningCertURL"))
        # The subject is signed only if there is one.
        signed = "".join(f"{name}\n{envelope[name]}\n" for name in _SIGNED[kind] if envelope.get(name) is not None)
        if not is_signed(key, require(envelope, "Signature"), signed.encode(errors="replace"), algorithm):
            raise WebhookRefused("Signature does not fit the envelope.")

    async def _key(self, cert_url: str) -> rsa.RSAPublicKey:
        """Return the key of a certificate. Each certificate is fetched once."""
        url = self._trusted(cert_url, "SigningCertURL")
        if not _CERTIFICATE.fullmatch(urlsplit(url).path) or urlsplit(url).query:
            raise WebhookRefused("SigningCertURL is not a certificate of SNS.")
        if url not in self._keys:
            try:
                key = x509.load_pem_x509_certificate(await self._fetch(url)).public_key()
            except ValueError:
                key = None
            if not isinstance(key, rsa.RSAPublicKey):
                raise WebhookRefused("SigningCertURL has no certificate with an RSA key.")
            if len(self._keys) >= _MAX_CERTIFICATES:
                self._keys.clear()
            self._keys[url] = key
        return self._keys[url]

    def _trusted(self, url: str, name: str) -> str:
        """Return the address if it is SNS's own, over HTTPS. Raises WebhookRefused for any other.

        A sender that may choose the address of the certificate also chooses the key.
        """
        parts = urlsplit(url)
        if self._rehearsal is not None:
            is_trusted = _origin(parts) == self._rehearsal
        else:
            is_trusted = parts.scheme == "https" and _HOST.fullmatch(parts.netloc) is not None
        if not is_trusted:
            raise WebhookRefused(f"{name} is not an address of SNS.")
        return url

    async def _fetch(self, url: str) -> bytes:
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status >= 500:
                    # SNS repeats a webhook only after a 5xx answer.
                    raise NotConnected(f"SNS answered {response.status}.")
                if response.status != 200:
                    raise WebhookRefused(f"SNS answered {response.status} at its own address.")
                return await response.content.read(_MAX_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotConnected(f"SNS is unavailable: {type(error).__name__}.") from None


def _origin(parts: SplitResult) -> tuple[str, str]:
    return parts.scheme, parts.netloc
