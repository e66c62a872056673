"""Which service answers what: an ordered table, the first match wins."""

import re
from dataclasses import dataclass
from functools import cached_property

from common.http.app import MAX_JSON_BYTES

_MULTIPART_OVERHEAD = 65_536
IMPORT_BYTES = 10 * 1024 * 1024 + _MULTIPART_OVERHEAD
UPLOAD_BYTES = 409_600 + _MULTIPART_OVERHEAD


@dataclass(frozen=True)
class Route:
    """A template and the service behind it. `{name}` is one segment, a last `**` everything below.

    `service` "" is the gateway itself. `public` routes need no token; uncounted ones have no rate limit. `scope` is a
    rate limit of its own beside the general one. `timeout_s` is the longest silence of the service.
    """

    template: str
    service: str
    public: bool = False
    counted: bool = True
    scope: str = ""
    max_bytes: int = MAX_JSON_BYTES
    timeout_s: float = 15.0

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return template_pattern(self.template)


def template_pattern(template: str) -> re.Pattern[str]:
    """The expression for a whole path of this template."""
    parts = re.split(r"(\{\w+\}|\*\*$)", template)
    kinds = {"{": "[^/]+", "*": ".*"}
    return re.compile("".join(kinds.get(part[:1], re.escape(part)) for part in parts), re.DOTALL)


# A send may wait 30 s for its outcome (Prefer: wait), an import works while it reads. Webhooks come in bursts from a
# few addresses and are trusted by their signature; losing one to a rate limit would lose a receipt.
ROUTES = (
    Route("/api/health/", "", public=True, counted=False),
    Route("/api/schema/", "", public=True),
    Route("/api/docs/**", "", public=True),
    Route("/api/redoc/", "", public=True),
    Route("/api/contacts/import/", "contacts", scope="import", max_bytes=IMPORT_BYTES, timeout_s=120.0),
    Route("/api/contacts/{id}/schedules/", "scheduling"),
    Route("/api/contacts/{id}/messages/", "delivery"),
    Route("/api/contacts/**", "contacts"),
    Route("/api/groups/**", "contacts"),
    Route("/api/users/**", "contacts"),
    Route("/api/webhooks/clerk/", "contacts", public=True, counted=False),
    Route("/api/sms/send/", "scheduling", scope="sms", timeout_s=45.0),
    Route("/api/sms/send-to-group/", "scheduling", scope="sms", timeout_s=45.0),
    Route("/api/sms/send-mms/", "scheduling", scope="sms", timeout_s=45.0),
    Route("/api/sms/preview/", "scheduling"),
    Route("/api/sms/upload-file/", "delivery", max_bytes=UPLOAD_BYTES, timeout_s=60.0),
    Route("/api/templates/**", "scheduling"),
    Route("/api/schedules/**", "scheduling"),
    Route("/api/group-schedules/**", "scheduling"),
    Route("/api/stats/**", "scheduling"),
    Route("/api/configs/**", "delivery"),
    Route("/api/messages/**", "delivery"),
    Route("/api/webhooks/providers/**", "delivery", public=True, counted=False),
    Route("/media/**", "delivery", public=True, counted=False),
)


def normalise(path: str) -> str:
    """The path as services know it: `/api/v2/…` is `/api/…`, and an API path ends in a slash."""
    if path.startswith("/api/v2/"):
        path = "/api/" + path[8:]
    if path.startswith("/api/") and not path.endswith("/") and not path.startswith("/api/docs/"):
        path += "/"
    return path


def find_route(path: str) -> Route | None:
    """The route of a normalised path. Dot segments lead nowhere: what they mean is not left to the next server."""
    if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
        return None
    return next((route for route in ROUTES if route.pattern.fullmatch(path)), None)
