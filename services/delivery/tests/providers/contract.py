"""What the provider contract is tried with: a rehearsal for each provider, and the address that its webhooks reach.

A provider from outside the tree needs a `Rehearsal` of its own, and then runs the same tests:

    REHEARSAL=package.module:Class python -m pytest services/delivery/tests/providers/test_contract.py
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import aiohttp
from aiohttp import web

from delivery.providers import PROVIDERS
from delivery.providers.base import SubmissionError, ProviderEvent, Provider, WebhookMalformed, WebhookRefused, WebhookRequest
from delivery.settings import Settings

Situation = Literal[
    "accepted",  # and delivered, where receipts are told
    "refused",  # for good: the number is not valid
    "opted_out",  # refused: the recipient wants nothing more
    "throttled",
    "account_fault",
    "server_error",  # an answer of 5xx that says nothing
    "reset",  # taken, then the connection breaks
    "silent",  # taken, and never answered
    # Accepted, and then:
    "undelivered",
    "early",  # the receipts come before the answer
    "repeated",  # each receipt comes twice
    "out_of_order",  # `delivered` comes before `sent`
    "mangled",  # the vendor writes its own id otherwise
    "forged",  # a receipt is wrongly signed
]
PUBLIC_PATH = "/api/webhooks/providers"


class Rehearsal(ABC):
    """A provider, and a vendor that does what its recipients stand for.

    `phones`: situation → recipient (E.164). What the vendor cannot do is left out, and not tried.
    """

    provider: ClassVar[type[Provider]]
    phones: ClassVar[Mapping[Situation, str]]

    @abstractmethod
    async def open(self, public_url: str, folder: Path) -> None:
        """Start the vendor. It posts webhooks below this address, and may write to the folder."""

    @abstractmethod
    async def close(self) -> None:
        """Stop it."""

    @abstractmethod
    def make(self, *, url: str | None = None, is_known: bool = True, **settings: Any) -> Provider:
        """The provider, pointed at the vendor or at `url`; with wrong credentials when it is not to be known."""

    @abstractmethod
    async def taken(self) -> list[int]:
        """The references that the vendor took, each as often as it did."""

    async def reply(self, phone: str, text: str) -> None:
        """Somebody answers the last message on this phone. Only needed with receipts."""
        raise NotImplementedError


def make_settings(**changes: Any) -> Settings:
    """Settings without a database: the contract needs none."""
    given = {
        "database_url": "postgresql://nowhere/",
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "internal_token_secret": "test-secret-test-secret-test-secret-0",
    }
    return Settings(_env_file=None, **(given | changes))


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    """Serves on a free port of this machine; returns what to clean up, and the address."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"


@dataclass
class Listener:
    """Where webhooks arrive, as they do at delivery: read, and answered with what the reading meant."""

    provider: Provider | None = None
    url: str = ""
    requests: list[WebhookRequest] = field(default_factory=list)
    notices: list[ProviderEvent] = field(default_factory=list)
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
            notices = await self.provider.read_webhook(webhook)
        except WebhookRefused as refused:
            self.refused.append(str(refused))
            return web.Response(status=403)
        except WebhookMalformed:
            return web.Response(status=400)
        except SubmissionError:
            return web.Response(status=503)
        self.requests.append(webhook)
        self.notices += notices
        media_type, body = self.provider.webhook_answer
        return web.Response(content_type=media_type, text=body)


class Handset(Rehearsal):
    """The handset speaks the formats of all providers of the tree, and misbehaves for the numbers of fiction."""

    phones: ClassVar[Mapping[Situation, str]] = {
        "accepted": "+61491570110",
        "refused": "+61491570157",
        "opted_out": "+61491570156",
        "throttled": "+61491572665",
        "account_fault": "+61491572983",
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
    credentials: ClassVar[Mapping[str, str]] = {}
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
            mobile_message_webhook_secret="secret",
            twilio_account_sid="AC1",
            twilio_auth_token="token",
            messagemedia_api_key="key",
            messagemedia_api_secret="secret",
        )
        self.public_url = public_url
        self._runner, self.url = await serve(server.create_app(settings))
        self._session = aiohttp.ClientSession(self.url)

    async def close(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    def make(self, *, url: str | None = None, is_known: bool = True, **settings: Any) -> Provider:
        given = {
            f"{self.provider.name}_base_url": url or self.url + self.prefix,
            f"{self.provider.name}_sender_id": "+61491570006",
            "public_url": self.public_url,
            **self.credentials,
            **({} if is_known else self.wrong),
        }
        return self.provider(make_settings(**(given | settings)))  # type: ignore[call-arg]

    async def taken(self) -> list[int]:
        async with self._session.get("/api/messages/?limit=1000") as response:
            return [int(message["reference"].rpartition("-")[2]) for message in (await response.json())["messages"]]

    async def reply(self, phone: str, text: str) -> None:
        async with self._session.post(f"/api/phones/{phone}/replies/", json={"text": text}) as response:
            assert response.status == 201


def _handset(name: str, prefix: str, credentials: Mapping[str, str], wrong: Mapping[str, str]) -> type[Rehearsal]:
    from importlib import import_module

    module, _, attribute = PROVIDERS[name].partition(":")
    provider = getattr(import_module(module), attribute)
    fields = {"provider": provider, "prefix": prefix, "credentials": credentials, "wrong": wrong}
    return type(name, (Handset,), fields)


def rehearsals() -> list[type[Rehearsal]]:
    """Those of the tree, or the one that REHEARSAL names."""
    from importlib import import_module

    if named := os.environ.get("REHEARSAL"):
        module, _, attribute = named.partition(":")
        return [getattr(import_module(module), attribute)]
    return [
        _handset(
            "mobile_message",
            "",
            {
                "mobile_message_username": "user",
                "mobile_message_password": "password",
                "mobile_message_webhook_secret": "secret",
            },
            {"mobile_message_password": "wrong"},
        ),
        _handset(
            "messagemedia",
            "/messagemedia",
            {"messagemedia_api_key": "key", "messagemedia_api_secret": "secret"},
            {"messagemedia_api_secret": "wrong"},
        ),
        _handset(
            "twilio",
            "/twilio",
            {"twilio_account_sid": "AC1", "twilio_auth_token": "token"},
            {"twilio_auth_token": "wrong"},
        ),
        # The handset parses AWS's signature of a request, and does not check it.
        _handset("aws", "/aws", {"aws_topic_arns": "arn:aws:sns:ap-southeast-2:000000000000:handset"}, {}),
    ]
