"""The local issuer signs tokens like Clerk's, which verify with the published key."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from tools.embedded.processes import free_port
from tools.token import Issuer, Session, key_set, mint

REPOSITORY = Path(__file__).parents[3]
PERMISSIONS = ("org:messages:send", "org:contacts:read", "org:messages:read", "org:contacts:manage")


def verify(token: str, keys: dict[str, Any]) -> dict[str, Any]:
    """Verify a token with a JWKS document and return its claims."""
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"])
    return claims


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Return an issuer with a key of its own."""
    return Issuer(tmp_path, "https://issuer.test", "https://app.test")


def test_version_two_packs_permissions_as_clerk_does(issuer: Issuer) -> None:
    session = Session("user_1", "org_7", "admin", PERMISSIONS, ttl_s=60)
    claims = verify(mint(session, issuer), key_set(issuer.home))
    assert (claims["iss"], claims["azp"], claims["sub"], claims["v"]) == (
        "https://issuer.test",
        "https://app.test",
        "user_1",
        2,
    )
    assert claims["exp"] - claims["iat"] == 60
    assert claims["fea"] == "o:messages,o:contacts"
    assert claims["o"] == {"id": "org_7", "slg": "7", "rol": "admin", "per": "send,read,manage", "fpm": "3,6"}


def test_version_one_lists_permissions_and_prefixes_the_role(issuer: Issuer) -> None:
    session = Session("user_1", "org_7", "member", PERMISSIONS, version=1)
    claims = verify(mint(session, issuer), key_set(issuer.home))
    assert "v" not in claims
    assert (claims["org_id"], claims["org_role"]) == ("org_7", "org:member")
    assert claims["org_permissions"] == list(PERMISSIONS)


@pytest.mark.parametrize("version", [1, 2])
def test_session_without_organisation_has_none(issuer: Issuer, version: int) -> None:
    claims = verify(mint(Session("user_1", version=version), issuer), key_set(issuer.home))
    assert not {"o", "org_id"} & set(claims)


def test_issuer_of_the_running_stack_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"name": "http://127.0.0.1:1", "party": "http://a.test,http://b.test"}
    (tmp_path / "stack.json").write_text(json.dumps({"issuer": entry}))
    for name in ("CLERK_ISSUER", "CLERK_AUTHORIZED_PARTIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COOEE_HOME", str(tmp_path))
    assert Issuer.from_environment() == Issuer(tmp_path, "http://127.0.0.1:1", "http://a.test")
    monkeypatch.setenv("CLERK_ISSUER", "https://mine.test")
    assert Issuer.from_environment().name == "https://mine.test"


async def test_command_prints_a_token_that_the_published_key_verifies(tmp_path: Path) -> None:
    environment = os.environ | {"COOEE_HOME": str(tmp_path), "ISSUER_PORT": str(free_port())}

    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", *arguments]

    server = subprocess.Popen(
        command("tools.issuer"), cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        async with aiohttp.ClientSession() as session, session.get(f"{address}/.well-known/jwks.json") as response:
            keys = await response.json()
        arguments = ["tools.token", "--org", "org_7", "--user", "user_1", "--role", "org:admin"]
        token = subprocess.check_output(command(*arguments), cwd=REPOSITORY, env=environment, text=True).strip()
    finally:
        server.terminate()
        server.communicate(timeout=10)
    claims = verify(token, keys)
    assert (claims["iss"], claims["o"]["rol"]) == (address, "admin")
    assert (tmp_path / "issuer.pem").stat().st_mode & 0o777 == 0o600
