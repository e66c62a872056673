"""Convert rows of an earlier system. A conversion returns the row or raises, and adds its changes to the notes."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from common.fields import clean_text, is_blank
from common.moved_rows import OldId
from common.phones import InvalidPhone, normalise_phone
from contacts.contacts.rules import check_email
from contacts.moving_in.schemas import ContactIn, GroupIn, MemberIn, MovedContact
from cooee.moving_in.columns import System
from cooee.moving_in.source import Row
from delivery.configs.rules import SPECS
from delivery.moving_in.schemas import ConfigIn
from scheduling.models import OPEN, ScheduleKind, ScheduleStatus
from scheduling.moving_in.schemas import ScheduleIn, TemplateIn

# The times of a row that has none. It must be the same in every run.
_NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_EXPIRED = "Its time had passed when the organisation moved here, so it was not sent."
_BATCH_ENDED = "Its batch had ended when the organisation moved here, so it was not sent."
_UNKNOWN = "It was being sent when the organisation moved here. Whether it was sent is not known."
_FAILED = "The earlier system could not send it."


T = TypeVar("T")


class RowRejected(Exception):
    """A row cannot be imported. The message says why, without the values of the row."""


class PendingCutOver(Exception):
    """A row is imported at the cut-over only, because the earlier system may still send it."""


@dataclass
class ImportContext:
    """The rows here that those of an earlier system refer to, and the choices of the operator.

    `organisations` and `users` are ids here by old id, and `memberships` are (organisation, user). `unknown_users`
    counts the references to other users. `notes` collects what was changed on the way of the current row.
    """

    system: System
    now: datetime
    is_cut_over: bool = False
    sends_overdue: bool = False
    organisations: dict[int, str] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    memberships: set[tuple[str, int]] = field(default_factory=set)
    unknown_users: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def organisation(self, row: Row) -> str:
        """Return the organisation of a row. Raises RowRejected."""
        organisation = self.organisations.get(row["organisation_id"])
        if organisation is None:
            raise RowRejected("Its organisation was not imported.")
        return organisation

    def user(self, old_id: int | str | None) -> int | None:
        """Return the id of a user. Return None for an unknown one, and count it."""
        if old_id is None:
            return None
        user_id = self.users.get(str(old_id))
        if user_id is None:
            self.unknown_users[str(old_id)] += 1
        return user_id

    def status(self, given: str | None) -> ScheduleStatus | None:
        """Return what a status means here, None for an unknown one."""
        return self.system.statuses.get((given or "").strip().lower())


@dataclass(frozen=True)
class References:
    """The rows here that a page refers to, by organisation and old id.

    `batch_messages` are rows of the page that an earlier run imported as messages of a batch, and that have none now.
    """

    contacts: Mapping[OldId, MovedContact]
    groups: Mapping[OldId, int]
    templates: Mapping[OldId, int] = field(default_factory=dict)
    batches: Mapping[OldId, int] = field(default_factory=dict)
    batch_messages: Collection[OldId] = ()


def assume_imported(contacts: Collection[OldId], groups: Collection[OldId]) -> References:
    """Return references under which all of these contacts and groups were imported, for a dry run."""
    some_one = MovedContact(contact_id=1, version=1, phone="+61400000000", first_name="", last_name="", company="")
    return References(dict.fromkeys(contacts, some_one), dict.fromkeys(groups, 1))


def _time(row: Row, name: str) -> datetime | None:
    value: datetime | None = row[name]
    if value is None:
        return None
    if not 1990 <= value.year <= 2100:
        raise RowRejected(f"Its {name} is not between the years 1990 and 2100.")
    if value.tzinfo is UTC:
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _authorship(context: ImportContext, row: Row) -> dict[str, Any]:
    updated = _time(row, "updated_at")
    created = _time(row, "created_at") or updated or _NO_TIME
    return {
        "created_by": context.user(row["created_by_id"]),
        "updated_by": context.user(row["updated_by_id"]),
        "created_at": created,
        "updated_at": updated or created,
    }


def month_of(moment: datetime) -> date:
    """Return the first day of a time's month, in UTC."""
    in_utc = moment.astimezone(UTC)
    return date(in_utc.year, in_utc.month, 1)


def _text(context: ImportContext, row: Row, name: str, length: int) -> str:
    text = clean_text(row[name] or "")
    if len(text) > length:
        context.notes.append(f"{name} was cut to {length} characters")
    return text[:length]


def _name(context: ImportContext, row: Row, noun: str) -> str:
    name = _text(context, row, "name", 200)
    if is_blank(name):
        context.notes.append("it had no name")
        return f"{noun} {row['id']}"
    return name


def _phone(given: str | None) -> str:
    try:
        return normalise_phone(given or "")
    except InvalidPhone:
        raise RowRejected("Its phone is no Australian mobile number.") from None


def to_contact(context: ImportContext, row: Row) -> ContactIn:
    """Return a contact."""
    organisation = context.organisation(row)
    email, user = _text(context, row, "email", 254), context.user(row["user_id"])
    try:
        check_email(email)
    except ValueError:
        context.notes.append("email was no address and was left out")
        email = ""
    if row["user_id"] is not None and (organisation, user) not in context.memberships:
        context.notes.append("its user is no member and was left out")
        user = None
    authorship = _authorship(context, row)
    return ContactIn(
        old_id=row["id"],
        organisation_id=organisation,
        month=month_of(authorship["created_at"]),
        first_name=_text(context, row, "first_name", 100),
        last_name=_text(context, row, "last_name", 100),
        phone=_phone(row["phone"]),
        email=email,
        company=_text(context, row, "company", 200),
        user_id=user,
        is_active=row["is_active"] is not False,
        opt_out=row["opt_out"] is True,
        opted_out_at=authorship["updated_at"] if row["opt_out"] else None,
        **authorship,
    )


def to_group(context: ImportContext, row: Row) -> GroupIn:
    """Return a group."""
    authorship = _authorship(context, row)
    return GroupIn(
        old_id=row["id"],
        organisation_id=context.organisation(row),
        month=month_of(authorship["created_at"]),
        name=_name(context, row, "Group"),
        description=_text(context, row, "description", 1000),
        is_active=row["is_active"] is not False,
        **authorship,
    )


def to_member(context: ImportContext, row: Row, references: References) -> MemberIn:
    """Return a membership of a group. `row` has the organisations of the group and of the contact."""
    if row["group_organisation"] is None or row["contact_organisation"] is None:
        raise RowRejected("Its group or its contact does not exist.")
    if row["group_organisation"] != row["contact_organisation"]:
        raise RowRejected("Its group and its contact belong to two organisations.")
    organisation = context.organisations.get(row["group_organisation"])
    if organisation is None:
        raise RowRejected("Its organisation was not imported.")
    group_id = references.groups.get(OldId(organisation, row["group_id"]))
    contact = references.contacts.get(OldId(organisation, row["contact_id"]))
    if group_id is None or contact is None:
        raise RowRejected("Its group or its contact was not imported.")
    return MemberIn(row["id"], organisation, group_id, contact.contact_id)


def to_template(context: ImportContext, row: Row) -> TemplateIn:
    """Return a template."""
    text, authorship = clean_text(row["text"] or ""), _authorship(context, row)
    if is_blank(text):
        raise RowRejected("It has no text.")
    return TemplateIn(
        old_id=row["id"],
        organisation_id=context.organisation(row),
        month=month_of(authorship["created_at"]),
        name=_name(context, row, "Template"),
        text=text,
        is_active=row["is_active"] is not False,
        **authorship,
    )


def to_config(context: ImportContext, row: Row) -> ConfigIn:
    """Return a config."""
    name = clean_text(row["name"] or "")
    if is_blank(name) or row["value"] is None:
        raise RowRejected("It has no name or no value.")
    known = name.lower() if name.lower() in SPECS else name
    return ConfigIn(row["id"], context.organisation(row), known, clean_text(row["value"]))


def kind_of(row: Row) -> ScheduleKind:
    """Return what a row of the schedules is.

    `row` has `parent_group`, the group of its batch. A message whose batch, or the group of it, is missing is single.
    """
    if row["parent_id"] is not None and row["parent_group"] is not None:
        return ScheduleKind.BATCH_MESSAGE
    is_batch: bool | None = row.get("is_batch")  # a system with a table of batches says it
    if is_batch is None:
        is_batch = row["parent_id"] is None and row["contact_id"] is None and is_blank(row["phone"] or "")
    return ScheduleKind.BATCH if is_batch else ScheduleKind.SINGLE


def to_schedule(context: ImportContext, row: Row, kind: ScheduleKind, references: References) -> ScheduleIn:
    """Return a schedule of a kind. Raises PendingCutOver for one that the earlier system may still send."""
    organisation = context.organisation(row)
    status = context.status(row["status"])
    if status is None:
        raise RowRejected("Its status is unknown.")
    _check_cut_over(context, row, kind, status)
    contact = _lookup(references.contacts, organisation, row["contact_id"])
    batch_id, group_id = _batch_and_group(organisation, row, kind, references)
    authorship = _authorship(context, row)
    sent, given = _time(row, "sent_time"), _time(row, "scheduled_time")
    moment = given or _time(row, "parent_time") or sent or authorship["created_at"]
    text, form = clean_text(row["text"] or row["parent_text"] or ""), _format(row)
    _note_missing(context, row, kind, contact)
    became, error, category = _outcome(context, row, status, kind=kind, moment=moment)
    if became == ScheduleStatus.PENDING:
        _check_sendable(kind, text, form, row["media_url"])
    return ScheduleIn(
        old_id=row["id"],
        organisation_id=organisation,
        month=month_of(moment),
        old_status=status,
        kind=kind,
        batch_id=batch_id,
        group_id=group_id,
        group_name=(clean_text(row["group_name"] or "") or f"Group {row['group_id']}") if group_id else None,
        contact_id=contact.contact_id if contact else None,
        contact_version=contact.version if contact else 0,
        phone=None if kind == ScheduleKind.BATCH else _phone_of(row, contact),
        fields=_fields(contact),
        name=_name(context, row, "Batch") if kind == ScheduleKind.BATCH else _text(context, row, "name", 200) or None,
        template_id=_lookup(references.templates, organisation, row["template_id"]),
        text=text,
        message_parts=None
        if status == ScheduleStatus.PENDING or kind == ScheduleKind.BATCH
        else _parts(context, row, form, text),
        scheduled_time=moment,
        format=form,
        media_url=row["media_url"] or None,
        subject=row["subject"] or None,
        sent_time=None if status == ScheduleStatus.PENDING else sent,
        status=became,
        error=error,
        failure_category=category,
        **authorship,
    )


def _lookup(new_by_old: Mapping[OldId, T], organisation: str, old_id: int | None) -> T | None:
    """Return the value for an old id, or None when the row refers to nothing or the target was not imported."""
    return new_by_old.get(OldId(organisation, old_id)) if old_id is not None else None


def _check_cut_over(context: ImportContext, row: Row, kind: ScheduleKind, status: ScheduleStatus) -> None:
    if status not in OPEN and context.status(row["parent_status"]) not in OPEN:
        return
    if not context.is_cut_over:
        raise PendingCutOver
    if row["parent_id"] is not None and kind == ScheduleKind.SINGLE and status in OPEN:
        raise RowRejected("It is pending, and its batch or the group of it is missing.")


def _note_missing(context: ImportContext, row: Row, kind: ScheduleKind, contact: MovedContact | None) -> None:
    if row["parent_id"] is not None and kind == ScheduleKind.SINGLE:
        context.notes.append("its batch, or the group of it, is missing: it was imported as a single message")
    if row["contact_id"] is not None and contact is None:
        context.notes.append("its contact was not imported: only the phone was")


def _fields(contact: MovedContact | None) -> dict[str, str]:
    if contact is None:
        return {}
    return {name: getattr(contact, name) for name in ("first_name", "last_name", "company")}


def _phone_of(row: Row, contact: MovedContact | None) -> str:
    given = row["phone"]
    if contact is not None and is_blank(given or ""):
        return contact.phone
    return _phone(given)


def _batch_and_group(
    organisation: str, row: Row, kind: ScheduleKind, references: References
) -> tuple[int | None, int | None]:
    if references.batch_messages and OldId(organisation, row["id"]) in references.batch_messages:
        raise RowRejected("It is here as a message of a batch. Its batch, or the group of that, is gone since.")
    group_id = _lookup(references.groups, organisation, row["group_id"])
    if kind == ScheduleKind.BATCH and group_id is None:
        raise RowRejected("It is a batch, and its group is missing. Its messages are imported as single ones.")
    if kind != ScheduleKind.BATCH_MESSAGE:
        return None, group_id
    batch_id = references.batches.get(OldId(organisation, row["parent_id"]))
    if batch_id is None:
        raise RowRejected("Its batch was not imported.")
    return batch_id, None


def _format(row: Row) -> str:
    given = (row["format"] or "").strip().lower()
    if not given:
        return "mms" if row["media_url"] else "sms"
    if given not in ("sms", "mms"):
        raise RowRejected("Its format is unknown.")
    return given


def _parts(context: ImportContext, row: Row, form: str, text: str) -> int:
    if form == "mms":
        return 1
    given: int | None = row["message_parts"]
    return given if given is not None and 0 < given <= 1000 else context.system.count_parts(text)


def _check_sendable(kind: ScheduleKind, text: str, form: str, media_url: str | None) -> None:
    if form == "mms" and not media_url:
        raise RowRejected("It is a pending MMS without media.")
    if is_blank(text) and form == "sms":
        raise RowRejected("It is pending and has no text.")


def _outcome(
    context: ImportContext, row: Row, status: ScheduleStatus, *, kind: ScheduleKind, moment: datetime
) -> tuple[ScheduleStatus, str | None, str | None]:
    """Return the status of a schedule here, with its error and its failure category."""
    if status == ScheduleStatus.FAILED:
        return status, clean_text(row["error"] or "") or _FAILED, "unknown"
    if kind == ScheduleKind.BATCH:  # its messages decide
        return (ScheduleStatus.PENDING if status in OPEN else status), None, None
    if status == ScheduleStatus.PROCESSING:
        return ScheduleStatus.FAILED, _UNKNOWN, "outcome_unknown"
    if status != ScheduleStatus.PENDING:
        return status, None, None
    of_batch = context.status(row["parent_status"])
    if of_batch == ScheduleStatus.CANCELLED:
        return ScheduleStatus.CANCELLED, None, None
    if row["parent_id"] is not None and of_batch not in OPEN:  # nothing would send it
        return ScheduleStatus.FAILED, _BATCH_ENDED, "expired"
    if moment <= context.now and not context.sends_overdue:
        return ScheduleStatus.FAILED, _EXPIRED, "expired"
    return status, None, None
