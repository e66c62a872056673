"""Parsing of what providers send: texts, references, ids, and the fields and signatures of webhooks."""

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

from common.fields import MAX_ID
from delivery.providers.base import WebhookMalformed
from delivery.settings import Settings

MAX_TEXT = 300
_MAX_PARTS = 255  # of one message: the header that numbers the parts has one byte for it


def storable_text(text: str) -> str:
    """Return a provider's text as a row can store it, at most `MAX_TEXT` characters.

    A text that PostgreSQL refuses would block all results of the same batch.
    """
    storable = text.replace("\0", "").encode(errors="replace").decode(errors="replace")
    return storable.strip()[:MAX_TEXT]


class Mark:
    """The mark that begins our references: six hexadecimal digits derived from INTERNAL_TOKEN_SECRET.

    Message ids count from 1 in every installation, and two installations that share an account at a provider get each
    other's delivery receipts. The mark distinguishes them.
    """

    def __init__(self, settings: Settings) -> None:
        secret = settings.internal_token_secret.get_secret_value().encode()
        self.text = hmac.digest(secret, b"references", "sha256").hex()[:6]

    def write(self, message_id: int) -> str:
        """Return the reference of a message as providers get it: at most 26 letters, digits and a hyphen."""
        return f"{self.text}-{message_id}"

    def read(self, reference: object) -> int | None:
        """Return the message id of a reference, with or without leading zeros; None if it is not one of ours."""
        found = re.fullmatch(f"0*{self.text}-0*([1-9][0-9]{{0,18}})", str(reference or "").strip().lower())
        number = int(found[1]) if found else 0
        return number if 0 < number <= MAX_ID else None


def read_id(value: object) -> str | None:
    """Return a provider's UUID in lower case, so that both spellings are the same id; None if there is none."""
    return storable_text(str(value)).lower() or None if value else None


def read_json(body: bytes) -> dict[str, Any]:
    """Return the body of a webhook. Raises WebhookMalformed if it is not a JSON object."""
    try:
        fields = from_json(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise WebhookMalformed("body: not a JSON object")
    return fields


def require(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that must be there. Raises WebhookMalformed, which names it."""
    value = fields.get(name)
    if not isinstance(value, str | int) or value == "":
        raise WebhookMalformed(f"{name}: missing")
    return str(value)


def is_same(given: str, expected: str) -> bool:
    """Compare signatures in constant time. The given one may have any characters."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def digest(*texts: str) -> str:
    """Return an id for an event that has none: the same texts give the same id."""
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()


def load_public_key(text: str) -> rsa.RSAPublicKey:
    """Load an RSA key from PEM, which may have `\\n` for line breaks, or from its base64 alone. Raises ValueError."""
    pem = text.replace("\\n", "\n").strip()
    if not pem.startswith("-----BEGIN"):
        pem = f"-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----"
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("not an RSA key")
    return key


def is_signed(key: rsa.RSAPublicKey, signature: str, signed: bytes, algorithm: HashAlgorithm) -> bool:
    """Return whether a base64 signature (RSA, PKCS#1 v1.5) fits these bytes."""
    try:
        key.verify(base64.b64decode(signature, validate=True), signed, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def read_parts(value: object) -> int | None:
    """Return a number of parts, given as a number or as its digits; None if it is not from 1 to 255."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip(), re.ASCII):
        value = int(value)
    return value if type(value) is int and 0 < value <= _MAX_PARTS else None


def read_time(fields: Mapping[str, Any], name: str) -> datetime:
    """Return a field as a time (ISO 8601, UTC if it has no zone). Raises WebhookMalformed, which names the field."""
    try:
        at = datetime.fromisoformat(str(fields.get(name)))
    except ValueError:
        raise WebhookMalformed(f"{name}: not a time") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
