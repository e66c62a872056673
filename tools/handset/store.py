"""What the handset took, in memory, and in a log that survives its death.

Each request is one line, written before it is answered. The write reaches the operating system, not the disk:
what was answered survives a kill -9 of the process, which is what the tests do to it. What became of a message and
what a phone replied are lines of their own, which begin with a word.
"""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json, to_json

REMEMBERED_REQUESTS = 1000
# What a phone knows of a message only climbs: a delivery that shows late corrects a failure, never the reverse.
_RANKS = {"sent": 1, "delivered": 3}
_FAILURE_RANK = 2


class Message(NamedTuple):
    """One message on the handset. `to` is E.164, `received_at` in Unix seconds, `reference` the sender's own.

    `callback_url` is where the sender wants to hear of it, `metadata` what it wants to hear again.
    """

    id: str
    received_at: float
    provider: str
    sender: str
    to: str
    text: str
    reference: str
    parts: int
    subject: str | None = None
    media_urls: Sequence[str] = ()
    callback_url: str = ""
    metadata: dict[str, str] | None = None


class Request(NamedTuple):
    """One request of a sender, with its answer. `key` is empty when it had no idempotency key."""

    at: float
    key: str
    body_hash: str
    status: int
    answer: bytes
    references: list[str]
    messages: Sequence[Message] = ()
    repeated: bool = False
    refused: str = ""  # the number and reference for which a scenario refused the request


class Report(NamedTuple):
    """What became of a message: `status` in the handset's words (receipts.py), `raw` in the vendor's."""

    message_id: str
    at: float
    status: str
    raw: str


class Reply(NamedTuple):
    """What somebody typed on a phone. `to` is the sender that it goes to, `answers` the id of its last message.

    `keyword` is stop, start, help or empty: what the vendor takes it for.
    """

    id: str
    at: float
    provider: str
    phone: str
    to: str
    text: str
    answers: str
    keyword: str = ""


class Watcher:
    """Somebody who wants to hear which phones have something new; `everything` when all was forgotten."""

    def __init__(self) -> None:
        """Begin with nothing to tell."""
        self.news = asyncio.Event()
        self.phones: set[str] = set()
        self.everything = False

    def take(self) -> tuple[set[str], bool]:
        """Return what is new, and begin anew."""
        phones, everything = self.phones, self.everything
        self.phones, self.everything = set(), False
        self.news.clear()
        return phones, everything


class Store:
    """Messages in order of arrival, first answers by key, counts. Not for more than one process at a time."""

    def __init__(self, path: Path) -> None:
        """Read the log, cut off a last line that a death left torn, and open it for appending."""
        self.in_flight = 0  # requests of senders that have no answer yet
        self.watchers: set[Watcher] = set()
        self._clear()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        good = 0
        with path.open("rb") as lines:
            for line in lines:
                entry = _decode(line)
                if entry is None:
                    break
                self._apply(entry)
                good += len(line)
        os.ftruncate(self._file, good)

    def append(self, entry: Request | Report | Reply) -> None:
        """Write the entry to the log, then apply it. Raises OSError when it could not be kept."""
        line = _encode(entry)
        if os.write(self._file, line) != len(line):
            raise OSError("the handset's log is full")
        self._apply(entry)

    def page(self, to: str | None, after: int, limit: int) -> tuple[list[Message], int | None]:
        """Return at most `limit` messages from position `after` on, and the next position (None: no more)."""
        found: list[Message] = []
        for position in range(after, len(self.messages)):
            if to is not None and self.messages[position].to != to:
                continue
            if len(found) == limit:
                return found, position
            found.append(self.messages[position])
        return found, None

    def is_stopped(self, provider: str, phone: str) -> bool:
        """Whether somebody told this vendor STOP, and not START since."""
        return (provider, phone) in self.stopped

    def status(self, message_id: str) -> Report | None:
        """Return what became of a message, None while nothing is known."""
        return self.reports.get(message_id)

    def forget(self) -> None:
        """Forget everything, in memory and in the log."""
        os.ftruncate(self._file, 0)
        self._clear()
        for watcher in self.watchers:
            watcher.everything = True
            watcher.news.set()

    def close(self) -> None:
        """Close the log."""
        os.close(self._file)

    def notify(self, phones: set[str]) -> None:
        """Tell the watchers that these phones have something new."""
        for watcher in self.watchers:
            watcher.phones |= phones
            watcher.news.set()

    def _clear(self) -> None:
        self.messages: list[Message] = []
        self.by_id: dict[str, Message] = {}
        self.reports: dict[str, Report] = {}
        self.stopped: set[tuple[str, str]] = set()
        # Phone → what it got and sent. The phone with the newest is last.
        self.conversations: dict[str, list[Message | Reply]] = {}
        self.first_requests: dict[str, Request] = {}
        self.refusals: Counter[str] = Counter()
        self.recent: deque[Request] = deque(maxlen=REMEMBERED_REQUESTS)
        self.total = 0
        self.repeated = 0

    def _apply(self, entry: Request | Report | Reply) -> None:
        match entry:
            case Request():
                self._apply_request(entry)
            case Report():
                self._apply_report(entry)
            case Reply():
                self._apply_reply(entry)

    def _apply_request(self, request: Request) -> None:
        self.total += 1
        self.recent.append(request)
        self.messages += request.messages
        for message in request.messages:
            self.by_id[message.id] = message
            self._place(message.to, message)
        if request.repeated:
            self.repeated += 1
        elif request.refused:
            self.refusals[request.refused] += 1
        elif request.key:
            self.first_requests[request.key] = request
        if self.watchers:
            self.notify({message.to for message in request.messages})

    def _apply_report(self, report: Report) -> None:
        message = self.by_id.get(report.message_id)
        known = self.reports.get(report.message_id)
        if message is None or (known and _rank(known) > _rank(report)):
            return
        self.reports[report.message_id] = report
        self.notify({message.to})

    def _apply_reply(self, reply: Reply) -> None:
        self._place(reply.phone, reply)
        if reply.keyword == "stop":
            self.stopped.add((reply.provider, reply.phone))
        elif reply.keyword == "start":
            self.stopped.discard((reply.provider, reply.phone))
        self.notify({reply.phone})

    def _place(self, phone: str, entry: Message | Reply) -> None:
        conversation = self.conversations.pop(phone, [])
        conversation.append(entry)
        self.conversations[phone] = conversation


def _rank(report: Report) -> int:
    return _RANKS.get(report.status, _FAILURE_RANK)


def _encode(entry: Request | Report | Reply) -> bytes:
    """Named tuples are arrays of their fields in order; what is no request has its kind before them."""
    line = entry if isinstance(entry, Request) else (type(entry).__name__, *entry)
    return to_json(line) + b"\n"


def _decode(line: bytes) -> Request | Report | Reply | None:
    """Return the entry of a line, None when the line was not written to its end."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields = from_json(line)
    except ValueError:
        return None
    if fields[0] == "Report":
        return Report(*fields[1:])
    if fields[0] == "Reply":
        return Reply(*fields[1:])
    request = Request(*fields)
    messages = [Message(*message) for message in request.messages]
    return request._replace(answer=str(request.answer).encode(), messages=messages)
