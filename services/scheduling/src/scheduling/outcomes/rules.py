"""What a word of delivery makes of a schedule: pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from common.events import Category, MessageDelayed, MessageDelivered, MessageFailed, MessageSent
from scheduling.models import Status

Word: TypeAlias = MessageSent | MessageFailed | MessageDelayed | MessageDelivered


@dataclass(frozen=True, slots=True)
class Outcome:
    """A schedule after delivery's word, in the order of the statement's columns."""

    schedule_id: int
    organisation_id: str
    run: int
    version: int
    status: Status
    attempts: int
    provider: str | None
    sent_time: datetime | None = None
    delivered_time: datetime | None = None
    next_attempt_at: datetime | None = None
    category: Category | None = None
    error: str | None = None


def newest(words: Iterable[Word]) -> list[Word]:
    """One word a schedule, the one with the highest (run, version), in the order of their ids."""
    found: dict[int, Word] = {}
    for word in words:
        known = found.get(word.schedule_id)
        if known is None or (known.run, known.version) < (word.run, word.version):
            found[word.schedule_id] = word
    return [found[key] for key in sorted(found)]


def outcome_of(word: Word) -> Outcome:
    """What a schedule shows after the word. One that is tried again stays in processing."""
    about = (word.schedule_id, word.organisation_id, word.run, word.version)
    by = (word.attempts, word.provider)
    match word:
        case MessageSent():
            return Outcome(*about, "sent", *by, sent_time=word.sent_time)
        case MessageDelivered():
            return Outcome(*about, "delivered", *by, sent_time=word.sent_time, delivered_time=word.delivered_time)
        case MessageDelayed():
            return Outcome(*about, "processing", *by, next_attempt_at=word.next_attempt_at)
        case MessageFailed():
            return Outcome(*about, "failed", *by, category=word.category, error=word.error)
