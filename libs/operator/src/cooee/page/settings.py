"""The settings of the operators' page."""

import ipaddress
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class PageSettings(BaseSettings):
    """Settings of the operators' page. Those of Clerk are the gateway's."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    operators_organisation: str = Field(
        min_length=1, max_length=200, description="Clerk's id of the organisation whose members are the operators"
    )
    operators_role: str = Field("org:admin", min_length=1, description="the role that an operator has in it")
    operators_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="signs the cookies of the operators' page; empty: a random one, so a restart ends all sessions",
    )
    operators_url: str = Field(
        "", description="address of the operators' page in a browser; empty: http://127.0.0.1 with its port"
    )
    operators_port: int = Field(8085, ge=1, le=65_535, description="port of the operators' page")
    operators_session_hours: float = Field(
        1.0, gt=0, le=12, description="time after which an operator must sign in again; without requests after 15 min"
    )
    bind_host: str = "127.0.0.1"
    clerk_issuer: str = Field(min_length=1)
    clerk_jwks_url: str = ""
    clerk_jwt_key: str = ""
    clerk_authorized_parties: Annotated[tuple[str, ...], NoDecode] = ()
    clerk_publishable_key: str = Field(
        "",
        pattern=r"^(pk_[A-Za-z0-9_=-]+)?$",
        description="Clerk's publishable key: the operators' page signs in with Clerk's own form; empty: with a token",
    )

    @field_validator("clerk_authorized_parties", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        parts = urlsplit(self.operators_url or "http://127.0.0.1")
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.query
            or parts.username is not None
        ):
            raise ValueError("OPERATORS_URL must be an address without a path, such as https://operators.example.com")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("OPERATORS_URL must begin with https://, because it is not an address of this machine")
        return self

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins under which the page is opened. The first is the one to show."""
        if self.operators_url:
            parts = urlsplit(self.operators_url.lower())
            # A browser leaves the usual port out of Origin and Host.
            return (f"{parts.scheme}://{parts.netloc.removesuffix(':443' if parts.scheme == 'https' else ':80')}",)
        return tuple(f"http://{host}:{self.operators_port}" for host in ("127.0.0.1", "localhost"))

    @property
    def is_secure(self) -> bool:
        """Whether the page is opened with TLS."""
        return self.origins[0].startswith("https://")

    @property
    def parties(self) -> tuple[str, ...]:
        """The accepted values of `azp`: the front ends', and this page's own origins. Empty: not checked."""
        return (*self.clerk_authorized_parties, *self.origins) if self.clerk_authorized_parties else ()

    @property
    def jwks_url(self) -> str:
        """The URL of Clerk's keys."""
        return self.clerk_jwks_url or self.clerk_issuer.rstrip("/") + "/.well-known/jwks.json"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
