"""The request id, which goes with a request through every layer and process."""

import re

import structlog
import uuid_utils

_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id() -> str:
    """Return the id of the request that is being handled, or "" outside of a request."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def accept_request_id(given: str | None) -> str:
    """Return the id that a client sent if it has 1 to 128 characters of `[A-Za-z0-9._-]`, else a new id."""
    if given is not None and _ACCEPTED.fullmatch(given):
        return given
    return uuid_utils.uuid7().hex
