"""Delivery's own errors."""

from common.errors import Forbidden, Invalid


class LimitReached(Invalid):
    """The monthly limit leaves too few parts. The body has `remaining`, `required` and `limit`."""

    code, default = "limit_exceeded", "The limit of this month does not leave enough."


class RecipientOptedOut(Invalid):
    code, default = "opted_out", "This recipient has opted out."


class OrganisationClosed(Forbidden):
    default = "This organisation is closed."
