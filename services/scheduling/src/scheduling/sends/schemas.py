"""Bodies of the sends, and their answers."""

import re

from pydantic import BaseModel

from common.events import Category
from common.fields import Id
from scheduling.schedules.service import Phone, Subject, Url
from scheduling.texts.service import AnyText, Text

LONGEST_WAIT_S = 30
_WAIT = re.compile(r'(?:^|[,;\s])wait\s*=\s*"?([0-9]{1,9})"?\s*(?:[,;]|$)', re.IGNORECASE)


class SendRequest(BaseModel):
    """A message to a number; `contact_id` links it to a contact."""

    message: Text
    recipient: Phone
    contact_id: Id | None = None


class SendMmsRequest(BaseModel):
    """An MMS to a number; its text may be empty."""

    message: AnyText = ""
    media_url: Url
    recipient: Phone
    contact_id: Id | None = None
    subject: Subject | None = None


class SendToGroupRequest(BaseModel):
    """A message to the members of a group."""

    message: Text
    group_id: Id


class Sent(BaseModel):
    """`success`: accepted; after a wait, sent."""

    success: bool = True
    message: str
    schedule_id: int
    status: str


class Results(BaseModel):
    """`total` counts eligible members; until the outcome is known `successful` counts what was accepted."""

    successful: int
    failed: int
    total: int


class SentToGroup(BaseModel):
    """`success`: accepted; after a wait, at least one was sent."""

    success: bool = True
    message: str
    results: Results
    group_name: str
    group_schedule_id: int


class NotSent(BaseModel):
    """After a wait: none was sent."""

    success: bool = False
    message: str
    error: str
    failure_category: Category
    code: str = "unavailable"
    request_id: str


class MessageNotSent(NotSent):
    schedule_id: int
    status: str


class GroupNotSent(NotSent):
    results: Results
    group_name: str
    group_schedule_id: int


def read_wait(prefer: str | None) -> int:
    """The seconds of `Prefer: wait=N` (RFC 7240), 30 at most; 0 without it."""
    found = _WAIT.search(prefer or "")
    return min(int(found.group(1)), LONGEST_WAIT_S) if found else 0
