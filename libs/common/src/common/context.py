"""What goes along with a request through every layer and process: its id."""

import re

import structlog
import uuid_utils

_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id() -> str:
    """The id of the request that is being worked on, or "" outside of one."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def take_request_id(given: str | None) -> str:
    """The id that a caller sent when it is sane (api.md: at most 128 of [A-Za-z0-9._-]), else a new one."""
    if given is not None and _SANE.fullmatch(given):
        return given
    return uuid_utils.uuid7().hex
