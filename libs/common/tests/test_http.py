"""The shared HTTP application: answers that all services share, and requests with an idempotency key."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import File, Request, Response, UploadFile
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller, sign
from common.database import Database
from common.errors import Invalid
from common.fields import Id, bounded_text
from common.http.app import feature_router, make_app
from common.http.deps import AdminDep, CallerDep, PageDep, SessionDep
from common.settings import StoreSettings

SECRET = "test-secret-test-secret-test-secret-0"
router = feature_router("notes")


class Settings(StoreSettings):
    service = "sample"


class NoteIn(BaseModel):
    body: bounded_text(20, min_length=1)  # type: ignore[valid-type]
    amount: float = 0
    other: Id | None = None


async def add(session: AsyncSession, caller: Caller, body: str) -> int:
    statement = text("INSERT INTO notes (organisation_id, body) VALUES (:organisation, :body) RETURNING id")
    return int(await session.scalar(statement, {"organisation": caller.organisation_id, "body": body}) or 0)


@router.post("/api/notes/", status_code=201)
async def create_note(note: NoteIn, caller: CallerDep, session: SessionDep) -> dict[str, Any]:
    made = await add(session, caller, note.body)
    if note.body == "refused":
        raise Invalid.field("body", "Not this one.")
    return {"id": made}


@router.post("/api/notes/{note_id}/again/", status_code=201)
async def repeat_note(note_id: int, caller: CallerDep, session: SessionDep) -> dict[str, Any]:
    return {"id": await add(session, caller, f"again {note_id}")}


@router.post("/api/notes/waits/", status_code=201)
async def wait_then_create(note: NoteIn, caller: CallerDep, session: SessionDep, request: Request) -> dict[str, Any]:
    """Wait, as a route does that calls another service first, and add a note."""
    request.app.state.waiting.append(note.body)
    await request.app.state.answered.wait()
    return {"id": await add(session, caller, note.body)}


@router.post("/api/files/")
async def take_file(file: Annotated[UploadFile, File()], caller: CallerDep, session: SessionDep) -> dict[str, Any]:
    content = await file.read()
    return {"id": await add(session, caller, "file"), "size": len(content)}


@router.get("/api/notes/")
async def list_notes(page: PageDep, session: SessionDep, caller: CallerDep) -> dict[str, Any]:
    return {
        "page": page.number,
        "limit": page.limit,
        "bodies": (await session.scalars(text("SELECT body FROM notes"))).all(),
    }


@router.get("/api/notes/{note_id}/")
async def get_note(note_id: Id, caller: CallerDep) -> dict[str, int]:
    return {"id": note_id}


@router.delete("/api/notes/", status_code=204)
async def delete_notes(caller: AdminDep, session: SessionDep) -> Response:
    await session.execute(text("DELETE FROM notes"))
    return Response(status_code=204)


@router.post("/api/notes/breaks/", status_code=201)
async def fail_at_commit(caller: CallerDep, session: SessionDep) -> dict[str, str]:
    """Fail at the commit, after the body of the answer was created."""
    await session.execute(text("CREATE TEMPORARY TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    await session.execute(text("INSERT INTO t VALUES (1), (1)"))
    return {"status": "never answered"}


@pytest.fixture
async def answered() -> asyncio.Event:
    """Set when the requests to /api/notes/waits/ may go on."""
    return asyncio.Event()


@pytest.fixture
def waiting() -> list[str]:
    """The bodies of the requests to /api/notes/waits/ that have begun."""
    return []


@pytest.fixture
async def client(
    database: Database,
    sample_url: str,
    serve: Callable[[Any], httpx.AsyncClient],
    answered: asyncio.Event,
    waiting: list[str],
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        port=1,
        worker_port=2,
        database_url=sample_url,
        kafka_bootstrap_servers="none",
        internal_token_secret=SECRET,
    )

    async def ready() -> None:
        return None

    state = {"database": database, "answered": answered, "waiting": waiting}
    async with serve(make_app(settings, [router], state=state, ready=ready)) as client:
        yield client


def headers(organisation: str = "org_a", *, role: str = "member", **more: str) -> dict[str, str]:
    caller = Caller(organisation_id=organisation, user_id=1, role=role)
    token = sign(caller, issuer=more.pop("issuer", "gateway"), audience=more.pop("audience", "sample"), secret=SECRET)
    return {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in more.items()}}


async def bodies(database: Database) -> list[str]:
    async with database.all_tenants() as session:
        return list((await session.scalars(text("SELECT body FROM notes ORDER BY id"))).all())


BAD_BODIES: list[tuple[bytes, str, int, str]] = [
    (b"", "body", 400, "invalid"),
    (b"{", "", 400, "parse_error"),
    (b"\xff\xfe", "", 400, "parse_error"),
    (b'{"body": "a", "amount": NaN}', "", 400, "parse_error"),
    (b'{"body": "\\ud800"}', "", 400, "parse_error"),
    (b'{"body": "a\\u0000b"}', "body", 400, "invalid"),
    (b"[" * 100_000, "", 400, "parse_error"),
    (b"[]", "non_field_errors", 400, "invalid"),
    (b"null", "non_field_errors", 400, "invalid"),
    (b'{"body": null}', "body", 400, "invalid"),
    (b'{"body": 7}', "body", 400, "invalid"),
    (b'{"body": "   "}', "body", 400, "invalid"),
    (b'{"body": "' + b"a" * 21 + b'"}', "body", 400, "invalid"),
    (b'{"body": "a", "other": true}', "other", 400, "invalid"),
    (b'{"body": "a", "other": 1.5}', "other", 400, "invalid"),
    (b'{"body": "' + b"a" * 1_000_001 + b'"}', "", 413, "too_large"),
]


@pytest.mark.parametrize(("body", "field", "status", "code"), BAD_BODIES, ids=[str(b[0][:24]) for b in BAD_BODIES])
async def test_a_bad_body_gets_a_clear_error_and_changes_nothing(
    client: httpx.AsyncClient, database: Database, body: bytes, field: str, status: int, code: str
) -> None:
    answer = await client.post("/api/notes/", content=body, headers=headers(content_type="application/json"))
    shown = answer.json()
    assert (answer.status_code, shown["code"]) == (status, code), shown
    assert ("detail" in shown) != bool(field)
    if field:
        assert isinstance(shown[field][0], str)
    assert shown["request_id"] == answer.headers["x-request-id"]
    assert await bodies(database) == []


async def test_ids_beyond_64_bits_do_not_exist(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/notes/", json={"body": "a", "other": 10**30}, headers=headers())
    assert answer.status_code == 201
    assert (await client.get(f"/api/notes/{10**30}/", headers=headers())).json() == {"id": 0}
    assert (await client.get("/api/notes/abc/", headers=headers())).status_code == 404


async def test_another_media_type_is_415_and_another_method_405_with_allow(client: httpx.AsyncClient) -> None:
    form = await client.post("/api/notes/", content=b"a=1", headers=headers(content_type="application/xml"))
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
    patch = await client.patch("/api/notes/", json={}, headers=headers())
    assert (patch.status_code, patch.json()["code"]) == (405, "method_not_allowed")
    assert set(patch.headers["allow"].split(", ")) >= {"GET", "POST", "DELETE"}
    missing = await client.get("/api/nothing/", headers=headers())
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (dict, 401),
        (lambda: {"Authorization": "Bearer x.y.z"}, 401),
        (lambda: {"Authorization": "Basic abc"}, 401),
        (lambda: headers(issuer="scheduling"), 401),
        (lambda: headers(audience="contacts"), 401),
        (lambda: headers(""), 403),
    ],
    ids=["nothing", "rubbish", "scheme", "issuer", "audience", "no organisation"],
)
async def test_a_missing_or_wrong_internal_token_is_refused(
    client: httpx.AsyncClient, given: Callable[[], dict[str, str]], status: int
) -> None:
    answer = await client.get("/api/notes/", headers=given())  # internal tokens expire after a minute
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_member_is_refused_where_an_admin_is_needed(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/api/notes/", headers=headers())).status_code == 403
    assert (await client.delete("/api/notes/", headers=headers(role="admin"))).status_code == 204


@pytest.mark.parametrize(
    ("query", "field"), [("page=0", "page"), ("page=x", "page"), ("limit=-1", "limit"), ("limit=٣", "limit")]
)
async def test_a_page_that_is_not_a_number_is_an_error_under_its_name(
    client: httpx.AsyncClient, query: str, field: str
) -> None:
    answer = await client.get(f"/api/notes/?{query}", headers=headers())
    assert answer.status_code == 400
    assert field in answer.json()


async def test_a_large_limit_is_read_as_the_largest_and_an_empty_one_as_absent(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/notes/?limit=500&page=", headers=headers())).json()["limit"] == 50


@pytest.mark.parametrize(("given", "accepted"), [("abc-1.2_3", True), ("a b", False), ("x" * 129, False), ("é", False)])
async def test_a_valid_request_id_is_used(client: httpx.AsyncClient, given: str, accepted: bool) -> None:
    answer = await client.get("/api/notes/", headers=[*headers().items(), ("X-Request-ID", given.encode())])
    assert (answer.headers["x-request-id"] == given) is accepted


async def test_a_failing_commit_answers_an_error(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/notes/breaks/", headers=headers())
    assert answer.status_code == 500
    assert "never answered" not in answer.text


async def test_the_same_key_and_body_replays_the_answer_without_a_second_effect(
    client: httpx.AsyncClient, database: Database
) -> None:
    first = await client.post("/api/notes/", json={"body": "once"}, headers=headers(idempotency_key="k1"))
    again = await client.post("/api/notes/", json={"body": "once"}, headers=headers(idempotency_key="k1"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await bodies(database) == ["once"]


async def test_a_key_belongs_to_organisation_and_route(client: httpx.AsyncClient, database: Database) -> None:
    for organisation in ("org_a", "org_b"):
        await client.post("/api/notes/", json={"body": "x"}, headers=headers(organisation, idempotency_key="k"))
    for number in (1, 2):
        await client.post(f"/api/notes/{number}/again/", headers=headers(idempotency_key="k"))
    assert await bodies(database) == ["x", "x", "again 1", "again 2"]


async def test_another_body_under_the_key_is_422(client: httpx.AsyncClient, database: Database) -> None:
    await client.post("/api/notes/", json={"body": "a"}, headers=headers(idempotency_key="k"))
    answer = await client.post("/api/notes/", json={"body": "b"}, headers=headers(idempotency_key="k"))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert await bodies(database) == ["a"]


@pytest.mark.parametrize("body", ["refused", ""])
async def test_a_request_without_effect_does_not_use_up_its_key(
    client: httpx.AsyncClient, database: Database, body: str
) -> None:
    failed = await client.post("/api/notes/", json={"body": body}, headers=headers(idempotency_key="k"))
    assert failed.status_code == 400
    assert await bodies(database) == []
    answer = await client.post("/api/notes/", json={"body": "good"}, headers=headers(idempotency_key="k"))
    assert answer.status_code == 201


async def test_while_the_first_request_runs_the_second_is_409_without_effect(
    client: httpx.AsyncClient, database: Database
) -> None:
    send = [client.post("/api/notes/", json={"body": "x"}, headers=headers(idempotency_key="k")) for _ in range(8)]
    statuses = [answer.status_code for answer in await asyncio.gather(*send)]
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert await bodies(database) == ["x"]


async def test_keyed_requests_keep_no_connection_while_they_wait_for_another_service(
    client: httpx.AsyncClient,
    database: Database,
    answered: asyncio.Event,
    waiting: list[str],
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    async def send(number: int) -> int:
        keyed = headers(idempotency_key=f"k{number}")
        return (await client.post("/api/notes/waits/", json={"body": f"n{number}"}, headers=keyed)).status_code

    sends = [asyncio.ensure_future(send(number)) for number in range(60)]  # three times as many as connections

    async def all_wait() -> bool:
        return len(waiting) == len(sends)

    await eventually(all_wait)
    assert (await client.get("/api/notes/", headers=headers("org_b"))).status_code == 200
    repeated = await client.post("/api/notes/waits/", json={"body": "n7"}, headers=headers(idempotency_key="k7"))
    assert (repeated.status_code, repeated.json()["code"]) == (409, "in_progress")
    answered.set()
    assert set(await asyncio.gather(*sends)) == {201}
    assert len(await bodies(database)) == len(sends)


async def test_without_a_free_connection_the_answer_is_503(client: httpx.AsyncClient, database: Database) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(20):
            session = await stack.enter_async_context(database.tenant("org_b"))
            await session.execute(text("SELECT 1"))
        answer = await client.get("/api/notes/", headers=headers())
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
    assert (await client.get("/api/notes/", headers=headers())).status_code == 200


async def test_a_claim_that_ended_is_taken_over_and_only_one_request_has_an_effect(
    client: httpx.AsyncClient,
    database: Database,
    answered: asyncio.Event,
    waiting: list[str],
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    def send() -> asyncio.Future[httpx.Response]:
        keyed = headers(idempotency_key="k")
        return asyncio.ensure_future(client.post("/api/notes/waits/", json={"body": "x"}, headers=keyed))

    async def two_wait() -> bool:
        return len(waiting) == 2

    async def one_waits() -> bool:
        return len(waiting) == 1

    first = send()
    await eventually(one_waits)
    async with database.all_tenants() as session:
        await session.execute(text("UPDATE idempotency_keys SET claimed_until = now() - interval '1 second'"))
    second = send()
    await eventually(two_wait)
    answered.set()
    answers = [answer.status_code for answer in await asyncio.gather(first, second)]
    assert answers == [409, 201]
    assert await bodies(database) == ["x"]
    again = await client.post("/api/notes/waits/", json={"body": "x"}, headers=headers(idempotency_key="k"))
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")


async def test_multipart_is_compared_by_its_parts_not_its_boundary(
    client: httpx.AsyncClient, database: Database
) -> None:
    keyed = headers(idempotency_key="k")
    first = await client.post("/api/files/", files={"file": ("a.csv", b"1,2,3")}, headers=keyed)
    again = await client.post("/api/files/", files={"file": ("a.csv", b"1,2,3")}, headers=keyed)
    other = await client.post("/api/files/", files={"file": ("a.csv", b"1,2,4")}, headers=keyed)
    assert [a.status_code for a in (first, again, other)] == [200, 200, 422]
    assert first.json() == again.json() == {"id": first.json()["id"], "size": 5}
    assert await bodies(database) == ["file"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\t"])
async def test_an_invalid_key_is_an_error(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/api/notes/", json={"body": "a"}, headers=headers(idempotency_key=key))
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    configuration, handlers, level = structlog.get_config(), logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.configure(**configuration)
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


@pytest.mark.usefixtures("_logs_as_before")
async def test_a_log_line_has_route_organisation_and_user_and_no_private_value(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], eventually: Callable[..., Awaitable[Any]]
) -> None:
    from common.logs import configure_logs, redact

    configure_logs("sample", "api", "json", "INFO")
    await client.post("/api/notes/", json={"body": "secret words"}, headers=headers(x_request_id="req-7"))
    lines: list[Any] = []

    async def find_line() -> Any:
        lines.extend(json.loads(row) for row in capsys.readouterr().out.splitlines() if row.startswith("{"))
        return next((row for row in lines if row["event"] == "request"), None)

    line = await eventually(find_line)
    wanted = {"method": "POST", "route": "/api/notes/", "status": 201, "organisation": "org_a", "user": 1}
    assert wanted.items() <= line.items()
    assert line["request_id"] == "req-7"
    assert "secret words" not in json.dumps(lines)
    hidden = redact(None, "info", {"phone": "x", "event": "sent to 0412 345 678 and +61412345678"})
    assert hidden == {"phone": "[redacted]", "event": "sent to [phone] and [phone]"}


async def test_client_that_closes_within_its_body_is_no_error(client: httpx.AsyncClient) -> None:
    given = [
        (name.lower().encode(), value.encode()) for name, value in headers(content_type="application/json").items()
    ]
    scope = {"type": "http", "method": "POST", "path": "/api/notes/", "query_string": b"", "headers": given}
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with structlog.testing.capture_logs() as lines:
        await client._transport.app({**scope, "root_path": ""}, receive, send)  # type: ignore[attr-defined]
    assert sent == []
    assert [(line["event"], line["log_level"], line["status"]) for line in lines] == [("request", "info", 499)]
