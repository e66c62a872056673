"""v1: Express and Prisma, for one organisation and with the users of Azure AD."""

from cooee.moving_in.columns import (
    ACTIVE,
    OF_BATCH_TIME,
    OF_FAILED,
    OF_MESSAGE_TIME,
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

# v1 has no organisations, so all of its rows have this one.
ORGANISATION = 0
_NO_ID = "CAST(NULL AS bigint)"
# Prisma's integers have 32 bits. A table of members may have both ids as its key.
_MEMBER_ID = '(CAST("groupId" AS bigint) << 32) + "customerId"'


def _column(field: str, names: str, target: str, rule: str = "as it is", *, required: bool = True) -> SourceColumn:
    return SourceColumn(field, tuple(names.split()), target, rule, required=required)


def _none(field: str, target: str, rule: str, absent: str) -> SourceColumn:
    """Return a column that v1 does not have."""
    return SourceColumn(field, (), target, rule, required=False, absent=absent)


def _organisation(table: str) -> SourceColumn:
    return _none("organisation_id", f"{table}.organisation_id", "that of `--organisation`", str(ORGANISATION))


def _authorship(table: str) -> tuple[SourceColumn, ...]:
    return (
        _column("created_by_id", "createdById", f"{table}.created_by", USER, required=False),
        _column("updated_by_id", "updatedById", f"{table}.updated_by", USER, required=False),
        _column(
            "created_at",
            "createdAt",
            f"{table}.created_at",
            f"{TIME}; null is `updated_at`, else 2000-01-01",
            required=False,
        ),
        _column("updated_at", "updatedAt", f"{table}.updated_at", f"{TIME}; null is `created_at`", required=False),
    )


_USER = SourceTable(
    "user",
    "User",
    (
        _column("id", "id", "–", "`v1_id` in `--users` finds the user here"),
        _column("azure_id", "azureId", "–", "`azure_id` in `--users` finds the user here", required=False),
        _column("email", "email", "–", "`email` in `--users` finds the user here", required=False),
    ),
)
_CONTACT = SourceTable(
    "contact",
    "Customer",
    (
        _column("id", "id", "moved_rows.old_id", "a new id is assigned"),
        _organisation("contacts"),
        _column("first_name", "firstName", "contacts.first_name", "cleaned; null is empty; at most 100 characters"),
        _column("last_name", "lastName", "contacts.last_name", "cleaned; null is empty; at most 100 characters"),
        _column("phone", "phone", "contacts.phone", "E.164; rows with one phone become one contact"),
        _column("email", "email", "contacts.email", "empty when it is no address", required=False),
        _column(
            "company", "company", "contacts.company", "cleaned; null is empty; at most 200 characters", required=False
        ),
        _column("user_id", "userId", "contacts.user_id", "null for a user who is no member", required=False),
        _column("is_active", "active", "contacts.is_active", ACTIVE),
        _column("opt_out", "optOut", "contacts.opt_out", "null is false; the source is `manual`"),
        *_authorship("contacts"),
    ),
)
_GROUP = SourceTable(
    "group",
    "CustomerGroup",
    (
        _column("id", "id", "moved_rows.old_id", "a new id is assigned"),
        _organisation("groups"),
        _column("name", "name", "groups.name", "cleaned; null is `Group` and the old id; at most 200 characters"),
        _column(
            "description",
            "description",
            "groups.description",
            "cleaned; null is empty; at most 1000 characters",
            required=False,
        ),
        _column("is_active", "active", "groups.is_active", ACTIVE),
        *_authorship("groups"),
    ),
)
_MEMBER = SourceTable(
    "member",
    "CustomerGroupMember",
    (
        SourceColumn(
            "id",
            ("id",),
            "moved_rows.old_id",
            "without this column, the ids of group and customer make one",
            required=False,
            absent=_MEMBER_ID,
        ),
        _column("group_id", "groupId", "group_members.group_id"),
        _column("contact_id", "customerId", "group_members.contact_id"),
    ),
)
_TEMPLATE = SourceTable(
    "template",
    "Template",
    (
        _column("id", "id", "moved_rows.old_id", "a new id is assigned"),
        _organisation("templates"),
        _column("name", "name", "templates.name", "cleaned; null is `Template` and the old id; at most 200 characters"),
        _column("text", "text content body message", "templates.text", "an empty one is rejected; version 1"),
        _column("version", "version", "–", "versions begin with 1 here", required=False),
        _column("is_active", "active", "templates.is_active", ACTIVE),
        *_authorship("templates"),
    ),
)
_CONFIG = SourceTable(
    "config",
    "Config",
    (
        _column("id", "id", "moved_rows.old_id", "a new id is assigned"),
        _organisation("configs"),
        _column("name", "name", "configs.name", "a known name in small letters"),
        _column("value", "value", "configs.value", "checked as in the API; config `sender` is rejected"),
    ),
)


def _message(*, is_batch: bool) -> tuple[SourceColumn, ...]:
    """Return the columns that a group schedule and a schedule have in common. A batch may have fewer of them."""
    return (
        _column(
            "template_id", "templateId", "schedules.template_id", OF_TEMPLATE,
            required=False,
        ),
        _column("text", "text message content", "schedules.text",
                "null is empty" if is_batch else "null is that of the batch",
                required=not is_batch),
        _column("scheduled_time", "scheduledTime", "schedules.scheduled_time",
                OF_BATCH_TIME if is_batch else OF_MESSAGE_TIME),
        _column("sent_time", "sentTime", "schedules.sent_time", SENT_TIME, required=False),
        _column("status", "status", "schedules.status", "see the table of statuses"),
        _column(
            "format", "format", "schedules.format", "in small letters; null is mms with media, else sms",
            required=False,
        ),
        _column("media_url", "mediaUrl", "schedules.media_url", required=False),
        _column("subject", "subject", "schedules.subject", required=False),
        _column("error", "error errorMessage", "schedules.error", OF_FAILED,
                required=False),
        *_authorship("schedules"),
        _none("is_batch", "schedules.kind", "`batch`" if is_batch else "never `batch`", str(is_batch).lower()),
    )  # fmt: skip


_BATCH = SourceTable(
    "batch",
    "GroupSchedule",
    (
        _column("id", "id", "moved_rows.old_id", "a new id is assigned"),
        _organisation("schedules"),
        _column(
            "name",
            "name",
            "schedules.name",
            "cleaned; null is `Batch` and the old id; at most 200 characters",
            required=False,
        ),
        _column("group_id", "groupId", "schedules.group_id", "a batch without its group is rejected"),
        _none("parent_id", "schedules.batch_id", "null", _NO_ID),
        _none("contact_id", "schedules.contact_id", "null", _NO_ID),
        _none("phone", "schedules.phone", "null", "NULL"),
        _none("message_parts", "schedules.message_parts", "null: its messages have them", "NULL"),
        *_message(is_batch=True),
    ),
)
_SCHEDULE = SourceTable(
    "schedule",
    "Schedule",
    (
        _column("id", "id", "moved_rows.old_id", "a new id is assigned"),
        _organisation("schedules"),
        _none("name", "schedules.name", "null", "NULL"),
        _column("parent_id", "groupScheduleId", "schedules.batch_id",
                "without its batch, a message becomes a single one"),
        SourceColumn("group_id", ("groupId",), "schedules.group_id", required=False, absent=_NO_ID),
        _column("contact_id", "customerId", "schedules.contact_id", "null if the contact was not imported"),
        _column("phone", "phone recipient", "schedules.phone", "E.164; null is the contact's", required=False),
        _column("message_parts", "messageParts", "schedules.message_parts",
                "1 for MMS; null is 2 for more than 160 characters, else 1", required=False),
        *_message(is_batch=False),
    ),
)  # fmt: skip


def _count_parts(text: str) -> int:
    """Return the parts of a text as v1 counted them, so that statistics of the past stay. Its strings are UTF-16."""
    return 2 if len(text.encode("utf-16-le")) // 2 > 160 else 1


V1 = System(
    name="v1",
    tables=(_USER, _CONTACT, _GROUP, _MEMBER, _TEMPLATE, _CONFIG, _BATCH, _SCHEDULE),
    passes=(SchedulePass(_BATCH, _BATCH, "batch"), SchedulePass(_SCHEDULE, _BATCH, "schedule and batch_message")),
    statuses={
        "pending": ScheduleStatus.PENDING,
        "sent": ScheduleStatus.SENT,
        "failed": ScheduleStatus.FAILED,
        "deleted": ScheduleStatus.CANCELLED,
    },
    count_parts=_count_parts,
    has_organisations=False,
)
