"""The environment variables of the embedded stack: given values stay, the rest gets defaults and stored secrets."""

import base64
import json
import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tools.embedded.processes import free_port, port_is_busy
from tools.handset.keys import public_key
from tools.handset.server import PROVIDERS

HOST = "127.0.0.1"
DATABASE = "cooee"
STORES = ("contacts", "scheduling", "delivery")
PORTS = {
    "GATEWAY_PORT": 8080,
    "CONTACTS_PORT": 8081,
    "SCHEDULING_PORT": 8082,
    "DELIVERY_PORT": 8083,
    "GATEWAY_METRICS_PORT": 8180,
    "OPERATORS_PORT": 8085,
    "HANDSET_PORT": 8090,
    "ISSUER_PORT": 8091,
    "CONTACTS_WORKER_PORT": 8181,
    "SCHEDULING_WORKER_PORT": 8182,
    "DELIVERY_WORKER_PORT": 8183,
    # Below 32768: the system gives higher ports to outgoing connections, which could use them after a stop.
    "POSTGRES_PORT": 25432,
    "KAFKA_PORT": 29092,
}
# The ports that only the stack itself uses.
INTERNAL_PORTS = frozenset(PORTS) - {"GATEWAY_PORT", "HANDSET_PORT", "OPERATORS_PORT"}
# Values that differ from production, mainly so that the embedded stack recovers quickly.
_DEFAULTS = {
    "BIND_HOST": HOST,
    "CLERK_AUTHORIZED_PARTIES": "http://localhost:3000",
    "CORS_ALLOWED_ORIGINS": "http://localhost:3000",
    "KAFKA_SESSION_TIMEOUT_MS": "6000",
    "MMS_PROVIDERS": "messagemedia",
    "REPLAY_AFTER_S": "15",
    "RETRY_BASE_S": "2",
    "SMS_PROVIDERS": "mobile_message",
    "SWEEP_AFTER_S": "20",
    "TOPIC_PARTITIONS": "4",
    **{name: value for provider in PROVIDERS for name, value in provider.embedded.items()},
}
# A fictional number. It is not a name, because a phone cannot reply to a name.
_SENDER_ID = "+61491570110"


def stack_environment(
    home: Path, given: Mapping[str, str], *, free_ports: bool = False, movable: Collection[str] = ()
) -> dict[str, str]:
    """Return the whole environment of a stack in `home`. Empty values count as not set.

    `free_ports` uses a free port where none is given, instead of the default. `movable` names the ports that do so
    only when the default is in use. `add_databases` adds the URLs of an embedded PostgreSQL later, when its password is
    known.
    """
    environment = {name: value for name, value in given.items() if value}

    def default(name: str, value: str) -> None:
        environment.setdefault(name, value)

    for name, port in PORTS.items():
        if name not in environment:
            moves = free_ports or (name in movable and port_is_busy(port))
            environment[name] = str(free_port() if moves else port)
    for name, value in (_DEFAULTS | _load_secrets(home)).items():
        default(name, value)
    for service in STORES:
        default(f"{service.upper()}_URL", f"http://{HOST}:{environment[f'{service.upper()}_PORT']}")
        default(f"{service.upper()}_WORKER_URL", f"http://{HOST}:{environment[f'{service.upper()}_WORKER_PORT']}")
    issuer = f"http://{HOST}:{environment['ISSUER_PORT']}"
    default("CLERK_ISSUER", issuer)
    if "CLERK_JWT_KEY" not in environment:
        default("CLERK_JWKS_URL", f"{issuer}/.well-known/jwks.json")
    default("MEDIA_FOLDER", str(home / "media"))
    default("PUBLIC_URL", f"http://{HOST}:{environment['GATEWAY_PORT']}")
    for name, value in _handset(home, environment).items():
        default(name, value)
    environment["COOEE_HOME"] = str(home)
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def add_databases(environment: dict[str, str], admin_url: str) -> None:
    """Add `DATABASE_URL` and the services' URLs, on the administrator's server and database."""
    environment.setdefault("DATABASE_URL", admin_url)
    parts = urlsplit(environment["DATABASE_URL"])
    server = parts.netloc.rpartition("@")[2]
    for service in STORES:
        password = environment[f"{service.upper()}_DATABASE_PASSWORD"]
        url = parts._replace(netloc=f"{service}:{password}@{server}").geturl()
        environment.setdefault(f"{service.upper()}_DATABASE_URL", url)


def _handset(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that connect the providers to the handset: addresses, sender IDs, credentials and keys."""
    handset = f"http://{HOST}:{environment['HANDSET_PORT']}"
    log = environment.get("HANDSET_LOG") or str(home / "handset.jsonl")
    variables = {
        "HANDSET_LOG": log,
        "HANDSET_USERNAME": environment["MOBILE_MESSAGE_USERNAME"],
        "HANDSET_PASSWORD": environment["MOBILE_MESSAGE_PASSWORD"],
        "HANDSET_WEBHOOK_BASE": f"{environment['PUBLIC_URL'].rstrip('/')}/api/webhooks/providers",
    }
    for provider in PROVIDERS:
        prefix = provider.name.upper()
        variables[f"{prefix}_BASE_URL"] = f"{handset}/{provider.name}"
        if f"{prefix}_SENDER" not in environment:  # the old name of …_SENDER_ID
            variables[f"{prefix}_SENDER_ID"] = _SENDER_ID
    if "MESSAGEMEDIA_BASE_URL" not in environment:
        variables["MESSAGEMEDIA_WEBHOOK_PUBLIC_KEY"] = public_key(Path(log).with_name("handset-key.pem"))
    if "aws" in environment["SMS_PROVIDERS"] and "AWS_BASE_URL" not in environment:
        variables |= {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}
    return variables


def _load_secrets(home: Path) -> dict[str, str]:
    """Return the secrets in `home/secrets.json`. Missing ones are created and saved there."""
    path = home / "secrets.json"
    saved: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    new = {
        "INTERNAL_TOKEN_SECRET": secrets.token_hex(32),
        "OPERATORS_SECRET": secrets.token_hex(32),
        **{name: secrets.token_hex(16) for provider in PROVIDERS for name in provider.generated},
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
        **{f"{service.upper()}_DATABASE_PASSWORD": secrets.token_hex(16) for service in STORES},
    }
    if saved.keys() < new.keys():
        saved = new | saved
        home.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w") as output:
            json.dump(saved, output, indent=2)
    return saved
