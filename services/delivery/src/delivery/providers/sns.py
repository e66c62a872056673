"""Amazon SNS as the way of AWS's events: what an envelope says, once it is proven to come from a topic of ours.

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
from delivery.providers.webhook_parsing import is_signed, need, read_json
from delivery.settings import split_names

_HOST = re.compile(r"sns\.[a-z0-9-]{3,40}\.amazonaws\.com")
_CERTIFICATE = re.compile(r"(/[a-z]+)?/SimpleNotificationService-[0-9A-Za-z]+\.pem")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
# What AWS signed by default until 2022, and still does unless the topic says otherwise, is SHA-1.
_ALGORITHMS: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303
_MOST_CERTIFICATES = 8
_LARGEST_BYTES = 65_536


class Sns:
    """Proves envelopes. `rehearsal`: the address that stands for AWS, which then vouches for itself; else empty."""

    def __init__(self, topic_arns: str, rehearsal: str, timeout_s: float) -> None:
        self._topics = frozenset(split_names(topic_arns))
        self._rehearsal = _origin(urlsplit(rehearsal)) if rehearsal else None
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._keys: dict[str, rsa.RSAPublicKey] = {}

    async def open(self, body: bytes) -> dict[str, Any] | None:
        """The envelope of a notification; None for what is about the subscription, which is confirmed when asked.

        Raises WebhookRefused, WebhookMalformed; NotConnected when AWS cannot be asked for its certificate.
        """
        if not self._topics:
            raise WebhookRefused("no webhook is believed before AWS_TOPIC_ARNS is set")
        envelope = read_json(body)
        if need(envelope, "TopicArn") not in self._topics:
            raise WebhookRefused("TopicArn is not one of AWS_TOPIC_ARNS")
        kind = need(envelope, "Type")
        if kind not in _SIGNED:
            raise WebhookMalformed("Type: not known")
        await self._verify(envelope, kind)
        if kind == "Notification":
            return envelope
        if kind == "SubscriptionConfirmation":
            await self._fetch(self._trusted(need(envelope, "SubscribeURL"), "SubscribeURL"))
        return None

    async def _verify(self, envelope: Mapping[str, Any], kind: str) -> None:
        algorithm = _ALGORITHMS.get(need(envelope, "SignatureVersion"))
        if algorithm is None:
            raise WebhookRefused("SignatureVersion: not known")
        key = await self._key(need(envelope, "SigningCertURL"))
        # The subject is signed only where there is one.
        signed = "".join(f"{name}\n{envelope[name]}\n" for name in _SIGNED[kind] if envelope.get(name) is not None)
        if not is_signed(key, need(envelope, "Signature"), signed.encode(errors="replace"), algorithm):
            raise WebhookRefused("Signature does not fit the envelope")

    async def _key(self, told: str) -> rsa.RSAPublicKey:
        """The key of a certificate, which is fetched once."""
        url = self._trusted(told, "SigningCertURL")
        if not _CERTIFICATE.fullmatch(urlsplit(url).path) or urlsplit(url).query:
            raise WebhookRefused("SigningCertURL is no certificate of SNS")
        if url not in self._keys:
            try:
                key = x509.load_pem_x509_certificate(await self._fetch(url)).public_key()
            except ValueError:
                key = None
            if not isinstance(key, rsa.RSAPublicKey):
                raise WebhookRefused("SigningCertURL has no certificate of an RSA key")
            if len(self._keys) >= _MOST_CERTIFICATES:
                self._keys.clear()
            self._keys[url] = key
        return self._keys[url]

    def _trusted(self, url: str, name: str) -> str:
        """An address that is AWS's own, over TLS; whoever could choose another would choose the key as well."""
        parts = urlsplit(url)
        if self._rehearsal is not None:
            is_trusted = _origin(parts) == self._rehearsal
        else:
            is_trusted = parts.scheme == "https" and _HOST.fullmatch(parts.netloc) is not None
        if not is_trusted:
            raise WebhookRefused(f"{name} is not of SNS")
        return url

    async def _fetch(self, url: str) -> bytes:
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status >= 500:
                    raise NotConnected(f"SNS answers {response.status}")  # SNS tries again only after a 5xx of ours
                if response.status != 200:
                    raise WebhookRefused(f"SNS answers {response.status} to its own address")
                return await response.content.read(_LARGEST_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotConnected(f"SNS cannot be asked: {type(error).__name__}") from None


def _origin(parts: SplitResult) -> tuple[str, str]:
    return parts.scheme, parts.netloc
