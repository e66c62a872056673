"""The bodies of the routes of users, of the gateway's question, and of Clerk's webhook (in Clerk's format)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.fields import Time
from contacts.models import Role

ClerkId = Annotated[str, Field(pattern=r"^[^\x00]*$")]
# Seconds or milliseconds since 1970. The maximum keeps the time before the year 5139.
Stamp = Annotated[int, Field(ge=0, le=10**14)]


class IdentityIn(BaseModel):
    """The claims of a verified session token."""

    clerk_user_id: str
    clerk_organisation_id: str
    organisation_slug: str = ""
    role: str = Role.MEMBER.value
    first_seen_at: AwareDatetime


class IdentityOut(BaseModel):
    """The organisation and our id of the user."""

    organisation_id: str
    user_id: int


class UserOut(BaseModel):
    """A member of the organisation. Read-only, because Clerk manages users."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    first_name: str
    last_name: str
    email: str
    clerk_id: str
    role: str = Field(
        description="role in the organisation as Clerk's webhooks reported it, without `org:`; show it to people"
    )
    is_active: bool = Field(description="false: the user left the organisation or was deleted")
    created_at: Time
    updated_at: Time


class OrganisationContext(BaseModel):
    """The organisation of the session token, with the user's role and permissions in it."""

    clerk_org_id: str
    name: str
    slug: str
    role: str = Field(description="role in the session token, without `org:`; it decides what this session may do")
    permissions: list[str] = Field(description="permissions in the session token, as `org:<feature>:<permission>`")


class MeOut(UserOut):
    """The user of the session token, with the organisation.

    There are two roles, because they come from two places. `role` is the stored role, which every list of users shows.
    `organisation.role` is the role in the session token. They differ for the time between a change of the role at Clerk
    and the next session token or webhook. Decide by `organisation.role` what a page offers.
    """

    organisation: OrganisationContext


class ClerkEvent(BaseModel):
    """The envelope of all events. `timestamp` is in seconds or milliseconds. Old examples do not have it."""

    type: str
    data: dict[str, Any]
    timestamp: Stamp | None = None


class EmailAddress(BaseModel):
    id: str = ""
    email_address: str = ""


class ClerkUser(BaseModel):
    """The data of `user.created` and `user.updated`. Names and the list of addresses can be null or empty."""

    id: ClerkId
    first_name: str | None = None
    last_name: str | None = None
    primary_email_address_id: str | None = None
    email_addresses: list[EmailAddress] | None = None
    created_at: Stamp | None = None
    updated_at: Stamp | None = None


class ClerkOrganisation(BaseModel):
    """The data of `organization.created` and `organization.updated`, and the organisation of a membership."""

    id: ClerkId
    name: str | None = None
    slug: str | None = None
    created_at: Stamp | None = None
    updated_at: Stamp | None = None


class PublicUser(BaseModel):
    """The user of a membership. `identifier` usually is an email address."""

    user_id: ClerkId
    first_name: str | None = None
    last_name: str | None = None
    identifier: str | None = None


class ClerkMembership(BaseModel):
    """The data of `organizationMembership.*`: the whole membership, also when it is deleted."""

    role: str = "org:member"
    organization: ClerkOrganisation
    public_user_data: PublicUser
    created_at: Stamp | None = None
    updated_at: Stamp | None = None


class ClerkDeleted(BaseModel):
    """The data of `user.deleted` and `organization.deleted`, which have only the id."""

    id: ClerkId


class EventTimes(BaseModel):
    """The times of an event's state, by Clerk's clock.

    `existed_at`: the subject existed at this time, so an earlier deletion is outdated. `updated_at`: the time of the
    state. `newer_than`: a stored state from before this time is older.
    """

    model_config = ConfigDict(frozen=True)

    existed_at: datetime
    updated_at: datetime
    newer_than: datetime
