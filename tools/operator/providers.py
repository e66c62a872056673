"""How the carriers are, and a message to one of them, past everything else."""

import argparse
import asyncio
from typing import Literal
from uuid import uuid4

from common.phones import FICTIONAL_MOBILES, InvalidPhone, normalise_phone, show_phone
from delivery.providers import make_chains, make_providers
from delivery.providers.base import CallError, OutgoingMessage, Provider
from tools.operator.stack import OperatorError, Stack

_TIMEOUT_S = 30.0
_REFERENCE = 2**62  # no message will ever have this id: a receipt for it finds none


async def health(stack: Stack, _: argparse.Namespace) -> int:
    """Asks every provider that is configured with our credentials for something harmless. 1 when one fails."""
    try:
        settings = stack.delivery_settings()
        chains, providers = make_chains(settings), make_providers(settings)
    except (ValueError, KeyError) as error:  # a class from outside the tree reads the environment itself
        raise OperatorError(f"delivery's settings: {error}") from None
    good = [await _check(provider, _places(chains, name)) for name, provider in providers.items()]
    return 0 if all(good) else 1


def _places(chains: dict[str, tuple[str, ...]], name: str) -> str:
    """`sms 1, mms 2`: where the provider stands in the chains."""
    return ", ".join(f"{kind} {chain.index(name) + 1}" for kind, chain in chains.items() if name in chain)


async def _check(provider: Provider, places: str) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            standing = await provider.check()
    except CallError as error:
        print(f"{provider.name:<16} {places:<14} FAILED  {error.category}: {error.reason}")
        return False
    except TimeoutError:
        print(f"{provider.name:<16} {places:<14} FAILED  no answer within {_TIMEOUT_S:.0f} s")
        return False
    finally:
        await provider.close()
    told = [f"credit {standing.credit}"] if standing.credit is not None else []
    told += [f"senders {', '.join(standing.senders)}"] if standing.senders else []
    print(f"{provider.name:<16} {places:<14} ok      {'; '.join(told)}".rstrip())
    return True


async def send_test(stack: Stack, options: argparse.Namespace) -> int:
    """Hands a message to a provider directly. 0 when it took it, 1 when not or nobody knows, 2 without --yes."""
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
    try:
        return await _send(
            providers[chosen],
            OutgoingMessage(_REFERENCE, phone, options.text, kind, media_url=options.media_url),
            options.yes,
        )
    finally:
        for provider in providers.values():
            await provider.close()


async def look_up(stack: Stack, name: str, provider_message_id: str) -> str:
    """What a provider says today of a message that it took, in words. Raises OperatorError."""
    try:
        provider = make_providers(stack.delivery_settings())[name]
    except (ValueError, KeyError):
        raise OperatorError(f"{name} is not configured, and cannot be asked") from None
    if not provider.looks_up:
        return f"{name} cannot be asked for a message"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            receipt = await provider.look_up(provider_message_id)
    except (CallError, TimeoutError) as error:
        return f"{name} does not answer: {getattr(error, 'reason', 'time-out')}"
    finally:
        await provider.close()
    return (
        f"{name} says {receipt.raw} ({receipt.status})" if receipt else f"{name} does not know it, which proves nothing"
    )


async def _send(provider: Provider, message: OutgoingMessage, yes: bool) -> int:
    if provider.is_vendor and message.phone in FICTIONAL_MOBILES:
        raise OperatorError("this number is reserved for fiction and reaches nobody: it is kept from real vendors")
    print(f"{message.format.upper()} to {show_phone(message.phone)} straight to {provider.name}:")
    print("no limit, no opt-out is asked, and nothing is recorded here.")
    if not yes:
        print("Nothing was sent: say --yes to send it.")
        return 2
    try:
        (outcome,) = await provider.send(uuid4(), provider.prepare([message]), [message.id])
    except CallError as error:
        print(
            f"{'unknown whether it was taken' if error.maybe_taken else 'not taken'}: {error.category}: {error.reason}"
        )
        return 1
    if outcome.status != "accepted":
        print(f"{outcome.status}: {outcome.category or ''} {outcome.error or ''}".rstrip())
        return 1
    print(f"accepted as {outcome.provider_message_id or '(no id)'}")
    return 0
