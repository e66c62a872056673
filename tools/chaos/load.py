"""The load of a chaos run: clients that choose their requests at random, from the seed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random

import aiohttp

from tools.chaos import actions, changes
from tools.chaos.organisation import Organisation

CLIENTS = 3
"""The clients of each organisation, with one request at a time each."""
_PAUSE_S = (0.05, 0.5)
_CLOSE_AFTER = 0.7  # of the load
_GIVE_UP_S = 60.0  # after the load

Action = Callable[[Organisation, Random], Awaitable[None]]


async def run_load(
    organisations: Sequence[Organisation], http: aiohttp.ClientSession, urls: dict[str, str], secret: str, load_s: float
) -> None:
    """Run the clients of all organisations, and return when each has the answers it waits for.

    `urls` has the addresses of the gateway and the handset, `secret` is that of Clerk's webhook.
    """
    loop_time = asyncio.get_running_loop().time()
    for organisation in organisations:
        organisation.ends_at = time.time() + load_s
        organisation.client.give_up_at = loop_time + load_s + _GIVE_UP_S
    async with asyncio.TaskGroup() as tasks:
        for organisation in organisations:
            others = [other for other in organisations if other is not organisation]
            choices = _choices(others, http, urls["handset"])
            for number in range(CLIENTS):
                random = Random(f"{organisation.seed}/{organisation.number}/{number}")
                tasks.create_task(_run_client(organisation, random, choices))
            if organisation.profile.closes:
                tasks.create_task(_close(organisation, http, urls["gateway"], secret, load_s))


def _choices(
    others: Sequence[Organisation], http: aiohttp.ClientSession, handset: str
) -> list[tuple[str, int, Action]]:
    """Return the names of the actions, their weights, and the actions."""
    return [
        ("send", 26, actions.send),
        ("send to group", 3, actions.send_to_group),
        ("send MMS", 4, actions.send_mms),
        ("schedule", 20, actions.schedule),
        ("schedule batch", 5, actions.schedule_batch),
        ("edit", 9, actions.edit),
        ("cancel", 8, actions.cancel),
        ("retry", 5, actions.retry),
        ("opt-out", 2, changes.opt_out),
        ("STOP", 2, partial(changes.reply_stop, http=http, handset=handset)),
        ("delete contact", 2, changes.delete_contact),
        ("reply", 3, partial(changes.reply, http=http, handset=handset)),
        ("change limit", 3, changes.change_limit),
        ("read lists", 6, changes.read_lists),
        ("probe", 6, partial(changes.probe, others=others)),
    ]


async def _run_client(organisation: Organisation, random: Random, choices: Sequence[tuple[str, int, Action]]) -> None:
    while time.time() < organisation.ends_at:
        name, _, action = random.choices(choices, [weight for _, weight, _ in choices])[0]
        organisation.records.actions[name] += 1
        await action(organisation, random)
        await asyncio.sleep(random.uniform(*_PAUSE_S))


async def _close(
    organisation: Organisation, http: aiohttp.ClientSession, gateway: str, secret: str, load_s: float
) -> None:
    await asyncio.sleep(load_s * _CLOSE_AFTER)
    await changes.close_organisation(organisation, http, gateway, secret)
