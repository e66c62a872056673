"""The actions that the page offers. Each is a changing command with a form, and runs with its audit."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cooee.audit import run_audited
from cooee.command import Report
from cooee.errors import NotFound, WrongUsage
from cooee.main import parse
from cooee.page.forms import Fields
from cooee.page.rendering import link_of
from cooee.stack import STORES, Stack

# What an error of the command line has around the sentence that a person needs here.
_AROUND = re.compile(r"^argument (?:--)?|\. See cooee [a-z -]*--help$")


@dataclass(frozen=True)
class Field:
    """A field of an action's form. `choices` makes it a list; a field of `checkbox` is an option without a value."""

    name: str
    label: str
    hint: str = ""
    choices: Sequence[str] = ()
    is_required: bool = True
    is_checkbox: bool = False


@dataclass(frozen=True)
class Action:
    """An action: its title and effect for a person, its fields, and the command line that they make."""

    title: str
    effect: str
    fields: tuple[Field, ...]
    arguments: Callable[[Fields], list[str]]
    back: Callable[[Fields], str]
    is_serious: bool = False


def _options(*names: str) -> Callable[[Fields], list[str]]:
    """Return a function that makes an option of each of these fields that has a value."""
    return lambda fields: [f"--{name}={fields.get(name)}" for name in names if fields.get(name)]


def _command(*words: str, then: Callable[[Fields], list[str]]) -> Callable[[Fields], list[str]]:
    return lambda fields: [*words, *then(fields)]


def _flagged(flag: str, then: Callable[[Fields], list[str]]) -> Callable[[Fields], list[str]]:
    return lambda fields: [*([f"--{flag}"] if fields.get(flag) else []), *then(fields)]


def _retried(name: str) -> Callable[[Fields], list[str]]:
    return _flagged("include-unknown", _positional("organisation", name))


def _to(path: str) -> Callable[[Fields], str]:
    return lambda _: path


def _to_organisation(fields: Fields) -> str:
    return link_of("organisation", fields.get("organisation")) or "/"


def _positional(*names: str) -> Callable[[Fields], list[str]]:
    """Return a function that makes arguments of these fields. After `--` none of them is read as an option."""
    return lambda fields: ["--", *(fields.get(name) for name in names)]


_ORGANISATION = Field("organisation", "Organisation", "its id, org_…")
_SERVICE = Field("service", "Service", choices=STORES)
_LETTER = Field("id", "Dead letter", "its id")
_SENDER = Field("sender", "Sender ID", "a number, 04…, or a name of 3 to 11 letters and digits")

_PROVIDER = Field("provider", "Provider", "a name as in SMS_PROVIDERS, such as twilio")

ACTIONS: dict[str, Action] = {
    "pause-organisation": Action(
        title="Pause an organisation",
        effect="None of its messages goes to a provider until it is resumed. Its API still accepts messages, which stay"
        " queued and expire at their deadline. Requests in flight end normally.",
        fields=(_ORGANISATION,),
        arguments=_command("pause", "organisation", then=_positional("organisation")),
        back=_to_organisation,
        is_serious=True,
    ),
    "resume-organisation": Action(
        title="Resume an organisation",
        effect="Its queued messages leave.",
        fields=(_ORGANISATION,),
        arguments=_command("resume", "organisation", then=_positional("organisation")),
        back=_to_organisation,
    ),
    "retry-schedule": Action(
        title="Send a failed message again",
        effect="The message is due now, and counts against the organisation's limit again.",
        fields=(
            _ORGANISATION,
            Field("schedule", "Schedule", "the API's id of it"),
            Field("include-unknown", "Also if it may have arrived", is_required=False, is_checkbox=True),
        ),
        arguments=_command(
            "retry", "schedule", then=_flagged("include-unknown", _positional("organisation", "schedule"))
        ),
        back=_to_organisation,
    ),
    "retry-batch": Action(
        title="Send the failed messages of a batch again",
        effect="They are due now, and count against the organisation's limit again.",
        fields=(
            _ORGANISATION,
            Field("batch", "Batch", "the API's id of it"),
            Field("include-unknown", "Also those that may have arrived", is_required=False, is_checkbox=True),
        ),
        arguments=_command("retry", "batch", then=_retried("batch")),
        back=_to_organisation,
    ),
    "cancel-batch": Action(
        title="Cancel a batch",
        effect="Its pending messages are cancelled. Messages that were dispatched are not: pause the organisation first"
        " to keep those that are queued.",
        fields=(_ORGANISATION, Field("batch", "Batch", "the API's id of it")),
        arguments=_command("cancel", "batch", then=_positional("organisation", "batch")),
        back=_to_organisation,
        is_serious=True,
    ),
    "close-organisation": Action(
        title="Close an organisation",
        effect="Its members can no longer use it, its contacts and groups are deleted, its pending schedules and"
        " batches are cancelled, and new messages are refused. It cannot be opened again.",
        fields=(_ORGANISATION,),
        arguments=_command("organisations", "close", "--yes", then=_positional("organisation")),
        back=_to_organisation,
        is_serious=True,
    ),
    "pause-provider": Action(
        title="Pause a provider",
        effect="No message goes to it until it is resumed. Its messages stay queued, and do not go to the next provider"
        " of the chain.",
        fields=(_PROVIDER,),
        arguments=_command("pause", "provider", then=_positional("provider")),
        back=_to("/"),
        is_serious=True,
    ),
    "resume-provider": Action(
        title="Resume a provider",
        effect="Its queued messages leave.",
        fields=(_PROVIDER,),
        arguments=_command("resume", "provider", then=_positional("provider")),
        back=_to("/"),
    ),
    "replay-dead-letter": Action(
        title="Transmit a dead letter again",
        effect="The record moves to the outbox of its service, and every consumer of its topic gets it again."
        " Consumers ignore what they have applied already.",
        fields=(_SERVICE, _LETTER),
        arguments=_command("dead-letters", "replay", then=_options("service", "id")),
        back=_to("/dead-letters"),
    ),
    "acknowledge-dead-letter": Action(
        title="Acknowledge a dead letter",
        effect="Consumers that were paused because of it continue within half a minute. It stays listed.",
        fields=(_SERVICE, _LETTER),
        arguments=_command("dead-letters", "acknowledge", then=_options("service", "id")),
        back=_to("/dead-letters"),
    ),
    "assign-sender-id": Action(
        title="Assign a sender ID",
        effect="The organisation may send from it, and gets the inbound messages to it.",
        fields=(_ORGANISATION, _SENDER),
        arguments=_command("sender-ids", "assign", then=_options("organisation", "sender")),
        back=_to_organisation,
    ),
    "remove-sender-id": Action(
        title="Remove a sender ID",
        effect="Messages of its organisation come from the default of the installation within a second.",
        fields=(_SENDER,),
        arguments=_command("sender-ids", "remove", then=_options("sender")),
        back=_to("/organisations"),
    ),
    "match-inbound": Action(
        title="Match inbound messages",
        effect="Inbound messages that match no organisation are matched again, with the sender IDs of today."
        " A STOP among them opts its phone out.",
        fields=(
            Field("sender", "Sent to", "only those to this number or name", is_required=False),
            Field("stop", "Only those that say STOP", is_required=False, is_checkbox=True),
        ),
        arguments=_command("inbound", "match", then=_flagged("stop", _options("sender"))),
        back=_to("/inbound"),
    ),
    "republish": Action(
        title="Publish states again",
        effect="Every service publishes what has changed since this time. Consumers apply only what is new to them.",
        fields=(Field("since", "Since", "a time such as 2026-11-25T09:00Z, or 90m, 6h, 2d for a time ago"),),
        arguments=_command("republish", then=_options("since")),
        back=_to("/"),
    ),
}


def find_action(name: str) -> Action:
    """Return an action. Raises NotFound."""
    if name not in ACTIONS:
        raise NotFound("there is no such action")
    return ACTIONS[name]


def check_fields(action: Action, fields: Fields) -> None:
    """Raise WrongUsage, which names the field, for one that is missing or not among its choices."""
    for field in action.fields:
        value = fields.get(field.name)
        if field.is_required and not value:
            raise WrongUsage(f"{field.label}: this field is required")
        if value and field.choices and value not in field.choices:
            raise WrongUsage(f"{field.label}: choose {' or '.join(field.choices)}")


async def run_action(stack: Stack, action: Action, fields: Fields, operator: str) -> Report:
    """Run an action for an operator, with its audit. Raises WrongUsage without a reason."""
    check_fields(action, fields)
    audit = [f"--reason={fields.get('reason')}", f"--operator={operator}"]
    line = action.arguments(fields)
    # What follows `--` is no option, so the audit's options come before it.
    place = line.index("--") if "--" in line else len(line)
    return await run_line(stack, [*line[:place], *audit, *line[place:]])


async def read(stack: Stack, *arguments: str) -> Report:
    """Run a command that changes nothing."""
    return await run_line(stack, arguments)


async def reveal(stack: Stack, arguments: Sequence[str], *, reason: str, operator: str, organisation: str) -> Report:
    """Run a reading command that shows phones or texts. Its audit is that of a change."""
    options = _parse(arguments)
    options.action = f"{options.action} (unmasked)"
    options.reason, options.operator, options.organisation = reason, operator, organisation
    return await run_audited(stack, options.command, options)


async def run_line(stack: Stack, arguments: Sequence[str]) -> Report:
    """Run a command line, with its audit if it changes something."""
    options = _parse(arguments)
    if options.command.changes:
        return await run_audited(stack, options.command, options)
    report: Report = await options.command.run(stack, options)
    return report


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    try:
        return parse(arguments)
    except WrongUsage as error:
        raise WrongUsage(_AROUND.sub("", str(error))) from None
