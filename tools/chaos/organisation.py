"""An organisation of a chaos run: its contacts, group and configs, and what its clients know of their schedules."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import aiohttp

from tools.chaos.client import Client
from tools.chaos.records import Records, Request, make_text

CONTACTS = 60
_LONG = "This text is longer than one part of an SMS, so that parts are counted. " * 3


@dataclass
class Contact:
    """A contact. `is_used_up` is set before it opts out or is deleted, so that it does so once."""

    id: int
    phone: str
    is_used_up: bool = False


@dataclass
class Sent:
    """A request for messages that was accepted, as its client knows it. `due_at` is in Unix seconds."""

    id: int
    request: Request
    due_at: float
    contact: Contact | None = None
    rest: str = ""
    is_in_edit: bool = False


@dataclass
class Profile:
    """How an organisation differs from the others: its limit, its provider chain, and whether it is closed."""

    limit: int | None = None
    changes_limit: bool = False
    providers: str = ""
    closes: bool = False


@dataclass
class Organisation:
    """One organisation and the state that its clients share. `ends_at` is the end of the load in Unix seconds."""

    number: int
    id: str
    seed: int
    profile: Profile
    client: Client
    ends_at: float
    contacts: list[Contact] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    batches: list[Sent] = field(default_factory=list)
    configs: dict[str, int] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def records(self) -> Records:
        """The records of the run."""
        return self.client.records

    def new_request(self, *, is_batch: bool) -> Request:
        """Add a request with a new token to the records."""
        token = f"C{self.seed}-O{self.number}-N{next(self.numbers)}"
        request = Request(self.id, token, is_batch)
        self.records.requests[token] = request
        return request

    def new_key(self) -> str:
        """Return a new idempotency key."""
        return f"k{self.seed}-{self.number}-{next(self.numbers)}"

    def usable(self) -> list[Contact]:
        """Return the contacts that neither opted out nor were deleted."""
        return [contact for contact in self.contacts if not contact.is_used_up]

    def due(self, random: Random, longest_s: float) -> tuple[float, str]:
        """Return a time that is soon and before the end of the load, in Unix seconds and as the API reads it."""
        left_s = max(1.5, self.ends_at - time.time())
        at = datetime.now(UTC) + timedelta(seconds=random.uniform(1.0, min(longest_s, left_s)))
        return at.timestamp(), at.isoformat()

    async def set_up(self) -> None:
        """Create contacts, groups and configs. Nothing fails yet."""
        for name, value in (("sms_limit", self.profile.limit), ("sms_providers", self.profile.providers)):
            if value:
                self.configs[name] = await self._create("/api/configs/", {"name": name, "value": str(value)})
        self.records.limits[self.id] = [self.profile.limit]
        for position in range(CONTACTS):
            phone = f"045{self.number}{self.seed % 100:02d}{position:04d}"
            body = {"first_name": f"N{position}", "phone": phone}
            self.contacts.append(Contact(await self._create("/api/contacts/", body), phone))
        for start in (0, CONTACTS // 3):
            members = [contact.id for contact in self.contacts[start : start + CONTACTS // 3 * 2]]
            body_of_group = {"name": f"Group {start}", "member_ids": members}
            self.groups.append(await self._create("/api/groups/", body_of_group))

    async def _create(self, path: str, body: object) -> int:
        """Create something and return its id. Raises RuntimeError when it is refused."""
        answer, _ = await self.client.until_definite("POST", path, body)
        if not answer.is_success:
            raise RuntimeError(f"the set-up failed: {path} answered {answer.status} {answer.body}")
        created: int = answer.body["id"]
        return created


def text_of(request: Request, random: Random, *, version: int = 1) -> tuple[str, str]:
    """Return a text for a request, and what follows its token."""
    rest = random.choice(("Hello", "See you tomorrow", _LONG))
    return make_text(request.token, version, rest), rest


def make_organisations(
    seed: int,
    http: aiohttp.ClientSession,
    gateway: str,
    token_of: Callable[[str], Callable[[], str]],
    load_s: float,
    records: Records,
) -> list[Organisation]:
    """Return four organisations: without a limit, with a low one, with one that changes, and one that is closed."""
    profiles = (
        Profile(),
        Profile(limit=int(40 + load_s)),
        Profile(limit=int(100 + load_s), changes_limit=True, providers="twilio"),
        Profile(closes=True),
    )
    ends_at = time.time() + load_s
    organisations = []
    for number, profile in enumerate(profiles, start=1):
        name = f"org_chaos_{seed}_{number}"
        client = Client(http, gateway, token_of(name), number, records)
        organisations.append(Organisation(number, name, seed, profile, client, ends_at))
    return organisations
