"""Limit the rate of submissions to a provider, and stop them while the provider is unavailable.

Both classes are pure: they get a clock that counts seconds and never goes back, as `time.monotonic` does.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from delivery.providers.base import AccountError, NotConnected, OutcomeUnknown, SubmissionError

Clock = Callable[[], float]
# What opens a circuit: the number of failures in a row, the first pause and the longest pause in seconds. One account
# error is enough, because every further request would fail until an operator corrects the account. A missing answer may
# be bad luck, and each message that tests the circuit then gets an unknown outcome: so it takes ten.
_OPENS: dict[type[SubmissionError], tuple[int, float, float]] = {
    NotConnected: (3, 0.5, 60.0),
    OutcomeUnknown: (10, 5.0, 60.0),
    AccountError: (1, 30.0, 300.0),
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """The message parts that may be sent at one moment: `parts` of a bucket that holds `size` at most.

    A bucket without a rate allows any number of parts.
    """

    parts: float = float("inf")
    size: float = 0.0

    def fit(self, parts: Sequence[int]) -> int:
        """Return how many of these messages, in order, may be sent.

        A message that has more parts than the bucket is allowed when the bucket is full.
        """
        left = self.parts
        for count, needed in enumerate(parts):
            if needed > left and not (count == 0 and left >= self.size):
                return count
            left -= needed
        return len(parts)

    def max_messages(self) -> float:
        """Return the maximum of messages that may be sent: one for each part."""
        return max(1.0, self.parts) if self.parts >= min(1.0, self.size) else 0.0


class TokenBucket:
    """Tokens for message parts: `rate` per second, at most those of one second. A rate of 0 is no limit."""

    def __init__(self, rate: float, clock: Clock = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = rate
        self._filled_at = clock()

    def allowance(self) -> Allowance:
        """Return what may be sent now."""
        if not self._rate:
            return Allowance()
        now = self._clock()
        self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return Allowance(self._tokens, self._rate)

    def take(self, parts: int) -> None:
        """Take the tokens of a submission. Tokens that are missing stay as a debt."""
        if self._rate:
            self._tokens = self.allowance().parts - parts


class CircuitBreaker:
    """The circuit of one provider.

    Closed: submissions go. Open: none goes, for a pause. Half-open, after the pause: one submission tests the provider.
    Its success closes the circuit, its failure opens it for longer.

    Results of submissions that began before the circuit opened change nothing, because they are about the time before.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._openings = 0
        self._is_closed = True
        self._is_testing = False
        self._open_until = 0.0
        self.pause_s = 0.0  # the length of the present or next pause
        self._failures: dict[type[SubmissionError], int] = {}

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        if self._is_closed:
            return "closed"
        return "open" if self._is_testing or self._clock() < self._open_until else "half_open"

    def start(self) -> int:
        """Begin a submission. Return the number to give to `finish` with its result."""
        self._is_testing = not self._is_closed
        return self._openings

    def finish(
        self, begun: int, error: SubmissionError | None = None
    ) -> Literal["opened", "reopened", "closed", "unchanged"]:
        """End a submission. Return what its result did to the circuit.

        Any answer, also a refusal, shows that the provider is available. A failed test opens the circuit for longer.
        """
        if begun != self._openings:
            return "unchanged"
        self._is_testing = False
        kind = next((kind for kind in _OPENS if isinstance(error, kind)), None)
        if kind is None:
            return self._close()
        enough, first_s, longest_s = _OPENS[kind]
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if self._is_closed and self._failures[kind] < enough:
            return "unchanged"
        self.pause_s = min(longest_s, max(first_s, self.pause_s * 2))
        self._open_until = self._clock() + self.pause_s
        self._openings += 1
        was_closed, self._is_closed = self._is_closed, False
        return "opened" if was_closed else "reopened"

    def _close(self) -> Literal["closed", "unchanged"]:
        was_closed, self._is_closed = self._is_closed, True
        self.pause_s = 0.0
        self._failures.clear()
        return "unchanged" if was_closed else "closed"
