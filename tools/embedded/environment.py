"""The environment of the embedded stack: what is set stays, the rest gets its default, secrets are made once."""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tools.embedded.processes import free_port

HOST = "127.0.0.1"
DATABASE = "cooee"
STORES = ("contacts", "scheduling", "delivery")
PORTS = {
    "GATEWAY_PORT": 8080,
    "CONTACTS_PORT": 8081,
    "SCHEDULING_PORT": 8082,
    "DELIVERY_PORT": 8083,
    "HANDSET_PORT": 8090,
    "ISSUER_PORT": 8091,
    "CONTACTS_WORKER_PORT": 8181,
    "SCHEDULING_WORKER_PORT": 8182,
    "DELIVERY_WORKER_PORT": 8183,
    "POSTGRES_PORT": 55432,
    "KAFKA_PORT": 59092,
}
# What the embedded stack wants otherwise than a production system: it shall be quick to recover.
_DEFAULTS = {
    "BIND_HOST": HOST,
    "CLERK_AUTHORIZED_PARTIES": "http://localhost:3000",
    "CORS_ALLOWED_ORIGINS": "http://localhost:3000",
    "KAFKA_SESSION_TIMEOUT_MS": "6000",
    "MMS_PROVIDERS": "log",
    "MOBILE_MESSAGE_SENDER": "Cooee",
    "MOBILE_MESSAGE_USERNAME": "embedded",
    "REPLAY_AFTER_S": "15",
    "RETRY_BASE_S": "2",
    "SMS_PROVIDERS": "mobile_message",
    "SWEEP_AFTER_S": "20",
    "TOPIC_PARTITIONS": "4",
}


def stack_environment(home: Path, given: Mapping[str, str], *, free_ports: bool = False) -> dict[str, str]:
    """Return the whole environment of a stack in `home`. Empty values count as not set.

    With `free_ports` a port that is not given is a free one instead of its default. The URLs of an embedded
    PostgreSQL are added by `add_databases` when its password is known.
    """
    environment = {name: value for name, value in given.items() if value}

    def default(name: str, value: str) -> None:
        environment.setdefault(name, value)

    for name, port in PORTS.items():
        default(name, str(free_port() if free_ports and name not in environment else port))
    for name, value in (_DEFAULTS | _load_secrets(home)).items():
        default(name, value)
    for service in STORES:
        default(f"{service.upper()}_URL", f"http://{HOST}:{environment[f'{service.upper()}_PORT']}")
    issuer = f"http://{HOST}:{environment['ISSUER_PORT']}"
    default("CLERK_ISSUER", issuer)
    if "CLERK_JWT_KEY" not in environment:
        default("CLERK_JWKS_URL", f"{issuer}/.well-known/jwks.json")
    default("MOBILE_MESSAGE_BASE_URL", f"http://{HOST}:{environment['HANDSET_PORT']}")
    default("HANDSET_USERNAME", environment["MOBILE_MESSAGE_USERNAME"])
    default("HANDSET_PASSWORD", environment["MOBILE_MESSAGE_PASSWORD"])
    default("MEDIA_FOLDER", str(home / "media"))
    default("PUBLIC_URL", f"http://{HOST}:{environment['GATEWAY_PORT']}")
    default("HANDSET_LOG", str(home / "handset.jsonl"))
    environment["COOEE_HOME"] = str(home)
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def add_databases(environment: dict[str, str], admin_url: str) -> None:
    """Add `DATABASE_URL` and the services' own, all on the administrator's server and database."""
    environment.setdefault("DATABASE_URL", admin_url)
    parts = urlsplit(environment["DATABASE_URL"])
    server = parts.netloc.rpartition("@")[2]
    for service in STORES:
        password = environment[f"{service.upper()}_DATABASE_PASSWORD"]
        own = parts._replace(netloc=f"{service}:{password}@{server}").geturl()
        environment.setdefault(f"{service.upper()}_DATABASE_URL", own)


def _load_secrets(home: Path) -> dict[str, str]:
    """Return the secrets of this stack, made on first use and kept in `home/secrets.json`."""
    path = home / "secrets.json"
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    made = {
        "INTERNAL_TOKEN_SECRET": secrets.token_hex(32),
        "MOBILE_MESSAGE_PASSWORD": secrets.token_hex(16),
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
        **{f"{service.upper()}_DATABASE_PASSWORD": secrets.token_hex(16) for service in STORES},
    }
    if kept.keys() < made.keys():
        kept = made | kept
        home.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w") as output:
            json.dump(kept, output, indent=2)
    return kept
