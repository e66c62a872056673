"""The merged OpenAPI document, and the documentation pages."""

import re
from datetime import date
from typing import Annotated, Any

import aiohttp
import pytest
from fastapi import FastAPI, File, Query, UploadFile
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from common.http.app import WITHOUT_EFFECT
from gateway.openapi import merge

from .conftest import Start, Upstream


def contacts_document() -> dict[str, Any]:
    app = FastAPI()

    class Page(BaseModel):
        total: int

    class Contact(BaseModel):
        id: int
        page: Page

    @app.get("/api/contacts/", tags=["contacts"])
    async def list_contacts(search: str = "") -> list[Contact]:
        return []

    @app.post("/api/contacts/", status_code=201, tags=["contacts"], responses={400: {"description": "own description"}})
    async def create_contact(contact: Contact) -> Contact:
        return contact

    @app.post("/api/contacts/import/", tags=["contacts"])
    async def import_contacts(file: UploadFile = File()) -> Page:  # noqa: B008
        return Page(total=0)

    @app.post("/internal/identity/")
    async def identify() -> Contact: ...

    return app.openapi()


def scheduling_document() -> dict[str, Any]:
    app = FastAPI()
    bearer = HTTPBearer()

    class Page(BaseModel):
        rows: list[int]

    class Contact(BaseModel):
        id: int
        page: Page

    class Same(BaseModel):
        a: int

    from fastapi import Depends

    @app.get("/api/schedules/{id}/", tags=["schedules"], dependencies=[Depends(bearer)])
    async def get_schedule(id: int) -> Contact: ...  # noqa: A002

    @app.get("/api/contacts/{id}/schedules/", tags=["schedules"])
    async def list_contacts(id: int) -> Same: ...  # noqa: A002

    @app.post("/api/sms/preview/", tags=["sending"], openapi_extra={WITHOUT_EFFECT: True})
    async def preview_message(body: Same) -> Same: ...

    return app.openapi()


@pytest.fixture
def document() -> dict[str, Any]:
    return merge({"contacts": contacts_document(), "scheduling": scheduling_document()})


def test_merged_document_has_the_public_routes_of_all_services(document: dict[str, Any]) -> None:
    assert list(document["paths"]) == [
        "/api/contacts/",
        "/api/contacts/import/",
        "/api/sms/preview/",
        "/api/schedules/{id}/",
        "/api/contacts/{id}/schedules/",
    ]
    assert document["openapi"].startswith("3.1")
    assert [tag["name"] for tag in document["tags"]] == ["contacts", "sending", "schedules"]
    assert all(tag["description"] for tag in document["tags"])
    assert document["security"] == [{"clerk": []}]
    assert document["servers"]


def test_operation_ids_are_short_and_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert ids == [
        "list_contacts",
        "create_contact",
        "import_contacts",
        "preview_message",
        "get_schedule",
        "list_contacts_api_contacts__id__schedules__get",
    ]


def test_different_schemas_with_one_name_are_renamed(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    own = document["paths"]["/api/schedules/{id}/"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert own == {"$ref": "#/components/schemas/SchedulingContact"}
    assert schemas["SchedulingContact"]["properties"]["page"] == {"$ref": "#/components/schemas/SchedulingPage"}
    assert schemas["Contact"]["properties"]["page"] == {"$ref": "#/components/schemas/Page"}
    assert "HTTPValidationError" not in schemas


def test_every_reference_has_its_target(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r"#/components/[\w/-]+", str(document))):
        node = document
        for part in reference[2:].split("/"):
            node = node[part]


def test_every_route_lists_its_errors(document: dict[str, Any]) -> None:
    paths = document["paths"]
    common = {"401", "403", "429", "431", "502", "503", "504"}
    assert set(paths["/api/schedules/{id}/"]["get"]["responses"]) == common | {"200", "404"}
    assert set(paths["/api/contacts/"]["get"]["responses"]) == common | {"200", "400"}
    created = paths["/api/contacts/"]["post"]["responses"]
    assert set(created) == common | {"201", "400", "404", "408", "409", "413", "415", "422"}
    assert created["400"]["description"] == "own description"
    union = created["400"]["content"]["application/json"]["schema"]["anyOf"]
    assert union == [{"$ref": f"#/components/schemas/{name}"} for name in ("CreateContactErrors", "Error")]
    assert "security" not in paths["/api/schedules/{id}/"]["get"]
    assert set(created["201"]["headers"]) == {
        "X-Request-ID",
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
    }


def test_field_errors_have_the_fields_of_the_request(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    created, listed = schemas["CreateContactErrors"]["properties"], schemas["ListContactsErrors"]["properties"]
    assert set(created) == {"id", "page", "Idempotency-Key", "non_field_errors", "code", "request_id"}
    assert set(listed) == {"search", "non_field_errors", "code", "request_id"}
    assert listed["search"] == {"type": "array", "items": {"type": "string"}}
    assert "detail" not in created
    assert "additionalProperties" not in schemas["CreateContactErrors"]


def test_services_own_error_is_joined_with_that_of_the_gateway() -> None:
    app = FastAPI()

    class NotSent(BaseModel):
        schedule_id: int

    @app.post("/api/sms/send/", tags=["sending"], responses={502: {"model": NotSent}})
    async def send(body: NotSent) -> NotSent: ...

    responses = merge({"scheduling": app.openapi()})["paths"]["/api/sms/send/"]["post"]["responses"]
    names = [
        [one["$ref"].rpartition("/")[2] for one in responses[status]["content"]["application/json"]["schema"]["anyOf"]]
        for status in ("502", "400")
    ]
    assert names == [["NotSent", "Error"], ["SendErrors", "Error", "LimitExceeded"]]


def test_summaries_are_first_sentences_and_examples_are_tomorrow() -> None:
    app = FastAPI()
    example = {"requestBody": {"content": {"application/json": {"example": {"scheduled_time": "", "text": "x"}}}}}

    class Body(BaseModel):
        text: str

    @app.post("/api/schedules/", tags=["schedules"], openapi_extra=example)
    async def create_schedule(body: Body, status: Annotated[list[str] | None, Query()] = None) -> Body:
        """Schedule a message. It waits
        until its time.

        Then it is sent.
        """
        return body

    @app.get("/api/schedules/", tags=["schedules"])
    async def list_schedules() -> Body: ...

    path = merge({"scheduling": app.openapi()}, date(2026, 12, 31))["paths"]["/api/schedules/"]
    assert path["post"]["summary"] == "Schedule a message"
    assert path["post"]["description"] == "It waits\nuntil its time.\n\nThen it is sent."
    assert path["get"]["summary"] == "List Schedules"  # FastAPI's, for an endpoint without a docstring
    media = path["post"]["requestBody"]["content"]["application/json"]
    assert media["example"] == {"scheduled_time": "2027-01-01T01:00:00Z", "text": "x"}
    parameter = path["post"]["parameters"][0]
    assert (parameter["schema"]["type"], parameter["style"], parameter["explode"]) == ("array", "form", False)


def test_route_without_effect_has_no_idempotency_key(document: dict[str, Any]) -> None:
    key = {"$ref": "#/components/parameters/Idempotency-Key"}
    preview = document["paths"]["/api/sms/preview/"]["post"]
    assert key in document["paths"]["/api/contacts/"]["post"]["parameters"]
    assert key not in preview.get("parameters", [])
    assert not {"409", "422"} & preview["responses"].keys()
    assert WITHOUT_EFFECT not in preview


async def test_document_of_the_gateway_has_the_routes_of_services(
    gateway: aiohttp.ClientSession, upstreams: dict[str, Upstream]
) -> None:
    upstreams["contacts"].openapi = contacts_document()
    async with gateway.get("/api/schema/") as answer:
        body = await answer.json()
    assert answer.status == 200
    assert {"/api/contacts/", "/api/health/", "/api/schema/"} <= body["paths"].keys()
    assert "/internal/identity/" not in body["paths"]
    assert body["paths"]["/api/health/"]["get"]["security"] == []


async def test_redoc_has_no_address_of_a_logo(start: Start) -> None:
    async with aiohttp.ClientSession(start()) as client, client.get("/api/docs/assets/redoc.standalone.js") as answer:
        bundle = await answer.read()
    assert (answer.status, answer.content_type) == (200, "text/javascript")
    assert len(bundle) > 500_000
    assert b"cdn." not in bundle


@pytest.mark.parametrize("page", ["/api/docs/", "/api/docs", "/api/v2/redoc/"])
async def test_page_loads_files_of_the_gateway_only(start: Start, page: str) -> None:
    async with aiohttp.ClientSession(start()) as client:
        async with client.get(page) as answer:
            html = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/html")
        links = re.findall(r"""(?:src|href)=["']([^"']+)["']""", html)
        assert links
        assert "/api/schema/" in html
        assert not [link for link in links if "//" in link]
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        for link in links:
            async with client.get(link) as answer:
                assert (answer.status, len(await answer.read()) > 100) == (200, True)
