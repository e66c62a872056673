"""A TypeScript client that is generated from the API document: the journey of docs/examples compiles and works.

The generator, its library and the checkers come from npm. Without npm these tests are skipped, but in continuous
integration they fail.
"""

import asyncio
import json
import os
import secrets
import shutil
from pathlib import Path

import pytest

from tests.conftest import ClientOf
from tools.embedded.supervisor import Stack
from tools.npm import NpmUnavailable, install, node
from tools.token import Issuer, Session, mint

pytestmark = pytest.mark.stack

JOURNEY = Path(__file__).parents[2] / "docs/examples/journey.ts"
CLIENT = Path(__file__).parent / "client"
TSC = ["node_modules/typescript/bin/tsc", "--strict", "--noEmit", "--noUncheckedIndexedAccess"]
TSC += ["--exactOptionalPropertyTypes", "--target", "es2024", "--module", "nodenext", "--allowImportingTsExtensions"]


@pytest.fixture(scope="module")
def packages() -> Path:
    """Return the folder of the installed packages."""
    try:
        return install("client", CLIENT)
    except NpmUnavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
async def folder(packages: Path, client_of: ClientOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the document, the generated types, the packages and the journey."""
    made = tmp_path_factory.mktemp("typescript")
    (made / "node_modules").symlink_to(packages / "node_modules")
    (made / "package.json").write_text('{"type": "module"}')
    (made / "schema.json").write_text(json.dumps((await client_of(None)("GET", "/api/schema/")).body))
    for source in (JOURNEY, CLIENT / "types.ts"):
        shutil.copy(source, made)
    await run(made, "node_modules/openapi-typescript/bin/cli.js", "schema.json", "-o", "cooee.ts")
    return made


async def run(folder: Path, *arguments: str, expected: int = 0, **environment: str) -> str:
    """Run a program of Node.js in the folder and return its output."""
    process = await asyncio.create_subprocess_exec(
        *(node(), *arguments),
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "REDOCLY_TELEMETRY": "off", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output = (await asyncio.wait_for(process.communicate(), 300.0))[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == expected, output
    return output


async def test_the_journey_compiles_strictly_and_works(stack: Stack, folder: Path) -> None:
    await run(folder, *TSC, "journey.ts")
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])
    token = mint(Session("user_1", f"org_{secrets.token_hex(6)}", "admin"), issuer)
    output = await run(folder, "journey.ts", COOEE_URL=stack.url("gateway"), COOEE_TOKEN=token)
    assert "The journey is complete." in output


async def test_the_types_demand_what_is_needed_and_refuse_what_is_wrong(folder: Path) -> None:
    await run(folder, *TSC, "types.ts")


async def test_the_document_passes_redoclys_recommended_rules(folder: Path) -> None:
    """Every path ends with a slash, and `imports` is no id of a contact, which Redocly does not see.

    The contract of the API has both. The document has no license, because the repository has none.
    """
    rules = ["--skip-rule", "no-path-trailing-slash", "--skip-rule", "info-license", "--format", "json"]
    output = await run(folder, "node_modules/@redocly/cli/bin/cli.js", "lint", "schema.json", *rules)
    problems = json.loads(output[output.index("{") : output.rindex("}") + 1])["problems"]
    found = [(one["ruleId"], one["message"], one["location"][0].get("pointer")) for one in problems]
    assert [one for one in found if one[0] != "no-ambiguous-paths"] == []
    assert all("/api/contacts/imports/{import_id}/" in message for _, message, _ in found)
