"""The request and response bodies of contacts."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from common.fields import Audit, Id, Time, bounded_text
from common.phones import normalise_phone, show_phone
from contacts.contacts.rules import MAX_LENGTHS, check_email


def _to_text(given: Any) -> Any:
    """Return a number as text, because spreadsheets and their exports write phones as JSON numbers."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Phone = Annotated[
    str,
    AfterValidator(normalise_phone),
    BeforeValidator(_to_text),
    Field(examples=["0412 345 678"], description="Australian mobile number in any usual spelling"),
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


class ContactFields(BaseModel):
    """The fields that a request can set. Only `user` can be null."""

    first_name: FirstName = ""
    last_name: LastName = ""
    phone: Phone = ""
    email: Email = ""
    company: Company = ""
    user: Id | None = Field(None, description="id of the assigned user, who must be a member of the organisation")
    is_active: bool = Field(True, description="false deletes the contact, true restores it")
    opt_out: bool = Field(False, description="true: the person does not want to get messages")


class ContactCreate(ContactFields):
    """A new contact."""

    phone: Phone


class ContactPatch(ContactFields):
    """The fields to change. Fields that are left out stay as they are."""

    confirm_opt_in: bool = Field(
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
    phone: Annotated[str, BeforeValidator(show_phone), Field(examples=["0412345678"])]
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
