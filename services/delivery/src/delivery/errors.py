"""Delivery's own errors."""

from common.errors import Forbidden


class OrganisationClosed(Forbidden):
    default = "This organisation is closed."
