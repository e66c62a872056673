"""What somebody who writes to us means, whose message it is, and what it is answered with. Pure."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from common.phones import InvalidPhone, normalise_phone
from delivery.providers.base import InboundMessage, Provider
from delivery.settings import Settings, split_names

Keyword = Literal["stop", "start", "help"]

OFF = "off"
WORDS_OFF = "stop_words_off"
# Keyword → the config that replaces the answer, and the answer.
ANSWERS: dict[Keyword, tuple[str, str]] = {
    "stop": ("stop_reply", "You will receive no more messages from us. Reply START to receive them again."),
    "start": ("start_reply", "You will receive our messages again. Reply STOP to receive no more."),
    "help": ("help_reply", "Reply STOP to receive no more messages from us, START to receive them again."),
}
# domain.md, Opt-out. `YES` answers many a question: it is a START only where there is a stop.
_WORDS: dict[str, Keyword] = {
    **dict.fromkeys(("stop", "stop all", "stopall", "unsubscribe", "opt out", "optout"), "stop"),
    **dict.fromkeys(("end", "quit", "cancel", "revoke", "remove"), "stop"),
    **dict.fromkeys(("start", "unstop", "yes"), "start"),
    **dict.fromkeys(("help", "info"), "help"),
}
_LONGEST_NUMBER = 40


@dataclass(frozen=True, slots=True)
class Reply:
    """A message that came in, as its notice has it. `answered`: the id of our message that the provider says it
    answers; `told_at`: when the provider told."""

    notice_id: int
    provider: str
    inbound: InboundMessage
    answered: int | None
    told_at: datetime
    request_id: str

    @property
    def phone(self) -> str:
        return read_number(self.inbound.phone)

    @property
    def to(self) -> str:
        return read_number(self.inbound.to)

    @property
    def received_at(self) -> datetime:
        """A provider's clock may be wrong: nothing was received after it was told."""
        return min(self.inbound.received_at, self.told_at)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose reply it is, and which contact and schedule it is about, where that is known."""

    organisation_id: str
    contact_id: int | None = None
    schedule_id: int | None = None


@dataclass(frozen=True, slots=True)
class KeptReply:
    """A reply that found its organisation, under the id it is kept by."""

    id: int
    reply: Reply
    owner: Owner
    keyword: Keyword | None

    @property
    def number(self) -> tuple[str, str]:
        return self.owner.organisation_id, self.reply.phone


@dataclass(frozen=True, slots=True)
class ReplyPolicy:
    """How this installation takes replies. `answered_by`: providers that answer STOP, START and HELP themselves;
    `own_numbers`: where messages of organisations without a sender of their own come from, which are nobody's."""

    answered_by: frozenset[str] = frozenset()
    own_numbers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings, providers: Iterable[Provider]) -> "ReplyPolicy":
        answering = (provider.name for provider in providers if provider.handles_opt_outs)
        return cls(frozenset(answering), frozenset(map(read_number, settings.own_numbers)))


def read_number(written: str) -> str:
    """E.164 when it is an Australian mobile in any spelling, else as it is written."""
    try:
        return normalise_phone(written)
    except InvalidPhone:
        return written.strip()[:_LONGEST_NUMBER]


def read_word(text: str) -> str:
    """A message as it is compared with the words: case, spaces at the ends and punctuation do not count."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("-", " ")
    return " ".join("".join(c for c in plain if c.isalnum() or c.isspace()).split())


def read_keyword(inbound: InboundMessage, words_off: Collection[str], has_stopped: bool) -> Keyword | None:
    """What the message means as a whole. What its provider took it for counts too: it acts on it.

    `words_off` are those (in small letters) that the organisation does not take for a stop.
    """
    word = read_word(inbound.text)
    keyword = _WORDS.get(word)
    if word in words_off or (word == "yes" and not has_stopped):
        keyword = None
    return keyword or inbound.keyword


def read_words_off(value: str | None) -> frozenset[str]:
    """The words of the config, in small letters."""
    return frozenset(split_names((value or "").casefold()))


def choose_owner(
    to: str, candidates: Sequence[Any], owners: Mapping[str, str], own_numbers: Collection[str]
) -> Owner | None:
    """Whose a reply is that does not say what it answers: of the organisation whose number is answered; where that is
    nobody's, of who wrote to the person last from there, else of who wrote last at all.

    `candidates`: the newest messages to that phone by organisation and sender, the newest first. `owners`: number →
    the organisation that it is assigned to.
    """
    is_ours = to in own_numbers
    owner = None if is_ours else owners.get(to)
    if owner is not None:
        candidates = [c for c in candidates if c.organisation_id == owner]
    from_there = [c for c in candidates if (is_ours if c.sender is None else read_number(c.sender) == to)]
    chosen = next(iter([*from_there, *candidates]), None)
    if chosen is None:
        return Owner(owner) if owner is not None else None
    return Owner(chosen.organisation_id, chosen.contact_id, chosen.schedule_id)
