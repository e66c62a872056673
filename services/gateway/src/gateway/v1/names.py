"""The table of v1: what becomes of its paths, of the names in its queries and bodies, and of its statuses.

Everything else of this package applies this table. Names that are not in it change their case only: `firstName` is
`first_name`. docs/moving-in.md shows the table to people.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from gateway.routes import template_pattern

PREFIX = "/api/v1"


@dataclass(frozen=True)
class Path:
    """A path of v1 below `/api/v1`, and the path that answers it today.

    `limit` is the page size that v1 had without `?limit=`. `status_format`: the route takes `?status_format=v1`.
    `statuses`: the answer has the status of a schedule, and the route does not take `?status_format=v1`.
    `contact_id` is v1's name of the contact in a request, for the errors about it.
    """

    v1: str
    today: str
    limit: int | None = None
    status_format: bool = False
    statuses: bool = False
    contact_id: str = "customerId"

    @cached_property
    def v1_pattern(self) -> re.Pattern[str]:
        return template_pattern(PREFIX + self.v1)

    @cached_property
    def today_pattern(self) -> re.Pattern[str]:
        return template_pattern(self.today)


# The first match wins.
PATHS = (
    Path("/customers", "/api/contacts/", limit=10),
    Path("/customers/import-customers", "/api/contacts/import/"),
    Path("/customers/imports", "/api/contacts/imports/", limit=10),
    Path("/customers/imports/{id}", "/api/contacts/imports/{id}/"),
    Path("/customers/{id}", "/api/contacts/{id}/"),
    Path("/customers/{id}/schedules", "/api/contacts/{id}/schedules/", limit=50, status_format=True),
    Path("/groups", "/api/groups/", limit=10),
    Path("/groups/{id}", "/api/groups/{id}/", limit=10),
    Path("/groups/{id}/customers", "/api/groups/{id}/members/"),
    Path("/templates", "/api/templates/", limit=10),
    Path("/templates/{id}", "/api/templates/{id}/"),
    Path("/schedules", "/api/schedules/", limit=50, status_format=True),
    Path("/schedules/{id}", "/api/schedules/{id}/", status_format=True),
    Path("/group-schedules", "/api/group-schedules/", limit=50, status_format=True),
    Path("/group-schedules/{id}", "/api/group-schedules/{id}/", limit=50, status_format=True),
    Path("/me", "/api/users/me/"),
    Path("/users", "/api/users/", limit=10),
    Path("/users/{id}", "/api/users/{id}/"),
    Path("/stats/monthly", "/api/stats/monthly/"),
    Path("/sms/send", "/api/sms/send/", statuses=True, contact_id="contactId"),
    Path("/sms/send-to-group", "/api/sms/send-to-group/"),
    Path("/sms/send-mms", "/api/sms/send-mms/", statuses=True, contact_id="contactId"),
    Path("/sms/upload-file", "/api/sms/upload-file/"),
)

# Name in an answer of today → name in an answer of v1, where more than the case differs.
ANSWERED = {
    "is_active": "active",
    "contact": "customerId",
    "contact_ids": "customerIds",
    "group": "groupId",
    "template": "templateId",
    "user": "userId",
    "created_by": "createdById",
    "updated_by": "updatedById",
}
# v1 calls the rows of a page `data`. `results` that is not a list has the numbers of a group send, also in v1.
ROWS, V1_ROWS = "results", "data"

# Name in a query or a body of v1 → name of today, where more than the case differs. References take the names that end
# in `_id`, because every route knows these. The exception is the user of a contact.
REQUESTED = {
    "active": "is_active",
    "customerId": "contact_id",
    "customerIds": "contact_ids",
    "userId": "user",
    "createdById": "created_by",
    "updatedById": "updated_by",
}

# Status of a schedule today → status of v1. Routes with `status_format` apply it themselves, also to queries.
STATUSES = {
    "pending": "PENDING",
    "processing": "PENDING",
    "sent": "SENT",
    "delivered": "SENT",
    "failed": "FAILED",
    "cancelled": "DELETED",
}

_SNAKE = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
_CAMEL = re.compile(r"(?<=[a-z0-9])[A-Z]")


@lru_cache(4096)
def to_v1(name: str) -> str:
    """Return the name in v1 of a field of today."""
    return ANSWERED.get(name) or _SNAKE.sub(lambda found: found[1].upper(), name)


@lru_cache(4096)
def to_today(name: str) -> str:
    """Return today's name of a field or a query parameter of v1."""
    if name in REQUESTED:
        return REQUESTED[name]
    return _CAMEL.sub(lambda found: "_" + found[0].lower(), name) if name[:1].islower() else name


def find_path(path: str) -> Path | None:
    """Return the row of the table for a requested path, with or without a slash at its end."""
    path = path.removesuffix("/")
    return next((row for row in PATHS if row.v1_pattern.fullmatch(path)), None)


def path_today(row: Path, path: str) -> str:
    """Return the path that answers a requested path of the row."""
    return _fill(row.v1_pattern, path.removesuffix("/"), row.today)


def path_in_v1(path: str) -> str:
    """Return the path of v1 for a path of today, or the same path when v1 has none."""
    row = next((row for row in PATHS if row.today_pattern.fullmatch(path)), None)
    return path if row is None else PREFIX + _fill(row.today_pattern, path, row.v1)


def _fill(pattern: re.Pattern[str], path: str, template: str) -> str:
    found = pattern.fullmatch(path)
    values = iter(found.groups() if found else ())
    return re.sub(r"\{\w+\}", lambda _: next(values), template)
