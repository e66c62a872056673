"""Contacts as they are sent and shown."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import email_validator
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from common.events import ContactState
from common.fields import Audit, Id, Time, bounded_text
from common.phones import normalise_phone, show_phone

_PLAIN_EMAIL = re.compile(
    r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z][a-zA-Z0-9-]{0,61}[a-zA-Z0-9]"
)


def check_email(email: str) -> str:
    """The address as it was given, or ValueError. The shape decides, no look-up; "" is none."""
    if not email or (len(email) <= 254 and _PLAIN_EMAIL.fullmatch(email)):
        return email
    try:
        # Quoted and international addresses are left to the library, which takes too long for 100,000 rows.
        email_validator.validate_email(email, check_deliverability=False, test_environment=True)
    except email_validator.EmailNotValidError:
        raise ValueError("Enter a valid email address.") from None
    return email


def _to_text(given: Any) -> Any:
    """A phone may come as a JSON number, as spreadsheets and their exports write it."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Phone = Annotated[
    str,
    AfterValidator(normalise_phone),
    BeforeValidator(_to_text),
    Field(examples=["0412 345 678"], description="an Australian mobile number in any usual spelling"),
]
OptOutSource = Literal["manual", "reply", "provider"]
if TYPE_CHECKING:
    Name: TypeAlias = str
    Email: TypeAlias = str
    Company: TypeAlias = str
else:
    Name = bounded_text(100)
    Email = Annotated[bounded_text(254), AfterValidator(check_email)]
    Company = bounded_text(200)


class ContactFields(BaseModel):
    """What a person can set. Only `user` may be null."""

    first_name: Name = ""
    last_name: Name = ""
    phone: Phone = ""
    email: Email = ""
    company: Company = ""
    user: Id | None = Field(None, description="the assigned user's id")
    is_active: bool = True
    opt_out: bool = False


class ContactCreate(ContactFields):
    """A contact as POST takes it."""

    phone: Phone


class ContactPatch(ContactFields):
    """The fields to change; what is left out stays."""

    confirm_opt_in: bool = Field(
        False,
        description="with `opt_out: false` for a number that answered STOP: the organisation confirms that the person"
        " consented again",
    )


class ContactPut(ContactPatch):
    """A contact as PUT takes it."""

    phone: Phone


class _Contact(BaseModel):
    id: int
    first_name: str
    last_name: str
    phone: Annotated[str, BeforeValidator(show_phone), Field(examples=["0412345678"])]
    email: str
    company: str
    user: int | None = Field(validation_alias="user_id")
    is_active: bool
    opt_out: bool
    opted_out_at: Time | None
    opt_out_source: OptOutSource | None
    opt_out_message_id: Annotated[int | None, Field(description="the message in which the person said STOP")]


class ContactOut(Audit, _Contact):
    """A contact as everybody sees it."""

    model_config = ConfigDict(from_attributes=True)


class ImportProblem(BaseModel):
    """A cell that kept its row out. `row` counts as the spreadsheet does: the header is 1."""

    model_config = ConfigDict(from_attributes=True)

    row: int
    column: str
    value: str
    error: str


class ImportOut(BaseModel):
    """What became of a file's rows; the first 1,000 errors."""

    total: int
    imported: int
    updated: int | None = Field(None, description="only with on_duplicate=update")
    failed: int
    errors: list[ImportProblem]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a file is imported: only tried, its contacts put in a group, those that are there changed."""

    dry_run: bool = False
    group_id: int | None = None
    update_existing: bool = False


class RecipientIn(BaseModel):
    """Whom a message is for: a contact, a phone, or both."""

    contact_id: Id | None = None
    phone: Phone | None = None


class RecipientOut(BaseModel):
    """What scheduling must know of a recipient before it takes a message; `refused` says why it must not."""

    contact: ContactState | None
    phone: str
    refused: str | None


class EligibleMembers(BaseModel):
    """A page of a group's members that may be written to, and the `after` of the next page."""

    members: list[ContactState]
    next: int | None
