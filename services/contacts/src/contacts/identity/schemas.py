"""Who is asking, and what Clerk says of users, organisations and memberships (Clerk's wire format)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.fields import Time

ClerkId = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Stamp = Annotated[int, Field(ge=0, le=10**14)]  # seconds or milliseconds since 1970, before the year 5139


class IdentityIn(BaseModel):
    """What a verified session token claims."""

    clerk_user_id: str
    clerk_organisation_id: str
    organisation_slug: str = ""
    role: str = "member"
    first_seen_at: AwareDatetime


class IdentityOut(BaseModel):
    """Who that is here."""

    organisation_id: str
    user_id: int


class UserOut(BaseModel):
    """A member of the organisation. Read-only: Clerk is the source of truth."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    first_name: str
    last_name: str
    email: str
    clerk_id: str
    role: str
    is_active: bool
    created_at: Time
    updated_at: Time


class OrganisationContext(BaseModel):
    """The organisation of the token, and what the user may do in it."""

    clerk_org_id: str
    name: str
    slug: str
    role: str
    permissions: list[str]


class MeOut(UserOut):
    """The user who asks."""

    organisation: OrganisationContext


class ClerkEvent(BaseModel):
    """The envelope. `timestamp` may be in seconds or milliseconds, or missing in old examples."""

    type: str
    data: dict[str, Any]
    timestamp: Stamp | None = None


class EmailAddress(BaseModel):
    id: str = ""
    email_address: str = ""


class ClerkUser(BaseModel):
    """`user.created` and `user.updated`: names, username and the list of addresses can be null or empty."""

    id: ClerkId
    first_name: str | None = None
    last_name: str | None = None
    primary_email_address_id: str | None = None
    email_addresses: list[EmailAddress] | None = None
    created_at: Stamp | None = None
    updated_at: Stamp | None = None


class ClerkOrganisation(BaseModel):
    """`organization.created` and `.updated`, and the one inside a membership."""

    id: ClerkId
    name: str | None = None
    slug: str | None = None
    created_at: Stamp | None = None
    updated_at: Stamp | None = None


class PublicUser(BaseModel):
    """The user inside a membership; `identifier` is an email address as a rule."""

    user_id: ClerkId
    first_name: str | None = None
    last_name: str | None = None
    identifier: str | None = None


class ClerkMembership(BaseModel):
    """`organizationMembership.*`: the whole membership, on deletion too."""

    role: str = "org:member"
    organization: ClerkOrganisation
    public_user_data: PublicUser
    created_at: Stamp | None = None
    updated_at: Stamp | None = None


class ClerkDeleted(BaseModel):
    """`user.deleted` and `organization.deleted` say no more than which."""

    id: ClerkId


class Times(BaseModel):
    """When what an event says was so, by Clerk's clock.

    `alive_at`: it existed then, so a deletion before that is over. `updated_at`: the state it tells. `newer_than`: a
    state known from before that is older.
    """

    model_config = ConfigDict(frozen=True)

    alive_at: datetime
    updated_at: datetime
    newer_than: datetime
