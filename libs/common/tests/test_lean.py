"""Lean routes answer exactly as FastAPI answers the same endpoints."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel

from common.caller import Caller, sign
from common.database import Database
from common.errors import Forbidden
from common.fields import Id, bounded_text, read_names, some_names
from common.http.app import feature_router, make_app
from common.http.deps import AdminDep, CallerDep, PageDep, SessionDep, TenantDep
from common.http.lean import LeanRoutes, lean_routes
from common.http.render import json_response, page_response
from common.paging import Page
from common.settings import StoreSettings
from common.statements import ORGANISATION_CTE, Statement

SECRET = "test-secret-test-secret-test-secret-0"
ADD = Statement(
    f"WITH {ORGANISATION_CTE} INSERT INTO notes (organisation_id, body) SELECT o.id, $2 FROM o RETURNING id"
)
router = feature_router("notes")


class Settings(StoreSettings):
    service = "sample"


class NoteIn(BaseModel):
    body: bounded_text(20, min_length=1)  # type: ignore[valid-type]
    amount: float = 0


async def get_color(color: Annotated[str, Query()] = "red", depth: int = 1) -> str:
    return f"{color} {depth}"


ColorDep = Annotated[str, Depends(get_color)]


@router.get("/api/notes/")
async def list_notes(
    caller: CallerDep,
    page: PageDep,
    color: ColorDep,
    search: str = "",
    kind: Annotated[some_names("a", "b"), Query()] = None,  # type: ignore[valid-type]
) -> Response:
    row = {"color": color, "search": search, "kinds": sorted(read_names(kind)), "caller": caller.organisation_id}
    return page_response([row], page, 7)


@router.get("/api/notes/recent/")
async def list_recent(session: SessionDep) -> dict[str, str]:
    return {"recent": "by FastAPI"}


@router.get("/api/notes/{note_id}/")
async def get_note(request: Request, note_id: Id, caller: CallerDep, needed: int) -> Response:
    return json_response({"id": note_id, "needed": needed, "path": request.url.path})


@router.post("/api/notes/", status_code=201)
async def create_note(note: NoteIn, tenant: TenantDep) -> Response:
    row = await tenant.fetch_row(ADD, note.body)
    assert row is not None
    return json_response({"id": row["id"], "amount": note.amount}, 201)


@router.delete("/api/notes/{note_id}/", status_code=204)
async def delete_note(note_id: Id, caller: AdminDep) -> Response:
    if note_id == 7:
        raise Forbidden("Not this one.")
    return Response(status_code=204)


@pytest.fixture
async def clients(
    database: Database,
    sample_url: str,
    serve: Callable[[Any], httpx.AsyncClient],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """The same application twice: with its lean routes, and by FastAPI alone."""
    settings = Settings(
        port=1, worker_port=2, database_url=sample_url, kafka_bootstrap_servers="none", internal_token_secret=SECRET
    )

    async def ready() -> None:
        return None

    async def through(self: LeanRoutes, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    lean = make_app(settings, [router], state={"database": database}, ready=ready)
    assert len(lean_routes(lean.routes)) == 5  # four of the router, and `/metrics`
    plain = make_app(settings, [router], state={"database": database}, ready=ready)
    plain.user_middleware = [item for item in plain.user_middleware if item.cls is not LeanRoutes]
    async with serve(lean) as first, serve(plain) as second:
        yield [first, second]


def token(organisation: str = "org_a", role: str = "member", **more: str) -> dict[str, str]:
    caller = Caller(organisation_id=organisation, user_id=1, role=role)
    signed = sign(caller, issuer=more.get("issuer", "gateway"), audience=more.get("audience", "sample"), secret=SECRET)
    return {"Authorization": f"Bearer {signed}"}


def requests() -> list[tuple[str, str, dict[str, Any]]]:
    """Return requests with fresh tokens, because internal tokens expire after a minute."""
    good = token()
    return [
        ("GET", "/api/notes/", {}),
        ("GET", "/api/notes/?page=2&limit=3&color=blue&depth=4&search=%C3%A9+%25", {}),
        ("GET", "/api/notes/?page=2&page=1", {}),
        ("GET", "/api/notes/?kind=a,b", {}),
        ("GET", "/api/notes/?kind=a&kind=b&page=2", {}),
        ("GET", "/api/notes/?kind=", {}),
        ("GET", "/api/notes/?page=0", {}),
        ("GET", "/api/notes/?page=&limit=&search=", {}),
        ("GET", "/api/notes/?depth=deep", {}),
        ("GET", "/api/notes/", {"headers": {}}),
        ("GET", "/api/notes/", {"headers": {"Authorization": "Bearer x"}}),
        ("GET", "/api/notes/", {"headers": token("")}),
        ("GET", "/api/notes/", {"headers": token(issuer="delivery")}),
        ("GET", "/api/notes/", {"headers": token(audience="other")}),
        ("GET", "/api/notes/recent/", {}),
        ("GET", "/api/notes/5/?needed=1", {}),
        ("GET", "/api/notes/5/", {}),
        ("GET", "/api/notes/5/?needed=x", {}),
        ("GET", "/api/notes/abc/?needed=1", {}),
        ("GET", "/api/notes/99999999999999999999/?needed=1", {}),
        ("HEAD", "/api/notes/", {}),
        ("PUT", "/api/notes/", {"json": {}}),
        ("POST", "/api/notes/", {"json": {"body": "x", "amount": 1.5}}),
        ("POST", "/api/notes/", {"json": {"body": "", "amount": "many"}}),
        ("POST", "/api/notes/", {"json": {"body": None}}),
        ("POST", "/api/notes/", {"json": []}),
        ("POST", "/api/notes/", {"content": b"{"}),
        ("POST", "/api/notes/", {"content": b""}),
        ("POST", "/api/notes/", {"content": b'{"body": "\\ud800"}'}),
        ("POST", "/api/notes/", {"content": b"body=x", "headers": {**good, "Content-Type": "text/plain"}}),
        ("POST", "/api/notes/", {"content": b'{"body": "' + b"x" * 1_000_001 + b'"}'}),
        ("POST", "/api/notes/", {"json": {"body": "x"}, "headers": {}}),
        ("DELETE", "/api/notes/5/", {"headers": token(role="admin")}),
        ("DELETE", "/api/notes/7/", {"headers": token(role="admin")}),
        ("DELETE", "/api/notes/5/", {}),
        ("DELETE", "/api/notes/recent/", {}),
    ]


@pytest.mark.parametrize("number", range(len(requests())))
async def test_a_lean_route_answers_as_fastapi_does(clients: list[httpx.AsyncClient], number: int) -> None:
    method, path, more = requests()[number]
    shown = []
    for client in clients:
        answer = await client.request(method, path, **{"headers": token(), **more})
        headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id",)}
        body = answer.json() if answer.content else None
        if isinstance(body, dict):
            body = {name: value for name, value in body.items() if name not in ("request_id", "id")}
        shown.append((answer.status_code, headers.get("content-type"), headers.get("allow"), body))
    assert shown[0] == shown[1]


async def test_a_keyed_request_saves_and_replays_the_answer_of_a_lean_route(clients: list[httpx.AsyncClient]) -> None:
    headers = {**token(), "Idempotency-Key": "k1"}
    first = await clients[0].post("/api/notes/", json={"body": "once"}, headers=headers)
    second = await clients[0].post("/api/notes/", json={"body": "once"}, headers=headers)
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("query", ["kind=a,b", "kind=a&kind=b", "kind=b,,&kind=&kind=%20a"])
async def test_a_list_in_the_query_is_separated_by_commas_or_repeated(
    clients: list[httpx.AsyncClient], query: str
) -> None:
    for client in clients:
        answer = await client.get(f"/api/notes/?{query}", headers=token())
        assert answer.json()["results"][0]["kinds"] == ["a", "b"]


@pytest.mark.parametrize(("query", "status"), [("page=x&page=2", 200), ("page=2&page=x", 400), ("page=x&page=", 200)])
async def test_the_last_value_of_a_repeated_parameter_counts(
    clients: list[httpx.AsyncClient], query: str, status: int
) -> None:
    for client in clients:
        assert (await client.get(f"/api/notes/?{query}", headers=token())).status_code == status


@pytest.mark.parametrize(("number", "total", "pages"), [(1, 0, 0), (1, 50, 1), (2, 51, 2), (9, 51, 2)])
def test_a_rendered_page_says_where_it_is(number: int, total: int, pages: int) -> None:
    import json

    from common.paging import Pagination

    shown = json.loads(page_response([], Page(number), total).body)
    assert shown == {"results": [], "pagination": Pagination.of(Page(number), total).model_dump()}
    assert shown["pagination"]["totalPages"] == pages
