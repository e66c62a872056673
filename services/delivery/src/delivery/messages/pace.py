"""How fast a provider is asked, and whether at all: its token bucket and its circuit breaker. Pure; the clock is given.

The clock tells seconds that only grow, as `time.monotonic` does.
"""

import time
from collections.abc import Callable, Sequence
from typing import Literal

from delivery.providers.base import AccountFault, CallError, NotConnected, OutcomeUnknown

Clock = Callable[[], float]
# What opens a breaker: how often in a row it happens, then the first pause and the longest, in seconds. A fault of the
# account is one, and lasts until an operator mends it. That nobody answers may be one call's bad luck, and each canary
# that meets it leaves a message of unknown outcome.
_OPENS: dict[type[CallError], tuple[int, float, float]] = {
    NotConnected: (3, 0.5, 60.0),
    OutcomeUnknown: (10, 5.0, 60.0),
    AccountFault: (1, 30.0, 300.0),
}


class Bucket:
    """Tokens for message parts: `rate` a second, as many at most as one second gives. A rate of 0 has no bound."""

    def __init__(self, rate: float, clock: Clock = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = rate
        self._at = clock()

    def fit(self, parts: Sequence[int]) -> int:
        """How many of these messages, in order, go now. One that is larger than the bucket goes when it is full."""
        left = self._level()
        for count, needed in enumerate(parts):
            if needed > left and not (count == 0 and left >= self._rate):
                return count
            left -= needed
        return len(parts)

    def most(self) -> float:
        """How many messages can go now at most: a part each."""
        level = self._level()
        return max(1.0, level) if level >= min(1.0, self._rate) else 0.0

    def take(self, parts: int) -> None:
        """Pays for what goes; what is more than there is stays as a debt."""
        if self._rate:
            self._tokens = self._level() - parts

    def _level(self) -> float:
        if not self._rate:
            return float("inf")
        now = self._clock()
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens


class Breaker:
    """Closed: calls are made. Open: none, for a pause. Half open: one, the canary; it closes the breaker, or opens it
    for longer.

    Answers to calls that were begun before it opened change nothing: they tell of the time before.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._openings = 0
        self._is_closed = True
        self._canary_is_out = False
        self._until = 0.0
        self.pause_s = 0.0  # how long it opens for, at present
        self._failures: dict[type[CallError], int] = {}

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        if self._is_closed:
            return "closed"
        return "open" if self._canary_is_out or self._clock() < self._until else "half_open"

    def begin(self) -> int:
        """A call begins; what this returns belongs to its outcome."""
        self._canary_is_out = not self._is_closed
        return self._openings

    def end(self, begun: int, error: CallError | None = None) -> Literal["opened", "closed", "unchanged"]:
        """A call ended: with an answer, were it a refusal, or with an error. Returns what that did to the breaker;
        a canary that fails leaves it unchanged, but open for longer."""
        if begun != self._openings:
            return "unchanged"
        self._canary_is_out = False
        kind = next((kind for kind in _OPENS if isinstance(error, kind)), None)
        if kind is None:
            return self._close()
        enough, first_s, longest_s = _OPENS[kind]
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if self._is_closed and self._failures[kind] < enough:
            return "unchanged"
        self.pause_s = min(longest_s, max(first_s, self.pause_s * 2))
        self._until = self._clock() + self.pause_s
        self._openings += 1
        was_closed, self._is_closed = self._is_closed, False
        return "opened" if was_closed else "unchanged"

    def _close(self) -> Literal["closed", "unchanged"]:
        was_closed, self._is_closed = self._is_closed, True
        self.pause_s = 0.0
        self._failures.clear()
        return "unchanged" if was_closed else "closed"
