"""Delivery's named failures."""

from common.errors import Forbidden, Invalid


class LimitReached(Invalid):
    """A month's limit leaves too little. The body says `remaining`, `required` and `limit`."""

    code, default = "limit_exceeded", "The limit of this month does not leave enough."


class OrganisationClosed(Forbidden):
    default = "This organisation is closed."
