"""The store of the handset: requests, messages, statuses and replies, in memory and in a log file.

Each request is one line of the log, written before the request is answered. The write reaches the operating system and
not the disk, so an answered request survives a kill -9 of the process, but not a power cut. Statuses and replies are
lines that begin with their kind.
"""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json, to_json

REMEMBERED_REQUESTS = 1000
# A status only replaces one of the same or a lower rank: a late delivery corrects a failure, never the reverse.
_RANKS = {"sent": 1, "delivered": 3}
_FAILURE_RANK = 2


class Message(NamedTuple):
    """One message on the handset. `to` is E.164, `received_at` is in Unix seconds, `reference` is the client's.

    Receipts go to `callback_url` and repeat `metadata`, for the providers that have these fields.
    """

    id: str
    received_at: float
    provider: str
    sender_id: str
    to: str
    text: str
    reference: str
    parts: int
    subject: str | None = None
    media_urls: Sequence[str] = ()
    callback_url: str = ""
    metadata: dict[str, str] | None = None


class Request(NamedTuple):
    """One request of a client with its answer. `key` is empty when there was no idempotency key."""

    at: float
    key: str
    body_hash: str
    status: int
    answer: bytes
    references: list[str]
    messages: Sequence[Message] = ()
    repeated: bool = False
    refused: str = ""  # the number and reference for which a scenario refused the request


class StatusReport(NamedTuple):
    """A new status of a message: `status` is one of webhooks.STATUSES, `raw` is the provider's name for it."""

    message_id: str
    at: float
    status: str
    raw: str


class Reply(NamedTuple):
    """A text that a person sent from a phone. `to` is the sender ID that receives it.

    `message_id` is the id of the message that it replies to, or empty. `keyword` is stop, start, help or empty.
    """

    id: str
    at: float
    provider: str
    phone: str
    to: str
    text: str
    message_id: str
    keyword: str = ""


Entry = Request | StatusReport | Reply
_KINDS: dict[type[StatusReport] | type[Reply], str] = {StatusReport: "Report", Reply: "Reply"}


class Watcher:
    """A page that waits for changes: the phones that changed, and whether all messages were deleted."""

    def __init__(self) -> None:
        """Begin without changes."""
        self.changed = asyncio.Event()
        self.phones: set[str] = set()
        self.is_cleared = False

    def collect(self) -> tuple[set[str], bool]:
        """Return the changes since the last call."""
        phones, is_cleared = self.phones, self.is_cleared
        self.phones, self.is_cleared = set(), False
        self.changed.clear()
        return phones, is_cleared


class Store:
    """Messages in order of arrival, first requests by key, and counts. Only one process may use a log at a time."""

    def __init__(self, path: Path) -> None:
        """Read the log, cut off an incomplete last line, and open the log for appending."""
        self.in_flight = 0  # requests without an answer so far
        self.watchers: set[Watcher] = set()
        self._clear()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        complete = 0
        with path.open("rb") as lines:
            for line in lines:
                entry = _decode(line)
                if entry is None:
                    break
                self._apply(entry)
                complete += len(line)
        os.ftruncate(self._file, complete)

    def append(self, entry: Entry) -> None:
        """Write the entry to the log, then apply it. Raises OSError when it could not be written."""
        line = _encode(entry)
        if os.write(self._file, line) != len(line):
            raise OSError("the handset's log cannot be written: the disk is full")
        self._apply(entry)

    def page(self, to: str | None, after: int, limit: int) -> tuple[list[Message], int | None]:
        """Return at most `limit` messages from position `after` on, and the next position, or None at the end."""
        found: list[Message] = []
        for position in range(after, len(self.messages)):
            if to is not None and self.messages[position].to != to:
                continue
            if len(found) == limit:
                return found, position
            found.append(self.messages[position])
        return found, None

    def is_opted_out(self, provider: str, phone: str) -> bool:
        """Return whether the phone sent STOP to this provider and no START after it."""
        return (provider, phone) in self.opted_out

    def status(self, message_id: str) -> StatusReport | None:
        """Return the status of a message, or None when there is none so far."""
        return self.reports.get(message_id)

    def clear(self) -> None:
        """Delete everything, in memory and in the log."""
        os.ftruncate(self._file, 0)
        self._clear()
        for watcher in self.watchers:
            watcher.is_cleared = True
            watcher.changed.set()

    def close(self) -> None:
        """Close the log."""
        os.close(self._file)

    def notify(self, phones: set[str]) -> None:
        """Notify the watchers that these phones changed."""
        for watcher in self.watchers:
            watcher.phones |= phones
            watcher.changed.set()

    def _clear(self) -> None:
        self.messages: list[Message] = []
        self.by_id: dict[str, Message] = {}
        self.reports: dict[str, StatusReport] = {}
        self.opted_out: set[tuple[str, str]] = set()
        # Phone → its messages and replies. The phone with the newest entry is last.
        self.conversations: dict[str, list[Message | Reply]] = {}
        self.first_requests: dict[str, Request] = {}
        self.refusals: Counter[str] = Counter()
        self.recent: deque[Request] = deque(maxlen=REMEMBERED_REQUESTS)
        self.total = 0
        self.repeated = 0

    def _apply(self, entry: Entry) -> None:
        match entry:
            case Request():
                self._apply_request(entry)
            case StatusReport():
                self._apply_report(entry)
            case Reply():
                self._apply_reply(entry)

    def _apply_request(self, request: Request) -> None:
        self.total += 1
        self.recent.append(request)
        self.messages += request.messages
        for message in request.messages:
            self.by_id[message.id] = message
            self._add_to_conversation(message.to, message)
        if request.repeated:
            self.repeated += 1
        elif request.refused:
            self.refusals[request.refused] += 1
        elif request.key:
            self.first_requests[request.key] = request
        if self.watchers:
            self.notify({message.to for message in request.messages})

    def _apply_report(self, report: StatusReport) -> None:
        message = self.by_id.get(report.message_id)
        known = self.reports.get(report.message_id)
        if message is None or (known and _rank(known) > _rank(report)):
            return
        self.reports[report.message_id] = report
        self.notify({message.to})

    def _apply_reply(self, reply: Reply) -> None:
        self._add_to_conversation(reply.phone, reply)
        if reply.keyword == "stop":
            self.opted_out.add((reply.provider, reply.phone))
        elif reply.keyword == "start":
            self.opted_out.discard((reply.provider, reply.phone))
        self.notify({reply.phone})

    def _add_to_conversation(self, phone: str, entry: Message | Reply) -> None:
        conversation = self.conversations.pop(phone, [])
        conversation.append(entry)
        self.conversations[phone] = conversation


def _rank(report: StatusReport) -> int:
    return _RANKS.get(report.status, _FAILURE_RANK)


def _encode(entry: Entry) -> bytes:
    """Return the line of an entry: the array of its fields. A status or a reply has its kind as first element."""
    line = entry if isinstance(entry, Request) else (_KINDS[type(entry)], *entry)
    return to_json(line) + b"\n"


def _decode(line: bytes) -> Entry | None:
    """Return the entry of a line, or None when the line is incomplete."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields = from_json(line)
    except ValueError:
        return None
    if fields[0] == _KINDS[StatusReport]:
        return StatusReport(*fields[1:])
    if fields[0] == _KINDS[Reply]:
        return Reply(*fields[1:])
    request = Request(*fields)
    messages = [Message(*message) for message in request.messages]
    return request._replace(answer=str(request.answer).encode(), messages=messages)
