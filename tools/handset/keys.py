"""The RSA key of the handset. It signs the webhooks of MessageMedia and, with a self-signed certificate, of SNS."""

import base64
import functools
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

_DIGESTS = {"SHA1": hashes.SHA1, "SHA256": hashes.SHA256}


@functools.cache
def load_key(path: Path) -> rsa.RSAPrivateKey:
    """Return the key in this file. The first use creates it."""
    try:
        loaded = serialization.load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        return _create(path)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    return loaded


def public_key(path: Path) -> str:
    """Return the public key as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return load_key(path).public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def key_id(path: Path) -> str:
    """Return an id for the key."""
    return hashlib.sha256(public_key(path).encode()).hexdigest()[:32]


def sign(path: Path, content: bytes, digest: Literal["SHA1", "SHA256"]) -> str:
    """Return the PKCS#1 v1.5 signature of the content in base64."""
    return base64.b64encode(load_key(path).sign(content, padding.PKCS1v15(), _DIGESTS[digest]())).decode()


@functools.cache
def certificate(path: Path, name: str) -> bytes:
    """Return a self-signed certificate of the key for a name, as PEM."""
    key = load_key(path)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)


def _create(path: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
    return key
