"""Three organisations call every documented operation with each other's ids and phone numbers."""

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncpg
import pytest

from tests.conftest import Answer, Client, ClientOf
from tools.embedded.supervisor import Stack

from .foreign_ids import ALIASES, Json, Operation, Place, UnknownPlace, operations_of
from .test_routes import body_of, multipart, phone, soon

pytestmark = pytest.mark.stack

SCHEDULES = "/api/schedules/?date_from=2000-01-01"  # without a filter, the list has those of today
NOBODY = 2_000_000_000
_PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
NOT_FOUND = (404, {"detail": "Not found.", "code": "not_found"})
# Unknown contacts are ignored when members are removed. The group of a batch never changes, so it is not looked up.
FIXED_GROUP = (400, {"group_id": ["The group of a batch cannot change."], "code": "invalid"})
OTHER_ANSWERS = {
    ("DELETE", "/api/groups/{group_id}/members/", "contact_ids"): (200, {"removed": 0, "member_count": 2}),
    **{
        (method, "/api/group-schedules/{group_schedule_id}/", name): FIXED_GROUP
        for method in ("PUT", "PATCH")
        for name in ("group", "group_id")
    },
}
# Tables that are filled by events, so a row may arrive during the test, or that only serve the requests themselves.
NOT_COMPARED = {
    *("scheduling.contact_changes", "scheduling.organisations", "delivery.organisations", "delivery.contact_opt_outs"),
    *("contacts.opt_outs", "contacts.contact_counts", "scheduling.schedule_counts", "scheduling.batch_counts"),
    *("delivery.message_counts", "delivery.inbound_counts"),
    *("contacts.idempotency_keys", "scheduling.idempotency_keys", "delivery.idempotency_keys"),
}
# Times at which a loop looks at a row again.
LOOP_COLUMNS = ["check_at", "sweep_at", "sweep_count", "next_due_at"]


@dataclass
class Owner:
    """An organisation with rows of every kind. Its names and texts contain `mark`, which no other answer may have."""

    id: str
    mark: str
    call: Client
    rows: dict[str, list[int]] = field(default_factory=dict)
    phones: list[str] = field(default_factory=list)

    def ids(self) -> dict[str, int]:
        """Return one id of each kind under the name of its path parameter."""
        return {f"{kind}_id": ids[0] for kind, ids in self.rows.items()}

    async def create(self, kind: str, path: str, body: Any = None, **more: Any) -> Any:
        """Create a row with POST and store its id."""
        answer = await self.call("POST", path, body, **more)
        assert answer.status in (200, 201, 202), (path, answer)
        found = answer.body.get("id") or answer.body.get("schedule_id")
        if found:
            self.rows.setdefault(kind, []).append(found)
        return answer.body


async def furnish(owner: Owner) -> None:
    """Create rows of every kind. One message was sent, the others are days ahead."""
    mark = owner.mark
    owner.phones = [phone(), phone()]
    for number in owner.phones:
        await owner.create("contact", "/api/contacts/", {"phone": number, "first_name": mark, "company": mark})
    contacts = owner.rows["contact"]
    group = (await owner.create("group", "/api/groups/", {"name": mark, "member_ids": contacts}))["id"]
    template = await owner.create("template", "/api/templates/", {"name": mark, "text": f"Hi {mark}"})
    single = {"contact": contacts[0], "template": template["id"], "scheduled_time": soon()}
    await owner.create("schedule", "/api/schedules/", single)
    batch = {"name": mark, "group_id": group, "text": f"Hi {mark}", "scheduled_time": soon()}
    created = await owner.create("group_schedule", "/api/group-schedules/", batch)
    owner.rows["schedule"].append(created["schedules"][0]["id"])
    await owner.create("config", "/api/configs/", {"name": f"colour {mark}", "value": mark})
    owner.rows["user"] = [(await owner.call("GET", "/api/users/me/")).body["id"]]
    sent = {"message": f"Now {mark}", "recipient": owner.phones[0], "contact_id": contacts[0]}
    await owner.create("schedule", "/api/sms/send/", sent, headers={"Prefer": "wait=20"})
    await owner.create("media", "/api/sms/upload-file/", data=multipart("a.png", _PNG))
    rows = f"phone,first_name\n{phone()},{mark}\n".encode()
    await owner.create(
        "import", "/api/contacts/import/", data=multipart("a.csv", rows), headers={"Prefer": "respond-async"}
    )


async def deliver_and_reply(handset: aiohttp.ClientSession, owner: Owner) -> None:
    """Send a delivery receipt for the message of the organisation, and a reply with its mark."""
    number = "61" + owner.phones[0][1:]
    async with handset.get("/api/messages/", params={"to": number}) as answer:
        message = (await answer.json())["messages"][-1]
    for path, body in (
        (f"/api/messages/{message['id']}/receipts/", {"status": "delivered"}),
        (f"/api/phones/{quote('+' + number)}/replies/", {"text": f"Tomorrow, {owner.mark}"}),
    ):
        async with handset.post(path, json=body) as answer:
            assert answer.status < 300, await answer.text()


def is_complete(owner: Owner, view: Json) -> bool:
    """Return whether nothing of the organisation's contents is still on its way."""
    messages = view["GET /api/messages/"]["results"]
    schedules = view[f"GET {SCHEDULES}"]["results"]
    imports = [found["status"] for path, found in view.items() if "/imports/{" in path]
    return (
        {(row["direction"], row["status"]) for row in messages} == {("outbound", "delivered"), ("inbound", "received")}
        and {row["status"] for row in schedules} == {"pending", "delivered"}
        and view["GET /api/contacts/"]["pagination"]["total"] == len(owner.rows["contact"]) + 1
        and all(status == "done" for status in imports)
    )


def own_path(path: str, owner: Owner) -> str:
    """Return the path with the owner's ids. Raises UnknownPlace for a parameter without a row."""

    def fill(match: re.Match[str]) -> str:
        found = owner.ids().get(match[1])
        if found is None:
            raise UnknownPlace(f"{path}: no row for {match[1]}; create one in furnish()")
        return str(found)

    return re.sub(r"\{(\w+)\}", fill, path)


@dataclass
class Organisations:
    """The three organisations, the operations, and what was there before the first foreign id was used."""

    owners: list[Owner]
    operations: list[Operation]
    database: asyncpg.Connection
    first_view: Json = field(default_factory=dict)
    views: list[Json] = field(default_factory=list)
    tables: dict[str, Any] = field(default_factory=dict)

    async def view(self, owner: Owner) -> Json:
        """Return every answer that the owner reads."""
        reads = [operation.path for operation in self.operations if operation.method == "GET"]
        found = {}
        for path in [*reads, SCHEDULES]:
            answer = await owner.call("GET", own_path(path, owner))
            assert answer.status == 200, (path, answer)
            found[f"GET {path}"] = answer.body
        return found

    async def read_tables(self) -> dict[str, list[tuple[str, int, str]]]:
        """Return for each table and organisation the number of rows and a hash of their contents."""
        tables = await self.database.fetch(
            "SELECT table_schema || '.' || table_name AS name FROM information_schema.columns"
            " JOIN information_schema.tables USING (table_schema, table_name)"
            " WHERE column_name = 'organisation_id' AND table_type = 'BASE TABLE'"
            " AND table_schema IN ('contacts', 'scheduling', 'delivery')"
        )
        found = {}
        for name in {row["name"] for row in tables} - NOT_COMPARED:
            rows = await self.database.fetch(
                "SELECT organisation_id, count(*), md5(string_agg(content, ',' ORDER BY content)) FROM"
                f" (SELECT organisation_id, (to_jsonb(t) - $2::text[])::text AS content FROM {name} t"
                "  WHERE organisation_id = ANY($1)) rows GROUP BY 1 ORDER BY 1",
                [owner.id for owner in self.owners],
                LOOP_COLUMNS,
            )
            found[name] = [tuple(row) for row in rows]
        return found

    def others(self, owner: Owner) -> list[Owner]:
        return [other for other in self.owners if other is not owner]


@pytest.fixture(scope="module")
async def organisations(stack: Stack, client_of: ClientOf, eventually: Callable[..., Awaitable[Any]]) -> Any:
    """Create three organisations, and read what the first one sees before the others exist."""
    document = (await client_of(None)("GET", "/api/schema/")).body
    database = await asyncpg.connect(stack.environment["DATABASE_URL"])
    found = Organisations([], operations_of(document), database)
    async with aiohttp.ClientSession(stack.url("handset")) as handset:
        for _ in range(3):
            mark = f"mark{secrets.token_hex(6)}"
            owner = Owner(f"org_{mark}", mark, client_of(f"org_{mark}", "admin", f"user_{mark}"))
            await furnish(owner)
            await deliver_and_reply(handset, owner)
            found.owners.append(owner)

            async def has_all(owner: Owner = owner) -> bool:
                return is_complete(owner, await found.view(owner))

            await eventually(has_all, 60.0)
            found.views.append(await found.view(owner))
    found.first_view = found.views[0]
    found.tables = await found.read_tables()
    yield found
    await database.close()


@dataclass(frozen=True)
class Attempt:
    """A request with an id of another organisation in one place."""

    operation: Operation
    place: Place
    value: Any

    @property
    def expected(self) -> tuple[int, Json]:
        """The status and the body of the answer, without the request id."""
        return OTHER_ANSWERS.get((self.operation.method, self.operation.path, self.place.name), NOT_FOUND)

    def request(self, owner: Owner) -> tuple[str, dict[str, Any]]:
        """Return path and arguments: valid except for the one place."""
        method, path, name = self.operation.method, self.operation.path, self.place.name
        arguments = body_of(method, path, owner.ids())
        if self.operation.has_json and "json" not in arguments:
            raise UnknownPlace(f"{self.operation}: no valid body; add one to body_of()")
        if self.place.where == "path":
            return own_path(path.replace(f"{{{name}}}", str(self.value)), owner), arguments
        if self.place.where == "query":
            return f"{own_path(path, owner)}?{name}={self.value}", arguments
        same = {ALIASES.get(name), *(short for short, long in ALIASES.items() if long == name)}
        body = {key: value for key, value in arguments["json"].items() if key not in same}
        return own_path(path, owner), {"json": {**body, name: self.value}}


def attempts_of(operation: Operation, mine: Owner, theirs: Owner | None) -> Iterator[Attempt]:
    """Yield an attempt for each place and each row of the other organisation, or for an id of nobody."""
    for place in operation.places:
        if place.kind not in mine.rows:
            raise UnknownPlace(f"{operation}: no row for {place.name}; create one in furnish()")
        for value in theirs.rows[place.kind] if theirs else [NOBODY]:
            if not place.is_list:
                yield Attempt(operation, place, value)
                continue
            yield Attempt(operation, place, [value])
            mixed = Attempt(operation, place, [mine.rows[place.kind][0], value])
            if mixed.expected == NOT_FOUND:  # another answer has an effect on the owner's own row
                yield mixed


def comparable(answer: Answer) -> tuple[int, Any]:
    """Return status and body without the request id."""
    body = deepcopy(answer.body)
    if isinstance(body, dict):
        body.pop("request_id", None)
    return answer.status, body


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Yield the places in which two values of JSON differ."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        for key, value in before.items():
            yield from differences(value, after[key], f"{where} {key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, value in enumerate(before):
            yield from differences(value, after[number], f"{where} {number}")
    elif before != after:
        yield f"{where}: {before!r} became {after!r}"


def shown(answer: Answer, others: list[Owner]) -> list[str]:
    """Return the marks of other organisations that the answer contains."""
    text = json.dumps(answer.body) if not isinstance(answer.body, bytes) else answer.body.decode("latin-1")
    return [other.mark for other in others if other.mark in text]


async def fault_of(attempt: Attempt, mine: Owner, others: list[Owner]) -> str | None:
    """Send the request, and return what is wrong with its answer."""
    path, arguments = attempt.request(mine)
    answer = await mine.call(attempt.operation.method, path, **arguments)
    where = f"{attempt.operation} with {attempt.place.where} {attempt.place.name}={attempt.value}:"
    where += f" {answer.status} {answer.body}"
    if shown(answer, others):
        return f"another organisation's text is shown: {where}"
    return None if comparable(answer) == attempt.expected else where


async def test_ids_of_other_organisations_are_as_unknown_as_ids_of_nobody(organisations: Organisations) -> None:
    """Each operation with a foreign id in each place answers 404, and no row of any organisation changes."""
    faults, count = [], 0
    for operation in organisations.operations:
        for mine in organisations.owners:
            others = organisations.others(mine)
            for theirs in (None, *others):
                for attempt in attempts_of(operation, mine, theirs):
                    fault = await fault_of(attempt, mine, others)
                    faults += [fault] if fault else []
                    count += 1
    assert not faults, "\n".join(faults)
    assert count > 500
    after = await organisations.read_tables()
    assert {name for name, rows in organisations.tables.items() if after[name] != rows} == set()
    for owner, view in zip(organisations.owners, organisations.views, strict=True):
        assert list(differences(view, await organisations.view(owner))) == []


async def test_answers_neither_show_nor_count_rows_of_others(organisations: Organisations) -> None:
    """The first organisation reads the same as before the others existed, and nobody reads another's texts."""
    now = await organisations.view(organisations.owners[0])
    assert list(differences(organisations.first_view, now)) == []
    for owner, view in zip(organisations.owners, organisations.views, strict=True):
        text = json.dumps(view)
        assert owner.mark in text
        assert [other.mark for other in organisations.others(owner) if other.mark in text] == []


async def test_phone_of_another_organisations_contact_leads_to_nothing_of_it(organisations: Organisations) -> None:
    """A phone number may be in several organisations. A request that names it sees only the caller's own rows."""
    mine, theirs = organisations.owners[0], organisations.owners[1]
    number = theirs.phones[0]
    for path in (f"/api/messages/?phone={number}", f"/api/contacts/?search={number}"):
        answer = await mine.call("GET", path)
        assert (answer.status, answer.body["results"], answer.body["pagination"]["total"]) == (200, [], 0), path
    scheduled = {"text": "x", "phone": number, "scheduled_time": soon()}
    schedule = await mine.call("POST", "/api/schedules/", scheduled)
    assert (schedule.status, schedule.body["contact"], schedule.body["recipient_name"]) == (201, None, None)
    assert shown(schedule, [theirs]) == []
    assert (await mine.call("DELETE", f"/api/schedules/{schedule.body['id']}/")).status == 204
    contact = await mine.call("POST", "/api/contacts/", {"phone": number, "opt_out": True})
    assert contact.status == 201
    assert contact.body["id"] not in theirs.rows["contact"]
    assert shown(contact, [theirs]) == []
    theirs_now = await theirs.call("GET", f"/api/contacts/{theirs.rows['contact'][0]}/")
    assert theirs_now.body["opt_out"] is False
    accepted = await theirs.call("POST", "/api/schedules/", scheduled)
    assert accepted.status == 201, accepted
