"""What the contract test needs: a rehearsal for each provider, and a server that receives its webhooks.

A provider from outside the repository needs a `Rehearsal` of its own, and then runs the same tests:

    REHEARSAL=package.module:Class python -m pytest services/delivery/tests/providers/test_contract.py
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import aiohttp
from aiohttp import web

from delivery.providers import PROVIDERS
from delivery.providers.base import (
    Provider,
    ProviderEvent,
    SubmissionError,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.settings import Settings

Situation = Literal[
    "accepted",  # and delivered, if the provider sends receipts
    "refused",  # the number is not valid
    "opted_out",  # refused, because the recipient opted out
    "throttled",
    "account_error",
    "server_error",  # an answer of 5xx
    "reset",  # accepted, then the connection breaks
    "silent",  # accepted, and never answered
    # Accepted, and then:
    "undelivered",
    "early",  # the receipts arrive before the answer
    "repeated",  # each receipt arrives twice
    "out_of_order",  # `delivered` arrives before `sent`
    "mangled",  # the provider spells its own id in another way
    "forged",  # a receipt has a wrong signature
]
PUBLIC_PATH = "/api/webhooks/providers"


class Rehearsal(ABC):
    """A provider, and a server that plays the real one.

    `phones` is situation → the recipient (E.164) that causes it. A situation that the server cannot play is left out,
    and its tests are skipped.
    """

    provider: ClassVar[type[Provider]]
    phones: ClassVar[Mapping[Situation, str]]

    @abstractmethod
    async def open(self, public_url: str, folder: Path) -> None:
        """Start the server. It posts webhooks below this address, and may write to the folder."""

    @abstractmethod
    async def close(self) -> None:
        """Stop the server."""

    @abstractmethod
    def make(self, *, url: str | None = None, has_credentials: bool = True, **settings: Any) -> Provider:
        """Return the provider, pointed at the server or at `url`, with its credentials or with wrong ones.

        `settings` are delivery's.
        """

    @abstractmethod
    async def accepted(self) -> list[tuple[int, str]]:
        """Return the reference and the sender ID of each message, as often as the server accepted it."""

    async def reply(self, phone: str, text: str) -> None:
        """Send an inbound message from this phone. It is only used if the provider sends receipts."""
        raise NotImplementedError


def make_settings(**changes: Any) -> Settings:
    """Return delivery's settings without a database, which the contract does not need."""
    values = {
        "database_url": "postgresql://nowhere/",
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "internal_token_secret": "test-secret-test-secret-test-secret-0",
    }
    return Settings(_env_file=None, **(values | changes))


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    """Serve an application on a free port of this machine. Return its runner, to be cleaned up, and its address."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"


@dataclass
class Listener:
    """Receives webhooks as delivery does: the provider reads them, and its verdict is the answer."""

    provider: Provider | None = None
    url: str = ""
    requests: list[WebhookRequest] = field(default_factory=list)
    events: list[ProviderEvent] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(PUBLIC_PATH + "/{provider}/{kind}/", self.receive)
        return app

    async def receive(self, request: web.Request) -> web.Response:
        assert self.provider is not None
        assert request.match_info["provider"] == self.provider.name
        webhook = WebhookRequest(
            kind=request.match_info["kind"],
            url=self.url + str(request.rel_url),
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        try:
            events = await self.provider.read_webhook(webhook)
        except WebhookRefused as refused:
            self.refused.append(str(refused))
            return web.Response(status=403)
        except WebhookMalformed:
            return web.Response(status=400)
        except SubmissionError:
            return web.Response(status=503)
        self.requests.append(webhook)
        self.events += events
        media_type, body = self.provider.webhook_answer
        return web.Response(content_type=media_type, text=body)


class Handset(Rehearsal):
    """The handset plays all providers of the repository. Fictional numbers cause the situations."""

    phones: ClassVar[Mapping[Situation, str]] = {
        "accepted": "+61491570110",
        "refused": "+61491570157",
        "opted_out": "+61491570156",
        "throttled": "+61491572665",
        "account_error": "+61491572983",
        "server_error": "+61491571266",
        "reset": "+61491571804",
        "silent": "+61491571491",
        "undelivered": "+61491573087",
        "early": "+61491577426",
        "repeated": "+61491577644",
        "out_of_order": "+61491578148",
        "mangled": "+61491578957",
        "forged": "+61491579212",
    }
    prefix: ClassVar[str] = ""
    own: ClassVar[Mapping[str, str]] = {}
    wrong: ClassVar[Mapping[str, str]] = {}

    async def open(self, public_url: str, folder: Path) -> None:
        from tools.handset import server
        from tools.handset.settings import Settings as HandsetSettings

        settings = HandsetSettings(
            log=folder / "handset.jsonl",
            receipts="on",
            webhook_base=public_url + PUBLIC_PATH,
            username="user",
            password="password",
            environment={f"{self.provider.name}_{name}".upper(): value for name, value in self.own.items()},
        )
        self.public_url = public_url
        self._runner, self.url = await serve(server.create_app(settings))
        self._session = aiohttp.ClientSession(self.url)

    async def close(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    def make(self, *, url: str | None = None, has_credentials: bool = True, **settings: Any) -> Provider:
        own = {
            "base_url": url or self.url + self.prefix,
            "sender_id": "+61491570006",
            **self.own,
            **({} if has_credentials else self.wrong),
        }
        return self.provider(
            make_settings(**({"public_url": self.public_url} | settings)), self.provider.settings_class(**own)
        )

    async def accepted(self) -> list[tuple[int, str]]:
        async with self._session.get("/api/messages/?limit=1000") as response:
            messages = (await response.json())["messages"]
        return [(int(message["reference"].rpartition("-")[2]), message["from"]) for message in messages]

    async def reply(self, phone: str, text: str) -> None:
        async with self._session.post(f"/api/phones/{phone}/replies/", json={"text": text}) as response:
            assert response.status == 201


def _handset(name: str, prefix: str, own: Mapping[str, str], wrong: Mapping[str, str]) -> type[Rehearsal]:
    provider = _load(PROVIDERS[name])
    return type(name, (Handset,), {"provider": provider, "prefix": prefix, "own": own, "wrong": wrong})


def _load(address: str) -> Any:
    module, _, attribute = address.partition(":")
    return getattr(import_module(module), attribute)


def rehearsals() -> list[type[Rehearsal]]:
    """Return the rehearsals of the repository's providers, or the one that REHEARSAL names."""
    named = os.environ.get("REHEARSAL")
    return [_load(named)] if named else repository_rehearsals()


def repository_rehearsals() -> list[type[Rehearsal]]:
    """Return the rehearsal of each provider of the repository.

    The handset gets the same credentials as the provider, from the provider's own settings.
    """
    return [
        _handset(
            "mobile_message",
            "",
            {"username": "user", "password": "password", "webhook_secret": "secret"},
            {"password": "wrong"},
        ),
        _handset("messagemedia", "/messagemedia", {"api_key": "key", "api_secret": "secret"}, {"api_secret": "wrong"}),
        _handset("twilio", "/twilio", {"account_sid": "AC1", "auth_token": "token"}, {"auth_token": "wrong"}),
        # The handset parses AWS's signature of a request, and does not check it.
        _handset("aws", "/aws", {"topic_arns": "arn:aws:sns:ap-southeast-2:000000000000:handset"}, {}),
    ]
