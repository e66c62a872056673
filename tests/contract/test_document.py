"""The OpenAPI document is valid and complete, the API conforms to it, and a client generated from it works."""

import importlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.conftest import ClientOf
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

from .test_routes import furnish

pytestmark = pytest.mark.stack

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
# Requests that Schemathesis generates for each operation. The nightly run sends 2,000 (`make fuzz EXAMPLES=2000`).
EXAMPLES = int(os.environ.get("EXAMPLES") or 300)
TIMEOUT_S = 3 * EXAMPLES


@pytest.fixture(scope="module")
async def document(client_of: ClientOf) -> dict[str, Any]:
    """Return the OpenAPI document."""
    found: dict[str, Any] = (await client_of(None)("GET", "/api/schema/")).body
    return found


def test_document_is_valid_and_describes_every_operation(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")
    names = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation.get("summary") or operation.get("description"), where
            assert operation["tags"], where
            assert operation["operationId"].isidentifier(), where
            names.add(operation["operationId"])
            # A PATCH without a body changes nothing.
            assert method != "patch" or not operation["requestBody"].get("required"), where
    assert len(names) == sum(len(item) for item in document["paths"].values())


async def test_pages_of_the_document_use_no_other_host(client_of: ClientOf) -> None:
    for path in ("/api/docs/", "/api/redoc/"):
        page = await client_of(None)("GET", path)
        assert page.status == 200
        assert b"http://" not in page.body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in page.body


async def test_random_requests_are_answered_as_documented(stack: Stack, client_of: ClientOf, tmp_path: Path) -> None:
    """Run Schemathesis for an organisation with contents, with nearly every check, also on sequences of requests."""
    organisation = f"org_random_{secrets.token_hex(4)}"  # a second run finds no contents of the first
    await furnish(client_of(organisation, "admin"))
    token = mint(Session("user_1", organisation, "admin"), Issuer(stack.home, stack.environment["CLERK_ISSUER"]))
    arguments = [
        *("--config-file", HERE / "schemathesis.toml", "run", f"{stack.url('gateway')}/api/schema/"),
        *("--header", f"Authorization: Bearer {token}", "--checks", "all"),
        # A deleted contact, group or template can still be read, with `is_active` false.
        *("--exclude-checks", "use_after_free"),
        *("--phases", "examples,coverage,fuzzing,stateful"),
        *("--max-examples", str(EXAMPLES)),
        # One worker, because CPython 3.11 raises SystemError when several threads parse source at the same time.
        *("--workers", "1", "--continue-on-failure", "--generation-database", "none", "--request-timeout", "30"),
        *("--seed", "1788", "--warnings", "off", "--no-color"),
    ]
    done = subprocess.run(
        [BIN / "schemathesis", *arguments],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12000:]
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout, done.stdout[-2000:]


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Generate a client from the document and return the name of its package."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "schema.json").write_text(json.dumps(document))
    arguments = ["generate", "--path", "schema.json", "--output-path", "cooee_client", "--meta", "none"]
    done = subprocess.run(
        [BIN / "openapi-python-client", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    return "cooee_client"


async def test_generated_client_sends_to_a_group(
    stack: Stack, generated: str, document: dict[str, Any], eventually: Callable[..., Any]
) -> None:
    models = importlib.import_module(f"{generated}.models")
    token = mint(Session("user_1", "org_client", "admin"), Issuer(stack.home, stack.environment["CLERK_ISSUER"]))
    operations = {op["operationId"]: op for item in document["paths"].values() for op in item.values()}

    async def call(name: str, status: int, *arguments: Any, json: dict[str, Any] | None = None, **more: Any) -> Any:
        """Call a generated function. `json` becomes the generated model of the body."""
        operation = operations[name]
        tag = operation["tags"][0].replace("-", "_").replace(" ", "_")
        function = importlib.import_module(f"{generated}.api.{tag}.{name}").asyncio_detailed
        if json is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            more["body"] = getattr(models, schema.rpartition("/")[2]).from_dict(json)
        answer = await function(*arguments, client=client, **more)
        assert answer.status_code == status, answer
        return answer.parsed

    async def sent_batch() -> Any:
        found = await call("get_group_schedule", 200, batch.id)
        return found if found.status == "sent" else None

    maker = importlib.import_module(generated).AuthenticatedClient
    async with maker(base_url=stack.url("gateway"), token=token) as client:
        contact = await call("create_contact", 201, json={"phone": "0443 000 001", "first_name": "Ana"})
        group = await call("create_group", 201, json={"name": "G", "member_ids": [contact.id]})
        template = await call("create_template", 201, json={"name": "T", "text": "Hi {{first_name}}"})
        due = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        values = {"name": "B", "group_id": group.id, "template_id": template.id, "scheduled_time": due}
        batch = await call("create_group_schedule", 201, json=values)
        found = await eventually(sent_batch, 30.0)
        assert [schedule.text for schedule in found.schedules] == ["Hi Ana"]
        listed = await call("list_contacts", 200, search="ana")
        assert [row.id for row in listed.results] == [contact.id]
