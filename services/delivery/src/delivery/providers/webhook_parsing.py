"""How a vendor's words are read: what a row can hold, our references, its ids, webhooks' fields and signatures."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic_core import from_json

from delivery.providers.base import WebhookMalformed
from delivery.settings import Settings

LONGEST_REASON = 300
_LARGEST_REFERENCE = 2**63 - 1
_MOST_PARTS = 255  # of one message, by the header that numbers them


def clean(told: str) -> str:
    """A vendor's words as a row can hold them: what cannot be written would hold up all results behind it."""
    kept = told.replace("\0", "").encode(errors="replace").decode(errors="replace")
    return kept.strip()[:LONGEST_REASON]


class Mark:
    """What our references begin with, six hexadecimal digits of INTERNAL_TOKEN_SECRET's: message ids count from 1 in
    every installation, and two that share a vendor's account hear each other's receipts."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.internal_token_secret.get_secret_value().encode()
        self.text = hmac.digest(secret, b"references", "sha256").hex()[:6]

    def write(self, message_id: int) -> str:
        """Our reference of a message, as it goes to a vendor: at most 26 letters, digits and a hyphen."""
        return f"{self.text}-{message_id}"

    def read(self, told: object) -> int | None:
        """The message id in what a vendor gives back, leading zeros or not; None when it is none of ours."""
        found = re.fullmatch(f"0*{self.text}-0*([1-9][0-9]{{0,18}})", str(told or "").strip().lower())
        number = int(found[1]) if found else 0
        return number if 0 < number <= _LARGEST_REFERENCE else None


def read_id(told: object) -> str | None:
    """A vendor's id that is a UUID, the same whether it is written in capitals or not; None when there is none."""
    return clean(str(told)).lower() or None if told else None


def read_json(body: bytes) -> dict[str, Any]:
    """A webhook's body. Raises WebhookMalformed when it is no JSON object."""
    try:
        fields = from_json(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise WebhookMalformed("body: not a JSON object")
    return fields


def need(fields: Mapping[str, Any], name: str) -> str:
    """A field that must be there. Raises WebhookMalformed with its name."""
    value = fields.get(name)
    if not isinstance(value, str | int) or value == "":
        raise WebhookMalformed(f"{name}: missing")
    return str(value)


def is_same(given: str, expected: str) -> bool:
    """Compares signatures in constant time, whatever characters were given."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def digest(*told: str) -> str:
    """An id for what a vendor tells without one: the same for the same words."""
    return hashlib.sha256("\0".join(told).encode(errors="replace")).hexdigest()


def load_public_key(told: str) -> rsa.RSAPublicKey:
    """An RSA key as PEM, its lines perhaps written with `\\n`, or as the bare base64. Raises ValueError."""
    pem = told.replace("\\n", "\n").strip()
    if not pem.startswith("-----BEGIN"):
        pem = f"-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----"
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("not an RSA key")
    return key


def is_signed(key: rsa.RSAPublicKey, signature: str, signed: bytes, algorithm: HashAlgorithm) -> bool:
    """Whether a signature in base64 (RSA, PKCS#1 v1.5) is of these bytes."""
    try:
        key.verify(base64.b64decode(signature, validate=True), signed, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def read_parts(told: object) -> int | None:
    """How many parts are billed; None when that is not told."""
    return told if type(told) is int and 0 < told <= _MOST_PARTS else None


def read_time(fields: Mapping[str, Any], name: str) -> datetime:
    """A field that is a time in ISO 8601, UTC where no zone is told. Raises WebhookMalformed with its name."""
    try:
        at = datetime.fromisoformat(str(fields.get(name)))
    except ValueError:
        raise WebhookMalformed(f"{name}: not a time") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
