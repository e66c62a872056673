"""The settings of the gateway: environment variables, checked once at the start."""

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import AwareDatetime, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from common.settings import CommonSettings

_RATE = r"^[1-9][0-9]{0,8}/(s|sec|second|m|min|minute|h|hour|d|day)$"
_ROUTE = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/api/\S*)")

CommaList = Annotated[tuple[str, ...], NoDecode]


class Settings(CommonSettings):
    """Settings of the gateway."""

    service: ClassVar[str] = "gateway"

    port: int = Field(8080, validation_alias="GATEWAY_PORT")
    http_max_connections_per_address: int = Field(
        1000, ge=0, description="open connections of a client address to a process"
    )
    metrics_port: int = Field(
        8180,
        ge=0,
        le=65_535,
        validation_alias="GATEWAY_METRICS_PORT",
        description="port of the gateway's metrics, which only Prometheus may reach; 0: none",
    )
    contacts_url: str = "http://127.0.0.1:8081"
    scheduling_url: str = "http://127.0.0.1:8082"
    delivery_url: str = "http://127.0.0.1:8083"
    contacts_worker_url: str = Field("http://127.0.0.1:8181", description="health of a worker, for /api/health/")
    scheduling_worker_url: str = "http://127.0.0.1:8182"
    delivery_worker_url: str = "http://127.0.0.1:8183"

    clerk_issuer: str = Field(min_length=1, description="Clerk's Frontend API URL, the only accepted issuer")
    clerk_jwks_url: str = Field("", description="default: /.well-known/jwks.json of the issuer")
    clerk_jwt_key: str = Field("", description="public key as PEM, used instead of the JWKS")
    clerk_authorized_parties: CommaList = Field(
        (), description="accepted values of azp, separated by commas; empty: not checked"
    )
    organisation_slots: int = Field(
        16, ge=1, description="requests of one organisation that a service works on at a time; further ones wait"
    )
    organisation_slots_contended: int = Field(
        2, ge=1, description="the same while other organisations have requests, too; at most ORGANISATION_SLOTS"
    )
    identity_ttl_s: float = Field(5.0, ge=0, description="how long an identity is cached, in seconds")

    cors_allowed_origins: CommaList = Field((), description="origins of browsers, separated by commas; empty: no CORS")
    throttle_rate_anon: str = Field("1000/min", pattern=_RATE, description="requests without a user, by address")
    throttle_rate_user: str = Field("1000/min", pattern=_RATE, description="requests of a user")
    throttle_rate_sms: str = Field("100/min", pattern=_RATE, description="sends of a user")
    throttle_rate_import: str = Field("10/min", pattern=_RATE, description="imports of a user")
    valkey_url: SecretStr | None = Field(
        None, description="counts requests for all replicas; without it each replica counts"
    )
    route_permissions: Annotated[dict[str, str], NoDecode] = Field(
        {}, description='permissions by route, as JSON: {"POST /api/sms/send/": "org:messages:send"}'
    )
    v1_clients: Literal["on", "until_sunset", "off"] = Field(
        "on", description="whether /api/v1/ answers; until_sunset: 410 from V1_SUNSET_AT on; off: 410"
    )
    v1_deprecated_at: AwareDatetime | None = Field(
        None, description="time of the header Deprecation of /api/v1/, such as 2026-12-01T00:00:00Z; empty: no header"
    )
    v1_sunset_at: AwareDatetime | None = Field(
        None, description="time of the header Sunset of /api/v1/; empty: no header"
    )

    @property
    def jwks_url(self) -> str:
        """The URL of the keys."""
        return self.clerk_jwks_url or self.clerk_issuer.rstrip("/") + "/.well-known/jwks.json"

    @field_validator("clerk_authorized_parties", "cors_allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_sunset(self) -> Self:
        if self.v1_clients == "until_sunset" and self.v1_sunset_at is None:
            raise ValueError("V1_CLIENTS=until_sunset needs V1_SUNSET_AT")
        return self

    @field_validator("clerk_jwt_key")
    @classmethod
    def _check_public_key(cls, value: str) -> str:
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
    """Return the RSA key of a PEM.

    Environment variables often change a PEM, so it may have literal \\n, no line breaks, quotes, or its base64 only.
    Raises ValueError when it is not an RSA public key.
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
