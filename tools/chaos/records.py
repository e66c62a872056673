"""What the clients of a chaos run asked for and what they were answered."""

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

# A token names one request for messages: the seed, the number of the organisation, and a number. It begins every text.
# After it the text has its version, which an edit raises.
_TOKEN = re.compile(r"(C\d+-O(\d+)-N\d+) v(\d)")


class BarrierKind(StrEnum):
    """An answer after which certain messages must not be sent."""

    OPT_OUT = "opt-out"
    """A PATCH of the contact was answered with `opt_out` true: no submission to the phone begins after it."""
    STOP = "STOP"
    """A phone sent STOP, and the contact was read with `opt_out` true: only resends begin after it."""
    DELETE = "delete"
    """The contact was deleted: no schedule of the contact is dispatched after it."""
    CANCEL = "cancel"
    """The schedule was cancelled: it is not dispatched after it."""
    CANCEL_BATCH = "cancel of a batch"
    """The batch was cancelled: none of its messages is dispatched after it."""


@dataclass(frozen=True)
class Barrier:
    """The answer to an opt-out, a deletion or a cancel. `subject` is the id of the contact, schedule or batch."""

    kind: BarrierKind
    organisation: str
    subject: int
    at: float
    phone: str = ""


@dataclass
class Request:
    """A keyed request for messages. `status` is that of its definite answer, or 0 when there was none.

    `edits` has the time of the answer and the version of each edit that was answered 2xx. `last` is the latest version
    that may have been stored.
    """

    organisation: str
    token: str
    is_batch: bool
    status: int = 0
    id: int | None = None
    messages: int = 1
    edits: list[tuple[float, int]] = field(default_factory=list)
    last: int = 1

    @property
    def is_accepted(self) -> bool:
        """Whether the request was answered 2xx."""
        return self.status // 100 == 2


@dataclass
class Retry:
    """A retry of a failed schedule or batch. It may have had an effect, whatever its answer.

    `until` is the time of the answer, in Unix seconds. It may have had its effect at any time before.
    """

    include_unknown: bool
    until: float = float("inf")


@dataclass
class Records:
    """Everything that the clients record. `violations` are those that a client sees by itself, by promise."""

    requests: dict[str, Request] = field(default_factory=dict)
    barriers: list[Barrier] = field(default_factory=list)
    retries: dict[int, list[Retry]] = field(default_factory=dict)
    limits: dict[str, list[int | None]] = field(default_factory=dict)
    closed: dict[str, float] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    replayed: int = 0
    unanswered: list[str] = field(default_factory=list)
    violations: list[tuple[int, str]] = field(default_factory=list)


def find_token(text: str) -> tuple[str, int, int] | None:
    """Return the token of a text, the number of its organisation and the version, or None."""
    found = _TOKEN.search(text)
    return (found[1], int(found[2]), int(found[3])) if found else None


def make_text(token: str, version: int, rest: str) -> str:
    """Return a text that begins with a token."""
    return f"{token} v{version} {rest}"
