"""Checks and counts of batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import Invalid
from common.fields import is_blank
from scheduling.models import OPEN, Content, Schedule, ScheduleStatus
from scheduling.schedules.rules import check_media
from scheduling.templates.rules import fill
from scheduling.texts.rules import count_parts, describe_excess


@dataclass(frozen=True, slots=True)
class BatchDetail:
    """A batch with a page of its messages. `total` counts all of its messages, also those that have no row yet."""

    batch: Schedule
    messages: Sequence[Schedule]
    total: int
    counts: Mapping[ScheduleStatus, int]


def check_content(content: Content, max_parts: int, field: str) -> int:
    """Return the parts of a batch's text with empty placeholder values. Raises Invalid under `field` or `media_url`."""
    check_media(content.format, content.media_url)
    if content.format == "sms" and is_blank(content.text):
        raise Invalid.field(field, "Enter a text or choose a template.")
    parts = count_parts(content.format, fill(content.text, {}))
    excess = describe_excess(parts, max_parts)
    if excess is not None:
        raise Invalid.field(field, excess)
    return parts


def is_expanding(batch: Schedule) -> bool:
    """Return whether the fan-out of a batch still creates rows."""
    return batch.fanned_out_at is None and batch.status in OPEN


def count_rows(batch: Schedule, written: int) -> int:
    """Return how many messages the pages of a batch have, or will have when its fan-out is complete."""
    return max(written, batch.message_count or 0) if is_expanding(batch) else written


def complete_counts(batch: Schedule, written: Mapping[ScheduleStatus, int]) -> dict[ScheduleStatus, int]:
    """Return the counts of a batch's messages, from those of the messages that its fan-out has written so far.

    Members whose message is not written yet count as pending. Pending messages of a cancelled batch are cancelled.
    """
    counts = dict(written)
    if batch.fanned_out_at is None:
        missing = max(0, (batch.message_count or 0) - sum(counts.values()))
        counts[ScheduleStatus.PENDING] = counts.get(ScheduleStatus.PENDING, 0) + missing
    if batch.status == ScheduleStatus.CANCELLED:
        cancelled = counts.get(ScheduleStatus.CANCELLED, 0) + counts.pop(ScheduleStatus.PENDING, 0)
        counts[ScheduleStatus.CANCELLED] = cancelled
    return counts
