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
_MIN_FULL_NUMBER = 8  # digits; a shorter number is a short code
_NATIONAL_DIGITS = 10  # of an Australian number that is written with its leading zero
_PUNCTUATION = str.maketrans(dict.fromkeys("()-. "))


@dataclass(frozen=True, slots=True)
class InboundPolicy:
    """How this installation treats inbound messages.

    `handled_by_provider` are the providers that answer STOP, START and HELP themselves. `default_sender_ids` are the
    sender IDs, as `sender_key` writes them, of messages whose organisation has none of its own. No organisation owns
    them.
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
                sender_key(provider.default_sender_id) for provider in listed if provider.default_sender_id
            ),
        )

    def assigned_to(self, sender_id: str, assigned: Mapping[str, str]) -> str | None:
        """Return the organisation that a sender ID is assigned to. No organisation owns a default, even if assigned."""
        return None if sender_id in self.default_sender_ids else assigned.get(sender_id)


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """An inbound message, from a webhook event or from a stored message that matched no organisation.

    `event_id` is the id of that event or stored message. `fingerprint` is the same when the provider repeats the
    message. `answered_id` is the id of our message that it answers according to the provider. `arrived_at` is the time
    of the webhook.
    """

    event_id: int
    provider: str
    fingerprint: bytes
    message: InboundMessage
    answered_id: int | None
    arrived_at: datetime
    request_id: str
    traceparent: str | None = None

    @property
    def phone(self) -> str:
        """Return the phone that sent the message, E.164 if it is an Australian mobile."""
        return canonical_number(self.message.phone)

    @property
    def to(self) -> str:
        """Return the sender ID that the message was sent to, E.164 if it is an Australian mobile."""
        return canonical_number(self.message.to)

    @property
    def sender_key(self) -> str:
        """Return the sender ID that the message was sent to, as sender IDs are compared."""
        return sender_key(self.message.to)

    @property
    def received_at(self) -> datetime:
        """Return the time of receipt, but not after the webhook: a provider's clock may be fast."""
        return min(self.message.received_at, self.arrived_at)

    @property
    def maybe_stop(self) -> bool:
        """Return whether an organisation may take the message for STOP. The organisation's configs decide."""
        return find_keyword(self.message, (), is_opted_out=False) == "stop"


@dataclass(frozen=True, slots=True)
class Owner:
    """The organisation that an inbound message is for, and the contact and schedule it is about, if they are known."""

    organisation_id: str
    contact_id: int | None = None
    schedule_id: int | None = None


class EarlierMessage(NamedTuple):
    """The newest outbound message to a phone by one organisation through one provider with one sender ID.

    `sender_id` is None if the provider chose it.
    """

    provider: str
    organisation_id: str
    sender_id: str | None
    contact_id: int | None
    schedule_id: int | None

    @property
    def owner(self) -> Owner:
        """Return the message's organisation, contact and schedule."""
        return Owner(self.organisation_id, self.contact_id, self.schedule_id)


class StoredMessage(NamedTuple):
    """A stored inbound message that a webhook event brought before. `organisation_id` is None if none matched."""

    id: int
    provider: str
    fingerprint: bytes
    organisation_id: str | None


class UnmatchedMessage(NamedTuple):
    """A stored inbound message that matches no organisation. `keyword` does not depend on configs."""

    id: int
    provider: str
    fingerprint: bytes
    phone: str
    to_number: str
    text: str
    received_at: datetime
    keyword: Keyword | None
    media_urls: Sequence[str]
    created_at: datetime


class UnmatchedChoice(NamedTuple):
    """Which of the inbound messages that match no organisation are meant. None: all.

    `to` and `phone` are canonical numbers.
    """

    ids: Sequence[int] | None = None
    to: str | None = None
    phone: str | None = None
    only_stop: bool = False


class UnmatchedCount(NamedTuple):
    """The number of inbound messages that match no organisation, and of those among them that say STOP."""

    messages: int
    opt_outs: int


@dataclass(frozen=True, slots=True)
class OwnedMessage:
    """An inbound message whose organisation is known, with the id that it is stored under and its keyword.

    `is_stored`: the row exists, without an organisation. `is_copy`: the message is the STOP of another organisation's
    inbound message, which counts for this organisation, too.
    """

    id: int
    received: ReceivedMessage
    owner: Owner
    keyword: Keyword | None
    is_stored: bool = False
    is_copy: bool = False

    @property
    def number(self) -> Number:
        """Return the organisation and the phone."""
        return self.owner.organisation_id, self.received.phone

    @property
    def text(self) -> str:
        """Return the text that the organisation may read. Of a copy it sees nothing but the keyword."""
        text = self.received.message.text
        return "STOP" if self.is_copy and normalise_keyword(text) not in _KEYWORDS else text

    @property
    def media_urls(self) -> tuple[str, ...]:
        """Return the media that the organisation may see."""
        return () if self.is_copy else self.received.message.media_urls


def canonical_number(written: str) -> str:
    """Return an Australian mobile as E.164, and anything else as it is written."""
    try:
        return normalise_phone(written)
    except InvalidPhone:
        return written.strip()[:_MAX_NUMBER]


def sender_key(written: str) -> str:
    """Return a sender ID as it is compared, whichever provider wrote it.

    A mobile is E.164. Another number of at least eight digits has its country code and a plus, a short code its digits
    alone. A name is in small letters.
    """
    number = canonical_number(written)
    if is_mobile(number):
        return number
    digits = number.translate(_PUNCTUATION).removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return number.casefold()
    if len(digits) < _MIN_FULL_NUMBER:
        return digits
    return "+" + (f"61{digits[1:]}" if len(digits) == _NATIONAL_DIGITS and digits.startswith("0") else digits)


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


def received_again(stored: UnmatchedMessage) -> ReceivedMessage:
    """Return a stored message that matched no organisation as it was received.

    A text that is a keyword is read again, with the configs of its organisation. Otherwise the stored keyword is the
    one that the provider recognised.
    """
    is_keyword = normalise_keyword(stored.text) in _KEYWORDS
    return ReceivedMessage(
        event_id=stored.id,
        provider=stored.provider,
        fingerprint=stored.fingerprint,
        message=InboundMessage(
            id="",
            phone=stored.phone,
            to=stored.to_number,
            text=stored.text,
            received_at=stored.received_at,
            keyword=None if is_keyword else stored.keyword,
            media_urls=tuple(stored.media_urls),
        ),
        answered_id=None,
        arrived_at=stored.created_at,
        request_id="",
    )


def choose_owners(
    received: ReceivedMessage,
    answered: Owner | None,
    candidates: Sequence[EarlierMessage],
    assigned_to: str | None,
) -> list[Owner]:
    """Return the organisations that an inbound message is for, the one that it is stored for first.

    That one is the organisation of the `answered` message. Without one it is the organisation that the sender ID is
    assigned to. If there is none, it is the organisation that last messaged the phone from this sender ID, through any
    provider. Otherwise only the provider that brought the message counts: first messages whose sender ID it chose, then
    messages from any sender ID.

    A STOP counts for the further ones, too: the organisation that the sender ID is assigned to, and all that messaged
    the phone from it.

    `candidates` are the newest messages to the phone by organisation, provider and sender ID, the newest first.
    `assigned_to` is the organisation that the sender ID is assigned to.
    """
    to = received.sender_key
    from_there = [one for one in candidates if one.sender_id is not None and sender_key(one.sender_id) == to]
    owners = [] if answered is None else [answered]
    if assigned_to is not None:
        own = [one.owner for one in [*from_there, *candidates] if one.organisation_id == assigned_to]
        owners += own[:1] or [Owner(assigned_to)]
    else:
        same_provider = [one for one in candidates if one.provider == received.provider]
        from_there += [one for one in same_provider if one.sender_id is None]
        if not owners:
            owners += [one.owner for one in [*from_there, *same_provider][:1]]
    by_organisation: dict[str, Owner] = {}
    for owner in [*owners, *(one.owner for one in from_there)]:
        by_organisation.setdefault(owner.organisation_id, owner)
    return list(by_organisation.values())
