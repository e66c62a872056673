"""The command `erase`: remove a person's names, texts and phone from every service. Counts and opt-outs stay."""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from common.phones import InvalidPhone, normalise_phone
from contacts.contacts.rules import ErasedOptOut
from contacts.erasure import service as contacts
from contacts.models import ContactRow
from cooee.command import Command, Report
from cooee.errors import ExitCode
from cooee.output import mask, table
from cooee.stack import STORES, Stack
from delivery.erasure import service as delivery
from scheduling.erasure import service as scheduling

_CHUNK = 500
# Bodies are JSON with phones in E.164. A dead letter of an organisation has its id, too.
_HAS_PHONE = """
    position(convert_to(:phone, 'UTF8') IN body) > 0
    AND (CAST(:organisation AS text) IS NULL OR position(convert_to(:organisation, 'UTF8') IN body) > 0)
"""
_COUNT_EVENTS = f"SELECT count(*) AS number FROM {{table}} WHERE {_HAS_PHONE}"  # noqa: S608  # constants
_DELETE_DEAD_LETTERS = text(f"DELETE FROM dead_letters WHERE {_HAS_PHONE}")  # noqa: S608  # a constant
Contacts = Sequence[tuple[str, int]]
Counts = dict[str, dict[str, int]]


async def erase(stack: Stack, options: argparse.Namespace) -> Report:
    """Remove a person's names, texts and phone from contacts, schedules, messages, webhook events and dead letters.

    Pending messages to the phone are cancelled first. Rows, counts and usage stay, and opt-outs with a hash of the
    phone. The command can be repeated: a second run finds nothing, and one that was interrupted continues. The exit
    code is 1 while messages to the phone are being sent: run it again some minutes later, because the contacts keep
    their names until then. The record of erasures in contacts has who, when, the reason and the counts, not the phone.
    """
    target = {"phone": options.phone, "organisation": options.organisation}
    if options.dry_run:
        async with stack.session("contacts") as session:
            found = await contacts.find_contacts(session, **target)
        counts = await _erase_elsewhere(stack, target, found, dry_run=True)
        counts["contacts"] |= {"contacts": len(found)}
        return _report(options, counts)
    async with stack.session("contacts") as session:
        erasure_id, found = await contacts.begin_erasure(
            session, **target, operator=options.operator, reason=options.reason
        )
    counts = await _erase_elsewhere(stack, target, found, dry_run=False)
    number = 0
    # Contacts forgets the person last. Until then the next run finds the contacts, and their messages to other phones.
    if not _is_open(counts):
        organisations_with_opt_out = [contact.organisation_id for contact in found if contact.opt_out]
        async with stack.session("delivery") as session:
            erased = await delivery.erase_opt_outs(
                session, **target, organisations_with_opt_out=organisations_with_opt_out
            )
        opt_outs = [ErasedOptOut(*opt_out) for opt_out in erased]
        async with stack.session("contacts") as session:
            number = await contacts.finish_erasure(session, erasure_id, **target, opt_outs=opt_outs, counts=counts)
    counts["contacts"] |= {"contacts": number}
    return _report(options, counts)


async def _erase_elsewhere(
    stack: Stack, target: dict[str, Any], found: Sequence[ContactRow], *, dry_run: bool
) -> Counts:
    """Erase what all but contacts have: schedules before messages, so that no message follows. Return the counts."""
    ids: Contacts = [(contact.organisation_id, contact.id) for contact in found]
    counts: Counts = {"contacts": {}, "scheduling": await _erase_schedules(stack, target, ids, dry_run=dry_run)}
    counts["delivery"] = await _erase_messages(stack, target, ids, dry_run=dry_run)
    for service in STORES:
        counts[service] |= await _erase_events(stack, service, target, dry_run=dry_run)
    return counts


async def _erase_schedules(stack: Stack, target: dict[str, Any], ids: Contacts, *, dry_run: bool) -> dict[str, int]:
    total: Counter[str] = Counter(schedules=0, cancelled=0, open=0)
    after: int | None = 0
    while after is not None:
        async with stack.session("scheduling") as session:
            page = await scheduling.erase_page(session, **target, contacts=ids, after=after, dry_run=dry_run)
        total.update(schedules=page.schedules, cancelled=page.cancelled, open=page.open)
        after = page.next
    return dict(total)


async def _erase_messages(stack: Stack, target: dict[str, Any], ids: Contacts, *, dry_run: bool) -> dict[str, int]:
    async with stack.session("delivery") as session:
        found = await delivery.find_messages(session, **target, contacts=ids)
    if dry_run:
        return {"messages": len(found.messages), "inbound_messages": len(found.inbound)}
    total: Counter[str] = Counter(messages=0, inbound_messages=0, cancelled=0, webhook_events=0)
    for start in range(0, len(found.messages), _CHUNK):
        async with stack.session("delivery") as session:
            erased = await delivery.erase_messages(session, found.messages[start : start + _CHUNK])
        total.update(messages=erased.messages, cancelled=erased.cancelled, webhook_events=erased.webhook_events)
    for start in range(0, len(found.inbound), _CHUNK):
        async with stack.session("delivery") as session:
            erased = await delivery.erase_inbound(session, found.inbound[start : start + _CHUNK])
        total.update(inbound_messages=erased.messages, webhook_events=erased.webhook_events)
    return dict(total) | {"open": len(found.messages) - total["messages"]}


async def _erase_events(stack: Stack, service: str, target: dict[str, Any], *, dry_run: bool) -> dict[str, int]:
    """Delete dead letters with the phone. Events in the outbox leave by themselves, so they are only counted."""
    [waiting] = await stack.rows(service, _COUNT_EVENTS.format(table="outbox"), **target)
    if dry_run:
        [letters] = await stack.rows(service, _COUNT_EVENTS.format(table="dead_letters"), **target)
        return {"dead_letters": letters.number, "outbox": waiting.number}
    async with stack.session(service) as session:
        deleted = await session.execute(_DELETE_DEAD_LETTERS, target)
        return {"dead_letters": deleted.rowcount, "outbox": waiting.number}  # type: ignore[attr-defined]


def _is_open(counts: Counts) -> bool:
    """Return whether messages to the person are being sent."""
    return any(found.get("open") for found in counts.values())


def _report(options: argparse.Namespace, counts: Counts) -> Report:
    is_open = _is_open(counts)
    whose = options.organisation or "all organisations"
    title = f"{mask(options.phone, show=False)} in {whose}: " + (
        "would be erased" if options.dry_run else "erased, but for what is being sent" if is_open else "erased"
    )
    cells = [(service, what, number) for service, found in counts.items() for what, number in found.items()]
    lines = [title, *table(("service", "what", "number"), cells)]
    if is_open and not options.dry_run:
        lines.append("messages to the phone are being sent: run the command again in some minutes")
    document = {
        "organisation_id": options.organisation,
        "dry_run": options.dry_run,
        "complete": not is_open and not options.dry_run,
        "counts": counts,
    }
    return Report(document, lines, ExitCode.FOUND if is_open and not options.dry_run else ExitCode.OK)


def _phone(value: str) -> str:
    try:
        return normalise_phone(value)
    except InvalidPhone as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--phone", type=_phone, required=True, help="the person's phone, 04… or +614…")
    parser.add_argument("--organisation", help="only at this organisation, org_…; without it, at all")
    parser.add_argument("--dry-run", action="store_true", help="count what would be erased, and change nothing")


COMMAND = Command("erase", "remove a person's names, texts and phone everywhere", erase, _add_arguments, changes=True)
