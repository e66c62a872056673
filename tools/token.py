"""Sign session tokens like Clerk's with a local key, for development, tests and benchmarks.

Run it as `python -m tools.token --org org_demo --user user_demo --role admin`. The claims follow versions 1 and 2 of
https://clerk.com/docs/guides/sessions/session-tokens.
"""

import argparse
import base64
import hashlib
import json
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

DEFAULT_PARTY = "http://localhost:3000"
DEFAULT_ISSUER_PORT = 8091
_KEY_BITS = 2048
_LEEWAY_S = 10


@dataclass(frozen=True)
class Session:
    """A signed-in user. `organisation` is empty when none is active. Permissions are `org:<feature>:<name>`."""

    user: str
    organisation: str = ""
    role: str = "member"
    permissions: tuple[str, ...] = ()
    version: int = 2
    ttl_s: int = 3600


@dataclass(frozen=True)
class Issuer:
    """The issuer of tokens: the folder of its key, its name (`iss`) and the front end it issues for (`azp`)."""

    home: Path
    name: str
    party: str = DEFAULT_PARTY

    @classmethod
    def from_environment(cls) -> "Issuer":
        """Read COOEE_HOME, CLERK_ISSUER and CLERK_AUTHORIZED_PARTIES. The running stack fills in what is not set."""
        home = Path(os.environ.get("COOEE_HOME") or ".cooee")
        try:
            running = json.loads((home / "stack.json").read_text())["issuer"]
        except (OSError, ValueError, KeyError):
            port = os.environ.get("ISSUER_PORT") or DEFAULT_ISSUER_PORT
            running = {"name": f"http://127.0.0.1:{port}", "party": DEFAULT_PARTY}
        parties = os.environ.get("CLERK_AUTHORIZED_PARTIES") or running["party"]
        return cls(home, os.environ.get("CLERK_ISSUER") or running["name"], parties.split(",")[0].strip())


def mint(session: Session, issuer: Issuer | None = None) -> str:
    """Return a signed token of the session. Without an issuer, the one of the environment signs."""
    issuer = issuer or Issuer.from_environment()
    now = int(time.time())
    claims: dict[str, Any] = {
        "azp": issuer.party,
        "exp": now + session.ttl_s,
        "fva": [0, -1],
        "iat": now,
        "iss": issuer.name,
        "nbf": now - _LEEWAY_S,
        "sid": f"sess_{session.user}",
        "sub": session.user,
    }
    claims |= _claims_v1(session) if session.version == 1 else _claims_v2(session)
    key = signing_key(issuer.home)
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": key_id(key), "typ": "JWT"})


def signing_key(home: Path) -> rsa.RSAPrivateKey:
    """Return the key in `home/issuer.pem`. The first use creates it."""
    return _load_key(home.absolute() / "issuer.pem")


def key_id(key: rsa.RSAPrivateKey) -> str:
    """Return the `kid` of a key. It changes with the key, so that verifiers fetch the new key."""
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"ins_{hashlib.sha256(public).hexdigest()[:24]}"


def key_set(home: Path) -> dict[str, Any]:
    """Return the JWKS document with the public key."""
    key = signing_key(home)
    numbers = key.public_key().public_numbers()
    fields = {"use": "sig", "kty": "RSA", "kid": key_id(key), "alg": "RS256"}
    return {"keys": [fields | {"n": _base64url(numbers.n), "e": _base64url(numbers.e)}]}


@cache
def _load_key(path: Path) -> rsa.RSAPrivateKey:
    if not path.exists():
        _make_key(path)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{path} has no RSA key: delete the file, and a new key is created")
    return key


def _make_key(path: Path) -> None:
    """Write a new key in one atomic step. Two processes that start at the same time use the same key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # mode 0600
        file.write(pem)
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            return


def _claims_v1(session: Session) -> dict[str, Any]:
    if not session.organisation:
        return {}
    return {
        "org_id": session.organisation,
        "org_slug": _slug(session.organisation),
        "org_role": f"org:{session.role}",
        "org_permissions": list(session.permissions),
    }


def _claims_v2(session: Session) -> dict[str, Any]:
    """Return claims with packed permissions: `fpm` has a number per feature whose bits are positions in `per`."""
    claims: dict[str, Any] = {"v": 2, "sts": "active", "jti": secrets.token_hex(10), "pla": "u:free"}
    if not session.organisation:
        return claims
    pairs = [permission.split(":")[1:] for permission in session.permissions]
    features = list(dict.fromkeys(feature for feature, _ in pairs))
    names = list(dict.fromkeys(name for _, name in pairs))
    masks = [sum(1 << names.index(name) for feature, name in pairs if feature == wanted) for wanted in features]
    organisation = {"id": session.organisation, "slg": _slug(session.organisation), "rol": session.role}
    if pairs:
        organisation |= {"per": ",".join(names), "fpm": ",".join(map(str, masks))}
    return claims | {"fea": ",".join(f"o:{feature}" for feature in features), "o": organisation}


def _slug(organisation: str) -> str:
    return organisation.removeprefix("org_").replace("_", "-").lower()


def _base64url(number: int) -> str:
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def main() -> None:
    """Print a token for the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.token", description="Print a session token for the stack.")
    parser.add_argument("--org", default="org_demo", help="id of the active organisation; empty for none")
    parser.add_argument("--user", default="user_demo", help="id of the user")
    parser.add_argument("--role", default="admin", help="role of the user in the organisation")
    parser.add_argument("--permissions", default="", help="permissions separated by commas, such as org:messages:send")
    parser.add_argument("--version", type=int, choices=(1, 2), default=2, help="version of Clerk's claims")
    parser.add_argument("--ttl", type=int, default=3600, help="lifetime in seconds")
    arguments = parser.parse_args()
    permissions = tuple(name.strip() for name in arguments.permissions.split(",") if name.strip())
    if any(len(name.split(":")) != 3 for name in permissions):
        parser.error("--permissions: write each permission as org:<feature>:<name>")
    role = arguments.role.removeprefix("org:")
    session = Session(
        user=arguments.user,
        organisation=arguments.org,
        role=role,
        permissions=permissions,
        version=arguments.version,
        ttl_s=arguments.ttl,
    )
    print(mint(session))


if __name__ == "__main__":
    main()
