"""The requests for messages of a chaos run: sends, schedules, batches, edits, cancels and retries."""

from random import Random

from common.phones import normalise_phone
from tools.chaos.organisation import Organisation, Sent, text_of
from tools.chaos.records import Barrier, BarrierKind, Retry, make_text
from tools.handset.scenarios import SCENARIOS, Behaviour

_RECENT = 12  # edits and cancels choose among so many of the newest requests
_MAX_VERSION = 9
_SCENARIO_SHARE = 0.1
_BEHAVIOURS = (
    Behaviour.SLOW,
    Behaviour.DROP,
    Behaviour.FAIL_ONCE,
    Behaviour.UNDELIVERED,
    Behaviour.REFUSE_NUMBER,
    Behaviour.TWICE,
    Behaviour.EARLY,
    Behaviour.OUT_OF_ORDER,
)
_SCENARIO_PHONES = [phone for phone, behaviour in SCENARIOS.items() if behaviour in _BEHAVIOURS]
_MEDIA = "https://media.example.com/picture.png"
_FORBIDDEN = (401, 403)  # of a closed organisation: the answer to an earlier try is not known


async def send(organisation: Organisation, random: Random) -> None:
    """Send a message to a contact or to a scenario number."""
    await _send(organisation, random, "/api/sms/send/", {})


async def send_mms(organisation: Organisation, random: Random) -> None:
    """Send an MMS."""
    await _send(organisation, random, "/api/sms/send-mms/", {"media_url": _MEDIA, "subject": "Chaos"})


async def _send(organisation: Organisation, random: Random, path: str, more: dict[str, str]) -> None:
    contacts = organisation.usable()
    contact = random.choice(contacts) if contacts else None
    request = organisation.new_request(is_batch=False)
    text, rest = text_of(request, random)
    body: dict[str, object] = {"message": text, **more}
    if contact is None or random.random() < _SCENARIO_SHARE:
        contact = None
        body["recipient"] = random.choice(_SCENARIO_PHONES)
    else:
        body["recipient"] = contact.phone
        if random.random() < 0.5:
            body["contact_id"] = contact.id
    answer, _ = await organisation.client.keyed(path, body, organisation.new_key(), random)
    request.status = 0 if answer.status in _FORBIDDEN else answer.status
    if answer.is_success:
        request.id = answer.body["schedule_id"]
        organisation.sent.append(Sent(answer.body["schedule_id"], request, 0.0, contact, rest))


async def schedule(organisation: Organisation, random: Random) -> None:
    """Schedule a message to a contact, which comes due during the run."""
    contacts = organisation.usable()
    if not contacts:
        return
    contact = random.choice(contacts)
    request = organisation.new_request(is_batch=False)
    text, rest = text_of(request, random)
    due_at, due = organisation.due(random, 20.0)
    body = {"text": text, "contact_id": contact.id, "scheduled_time": due}
    answer, _ = await organisation.client.keyed("/api/schedules/", body, organisation.new_key(), random)
    request.status = 0 if answer.status in _FORBIDDEN else answer.status
    if answer.is_success:
        request.id = answer.body["id"]
        organisation.sent.append(Sent(answer.body["id"], request, due_at, contact, rest))


async def schedule_batch(organisation: Organisation, random: Random) -> None:
    """Schedule a batch to a group, which comes due during the run."""
    request = organisation.new_request(is_batch=True)
    text, rest = text_of(request, random)
    due_at, due = organisation.due(random, 10.0)
    group = random.choice(organisation.groups)
    body = {"name": request.token, "group_id": group, "text": text, "scheduled_time": due}
    answer, _ = await organisation.client.keyed("/api/group-schedules/", body, organisation.new_key(), random)
    request.status = 0 if answer.status in _FORBIDDEN else answer.status
    if answer.is_success:
        request.id, request.messages = answer.body["id"], answer.body["child_count"]
        organisation.batches.append(Sent(answer.body["id"], request, due_at, rest=rest))


async def send_to_group(organisation: Organisation, random: Random) -> None:
    """Send a batch to a group now."""
    request = organisation.new_request(is_batch=True)
    text, rest = text_of(request, random)
    body = {"message": text, "group_id": random.choice(organisation.groups)}
    answer, _ = await organisation.client.keyed("/api/sms/send-to-group/", body, organisation.new_key(), random)
    request.status = 0 if answer.status in _FORBIDDEN else answer.status
    if answer.is_success:
        request.id, request.messages = answer.body["group_schedule_id"], answer.body["results"]["total"]
        organisation.batches.append(Sent(request.id or 0, request, 0.0, rest=rest))


async def edit(organisation: Organisation, random: Random) -> None:
    """Give a schedule or a batch that may be pending a new text."""
    chosen, path = _choose(organisation, random)
    if chosen is None or chosen.is_in_edit or chosen.request.last == _MAX_VERSION:
        return
    # Of two edits at a time, nobody knows which one comes last.
    chosen.is_in_edit = True
    request = chosen.request
    version = request.last = request.last + 1
    body = {"text": make_text(request.token, version, chosen.rest)}
    answer, _ = await organisation.client.until_definite("PATCH", path, body)
    if answer.is_success:
        request.edits.append((answer.at, version))
    # The effect of an edit without a definite answer may still come, so there is no further one.
    chosen.is_in_edit = not answer.is_definite


async def cancel(organisation: Organisation, random: Random) -> None:
    """Cancel a schedule or a batch, whatever its state."""
    chosen, path = _choose(organisation, random)
    if chosen is None:
        return
    answer, was_indefinite = await organisation.client.until_definite("DELETE", path)
    at = answer.at
    if not answer.is_success:
        if not was_indefinite:
            return
        # An earlier try may have cancelled it. Reading it says so.
        answer, _ = await organisation.client.until_definite("GET", path)
        if not answer.is_success or answer.body["status"] != "cancelled":
            return
        at = answer.at
    kind = BarrierKind.CANCEL_BATCH if chosen.request.is_batch else BarrierKind.CANCEL
    organisation.records.barriers.append(Barrier(kind, organisation.id, chosen.id, at))


async def retry(organisation: Organisation, random: Random) -> None:
    """Retry a failed schedule, or the failed messages of a batch."""
    include_unknown = random.random() < 0.5
    query = "?include_unknown=true" if include_unknown else ""
    if random.random() < 0.3 and organisation.batches:
        chosen, path = random.choice(organisation.batches).id, "/api/group-schedules/"
    else:
        failed = "/api/schedules/?status=failed&date_from=2020-01-01"
        answer, _ = await organisation.client.until_definite("GET", failed)
        if not answer.is_success or not answer.body["results"]:
            return
        chosen, path = random.choice(answer.body["results"])["id"], "/api/schedules/"
    sent = Retry(include_unknown)
    organisation.records.retries.setdefault(chosen, []).append(sent)
    path = f"{path}{chosen}/retry/{query}"
    answer, _ = await organisation.client.keyed(path, None, organisation.new_key(), random)
    if answer.is_definite:
        sent.until = answer.at


def _choose(organisation: Organisation, random: Random) -> tuple[Sent | None, str]:
    """Return one of the newest schedules or batches with its path."""
    is_batch = random.random() < 0.3
    newest = organisation.batches[-3:] if is_batch else organisation.sent[-_RECENT:]
    chosen = random.choice(newest) if newest else None
    folder = "group-schedules" if is_batch else "schedules"
    return chosen, f"/api/{folder}/{chosen.id if chosen else 0}/"


def e164(phone: str) -> str:
    """Return a phone in the form in which the services and the handset have it."""
    return normalise_phone(phone)
