"""The errors of scheduling."""

from common.errors import Forbidden, Invalid


class OrganisationClosed(Forbidden):
    default = "This organisation is closed."


class ScheduleNotPending(Invalid):
    code, default = "schedule_not_pending", "Cannot update schedule that is not pending"


class NothingToRetry(Invalid):
    default = "Only a failed schedule can be sent again."


class ContentRemoved(Invalid):
    default = "The text of this message was removed because of its age or on request. Create a new message."


class OutcomeUnknown(Invalid):
    default = (
        "This message may have arrived: its outcome is unknown. Send it again with ?include_unknown=true if you accept"
        " that it may arrive twice."
    )


class RecipientOptedOut(Invalid):
    code, default = "opted_out", "This recipient has opted out."


class NoRecipients(Invalid):
    code, default = "no_recipients", "The group has no contact that can be messaged."


class LimitReached(Invalid):
    code, default = "limit_exceeded", "The monthly limit does not have room for this."
