"""v2: Django, with the organisations, users and memberships of Clerk."""

from common.sms import measure
from cooee.moving_in.columns import (
    ACTIVE,
    OF_FAILED,
    OF_MESSAGE_TIME,
    OF_NEW_ORGANISATION,
    OF_NEW_USER,
    OF_TEMPLATE,
    SENT_TIME,
    TIME,
    USER,
    SchedulePass,
    SourceColumn,
    SourceTable,
    System,
)
from scheduling.models import ScheduleStatus


def _column(names: str, target: str, rule: str = "as it is", *, required: bool = True) -> SourceColumn:
    found = tuple(names.split())
    return SourceColumn(found[0], found, target, rule, required=required)


def _authorship(table: str) -> tuple[SourceColumn, ...]:
    return (
        _column("created_by_id", f"{table}.created_by", USER, required=False),
        _column("updated_by_id", f"{table}.updated_by", USER, required=False),
        _column("created_at", f"{table}.created_at", f"{TIME}; null is `updated_at`, else 2000-01-01", required=False),
        _column("updated_at", f"{table}.updated_at", f"{TIME}; null is `created_at`", required=False),
    )


_ORGANISATION = SourceTable(
    "organisation",
    "organisation",
    (
        _column("id", "–", "finds the organisation of other rows"),
        _column("clerk_org_id clerk_id clerk_organisation_id", "organisations.organisation_id"),
        _column("name", "organisations.name", OF_NEW_ORGANISATION, required=False),
        _column("slug", "organisations.slug", OF_NEW_ORGANISATION, required=False),
    ),
)
_USER = SourceTable(
    "user",
    "user",
    (
        _column("id", "–", "finds the user of other rows"),
        _column("clerk_id", "users.clerk_id", "a user without one is rejected"),
        _column("first_name", "users.first_name", OF_NEW_USER, required=False),
        _column("last_name", "users.last_name", OF_NEW_USER, required=False),
        _column("email", "users.email", OF_NEW_USER, required=False),
    ),
)
_MEMBERSHIP = SourceTable(
    "membership",
    "organisationmembership",
    (
        _column("id", "–", "the order of reading"),
        _column("organisation_id", "memberships.organisation_id", "a membership without its organisation is rejected"),
        _column("user_id", "memberships.user_id", "a membership without its user is rejected"),
        _column("role", "memberships.role", "without `org:`; null is `member`", required=False),
    ),
)
_CONTACT = SourceTable(
    "contact",
    "contact",
    (
        _column("id", "moved_rows.old_id", "a new id is assigned"),
        _column("organisation_id", "contacts.organisation_id"),
        _column("first_name", "contacts.first_name", "cleaned; null is empty; at most 100 characters"),
        _column("last_name", "contacts.last_name", "cleaned; null is empty; at most 100 characters"),
        _column("phone", "contacts.phone", "E.164; rows with one phone become one contact"),
        _column("email", "contacts.email", "empty when it is no address", required=False),
        _column("company", "contacts.company", "cleaned; null is empty; at most 200 characters", required=False),
        _column("user_id", "contacts.user_id", "null for a user who is no member", required=False),
        _column("is_active", "contacts.is_active", ACTIVE),
        _column("opt_out", "contacts.opt_out", "null is false; the source is `manual`"),
        *_authorship("contacts"),
    ),
)
_GROUP = SourceTable(
    "group",
    "contactgroup",
    (
        _column("id", "moved_rows.old_id", "a new id is assigned"),
        _column("organisation_id", "groups.organisation_id"),
        _column("name", "groups.name", "cleaned; null is `Group` and the old id; at most 200 characters"),
        _column("description", "groups.description", "cleaned; null is empty; at most 1000 characters", required=False),
        _column("is_active", "groups.is_active", ACTIVE),
        *_authorship("groups"),
    ),
)
_MEMBER = SourceTable(
    "member",
    "contactgroupmember",
    (
        _column("id", "moved_rows.old_id"),
        _column("group_id", "group_members.group_id"),
        _column("contact_id", "group_members.contact_id"),
    ),
)
_TEMPLATE = SourceTable(
    "template",
    "template",
    (
        _column("id", "moved_rows.old_id", "a new id is assigned"),
        _column("organisation_id", "templates.organisation_id"),
        _column("name", "templates.name", "cleaned; null is `Template` and the old id; at most 200 characters"),
        _column("text content body", "templates.text", "an empty one is rejected; version 1"),
        _column("is_active", "templates.is_active", ACTIVE),
        *_authorship("templates"),
    ),
)
_CONFIG = SourceTable(
    "config",
    "config",
    (
        _column("id", "moved_rows.old_id", "a new id is assigned"),
        _column("organisation_id", "configs.organisation_id"),
        _column("name", "configs.name", "a known name in small letters"),
        _column("value", "configs.value", "checked as in the API; config `sender` is rejected"),
    ),
)
_SCHEDULE = SourceTable(
    "schedule",
    "schedule",
    (
        _column("id", "moved_rows.old_id", "a new id is assigned"),
        _column("organisation_id", "schedules.organisation_id"),
        _column(
            "name",
            "schedules.name",
            "cleaned; null of a batch is `Batch` and the old id; at most 200 characters",
            required=False,
        ),
        _column("parent_id", "schedules.batch_id", "without its batch, a message becomes a single one"),
        _column("group_id", "schedules.group_id", "a batch without its group is rejected"),
        _column("contact_id", "schedules.contact_id", "null if the contact was not imported"),
        _column("phone", "schedules.phone", "E.164; null is the contact's"),
        _column(
            "template_id",
            "schedules.template_id",
            OF_TEMPLATE,
            required=False,
        ),
        _column("text message", "schedules.text", "null is that of the batch"),
        _column("message_parts", "schedules.message_parts", "1 for MMS; null is counted from the text", required=False),
        _column(
            "scheduled_time",
            "schedules.scheduled_time",
            OF_MESSAGE_TIME,
        ),
        _column("sent_time", "schedules.sent_time", SENT_TIME, required=False),
        _column("status", "schedules.status", "see the table of statuses"),
        _column("format", "schedules.format", "in small letters; null is mms with media, else sms", required=False),
        _column("media_url", "schedules.media_url", required=False),
        _column("subject", "schedules.subject", required=False),
        _column(
            "error error_message",
            "schedules.error",
            OF_FAILED,
            required=False,
        ),
        *_authorship("schedules"),
    ),
)
V2 = System(
    name="v2",
    tables=(
        *(_ORGANISATION, _USER, _MEMBERSHIP, _CONTACT, _GROUP, _MEMBER, _TEMPLATE, _CONFIG),
        _SCHEDULE,
    ),
    passes=(
        SchedulePass(_SCHEDULE, _SCHEDULE, "schedule and batch", "t.parent_id IS NULL"),
        SchedulePass(_SCHEDULE, _SCHEDULE, "batch_message", "t.parent_id IS NOT NULL"),
    ),
    # The words of v2, and those of v1 that its rows may still have.
    statuses={
        "pending": ScheduleStatus.PENDING,
        "processing": ScheduleStatus.PROCESSING,
        "sent": ScheduleStatus.SENT,
        "delivered": ScheduleStatus.DELIVERED,
        "failed": ScheduleStatus.FAILED,
        "cancelled": ScheduleStatus.CANCELLED,
        "canceled": ScheduleStatus.CANCELLED,
        "deleted": ScheduleStatus.CANCELLED,
    },
    count_parts=lambda text: measure(text).parts,
    prefix="app_",
)
