"""docker-compose.production.yml with the images of a release: a rolling restart under load, and a backup."""

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization

from tools.token import Issuer, Session, mint, signing_key

from .test_compose import ROOT, free_port

pytestmark = [pytest.mark.compose, pytest.mark.slow]

CLIENTS = 3
SETTINGS = """
CLERK_ISSUER=https://clerk.test
CLERK_JWT_KEY={key}
CLERK_PUBLISHABLE_KEY=pk_test_Y2xlcmsudGVzdCQ
OPERATORS_ORGANISATION=org_operators
SMS_PROVIDERS=log
THROTTLE_RATE_ANON=100000/min
THROTTLE_RATE_USER=100000/min
THROTTLE_RATE_SMS=100000/min
"""


@dataclass
class Production:
    """The running project."""

    environment: dict[str, str]
    folder: Path

    @property
    def url(self) -> str:
        """The address of Caddy."""
        return f"http://127.0.0.1:{self.environment['HTTP_PORT']}"

    def run(self, *command: str, timeout: float = 600) -> str:
        """Run a command in the repository and return its output. Fails when the command fails."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def compose(self, *arguments: str) -> str:
        return self.run("docker", "compose", "--progress", "quiet", *arguments)

    def compose_fails(self, *arguments: str) -> str:
        """Run `docker compose` with arguments that make it fail, and return what it says."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode != 0, done.stdout
        return done.stderr

    def containers(self, service: str) -> set[str]:
        return set(self.compose("ps", "--quiet", service).split())

    def token(self, organisation: str) -> str:
        return mint(Session("user_production", organisation, "admin"), Issuer(self.folder, "https://clerk.test"))


def settings(folder: Path) -> str:
    public = signing_key(folder).public_key()
    lines = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return SETTINGS.format(key="".join(lines.decode().splitlines()[1:-1]))


def make_secrets(folder: Path) -> str:
    """Create the secrets and return the password of PostgreSQL's administrator."""
    own = {} if os.geteuid() == 0 else {"SECRETS_USER": str(os.geteuid())}
    command = [ROOT / "deploy/production/make-secrets.sh", folder]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | own)
    (folder / "clerk_webhook_signing_secret").write_text("whsec_ZGV2ZWxvcG1lbnQtb25seS13ZWJob29r")
    if os.geteuid() != 0:  # the files belong to another user than that of the services
        folder.chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o644)
    return (folder / "postgres_password").read_text()


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Build the images, start the project as docs/deploy.md says, and remove it afterwards."""
    folder = tmp_path_factory.mktemp("production")
    (backups := folder / "backups").mkdir(mode=0o777)
    backups.chmod(0o777)
    (folder / "production.env").write_text(settings(folder))
    environment = {
        **os.environ,
        "COMPOSE_PROFILES": "page",
        "OPERATORS_HOST": "operators.example.com",
        "COMPOSE_PROJECT_NAME": f"cooee-production-{os.getpid()}",
        "COMPOSE_FILE": "docker-compose.production.yml:tests/e2e/production/compose.yml",
        "COMPOSE_ENV_FILES": str(folder / "production.env"),
        "SETTINGS_FILE": str(folder / "production.env"),
        "SECRETS": str(folder / "secrets"),
        "BACKUP_FOLDER": str(backups),
        "POSTGRES_PASSWORD": make_secrets(folder / "secrets"),
        "PUBLIC_HOST": "api.example.com",
        "SITE_ADDRESS": "http://",
        "HTTP_PORT": str(free_port()),
        "HTTPS_PORT": str(free_port()),
        "EDGE_SUBNET": f"10.213.{os.getpid() % 256}.0/24",
        "VERSION": f"test-{os.getpid()}",
    }
    project = Production(environment, folder)
    try:
        project.run("make", "images", f"VERSION={environment['VERSION']}", "IMAGE_PREFIX=")
        project.compose("build", "--quiet", "caddy")
        project.compose("up", "--no-build", "--wait", "--quiet-pull")
        yield project
    except BaseException:
        print(project.compose("logs", "--no-color", "--tail", "40"))
        raise
    finally:
        project.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
        names = [f"cooee-{name}" for name in ("gateway", "contacts", "scheduling", "delivery", "operator")]
        images = [f"{name}:{environment['VERSION']}" for name in names]
        subprocess.run(["docker", "image", "rm", *images], check=False, capture_output=True)


@dataclass
class Load:
    """Requests without a pause, and their answers. A request without an answer counts as its error."""

    production: Production
    organisation: str
    answers: Counter[str] = field(default_factory=Counter)
    is_over: bool = False

    async def client(self, session: aiohttp.ClientSession, number: int) -> None:
        headers = {"Authorization": f"Bearer {self.production.token(self.organisation)}"}
        body = {"message": f"Hello {number}", "recipient": "0491570006"}
        while not self.is_over:
            await self._count(session, "POST", "/api/sms/send/", json=body, headers=headers)
            await self._count(session, "GET", "/api/messages/?limit=1", headers=headers)

    async def _count(self, session: aiohttp.ClientSession, method: str, path: str, **more: Any) -> None:
        try:
            async with session.request(method, path, **more) as answer:
                body = await answer.read()
                self.answers[f"{method} {answer.status}" + ("" if answer.ok else f" {body[:80]!r}")] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers[f"{method} {error!r}"] += 1

    def sends(self) -> int:
        return sum(count for name, count in self.answers.items() if name.startswith("POST 2"))


@asynccontextmanager
async def load(production: Production, organisation: str) -> AsyncIterator[Load]:
    """Send requests until the block ends, and wait for their answers."""
    running = Load(production, organisation)
    async with aiohttp.ClientSession(production.url) as session, asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(running.client(session, number))
        try:
            yield running
        finally:
            running.is_over = True


def count_messages(production: Production, organisation: str) -> int:
    statement = f"SELECT count(*) FROM delivery.messages WHERE organisation_id = '{organisation}'"
    output = production.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "cooee", "-Atc", statement)
    return int(output)


@pytest.mark.parametrize("service", ["scheduling", "gateway"])
async def test_a_rolling_restart_under_load_fails_and_loses_no_request(production: Production, service: str) -> None:
    """Restart a service behind the gateway, then the gateway behind Caddy."""
    before, organisation = production.containers(service), f"org_{service}"
    async with load(production, organisation) as running:
        await asyncio.to_thread(production.run, "deploy/rolling-restart.sh", service)
    after = production.containers(service)
    assert len(after) == len(before) == 1
    assert not before & after
    assert running.answers.keys() <= {"POST 202", "GET 200"}, running.answers
    assert running.sends() > 100, running.answers
    deadline = asyncio.get_running_loop().time() + 60
    while (found := count_messages(production, organisation)) < running.sends():
        assert asyncio.get_running_loop().time() < deadline, (found, running.answers)
    assert found == running.sends()


def test_a_container_that_does_not_become_healthy_leaves_the_old_one_in_place(production: Production) -> None:
    before = production.containers("contacts")
    broken = {**production.environment, "VERSION": "nonsuch", "WAIT_S": "20"}
    ended = subprocess.run(
        ["deploy/rolling-restart.sh", "contacts"],
        cwd=ROOT,
        env=broken,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert production.containers("contacts") == before


async def test_only_the_host_of_the_operators_leads_to_their_page(production: Production) -> None:
    async with aiohttp.ClientSession(production.url) as client:
        async with client.get("/organisations", headers={"Host": "operators.example.com"}) as answer:
            assert answer.status == 401
            assert "Sign in" in await answer.text()
        async with client.get("/organisations", headers={"Host": "api.example.com"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "not_found")


def test_a_backup_is_written_by_the_command_of_the_page(production: Production) -> None:
    """The restore itself is tested in tests/deploy/test_backup.py."""
    output = production.compose("run", "--rm", "-T", "backup")
    (folder,) = (production.folder / "backups").iterdir()
    assert folder.name in output
    assert {path.name for path in folder.iterdir()} == {"SHA256SUMS", "cooee.dump", "roles.sql"}
    refused = production.compose_fails("run", "--rm", "-T", "backup", "restore.sh", "latest")
    assert "in use" in refused
    assert "nothing was restored" in refused


def test_the_operators_commands_read_the_secrets(production: Production) -> None:
    assert "nothing" in production.compose("run", "--rm", "-T", "cooee", "stuck").lower()


def test_no_secret_is_in_the_environment_of_a_container(production: Production) -> None:
    secrets = {path.read_text() for path in (production.folder / "secrets").iterdir()} - {""}
    password = production.environment["POSTGRES_PASSWORD"]  # the test itself sets it at PostgreSQL's container
    shown = production.run("docker", "inspect", *production.compose("ps", "--quiet").split())
    assert len(secrets) >= 8
    assert not [secret for secret in secrets - {password} if secret in shown]
