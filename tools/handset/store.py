"""What the handset took, in memory, and in a log that survives its death.

Each request is one line, written before it is answered. The write reaches the operating system, not the disk:
what was answered survives a kill -9 of the process, which is what the tests do to it.
"""

import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json, to_json

REMEMBERED_REQUESTS = 1000


class Message(NamedTuple):
    """One message on the handset. `to` is E.164, `received_at` in Unix seconds, `reference` the sender's own."""

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


class Store:
    """Messages in order of arrival, first answers by key, counts. Not for more than one process at a time."""

    def __init__(self, path: Path) -> None:
        """Read the log, cut off a last line that a death left torn, and open it for appending."""
        self.in_flight = 0  # requests of senders that have no answer yet
        self._clear()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        good = 0
        with path.open("rb") as lines:
            for line in lines:
                request = _decode(line)
                if request is None:
                    break
                self._apply(request)
                good += len(line)
        os.ftruncate(self._file, good)

    def append(self, request: Request) -> None:
        """Write the request to the log, then apply it. Raises OSError when it could not be kept."""
        line = _encode(request)
        if os.write(self._file, line) != len(line):
            raise OSError("the handset's log is full")
        self._apply(request)

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

    def forget(self) -> None:
        """Forget everything, in memory and in the log."""
        os.ftruncate(self._file, 0)
        self._clear()

    def close(self) -> None:
        """Close the log."""
        os.close(self._file)

    def _clear(self) -> None:
        self.messages: list[Message] = []
        self.first_requests: dict[str, Request] = {}
        self.refusals: Counter[str] = Counter()
        self.recent: deque[Request] = deque(maxlen=REMEMBERED_REQUESTS)
        self.total = 0
        self.repeated = 0

    def _apply(self, request: Request) -> None:
        self.total += 1
        self.recent.append(request)
        self.messages += request.messages
        if request.repeated:
            self.repeated += 1
        elif request.refused:
            self.refusals[request.refused] += 1
        elif request.key:
            self.first_requests[request.key] = request


def _encode(request: Request) -> bytes:
    return to_json(request) + b"\n"  # named tuples: an array of the fields in their order


def _decode(line: bytes) -> Request | None:
    """Return the request of a line, None when the line was not written to its end."""
    if not line.endswith(b"\n"):
        return None
    try:
        request = Request(*from_json(line))
    except ValueError:
        return None
    messages = [Message(*fields) for fields in request.messages]
    return request._replace(answer=str(request.answer).encode(), messages=messages)
