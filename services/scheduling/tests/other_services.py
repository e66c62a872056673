"""Stand-ins for contacts and delivery: HTTP servers with the wire format of their internal APIs, in memory."""

from collections.abc import Awaitable, Callable
from typing import Any, Self

import jwt
from aiohttp import web

ORGANISATION = web.RequestKey("organisation", str)
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StandIn:
    """A server on a free port that accepts internal tokens. It answers 503 while `unavailable` is set."""

    audience = ""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first test."""
        self.unavailable = False
        self.calls: list[tuple[str, str, Any]] = []

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the stand-in."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        @web.middleware
        async def middleware(request: web.Request, handler: Respond) -> web.StreamResponse:
            if self.unavailable:
                return web.json_response({"detail": "Unavailable.", "code": "unavailable"}, status=503)
            token = request.headers["Authorization"].removeprefix("Bearer ")
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], audience=self.audience)
            assert claims["iss"] == "scheduling"
            request[ORGANISATION] = claims["organisation_id"]
            body = await request.json() if request.can_read_body else None
            self.calls.append((request.method, request.path, body))
            return await handler(request)

        app = web.Application(middlewares=[middleware])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def not_found() -> web.Response:
    """Return the answer for an object that the organisation does not have."""
    return web.json_response({"detail": "Not found.", "code": "not_found"}, status=404)


class ContactsStandIn(StandIn):
    """Contacts and groups by organisation."""

    audience = "contacts"

    def reset(self) -> None:
        super().reset()
        self.contacts: dict[int, dict[str, Any]] = {}
        self.groups: dict[int, dict[str, Any]] = {}

    def add(self, organisation: str, fields: dict[str, str] | None = None, **state: Any) -> dict[str, Any]:
        """Add a contact and return its state. `fields` replace the default placeholder values."""
        number = len(self.contacts) + 1
        contact = {
            "contact_id": number,
            "version": 1,
            "phone": f"+614910{number:05d}",
            "fields": {"first_name": f"First{number}", "last_name": f"Last{number}", **(fields or {})},
            "is_active": True,
            "opt_out": False,
            **state,
        }
        self.contacts[number] = {**contact, "organisation": organisation}
        return contact

    def add_group(self, organisation: str, contact_ids: list[int], **values: Any) -> int:
        """Add a group and return its id."""
        number = len(self.groups) + 1
        group = {"id": number, "name": f"Group {number}", "is_active": True, **values}
        self.groups[number] = {**group, "organisation": organisation, "members": sorted(contact_ids)}
        return number

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/internal/recipients/", self._recipients),
            web.get(r"/internal/contacts/{id:\d+}/", self._contact),
            web.get(r"/internal/groups/{id:\d+}/", self._group),
            web.get(r"/internal/groups/{id:\d+}/audience/", self._audience),
            web.get(r"/internal/groups/{id:\d+}/members/", self._members),
        ]

    def _find(self, table: dict[int, dict[str, Any]], organisation: str, number: int) -> dict[str, Any] | None:
        found = table.get(number)
        return found if found is not None and found["organisation"] == organisation else None

    async def _recipients(self, request: web.Request) -> web.Response:
        given = (await request.json())["recipients"]
        return web.json_response({"recipients": [self._recipient(request[ORGANISATION], **one) for one in given]})

    def _recipient(self, organisation: str, contact_id: int | None, phone: str | None) -> dict[str, Any]:
        contact = None
        if contact_id is not None:
            contact = self._find(self.contacts, organisation, contact_id)
            if contact is None:
                return {"contact": None, "phone": "", "refused": "not_found"}
            phone = phone or contact["phone"]
        same = [c for c in self.contacts.values() if c["organisation"] == organisation and c["phone"] == phone]
        if contact is None:
            contact = next((c for c in same if c["is_active"]), None)
        refused = None
        if any(c["opt_out"] for c in [*same, *([contact] if contact else [])]):
            refused = "opted_out"
        elif contact is not None and not contact["is_active"]:
            refused = "inactive"
        return {"contact": contact, "phone": phone, "refused": refused}

    async def _contact(self, request: web.Request) -> web.Response:
        contact = self._find(self.contacts, request[ORGANISATION], int(request.match_info["id"]))
        return web.json_response(contact) if contact else not_found()

    def _eligible(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        members = [self.contacts[number] for number in group["members"]]
        return [m for m in members if m["is_active"] and not m["opt_out"]]

    async def _group(self, request: web.Request) -> web.Response:
        group = self._find(self.groups, request[ORGANISATION], int(request.match_info["id"]))
        return web.json_response(self._state(group)) if group else not_found()

    def _state(self, group: dict[str, Any]) -> dict[str, Any]:
        return {name: group[name] for name in ("id", "name", "is_active")}

    async def _audience(self, request: web.Request) -> web.Response:
        group = self._find(self.groups, request[ORGANISATION], int(request.match_info["id"]))
        if group is None:
            return not_found()
        count = len(self._eligible(group))
        answer = {"group": self._state(group), "eligible_count": count, **self._page(group, request)}
        if group.get("is_emptied_next"):  # by another request
            group["members"] = []
        return web.json_response(answer)

    async def _members(self, request: web.Request) -> web.Response:
        group = self._find(self.groups, request[ORGANISATION], int(request.match_info["id"]))
        return web.json_response(self._page(group, request)) if group else not_found()

    def _page(self, group: dict[str, Any], request: web.Request) -> dict[str, Any]:
        after, limit = int(request.query.get("after", 0)), int(request.query["limit"])
        found = [m for m in self._eligible(group) if m["contact_id"] > after]
        page = found[:limit]
        return {"members": page, "next": page[-1]["contact_id"] if len(found) > limit else None}


class DeliveryStandIn(StandIn):
    """Reservations and the states of messages. `remaining` is what the limit has left, None without a limit.

    `opted_out` has the phones that opted out.
    """

    audience = "delivery"

    def reset(self) -> None:
        super().reset()
        self.remaining: int | None = None
        self.opted_out: set[str] = set()
        self.reservations: dict[str, dict[str, Any]] = {}
        self.released: list[str] = []
        self.states: dict[tuple[int, int], dict[str, Any]] = {}
        self.intake_lag = 0
        self.limits: dict[str, Any] = {"sms_limit": None, "mms_limit": None, "timezone": "Australia/Adelaide"}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/internal/reservations/", self._reserve),
            web.delete("/internal/reservations/{reference}/", self._release),
            web.post("/internal/messages/states/", self._states),
            web.get("/internal/limits/", self._limits),
        ]

    async def _reserve(self, request: web.Request) -> web.Response:
        answers = [self._answer(wanted) for wanted in (await request.json())["reservations"]]
        return web.json_response({"reservations": answers})

    def _answer(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["phone"] in self.opted_out:
            return {"code": "opted_out"}
        if self.remaining is not None and wanted["parts"] > self.remaining:
            return {"code": "limit_exceeded", "remaining": self.remaining, "limit": 10}
        self.reservations[wanted["reference"]] = wanted
        return {"remaining": self.remaining}

    async def _release(self, request: web.Request) -> web.Response:
        self.released.append(request.match_info["reference"])
        return web.Response(status=204)

    async def _states(self, request: web.Request) -> web.Response:
        assert request[ORGANISATION] == ""
        states = []
        for asked in (await request.json())["schedules"]:
            state = self.states.get((asked["schedule_id"], asked["dispatch_number"]), {"state": "not_found"})
            states.append({**asked, **state})
        return web.json_response({"states": states, "intake_lag": self.intake_lag})

    async def _limits(self, _: web.Request) -> web.Response:
        return web.json_response(self.limits)
