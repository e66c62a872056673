"""The organisation that an inbound message is for, its keyword, and the auto-reply to it. Pure."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from common.phones import InvalidPhone, normalise_phone
from delivery.configs.rules import HELP_REPLY, START_REPLY, STOP_REPLY, ConfigSpec
from delivery.opt_outs.rules import Number
from delivery.providers.base import InboundMessage, Keyword, Provider

# Keyword → the config that replaces the auto-reply, and the default text.
AUTO_REPLIES: dict[Keyword, tuple[ConfigSpec[str | None], str]] = {
    "stop": (STOP_REPLY, "You will receive no more messages from us. Reply START to receive them again."),
    "start": (START_REPLY, "You will receive our messages again. Reply STOP to receive no more."),
    "help": (HELP_REPLY, "Reply STOP to receive no more messages from us, START to receive them again."),
}
_KEYWORDS: dict[str, Keyword] = {
    **dict.fromkeys(("stop", "stop all", "stopall", "unsubscribe", "opt out", "optout"), "stop"),
    **dict.fromkeys(("end", "quit", "cancel", "revoke", "remove"), "stop"),
    **dict.fromkeys(("start", "unstop", "yes"), "start"),
    **dict.fromkeys(("help", "info"), "help"),
}
_MAX_NUMBER = 40  # characters


@dataclass(frozen=True, slots=True)
class InboundPolicy:
    """How this installation treats inbound messages.

    `handled_by_provider` are the providers that answer STOP, START and HELP themselves. `default_sender_ids` are the
    numbers that messages come from whose organisation has no sender ID of its own; no organisation owns them.
    """

    handled_by_provider: frozenset[str] = frozenset()
    default_sender_ids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, providers: Iterable[Provider]) -> "InboundPolicy":
        """Return the policy of an installation with these providers."""
        listed = list(providers)
        return cls(
            handled_by_provider=frozenset(provider.name for provider in listed if provider.handles_opt_outs),
            default_sender_ids=frozenset(
                canonical_number(provider.default_sender_id) for provider in listed if provider.default_sender_id
            ),
        )


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """An inbound message with the webhook event that brought it.

    `answered_id` is the id of our message that it answers according to the provider. `arrived_at` is the time of the
    webhook.
    """

    event_id: int
    provider: str
    message: InboundMessage
    answered_id: int | None
    arrived_at: datetime
    request_id: str

    @property
    def phone(self) -> str:
        """Return the phone that sent the message, E.164 if it is an Australian mobile."""
        return canonical_number(self.message.phone)

    @property
    def to(self) -> str:
        """Return the sender ID that the message was sent to, E.164 if it is an Australian mobile."""
        return canonical_number(self.message.to)

    @property
    def received_at(self) -> datetime:
        """Return the time of receipt, but not after the webhook: a provider's clock may be fast."""
        return min(self.message.received_at, self.arrived_at)


@dataclass(frozen=True, slots=True)
class Owner:
    """The organisation that an inbound message is for, and the contact and schedule it is about, if they are known."""

    organisation_id: str
    contact_id: int | None = None
    schedule_id: int | None = None


class EarlierMessage(NamedTuple):
    """The newest outbound message to a phone by one organisation with one sender ID."""

    phone: str
    provider: str
    organisation_id: str
    sender_id: str | None
    contact_id: int | None
    schedule_id: int | None


@dataclass(frozen=True, slots=True)
class OwnedMessage:
    """An inbound message whose organisation is known, with the id that it is stored under and its keyword."""

    id: int
    received: ReceivedMessage
    owner: Owner
    keyword: Keyword | None

    @property
    def number(self) -> Number:
        """Return the organisation and the phone."""
        return self.owner.organisation_id, self.received.phone


def canonical_number(written: str) -> str:
    """Return an Australian mobile as E.164, and anything else as it is written."""
    try:
        return normalise_phone(written)
    except InvalidPhone:
        return written.strip()[:_MAX_NUMBER]


def is_mobile(phone: str) -> bool:
    """Return whether a canonical number is an Australian mobile, so that an auto-reply can be sent to it."""
    try:
        return normalise_phone(phone) == phone
    except InvalidPhone:
        return False


def normalise_keyword(text: str) -> str:
    """Return a text as it is compared with keywords: without case, punctuation and outer spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("-", " ")
    return " ".join("".join(c for c in plain if c.isalnum() or c.isspace()).split())


def find_keyword(message: InboundMessage, keywords_off: Collection[str], is_opted_out: bool) -> Keyword | None:
    """Return the keyword that the whole message is, if any.

    The keyword that the provider recognised counts, too, because the provider acts on it. `keywords_off` are the words
    (in small letters) that the organisation does not accept as keywords. YES answers many questions, so it means START
    only from a number that is opted out.
    """
    word = normalise_keyword(message.text)
    keyword = _KEYWORDS.get(word)
    if word in keywords_off or (word == "yes" and not is_opted_out):
        keyword = None
    return keyword or message.keyword


def auto_reply_text(keyword: Keyword, configured: Mapping[str, str]) -> str | None:
    """Return the auto-reply to a keyword, or None if it is off. `configured`: the organisation's configs by name."""
    spec, default = AUTO_REPLIES[keyword]
    return spec.parse(configured[spec.name]) if spec.name in configured else default


def choose_owner(
    to: str,
    candidates: Sequence[EarlierMessage],
    owners: Mapping[str, str],
    default_sender_ids: Collection[str],
) -> Owner | None:
    """Return the owner of an inbound message that does not name the message it answers, or None.

    The organisation that owns the sender ID `to` comes first. If none owns it, it is the organisation that last
    messaged the phone from there, or else the one that last messaged it at all.

    `candidates` are the newest messages to the phone by organisation and sender ID, the newest first. `owners` is
    sender ID → the organisation that it is assigned to.
    """
    is_default = to in default_sender_ids
    owner = None if is_default else owners.get(to)
    if owner is not None:
        candidates = [one for one in candidates if one.organisation_id == owner]
    from_there = [
        one for one in candidates if (is_default if one.sender_id is None else canonical_number(one.sender_id) == to)
    ]
    chosen = next(iter([*from_there, *candidates]), None)
    if chosen is None:
        return Owner(owner) if owner is not None else None
    return Owner(chosen.organisation_id, chosen.contact_id, chosen.schedule_id)
