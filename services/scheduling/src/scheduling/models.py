"""A schedule as its readers see it (the view `shown_schedules`), and which states follow which.

pending → processing → sent → delivered
   │           └─────→ failed → pending (a retry, the one way down)
   └→ cancelled, failed
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from common.events import Category, Format

Kind = Literal["single", "parent", "child"]
Status = Literal["pending", "processing", "sent", "delivered", "failed", "cancelled"]

STATUSES: tuple[Status, ...] = ("pending", "processing", "sent", "delivered", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A single message, a batch (`parent`: group set, no contact) or one message of a batch (`child`).

    `text` is as written, with placeholders; the first three names fill them. A child has here what it takes from its
    parent; `own_text` (with template, format, media and subject) and `own_time` say what is its own. `run` counts
    dispatches. `waited`: whoever sent it waited for its outcome. Times are UTC, phones E.164. The fields stand in the
    order of the view.
    """

    id: int
    organisation_id: str
    kind: Kind
    status: Status
    parent_id: int | None
    group_id: int | None
    group_name: str | None
    contact_id: int | None
    contact_version: int
    own_phone: bool
    phone: str | None
    first_name: str
    last_name: str
    company: str
    name: str | None
    template_id: int | None
    template_version: int | None
    text: str
    scheduled_time: datetime
    format: Format
    media_url: str | None
    subject: str | None
    run: int
    attempts: int
    error: str | None
    failure_category: Category | None
    provider: str | None
    sent_time: datetime | None
    delivered_time: datetime | None
    hold: UUID | None
    swept: int
    expanded_at: datetime | None
    child_count: int | None
    own_text: bool
    own_time: bool
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime
    request_id: str
    next_attempt_at: datetime | None
    waited: bool
