"""The command `health`: what the gateway says about every service."""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
from pydantic import BaseModel, ValidationError

from cooee.command import Command, Report
from cooee.errors import ExitCode, Unreachable, WrongSettings, WrongUsage
from cooee.output import table
from cooee.stack import Stack

_TIMEOUT_S = 10.0
_PARTS = ("api", "worker", "database", "kafka")
_NAMES = {"api": "API", "kafka": "Kafka"}


class _Provider(BaseModel):
    status: str
    failure_category: str | None = None
    since: str | None = None


class _Service(BaseModel):
    status: str
    dependencies: dict[str, str] = {}
    lag: dict[str, int] = {}
    providers: dict[str, _Provider] | None = None


class _Health(BaseModel):
    """The part of the answer of `/api/health/` that is shown as tables."""

    status: str
    services: dict[str, _Service]


async def health(stack: Stack, options: argparse.Namespace) -> Report:
    """Ask the gateway for the health of every service: processes, database, Kafka, lag and providers.

    The exit code is 1 when a service is unavailable. An unavailable provider makes no service unavailable.
    """
    gateway = (options.gateway or stack.gateway_url).rstrip("/")
    if not gateway.startswith(("http://", "https://")):
        wrong = WrongUsage if options.gateway else WrongSettings
        raise wrong(f"the address of the gateway must begin with http:// or https://: {gateway}")
    document, found = await _ask(gateway)
    code = ExitCode.OK if found.status == "ok" else ExitCode.FOUND
    unavailable = _list_unavailable(found)
    shown = {"gateway": gateway, **document, "unavailable": unavailable}
    return Report(shown, list(_lines(gateway, found, unavailable)), code)


def _list_unavailable(found: _Health) -> list[str]:
    """Return what makes the system unavailable, such as `scheduling's worker`."""
    return [
        f"{name}'s {_NAMES.get(part, part)}"
        for name, service in found.services.items()
        for part in _PARTS
        if service.dependencies.get(part, "ok") != "ok"
    ]


async def _ask(gateway: str) -> tuple[dict[str, Any], _Health]:
    url, timeout = f"{gateway}/api/health/", aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            status, content = answer.status, await answer.read()
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = f"no answer within {_TIMEOUT_S:.0f} s" if isinstance(error, TimeoutError) else _reason(error)
        raise Unreachable(f"the gateway at {gateway} does not answer: {reason}") from None
    try:
        found = _Health.model_validate_json(content)
        document: dict[str, Any] = json.loads(content)
    except (ValidationError, ValueError):
        raise Unreachable(f"{url} answers {status}, but not with the health of Cooee: is the address right?") from None
    return document, found


def _reason(error: Exception) -> Exception:
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def _lines(gateway: str, found: _Health, unavailable: Sequence[str]) -> Iterator[str]:
    if unavailable:
        yield f"Unavailable: {', '.join(unavailable)}. The gateway at {gateway} says so"
    else:
        yield f"{gateway} is {found.status}"
    rows = [
        (name, service.status, *(service.dependencies.get(part) for part in _PARTS), sum(service.lag.values()))
        for name, service in found.services.items()
    ]
    yield from table(("service", "status", *_PARTS, "lag"), rows)
    providers = [
        (name, provider.status, provider.failure_category, provider.since)
        for service in found.services.values()
        for name, provider in (service.providers or {}).items()
    ]
    if providers:
        yield ""
        yield from table(("provider", "status", "reason", "since"), providers)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gateway", metavar="URL", help="the address of the gateway, instead of GATEWAY_URL")


COMMAND = Command("health", "see whether every service works", health, _add_arguments)
