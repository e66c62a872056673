"""Bodies of the sends, and their answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from common.context import request_id
from common.events import FailureCategory
from common.fields import Id, RequestBody
from scheduling.clients.contacts import Audience
from scheduling.models import OPEN, SUCCESSFUL, Schedule, ScheduleStatus
from scheduling.schedules.schemas import Phone, Subject, Url
from scheduling.templates.schemas import AnyText, Text

LONGEST_WAIT_S = 30
_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?([0-9]{1,9})"?\s*(?:[,;]|$)', re.IGNORECASE)


class SendRequest(RequestBody):
    """A message to a number. `contact_id` links it to a contact."""

    message: Text
    recipient: Phone
    contact_id: Id | None = None


class SendMmsRequest(RequestBody):
    """An MMS to a number. Its text may be empty."""

    message: AnyText = ""
    media_url: Url
    recipient: Phone
    contact_id: Id | None = None
    subject: Subject | None = None


class SendToGroupRequest(RequestBody):
    """A message to the members of a group."""

    message: Text
    group_id: Id


class Sent(BaseModel):
    """`success` means accepted, and after a wait sent."""

    success: Literal[True]
    message: str
    schedule_id: int
    status: ScheduleStatus


class Results(BaseModel):
    """`total` counts eligible members. Until the outcome is known, `successful` counts accepted messages."""

    successful: int
    failed: int
    total: int


class SentToGroup(BaseModel):
    """`success` means accepted, and after a wait that at least one message was sent."""

    success: Literal[True]
    message: str
    results: Results
    group_name: str
    group_schedule_id: int


class NotSent(BaseModel):
    """The answer after a wait when nothing was sent."""

    success: Literal[False]
    message: str
    error: str
    failure_category: FailureCategory
    code: Literal["unavailable"]
    request_id: str


class MessageNotSent(NotSent):
    """The answer after a wait when the message was not sent."""

    schedule_id: int
    status: ScheduleStatus


class GroupNotSent(NotSent):
    """The answer after a wait when no message to the group was sent."""

    results: Results
    group_name: str
    group_schedule_id: int


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """The HTTP status and body of a send whose outcome is known. `outcome_awaited`: the send itself waited for it."""

    status: int
    body: Sent | SentToGroup | NotSent
    outcome_awaited: bool


def read_wait(prefer: str | None) -> int:
    """Return the seconds of `Prefer: wait=N` (RFC 7240), 30 at most, 0 without it."""
    found = _WAIT.search(prefer or "")
    return min(int(found.group(1)), LONGEST_WAIT_S) if found else 0


def render_accepted(schedule_id: int) -> Sent:
    """Return the answer of an accepted message."""
    return Sent(success=True, message="Message accepted.", schedule_id=schedule_id, status=ScheduleStatus.PROCESSING)


def render_accepted_batch(batch_id: int, audience: Audience) -> SentToGroup:
    """Return the answer of an accepted batch."""
    count = audience.eligible_count
    return SentToGroup(
        success=True,
        message=f"{count} messages accepted.",
        results=Results(successful=count, failed=0, total=count),
        group_name=audience.group.name,
        group_schedule_id=batch_id,
    )


def render_final(row: Schedule) -> FinalAnswer | None:
    """Return the final answer of a send, None while its outcome is open."""
    if row.status in OPEN:
        return None
    if row.status in SUCCESSFUL:
        sent = Sent(success=True, message="Message sent.", schedule_id=row.id, status=row.status)
        return FinalAnswer(200, sent, row.outcome_awaited)
    not_sent = MessageNotSent(
        success=False,
        code="unavailable",
        message="The message was not sent.",
        error=row.error or "The message was cancelled.",
        failure_category=row.failure_category or "unknown",
        request_id=request_id(),
        schedule_id=row.id,
        status=row.status,
    )
    return FinalAnswer(502, not_sent, row.outcome_awaited)


def render_final_batch(batch: Schedule, counts: Mapping[ScheduleStatus, int]) -> FinalAnswer | None:
    """Return the final answer of a send to a group, None while any of its messages is open."""
    if batch.status in OPEN:
        return None
    sent, total = sum(counts.get(status, 0) for status in SUCCESSFUL), sum(counts.values())
    results = Results(successful=sent, failed=total - sent, total=total)
    if sent == 0:
        none_sent = GroupNotSent(
            success=False,
            code="unavailable",
            message="No message was sent.",
            error=batch.error or "The batch was cancelled.",
            failure_category=batch.failure_category or "unknown",
            request_id=request_id(),
            results=results,
            group_name=batch.group_name or "",
            group_schedule_id=batch.id,
        )
        return FinalAnswer(502, none_sent, batch.outcome_awaited)
    some_sent = SentToGroup(
        success=True,
        message=f"{sent} of {total} messages sent.",
        results=results,
        group_name=batch.group_name or "",
        group_schedule_id=batch.id,
    )
    return FinalAnswer(200 if sent == total else 207, some_sent, batch.outcome_awaited)
