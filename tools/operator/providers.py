"""The commands `health` and `send-test`, and look-ups of a message: requests to the providers, past all services."""

import argparse
import asyncio
from typing import Literal
from uuid import uuid4

from common.phones import FICTIONAL_MOBILES, InvalidPhone, normalise_phone, show_phone
from delivery.providers import make_chains, make_providers
from delivery.providers.base import OutgoingMessage, Provider, SubmissionError
from tools.operator.stack import OperatorError, Stack

_TIMEOUT_S = 30.0
_REFERENCE = 2**62  # no message has this id, so delivery receipts of a test message match none


async def health(stack: Stack, _: argparse.Namespace) -> int:
    """Check our credentials at every configured provider with a harmless request. 1 when one fails."""
    try:
        settings = stack.delivery_settings()
        chains, providers = make_chains(settings), make_providers(settings)
    except (ValueError, KeyError) as error:  # a class from outside the tree may read the environment itself
        raise OperatorError(f"delivery's settings: {error}") from None
    print(f"asked with the settings of {stack.description}")
    results = [await _check(provider, _positions(chains, name)) for name, provider in providers.items()]
    return 0 if all(results) else 1


def _positions(chains: dict[str, tuple[str, ...]], name: str) -> str:
    """Return the positions of a provider in the chains, such as `sms 1, mms 2`."""
    return ", ".join(f"{kind} {chain.index(name) + 1}" for kind, chain in chains.items() if name in chain)


async def _check(provider: Provider, positions: str) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            status = await provider.check()
    except SubmissionError as error:
        print(f"{provider.name:<16} {positions:<14} FAILED  {error.failure_category}: {error.reason}")
        return False
    except TimeoutError:
        print(f"{provider.name:<16} {positions:<14} FAILED  no answer within {_TIMEOUT_S:.0f} s")
        return False
    finally:
        await provider.close()
    details = [f"credit {status.credit}"] if status.credit is not None else []
    details += [f"sender IDs {', '.join(status.sender_ids)}"] if status.sender_ids else []
    print(f"{provider.name:<16} {positions:<14} ok      {'; '.join(details)}".rstrip())
    return True


async def send_test(stack: Stack, options: argparse.Namespace) -> int:
    """Submit one message to a provider directly. 0 when it was accepted, 1 when not or unknown, 2 without --yes."""
    try:
        phone = normalise_phone(options.to)
    except InvalidPhone as error:
        raise OperatorError(f"--to: {error}") from None
    kind: Literal["sms", "mms"] = "mms" if options.media_url else "sms"
    try:
        settings = stack.delivery_settings(**{f"{kind}_providers": options.provider})
        chosen = make_chains(settings)[kind][0]
        providers = make_providers(settings)
    except (ValueError, KeyError) as error:
        raise OperatorError(f"--provider {options.provider}: {error}") from None
    message = OutgoingMessage(id=_REFERENCE, phone=phone, text=options.text, format=kind, media_url=options.media_url)
    try:
        return await _send(providers[chosen], message, options.yes)
    finally:
        for provider in providers.values():
            await provider.close()


async def read_providers(stack: Stack) -> list[Provider]:
    """Return the configured providers, closed, for what they declare. Raises OperatorError for an invalid setting."""
    try:
        providers = make_providers(stack.delivery_settings())
    except ValueError as error:
        raise OperatorError(f"delivery's settings: {error}") from None
    for provider in providers.values():
        await provider.close()
    return list(providers.values())


async def look_up(stack: Stack, name: str, provider_message_id: str) -> str:
    """Ask a provider for the status of a message that it accepted, and return its answer as text.

    Raises OperatorError when the provider is not configured.
    """
    try:
        provider = make_providers(stack.delivery_settings())[name]
    except (ValueError, KeyError):
        raise OperatorError(f"{name} is not configured, so it cannot be asked: see SMS_PROVIDERS") from None
    if not provider.can_look_up:
        return f"{name} has no look-up of messages"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            receipt = await provider.look_up(provider_message_id)
    except (SubmissionError, TimeoutError) as error:
        return f"{name} does not answer: {getattr(error, 'reason', 'time-out')}"
    finally:
        await provider.close()
    if receipt is None:
        return f"{name} does not know the message, which does not prove that it was not sent"
    return f"{name} reports {receipt.raw} ({receipt.status})"


async def _send(provider: Provider, message: OutgoingMessage, confirmed: bool) -> int:
    if provider.reaches_people and message.phone in FICTIONAL_MOBILES:
        raise OperatorError("--to: real providers never get a fictional number: enter another one")
    print(f"{message.format.upper()} to {show_phone(message.phone)} directly through {provider.name}.")
    print("Limits and opt-outs are not checked, and nothing is stored.")
    if not confirmed:
        print("Nothing was sent. Add --yes to send the message.")
        return 2
    try:
        (outcome,) = await provider.send(uuid4(), provider.prepare([message]), [message.id])
    except SubmissionError as error:
        result = "unknown whether the message was accepted" if error.maybe_accepted else "not accepted"
        print(f"{result}: {error.failure_category}: {error.reason}")
        return 1
    if outcome.status != "accepted":
        print(f"{outcome.status}: {outcome.failure_category or ''} {outcome.error or ''}".rstrip())
        return 1
    print(f"accepted as {outcome.provider_message_id or '(no id)'}")
    return 0
