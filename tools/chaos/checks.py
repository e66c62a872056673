"""The comparison at the end of a chaos run: each check returns the violations of one promise. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from common.sms import measure
from delivery.models import OPEN as OPEN_MESSAGES
from delivery.models import MessageStatus
from scheduling.models import OPEN, SUCCESSFUL, ScheduleKind, ScheduleStatus
from tools.chaos.evidence import Arrival, Evidence, MessageRow, ScheduleRow
from tools.chaos.records import Barrier, BarrierKind, Records, Request, Retry, find_token

PROMISES = {
    1: "every accepted message has one outcome, and arrived if it was sent",
    2: "no message arrived twice",
    3: "the usage is what messages and reservations add up to, and never passed the limit",
    4: "nothing was sent after an opt-out, a deletion or a cancel was answered",
    5: "no organisation saw another's data",
    6: "a repeated request got the same answer and had one effect",
    7: "nothing is left over",
    8: "no request was answered 500",
}

_UNKNOWN = "outcome_unknown"


class Violation(NamedTuple):
    """A promise that was not kept, and what shows it."""

    promise: int
    what: str


class Comparison:
    """The records of the clients beside the evidence of the system."""

    def __init__(self, records: Records, evidence: Evidence) -> None:
        """Set what is compared."""
        self.records, self.evidence = records, evidence
        self.schedules = {row.id: row for row in evidence.schedules}
        self._dispatched: defaultdict[int | None, list[MessageRow]] = defaultdict(list)
        for message in evidence.messages:
            self._dispatched[message.schedule_id].append(message)
        self._arrived: defaultdict[int, list[Arrival]] = defaultdict(list)
        for arrival in evidence.arrivals:
            self._arrived[arrival.message_id].append(arrival)

    def dispatched(self, schedule_id: int) -> list[MessageRow]:
        """Return the messages of a schedule, one for each dispatch."""
        return self._dispatched.get(schedule_id, [])

    def arrived(self, message_id: int) -> list[Arrival]:
        """Return the arrivals of a message on the handset."""
        return self._arrived.get(message_id, [])

    @cached_property
    def messages_of(self) -> dict[int, list[ScheduleRow]]:
        """Batch → its messages."""
        found: defaultdict[int, list[ScheduleRow]] = defaultdict(list)
        for row in self.evidence.schedules:
            if row.batch_id is not None:
                found[row.batch_id].append(row)
        return found

    def violations(self) -> list[Violation]:
        """Return all violations, by promise."""
        seen = [Violation(*each) for each in self.records.violations]
        checks = (
            self.check_accepted,
            self.check_outcomes,
            self.check_doubles,
            self.check_usage,
            self.check_limits,
            self.check_barriers,
            self.check_edits,
            self.check_effects,
            self.check_left,
        )
        return sorted([*seen, *(violation for check in checks for violation in check())])

    def check_accepted(self) -> Iterator[Violation]:
        """Every accepted request has its schedule or its batch, and a batch has all its messages."""
        for request in self.records.requests.values():
            if not request.is_accepted:
                continue
            row = self.schedules.get(request.id or 0)
            if row is None:
                yield Violation(1, f"{request.token} was accepted as {request.id}, which does not exist")
            elif row.kind == ScheduleKind.BATCH:
                yield from self._check_size(request, row)
        for text in self.records.unanswered:
            yield Violation(1, f"no definite answer: {text}")

    def _check_size(self, request: Request, batch: ScheduleRow) -> Iterator[Violation]:
        rows = len(self.messages_of.get(batch.id, []))
        if batch.id in self.records.retries:
            return  # a retry of a cancelled batch leaves out the members that never got a row
        if batch.message_count != request.messages:
            counts = f"{batch.message_count} messages instead of {request.messages}"
            yield Violation(1, f"batch {batch.id} has {counts}")
        if rows != request.messages and batch.status != ScheduleStatus.CANCELLED:
            yield Violation(1, f"batch {batch.id} was accepted with {request.messages} messages and has {rows}")

    def check_outcomes(self) -> Iterator[Violation]:
        """Every schedule has a final outcome, which agrees with delivery and with the handset."""
        for row in self.evidence.schedules:
            if row.status in OPEN:
                yield Violation(1, f"{row.kind} {row.id} is still {row.status}")
            elif row.kind != ScheduleKind.BATCH:
                yield from self._check_outcome(row)
        for message in self.evidence.messages:
            if message.status in OPEN_MESSAGES:
                yield Violation(1, f"message {message.id} is still {message.status}")

    def _check_outcome(self, row: ScheduleRow) -> Iterator[Violation]:
        last = next((each for each in self.dispatched(row.id) if each.dispatch_number == row.dispatch_number), None)
        outcome = f"schedule {row.id} is {row.status} ({row.failure_category})"
        if row.status in SUCCESSFUL and (last is None or last.status not in SUCCESSFUL):
            yield Violation(1, f"{outcome}, and its message is {last.status if last else 'missing'}")
        if row.status == ScheduleStatus.FAILED and last is not None and last.status in SUCCESSFUL:
            yield Violation(1, f"{outcome}, and its message is {last.status}")
        for message in self.dispatched(row.id):
            is_arrived = bool(self.arrived(message.id))
            if message.status in SUCCESSFUL and not is_arrived:
                yield Violation(1, f"message {message.id} of schedule {row.id} is {message.status}, and was lost")
            may_arrive = message.was_sent or message.failure_category == _UNKNOWN
            if message.status == MessageStatus.FAILED and is_arrived and not may_arrive:
                yield Violation(1, f"message {message.id} failed as {message.failure_category}, and arrived")
            if row.status == ScheduleStatus.CANCELLED and message.status in SUCCESSFUL:
                yield Violation(4, f"schedule {row.id} is cancelled, and its message {message.id} was sent")

    def check_doubles(self) -> Iterator[Violation]:
        """No message arrived twice, and no schedule was dispatched again without a failure and a retry."""
        for message_id, arrivals in self._arrived.items():
            if len(arrivals) > 1:
                yield Violation(2, f"message {message_id} arrived {len(arrivals)} times")
        for schedule_id, messages in self._dispatched.items():
            if schedule_id is not None:
                yield from self._check_dispatched_again(schedule_id, messages)
        by_text = Counter((token, arrival.to) for arrival in self.evidence.arrivals if (token := _token(arrival.text)))
        allowed = Counter(
            (_token(row.text), message.phone) for row in self.evidence.schedules for message in self.dispatched(row.id)
        )
        for (token, phone), times in by_text.items():
            if times > max(1, allowed[token, phone]):
                yield Violation(2, f"{token} arrived {times} times at {phone}")

    def _check_dispatched_again(self, schedule_id: int, messages: list[MessageRow]) -> Iterator[Violation]:
        retries = self._retries(self.schedules.get(schedule_id))
        *earlier, _ = messages
        if len(earlier) > len(retries):
            yield Violation(
                2, f"schedule {schedule_id} was dispatched {len(messages)} times, with {len(retries)} retries"
            )
        for message in earlier:
            if message.status != MessageStatus.FAILED:
                yield Violation(2, f"message {message.id} is {message.status}, and was sent again")
            elif message.failure_category == _UNKNOWN and not any(retry.include_unknown for retry in retries):
                yield Violation(2, f"message {message.id} may have arrived, and was sent again")

    def _retries(self, row: ScheduleRow | None) -> list[Retry]:
        """Return the retries of a schedule and of its batch."""
        ids = (row.id, row.batch_id) if row else ()
        return [retry for each in ids for retry in self.records.retries.get(each or 0, [])]

    def check_usage(self) -> Iterator[Violation]:
        """The usage is exact, by delivery's own rule and by what the handset received."""
        for drift in self.evidence.drift:
            what = f"{drift.usage} instead of {drift.counted}"
            yield Violation(3, f"usage of {drift.organisation_id} ({drift.format}): {what}")
        expected: Counter[tuple[str, str]] = Counter()
        for message in self.evidence.messages:
            if self.arrived(message.id) or message.failure_category == _UNKNOWN:
                expected[message.organisation_id, message.format] += message.parts
            texts = [arrival.text for arrival in self.arrived(message.id) if message.format == "sms"]
            if any(measure(text).parts > message.parts for text in texts):
                yield Violation(3, f"message {message.id} has more parts than were counted")
        for quota in sorted({*expected, *self.evidence.usage}):
            usage = self.evidence.usage.get(quota, 0)
            if usage != expected[quota]:
                yield Violation(3, f"usage of {quota}: {usage}, and the handset has {expected[quota]} parts")

    def check_limits(self) -> Iterator[Violation]:
        """The usage never was above the highest limit that the organisation had."""
        for organisation, limits in self.records.limits.items():
            values = [limit for limit in limits if limit is not None]
            peak = self.evidence.peaks.get((organisation, "sms"), 0)
            if len(values) == len(limits) and peak > max(values):
                yield Violation(3, f"usage of {organisation} was {peak} under a limit of {max(values)}")

    def check_barriers(self) -> Iterator[Violation]:
        """No submission or dispatch began after the answer that forbids it."""
        for barrier in self.records.barriers:
            if barrier.kind in (BarrierKind.OPT_OUT, BarrierKind.STOP):
                yield from self._check_submissions(barrier)
            else:
                yield from self._check_dispatches(barrier)

    def _check_submissions(self, barrier: Barrier) -> Iterator[Violation]:
        for message in self.evidence.messages:
            if message.schedule_id is None or message.organisation_id != barrier.organisation:
                continue  # an auto-reply answers STOP
            row = self.schedules.get(message.schedule_id)
            is_of_contact = row is not None and row.contact_id == barrier.subject
            if message.phone != barrier.phone and not is_of_contact:
                continue
            tries = self.evidence.tries.get(message.id, [])
            # A resend repeats the key of its submission. After a STOP the provider answers it with the first result, or
            # refuses the number by itself.
            known = {key for began, key in tries if began <= barrier.at and barrier.kind is BarrierKind.STOP}
            late = max((began - barrier.at for began, key in tries if key not in known), default=0.0)
            if late > 0:
                yield Violation(
                    4, f"{_line(barrier)}: message {message.id} was submitted {late:.2f} s after the answer"
                )

    def _check_dispatches(self, barrier: Barrier) -> Iterator[Violation]:
        for (schedule_id, number), began in self.evidence.dispatches.items():
            row = self.schedules.get(schedule_id)
            if row is None or row.organisation_id != barrier.organisation:
                continue
            subject = {
                BarrierKind.CANCEL: row.id,
                BarrierKind.CANCEL_BATCH: row.batch_id,
                BarrierKind.DELETE: row.contact_id,
            }[barrier.kind]
            late = began - barrier.at
            if subject != barrier.subject or late <= 0:
                continue
            # A retry sends the failed messages of a batch also after its cancel.
            if not any(retry.until > barrier.at for retry in self._retries(row)):
                what = f"schedule {schedule_id} was dispatched ({number}) {late:.2f} s after the answer"
                yield Violation(4, f"{_line(barrier)}: {what}")

    def check_edits(self) -> Iterator[Violation]:
        """A message that was dispatched after an edit was answered has the new text."""
        for message in self.evidence.messages:
            for arrival in self.arrived(message.id):
                found = find_token(arrival.text)
                request = self.records.requests.get(found[0]) if found else None
                if found is None or request is None or message.schedule_id is None:
                    continue
                began = self.evidence.dispatches.get((message.schedule_id, message.dispatch_number), 0.0)
                needed = max((version for at, version in request.edits if at < began), default=1)
                if not needed <= found[2] <= request.last:
                    yield Violation(6, f"message {message.id} has version {found[2]} of {request.token}, not {needed}")

    def check_effects(self) -> Iterator[Violation]:
        """A request that was accepted has one effect, and one that was refused has none."""
        effects = Counter(_token(row.text) for row in self.evidence.schedules if row.kind != ScheduleKind.BATCH_MESSAGE)
        for request in self.records.requests.values():
            times = effects[request.token]
            if times > 1:
                yield Violation(6, f"{request.token} has {times} effects")
            elif times and 400 <= request.status < 500:
                yield Violation(6, f"{request.token} was refused with {request.status}, and has an effect")
        for arrival in self.evidence.arrivals:
            token = _token(arrival.text)
            if token and token not in self.records.requests:
                yield Violation(6, f"{token} arrived, and no client sent it")

    def check_left(self) -> Iterator[Violation]:
        """No events, dead letters, reservations or submissions are left."""
        for name, number in self.evidence.left.items():
            if number and not name.startswith("open"):  # open schedules and messages are named one by one
                yield Violation(7, f"{name}: {number}")

    def in_flight(self) -> list[float]:
        """Return how long after an opt-out messages arrived, in seconds, whose submission had begun before it."""
        return [
            arrival.at - barrier.at
            for barrier in self.records.barriers
            if barrier.kind in (BarrierKind.OPT_OUT, BarrierKind.STOP)
            for message in self.evidence.messages
            if message.phone == barrier.phone and message.organisation_id == barrier.organisation
            if message.schedule_id is not None
            for arrival in self.arrived(message.id)
            if arrival.at > barrier.at
        ]


def _token(text: str) -> str:
    """Return the token of a text, or an empty text."""
    found = find_token(text)
    return found[0] if found else ""


def _line(barrier: Barrier) -> str:
    return f"{barrier.kind} of {barrier.subject} in {barrier.organisation}"
