"""The commands `providers`, and look-ups of a message: requests to the providers, past all services."""

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

from common.phones import FICTIONAL_MOBILES, InvalidPhone, normalise_phone
from cooee.arguments import add_privacy
from cooee.command import Command, Group, Report
from cooee.errors import ExitCode, WrongSettings, WrongUsage
from cooee.output import mask, table
from cooee.stack import Stack
from delivery.providers import make_chains, make_providers
from delivery.providers.base import OutgoingMessage, Provider, SubmissionError

_TIMEOUT_S = 30.0
_REFERENCE = 2**62  # no message has this id, so delivery receipts of a test message match none


async def check(stack: Stack, _: argparse.Namespace) -> Report:
    """Check our credentials at every configured provider with a harmless request.

    The exit code is 1 when a provider refuses the request or does not answer.
    """
    chains, providers = _read_settings(stack)
    found = [await _check(provider, _positions(chains, name)) for name, provider in providers.items()]
    cells = [(one["name"], _show_positions(one["positions"]), one["status"], _details(one)) for one in found]
    source = f"asked with the settings of {stack.description}"
    lines = [source, *table(("provider", "position", "status", "details"), cells)]
    code = ExitCode.OK if all(one["status"] == "ok" for one in found) else ExitCode.FOUND
    return Report({"settings": stack.description, "providers": found}, lines, code)


def _read_settings(stack: Stack, **changes: Any) -> tuple[dict[str, tuple[str, ...]], dict[str, Provider]]:
    """Return the chains and the providers of the settings. Raises WrongSettings."""
    settings = stack.delivery_settings(**changes)
    try:
        return make_chains(settings), make_providers(settings)
    except (ValueError, KeyError) as error:  # a class from outside the tree may read the environment itself
        raise WrongSettings(f"delivery's settings: {error}") from None


def _positions(chains: Mapping[str, tuple[str, ...]], name: str) -> dict[str, int]:
    """Return the position of a provider in the chain of each format."""
    return {kind: chain.index(name) + 1 for kind, chain in chains.items() if name in chain}


def _show_positions(positions: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {position}" for kind, position in positions.items())


async def _check(provider: Provider, positions: dict[str, int]) -> dict[str, Any]:
    one: dict[str, Any] = {"name": provider.name, "positions": positions, "status": "failed"}
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            status = await provider.check()
    except SubmissionError as error:
        return one | {"failure_category": error.failure_category, "reason": error.reason}
    except TimeoutError:
        return one | {"failure_category": None, "reason": f"no answer within {_TIMEOUT_S:.0f} s"}
    finally:
        await provider.close()
    return one | {"status": "ok", "credit": status.credit, "sender_ids": list(status.sender_ids or ())}


def _details(one: Mapping[str, Any]) -> str:
    if one["status"] != "ok":
        return f"{one['failure_category'] or 'time-out'}: {one['reason']}"
    details = [f"credit {one['credit']}"] if one["credit"] is not None else []
    details += [f"sender IDs {', '.join(one['sender_ids'])}"] if one["sender_ids"] else []
    return "; ".join(details)


async def send_test(stack: Stack, options: argparse.Namespace) -> Report:
    """Submit one message to a provider directly.

    The exit code is 1 when the message was not accepted, or when that is unknown. Without --yes nothing is sent, and
    the code is 2.
    """
    try:
        phone = normalise_phone(options.to)
    except InvalidPhone as error:
        raise WrongUsage(f"--to: {error}") from None
    kind: Literal["sms", "mms"] = "mms" if options.media_url else "sms"
    try:
        chains, providers = _read_settings(stack, **{f"{kind}_providers": options.provider})
    except WrongSettings as error:
        raise WrongSettings(f"--provider {options.provider}: {error}") from None
    message = OutgoingMessage(id=_REFERENCE, phone=phone, text=options.text, format=kind, media_url=options.media_url)
    try:
        return await _send(providers[chains[kind][0]], message, options)
    finally:
        for provider in providers.values():
            await provider.close()


async def _send(provider: Provider, message: OutgoingMessage, options: argparse.Namespace) -> Report:
    if provider.reaches_people and message.phone in FICTIONAL_MOBILES:
        raise WrongUsage("--to: real providers never get a fictional number: enter another one")
    phone = mask(message.phone, options.show_phones)
    document = {"provider": provider.name, "format": message.format, "phone": phone}
    lines = [
        f"{message.format.upper()} to {phone} directly through {provider.name}.",
        "Limits and opt-outs are not checked, and nothing is stored.",
    ]
    if not options.yes:
        lines.append("Nothing was sent. Add --yes to send the message.")
        return Report(document | {"status": "not_sent"}, lines, ExitCode.USAGE)
    result, code = await _submit(provider, message)
    reason = ": ".join(str(result[key]) for key in ("failure_category", "reason") if result.get(key))
    accepted = f"accepted as {result.get('provider_message_id') or '(no id)'}"
    lines.append(accepted if code is ExitCode.OK else f"{_RESULTS[result['status']]}: {reason}")
    return Report(document | result, lines, code)


_RESULTS = {"unknown": "unknown whether the message was accepted", "not_accepted": "not accepted"}


async def _submit(provider: Provider, message: OutgoingMessage) -> tuple[dict[str, Any], ExitCode]:
    try:
        (outcome,) = await provider.send(uuid4(), provider.prepare([message]), [message.id])
    except SubmissionError as error:
        return _not_accepted(error.maybe_accepted, error.failure_category, error.reason), ExitCode.FOUND
    if outcome.status == "accepted":
        return {"status": "accepted", "provider_message_id": outcome.provider_message_id}, ExitCode.OK
    return _not_accepted(outcome.status == "missing", outcome.failure_category, outcome.error), ExitCode.FOUND


def _not_accepted(is_unknown: bool, failure_category: str | None, reason: str | None) -> dict[str, Any]:
    status = "unknown" if is_unknown else "not_accepted"
    return {"status": status, "failure_category": failure_category, "reason": reason}


async def read_providers(stack: Stack) -> list[Provider]:
    """Return the configured providers, closed, for what they declare. Raises WrongSettings."""
    _, providers = _read_settings(stack)
    for provider in providers.values():
        await provider.close()
    return list(providers.values())


async def look_up(stack: Stack, name: str, provider_message_id: str) -> dict[str, Any]:
    """Ask a provider for the status of a message that it accepted.

    `answer` is `not_configured`, `no_look_up`, `no_answer`, `not_known` or `found`, and `text` says the same in words.
    Raises WrongSettings when a setting is invalid.
    """
    _, providers = _read_settings(stack)
    try:
        provider = providers[name]
    except KeyError:
        return _answer("not_configured", f"{name} is not configured, so it cannot be asked: see SMS_PROVIDERS")
    if not provider.can_look_up:
        return _answer("no_look_up", f"{name} has no look-up of messages")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            receipt = await provider.look_up(provider_message_id)
    except (SubmissionError, TimeoutError) as error:
        return _answer("no_answer", f"{name} does not answer: {getattr(error, 'reason', 'time-out')}")
    finally:
        await provider.close()
    if receipt is None:
        return _answer("not_known", f"{name} does not know the message, which does not prove that it was not sent")
    found = _answer("found", f"{name} reports {receipt.raw} ({receipt.status})")
    return found | {"status": receipt.status, "provider_status": receipt.raw}


def _answer(answer: str, text: str) -> dict[str, Any]:
    return {"answer": answer, "text": text}


def _add_send_test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--provider", required=True, help="a name as in SMS_PROVIDERS")
    parser.add_argument("--to", required=True, help="the recipient, 04…")
    parser.add_argument("--text", default="A test message.", help="the text of the message")
    parser.add_argument("--media-url", help="the address of a picture, which makes the message an MMS")
    parser.add_argument("--yes", action="store_true", help="send the message; without it nothing is sent")
    add_privacy(parser, texts=False)


COMMAND = Group(
    "providers",
    "check our accounts at the providers, or send a test message",
    (
        Command("check", "check our account at every provider", check),
        Command("send-test", "submit one message to a provider directly", send_test, _add_send_test, changes=True),
    ),
)
