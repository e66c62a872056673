"""The other requests of a chaos run: opt-outs, deletions, limits, foreign ids, lists, a closed organisation."""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

import aiohttp
from svix.webhooks import Webhook

from tools.chaos.actions import e164
from tools.chaos.organisation import Contact, Organisation
from tools.chaos.records import Barrier, BarrierKind

_STOP_AGAIN_S = 15.0
_POLL_S = 0.5
_FEWEST_CONTACTS = 15
_LISTS = ("/api/schedules/", "/api/group-schedules/", "/api/messages/", "/api/contacts/", "/api/groups/")


async def opt_out(organisation: Organisation, random: Random) -> None:
    """Opt a contact out by PATCH."""
    contact = _use_up(organisation, random)
    if contact is None:
        return
    path = f"/api/contacts/{contact.id}/"
    answer, _ = await organisation.client.until_definite("PATCH", path, {"opt_out": True})
    if answer.is_success:
        _add_barrier(organisation, BarrierKind.OPT_OUT, contact, answer.at)


async def delete_contact(organisation: Organisation, random: Random) -> None:
    """Delete a contact."""
    contact = _use_up(organisation, random)
    if contact is None:
        return
    answer, _ = await organisation.client.until_definite("DELETE", f"/api/contacts/{contact.id}/")
    if answer.is_success:
        _add_barrier(organisation, BarrierKind.DELETE, contact, answer.at)


async def reply_stop(organisation: Organisation, random: Random, http: aiohttp.ClientSession, handset: str) -> None:
    """Send STOP from the phone of a contact, and wait until the contact shows the opt-out.

    The handset loses replies that it has not posted when it is killed, so STOP is repeated after a while.
    """
    contact = _use_up(organisation, random)
    if contact is None:
        return
    replied_at = 0.0
    while asyncio.get_running_loop().time() < organisation.client.give_up_at:
        if time.monotonic() - replied_at > _STOP_AGAIN_S:
            status = await _post_reply(http, handset, e164(contact.phone), "STOP")
            if status == 400:  # the phone has no message that it could reply to
                contact.is_used_up = False
                return
            replied_at = time.monotonic() if status == 201 else replied_at
        answer = await organisation.client.once("GET", f"/api/contacts/{contact.id}/")
        if answer.is_success and answer.body["opt_out"]:
            _add_barrier(organisation, BarrierKind.STOP, contact, answer.at)
            return
        if answer.status in (403, 404):
            return
        await asyncio.sleep(_POLL_S)
    organisation.records.violations.append((4, f"STOP of contact {contact.id} had no effect in time"))


async def reply(organisation: Organisation, random: Random, http: aiohttp.ClientSession, handset: str) -> None:
    """Send a text from the phone of a contact."""
    contacts = organisation.usable()
    if contacts:
        await _post_reply(http, handset, e164(random.choice(contacts).phone), "Thank you")


async def change_limit(organisation: Organisation, random: Random) -> None:
    """Raise or lower the limit of the organisation whose limit changes."""
    if not organisation.profile.changes_limit:
        return
    value = random.randint(50, 400)
    organisation.records.limits[organisation.id].append(value)
    path = f"/api/configs/{organisation.configs['sms_limit']}/"
    await organisation.client.until_definite("PATCH", path, {"value": str(value)})


async def read_lists(organisation: Organisation, random: Random) -> None:
    """Read a list. The client checks that no text of another organisation is in it."""
    path = random.choice(_LISTS)
    answer = await organisation.client.once("GET", f"{path}?limit=50")
    if answer.is_success and path == "/api/contacts/":
        own = f"045{organisation.number}"
        foreign = [row["id"] for row in answer.body["results"] if not row["phone"].startswith(own)]
        if foreign:
            text = f"{path} showed organisation {organisation.number} the contacts {foreign}"
            organisation.records.violations.append((5, text))


async def probe(organisation: Organisation, random: Random, others: Sequence[Organisation]) -> None:
    """Ask for the ids of another organisation. Every answer must be 404."""
    other = random.choice(others)
    ids = {
        "schedules": [sent.id for sent in other.sent[-20:]],
        "group-schedules": [sent.id for sent in other.batches[-20:]],
        "contacts": [contact.id for contact in other.contacts],
        "groups": other.groups,
    }
    kind = random.choice(list(ids))
    if not ids[kind]:
        return
    path = f"/api/{kind}/{random.choice(ids[kind])}/"
    method, body = random.choice((("GET", None), ("PATCH", {"name": "X"}), ("PATCH", {"first_name": "X"})))
    answer = await organisation.client.once(method, path, body)
    is_closed = organisation.id in organisation.records.closed and answer.status == 403
    if answer.status not in (0, 404, 429, 502, 503, 504) and not is_closed:
        text = f"{method} {path} of another organisation answered {answer.status}"
        organisation.records.violations.append((5, text))


async def close_organisation(
    organisation: Organisation, http: aiohttp.ClientSession, gateway: str, secret: str
) -> None:
    """Report the end of the organisation as Clerk does, until the answer is 200."""
    event = {
        "type": "organization.deleted",
        "object": "event",
        "timestamp": int(time.time() * 1000),
        "data": {"id": organisation.id, "object": "organization", "deleted": True},
    }
    body = json.dumps(event)
    organisation.records.closed[organisation.id] = float("inf")
    while asyncio.get_running_loop().time() < organisation.client.give_up_at:
        now, name = datetime.now(UTC), f"msg_{organisation.id}"
        signature = Webhook(secret).sign(name, now, body)
        headers = {"svix-id": name, "svix-timestamp": str(int(now.timestamp())), "svix-signature": signature}
        headers["Content-Type"] = "application/json"
        try:
            async with http.post(f"{gateway}/api/webhooks/clerk/", data=body, headers=headers) as answer:
                if answer.status == 200:
                    organisation.records.closed[organisation.id] = time.time()
                    return
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(_POLL_S)


async def _post_reply(http: aiohttp.ClientSession, handset: str, phone: str, text: str) -> int:
    try:
        async with http.post(f"{handset}/api/phones/{phone}/replies/", json={"text": text}) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0


def _use_up(organisation: Organisation, random: Random) -> Contact | None:
    """Return a contact that nothing else uses from now on, or None when too few are left."""
    contacts = organisation.usable()
    if len(contacts) < _FEWEST_CONTACTS:
        return None
    contact = random.choice(contacts)
    contact.is_used_up = True
    return contact


def _add_barrier(organisation: Organisation, kind: BarrierKind, contact: Contact, at: float) -> None:
    barrier = Barrier(kind, organisation.id, contact.id, at, e164(contact.phone))
    organisation.records.barriers.append(barrier)
