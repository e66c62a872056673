"""The table of routes: path → service. The first match wins."""

import re
from dataclasses import dataclass
from functools import cached_property

from common.http.requests import MAX_JSON_BYTES

_MULTIPART_OVERHEAD = 65_536
IMPORT_BYTES = 10 * 1024 * 1024 + _MULTIPART_OVERHEAD
UPLOAD_BYTES = 409_600 + _MULTIPART_OVERHEAD


@dataclass(frozen=True)
class Route:
    """A path template and the service that answers it.

    In a template, `{name}` is one segment, and `**` at the end is everything below. `service` "" is the gateway itself.
    `public`: the route needs no token. `counted`: the rate limits apply. `rate_limit` is a limit of the route's own, in
    addition to the general one. `max_bytes` limits the body. `timeout_s` is the longest pause of the service.
    """

    template: str
    service: str
    public: bool = False
    counted: bool = True
    rate_limit: str = ""
    max_bytes: int = MAX_JSON_BYTES
    timeout_s: float = 15.0

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return template_pattern(self.template)


def template_pattern(template: str) -> re.Pattern[str]:
    """Return the pattern that matches a whole path of a template. Its groups are the values of the segments."""
    parts = re.split(r"(\{\w+\}|\*\*$)", template)
    kinds = {"{": "([^/]+)", "*": ".*"}
    return re.compile("".join(kinds.get(part[:1], re.escape(part)) for part in parts), re.DOTALL)


# A send may wait 30 s for its outcome (Prefer: wait). An import in a request waits 5 s for its turn, and then its
# transaction may take 60 s. Webhooks are not counted: they arrive in bursts from few addresses, they are verified by
# their signatures, and a refused one could be lost.
ROUTES = (
    Route("/api/health/", "", public=True, counted=False),
    Route("/api/schema/", "", public=True),
    Route("/api/v1/schema/", "", public=True),
    Route("/api/docs/**", "", public=True),
    Route("/api/redoc/", "", public=True),
    Route("/api/contacts/import/", "contacts", rate_limit="import", max_bytes=IMPORT_BYTES, timeout_s=120.0),
    Route("/api/contacts/{id}/schedules/", "scheduling"),
    Route("/api/contacts/{id}/messages/", "delivery"),
    Route("/api/contacts/**", "contacts"),
    Route("/api/groups/**", "contacts"),
    Route("/api/users/**", "contacts"),
    Route("/api/webhooks/clerk/", "contacts", public=True, counted=False),
    Route("/api/sms/send/", "scheduling", rate_limit="sms", timeout_s=45.0),
    Route("/api/sms/send-to-group/", "scheduling", rate_limit="sms", timeout_s=45.0),
    Route("/api/sms/send-mms/", "scheduling", rate_limit="sms", timeout_s=45.0),
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
    """Return the path as the services know it: `/api/…` for `/api/v2/…`, with a slash at the end of API paths."""
    if path.startswith("/api/v2/"):
        path = "/api/" + path[8:]
    if path.startswith("/api/") and not path.endswith("/") and not path.startswith("/api/docs/"):
        path += "/"
    return path


def find_route(path: str) -> Route | None:
    """Return the route of a normalised path, or None.

    A path with dot segments has no route, because the next server could resolve them to another path.
    """
    if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
        return None
    return next((route for route in ROUTES if route.pattern.fullmatch(path)), None)
