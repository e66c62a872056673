"""What the gateway is told from outside, beside what every service is."""

import json
import re
from typing import Annotated, Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from common.settings import CommonSettings

_RATE = r"^[1-9][0-9]{0,8}/(s|sec|second|m|min|minute|h|hour|d|day)$"
_ROUTE = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/api/\S*)")

CommaList = Annotated[tuple[str, ...], NoDecode]


class Settings(CommonSettings):
    service: ClassVar[str] = "gateway"

    port: int = Field(8080, validation_alias="GATEWAY_PORT")
    contacts_url: str = "http://127.0.0.1:8081"
    scheduling_url: str = "http://127.0.0.1:8082"
    delivery_url: str = "http://127.0.0.1:8083"

    clerk_issuer: str = Field(min_length=1, description="Clerk's Frontend API URL, the only issuer that is believed")
    clerk_jwks_url: str = Field("", description="empty: /.well-known/jwks.json of the issuer")
    clerk_jwt_key: str = Field("", description="public key as PEM, instead of the JWKS")
    clerk_authorized_parties: CommaList = Field((), description="allowed azp, by commas; empty: azp is not checked")
    identity_ttl_s: float = Field(5.0, ge=0, description="how long an identity is believed before contacts is asked")

    cors_allowed_origins: CommaList = Field((), description="by commas; empty: no CORS")
    throttle_rate_anon: str = Field("1000/min", pattern=_RATE)
    throttle_rate_user: str = Field("1000/min", pattern=_RATE)
    throttle_rate_sms: str = Field("100/min", pattern=_RATE)
    throttle_rate_import: str = Field("10/min", pattern=_RATE)
    valkey_url: SecretStr | None = Field(None, description="counts rates for all replicas; without it in memory")
    route_permissions: Annotated[dict[str, str], NoDecode] = Field(
        {}, description='JSON: {"POST /api/sms/send/": "org:messages:send"}'
    )

    @property
    def jwks_url(self) -> str:
        """Where the keys are when no PEM is given."""
        return self.clerk_jwks_url or self.clerk_issuer.rstrip("/") + "/.well-known/jwks.json"

    @field_validator("clerk_authorized_parties", "cors_allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("clerk_jwt_key")
    @classmethod
    def _is_public_key(cls, value: str) -> str:
        if value:
            read_public_key(value)
        return value

    @field_validator("route_permissions", mode="before")
    @classmethod
    def _parse_permissions(cls, value: Any) -> Any:
        table = json.loads(value) if isinstance(value, str) else value
        if not isinstance(table, dict) or not all(_ROUTE.fullmatch(str(route)) for route in table):
            raise ValueError('must be a JSON object like {"POST /api/sms/send/": "org:messages:send"}')
        return table


def read_public_key(text: str) -> RSAPublicKey:
    """The RSA key of a PEM as environments mangle it: literal \\n, no newlines, quoted, or base64 alone.

    Raises ValueError when it is none.
    """
    body = re.sub(r"-----[^-]*-----", "", text.strip().strip("\"'").replace("\\n", "\n"))
    packed = "".join(body.split())
    lines = "\n".join(packed[start : start + 64] for start in range(0, len(packed), 64))
    kind = "RSA PUBLIC KEY" if "BEGIN RSA PUBLIC KEY" in text else "PUBLIC KEY"
    try:
        key = load_pem_public_key(f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n".encode())
    except ValueError:
        raise ValueError("must be an RSA public key as PEM") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("must be an RSA public key as PEM")
    return key
