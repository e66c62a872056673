"""The request and response bodies of contacts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from common.fields import Audit, Flag, Id, RequestBody, Time, bounded_text, show_time
from common.phones import normalise_phone, show_phone
from contacts.contacts.rules import MAX_LENGTHS, check_email


def _to_text(given: Any) -> Any:
    """Return a number as text, because spreadsheets and their exports write phones as JSON numbers."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Phone = Annotated[
    str,
    AfterValidator(normalise_phone),
    BeforeValidator(_to_text),
    Field(examples=["0491 570 006"], description="Australian mobile number in any usual spelling"),
]
if TYPE_CHECKING:
    FirstName: TypeAlias = str
    LastName: TypeAlias = str
    Email: TypeAlias = str
    Company: TypeAlias = str
else:
    FirstName = bounded_text(MAX_LENGTHS["first_name"])
    LastName = bounded_text(MAX_LENGTHS["last_name"])
    Email = Annotated[bounded_text(MAX_LENGTHS["email"]), AfterValidator(check_email)]
    Company = bounded_text(MAX_LENGTHS["company"])


class ContactFields(RequestBody):
    """The fields that a request can set. Only `user` can be null."""

    first_name: FirstName = ""
    last_name: LastName = ""
    phone: Phone = ""
    email: Email = ""
    company: Company = ""
    user: Id | None = Field(None, description="id of the assigned user, who must be a member of the organisation")
    is_active: Flag = Field(True, description="false deletes the contact, true restores it")
    opt_out: Flag = Field(False, description="true: the person does not want to get messages")


class ContactCreate(ContactFields):
    """A new contact."""

    phone: Phone


class ContactPatch(ContactFields):
    """The fields to change. Fields that are left out stay as they are."""

    confirm_opt_in: Flag = Field(
        False,
        description="Confirms that the person consented again. Needed together with `opt_out: false` when the number"
        " opted out with STOP or at the provider.",
    )


class ContactPut(ContactPatch):
    """A contact with its changes. The phone is required; other fields that are left out stay as they are."""

    phone: Phone


class _Contact(BaseModel):
    id: int
    first_name: str
    last_name: str
    phone: Annotated[str, BeforeValidator(show_phone), Field(examples=["0491570006"])]
    email: str
    company: str
    user: int | None = Field(validation_alias="user_id", description="id of the assigned user")
    is_active: bool = Field(description="false: the contact is deleted")
    opt_out: bool = Field(description="true: the person does not want to get messages")
    opted_out_at: Time | None
    opt_out_source: Annotated[
        Literal["manual", "reply", "provider"] | None,
        Field(
            description="`manual`: set in the API; `reply`: the person sent STOP; `provider`: the provider refused the"
            " number because its owner opted out there"
        ),
    ]
    opt_out_message_id: Annotated[int | None, Field(description="id of the inbound message with STOP")]


class ContactOut(Audit, _Contact):
    """A contact."""

    model_config = ConfigDict(from_attributes=True)


def render(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contact as the API shows it, from a row with `rules.SHOWN_COLUMNS`."""
    return {
        "id": row["id"],
        "first_name": row["first_name"],
        "last_name": row["last_name"],
        "phone": show_phone(row["phone"]),
        "email": row["email"],
        "company": row["company"],
        "user": row["user_id"],
        "is_active": row["is_active"],
        "opt_out": row["opt_out"],
        "opted_out_at": row["opted_out_at"] and show_time(row["opted_out_at"]),
        "opt_out_source": row["opt_out_source"],
        "opt_out_message_id": row["opt_out_message_id"],
        "created_by": row["created_by"],
        "updated_by": row["updated_by"],
        "created_at": show_time(row["created_at"]),
        "updated_at": show_time(row["updated_at"]),
    }
