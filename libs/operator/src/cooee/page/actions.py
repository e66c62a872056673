"""The actions that the page offers. Each is a changing command with a form, and runs with its audit."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cooee.audit import run_audited
from cooee.command import Report
from cooee.commands.organisations import CLOSE_EFFECTS
from cooee.commands.pauses import PAUSE_ORGANISATION_EFFECT, PAUSE_PROVIDER_EFFECT, PROVIDER_HINT, RESUME_EFFECT
from cooee.errors import NotFound, WrongUsage
from cooee.main import parse
from cooee.page.forms import Fields
from cooee.page.rendering import link_of
from cooee.stack import STORES, Stack

# What an error of the command line has around the sentence that a person needs here.
_AROUND = re.compile(r"^argument (?:--)?|\. See cooee [a-z -]*--help$")


@dataclass(frozen=True)
class Field:
    """A field of an action's form, and the argument of its command with the same name.

    `choices` makes it a list; a field of `is_checkbox` is an option without a value. A field of `is_positional` is an
    argument without a name.
    """

    name: str
    label: str
    hint: str = ""
    choices: Sequence[str] = ()
    is_required: bool = True
    is_checkbox: bool = False
    is_positional: bool = False


@dataclass(frozen=True)
class Action:
    """An action: its title and effect for a person, its command and its fields.

    `back` is the page to which its form leads back. An empty one is that of the organisation.
    """

    title: str
    effect: str
    command: tuple[str, ...]
    fields: tuple[Field, ...]
    back: str = ""
    is_serious: bool = False

    def arguments(self, fields: Fields) -> list[str]:
        """Return the command line. After `--` no value is read as an option."""
        line, positional = list(self.command), []
        for field in self.fields:
            value = fields.get(field.name)
            if field.is_positional:
                positional.append(value)
            elif value:
                line.append(f"--{field.name}" if field.is_checkbox else f"--{field.name}={value}")
        return [*line, "--", *positional] if positional else line

    def back_of(self, fields: Fields) -> str:
        """Return the address to which the form leads back."""
        return self.back or link_of("organisation", fields.get("organisation")) or "/"


_ORGANISATION = Field("organisation", "Organisation", "its id, org_…", is_positional=True)
_SERVICE = Field("service", "Service", choices=STORES)
_LETTER = Field("id", "Dead letter", "its id")
_SENDER = Field("sender", "Sender ID", "a number, 04…, or a name of 3 to 11 letters and digits")
_PROVIDER = Field("provider", "Provider", f"{PROVIDER_HINT}, such as twilio", is_positional=True)
_BATCH = Field("batch", "Batch", "the API's id of it", is_positional=True)

ACTIONS: dict[str, Action] = {
    "pause-organisation": Action(
        title="Pause an organisation",
        effect=PAUSE_ORGANISATION_EFFECT,
        fields=(_ORGANISATION,),
        command=("pause", "organisation"),
        is_serious=True,
    ),
    "resume-organisation": Action(
        title="Resume an organisation",
        effect=RESUME_EFFECT,
        fields=(_ORGANISATION,),
        command=("resume", "organisation"),
    ),
    "retry-schedule": Action(
        title="Send a failed message again",
        effect="The message is due now, and counts against the organisation's limit again.",
        fields=(
            _ORGANISATION,
            Field("schedule", "Schedule", "the API's id of it", is_positional=True),
            Field("include-unknown", "Also if it may have arrived", is_required=False, is_checkbox=True),
        ),
        command=("retry", "schedule"),
    ),
    "retry-batch": Action(
        title="Send the failed messages of a batch again",
        effect="They are due now, and count against the organisation's limit again.",
        fields=(
            _ORGANISATION,
            _BATCH,
            Field("include-unknown", "Also those that may have arrived", is_required=False, is_checkbox=True),
        ),
        command=("retry", "batch"),
    ),
    "cancel-batch": Action(
        title="Cancel a batch",
        effect="Its pending messages are cancelled. Messages that were dispatched are not: pause the organisation first"
        " to keep those that are queued.",
        fields=(_ORGANISATION, _BATCH),
        command=("cancel", "batch"),
        is_serious=True,
    ),
    "close-organisation": Action(
        title="Close an organisation",
        effect=" ".join(CLOSE_EFFECTS),
        fields=(_ORGANISATION,),
        command=("organisations", "close", "--yes"),
        is_serious=True,
    ),
    "pause-provider": Action(
        title="Pause a provider",
        effect=PAUSE_PROVIDER_EFFECT,
        fields=(_PROVIDER,),
        command=("pause", "provider"),
        back="/",
        is_serious=True,
    ),
    "resume-provider": Action(
        title="Resume a provider",
        effect=RESUME_EFFECT,
        fields=(_PROVIDER,),
        command=("resume", "provider"),
        back="/",
    ),
    "replay-dead-letter": Action(
        title="Transmit a dead letter again",
        effect="The record moves to the outbox of its service, and every consumer of its topic gets it again."
        " Consumers ignore what they have applied already.",
        fields=(_SERVICE, _LETTER),
        command=("dead-letters", "replay"),
        back="/dead-letters",
    ),
    "acknowledge-dead-letter": Action(
        title="Acknowledge a dead letter",
        effect="Consumers that were paused because of it continue within half a minute. It stays listed.",
        fields=(_SERVICE, _LETTER),
        command=("dead-letters", "acknowledge"),
        back="/dead-letters",
    ),
    "assign-sender-id": Action(
        title="Assign a sender ID",
        effect="The organisation may send from it, and gets the inbound messages to it.",
        fields=(replace(_ORGANISATION, is_positional=False), _SENDER),
        command=("sender-ids", "assign"),
    ),
    "remove-sender-id": Action(
        title="Remove a sender ID",
        effect="Messages of its organisation come from the default of the installation within a second.",
        fields=(_SENDER,),
        command=("sender-ids", "remove"),
        back="/organisations",
    ),
    "match-inbound": Action(
        title="Match inbound messages",
        effect="Inbound messages that match no organisation are matched again, with the sender IDs of today."
        " A STOP among them opts its phone out.",
        fields=(
            Field("sender", "Sent to", "only those to this number or name", is_required=False),
            Field("stop", "Only those that say STOP", is_required=False, is_checkbox=True),
        ),
        command=("inbound", "match"),
        back="/inbound",
    ),
    "republish": Action(
        title="Publish states again",
        effect="Every service publishes what has changed since this time. Consumers apply only what is new to them.",
        fields=(Field("since", "Since", "a time such as 2026-11-25T09:00Z, or 90m, 6h, 2d for a time ago"),),
        command=("republish",),
        back="/",
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


async def unmask(stack: Stack, arguments: Sequence[str], *, reason: str, operator: str, organisation: str) -> Report:
    """Run a reading command that shows unmasked phones or texts. Its audit is that of a change."""
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
