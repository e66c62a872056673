"""The history of a message as lines for a person. The order is that of the services which a message passes."""

from collections.abc import Iterator, Mapping
from typing import Any

from cooee.output import quantity, show_time

Document = Mapping[str, Any]


def history_lines(document: Document) -> Iterator[str]:
    """Yield the lines of the document that `history` makes."""
    if document["schedule"]:
        yield from _schedule(document["schedule"])
    for event in document["events_in_outbox"]:
        since = show_time(event["created_at"])
        yield f"{event['service']}: event {event['topic']} is in the outbox since {since}"
    for message in document["messages"]:
        yield from _message(message)
    for event in document["webhook_events"]:
        due = (
            f"due {show_time(event['due_at'])}, checked {quantity(event['checks'], 'time')}"
            if event["due_at"]
            else "complete"
        )
        yield f"delivery: {event['kind']} of {event['provider']} at {show_time(event['received_at'])}, {due}"
    for inbound in document["inbound_messages"]:
        content = f" ({inbound['keyword'] or 'no keyword'})" if inbound["text"] is None else f": {inbound['text']!r}"
        yield f"delivery: inbound message {inbound['id']} at {show_time(inbound['received_at'])}{content}"
    for answer in document["provider_answers"]:
        yield f"provider now: {answer['text']}"
    if not document["messages"]:
        yield "delivery: has no message of this schedule so far"
    yield from _recipient(document)


def _line(name: str, *values: object) -> str:
    return f"  {name:<13}{' '.join(str(value) for value in values if value not in (None, ''))}"


def _schedule(row: Document) -> Iterator[str]:
    yield f"scheduling: schedule {row['id']}, {row['kind']}, {row['status']}"
    yield _line("organisation", row["organisation_id"])
    yield _line("recipient", row["phone"] or "-", f"contact {row['contact_id']}" if row["contact_id"] else "")
    if row["batch_id"]:
        yield _line("batch", row["batch_id"], f"of group {row['group_id']}")
    yield _line("format", row["format"], "with media" if row["has_media"] else "")
    if row["text"] is not None:
        yield _line("text", repr(row["text"]))
    yield _line("created", show_time(row["created_at"]), f"by user {row['created_by']}" if row["created_by"] else "")
    yield _line("scheduled", show_time(row["scheduled_time"]), f"dispatch {row['dispatch_number']}")
    provider = f"by {row['provider']}, attempts {row['attempts']}" if row["provider"] else ""
    yield _line("sent", show_time(row["sent_time"]), provider)
    yield _line("delivered", show_time(row["delivered_time"]))
    yield from _error(row)
    asked = (
        f"delivery asked {quantity(row['sweep_count'], 'time')}, next {show_time(row['sweep_at'])}"
        if row["sweep_at"]
        else ""
    )
    yield _line("changed", show_time(row["updated_at"]), f"outcome version {row['outcome_version']}", asked)
    yield _line("request", row["request_id"])


def _message(row: Document) -> Iterator[str]:
    dispatch = f"dispatch {row['dispatch_number']} of schedule {row['schedule_id']}"
    subject = f"auto-reply to inbound message {row['auto_reply_to']}" if row["auto_reply_to"] else dispatch
    yield f"delivery: message {row['id']}, {row['status']}, {subject}"
    yield _line("organisation", row["organisation_id"])
    yield _line("recipient", row["phone"] or "-", f"from {row['sender_id']}" if row["sender_id"] else "")
    if row["text"] is not None:
        yield _line("text", repr(row["text"]))
    deadline = f"{quantity(row['parts'], 'part')}, {row['lane']}, deadline {show_time(row['deadline'])}"
    yield _line("added", show_time(row["created_at"]), deadline)
    yield _line("provider", row["provider"] or "-", row["provider_message_id"], row["provider_status"])
    following = f"next {show_time(row['next_attempt_at'])}" if row["next_attempt_at"] else ""
    yield _line("attempts", row["attempts"], following)
    if row["submission"]:
        yield _line("submission", row["submission"]["key"], _submission(row["submission"]))
    billed = f"billed {quantity(row['billed_parts'], 'part')}" if row["billed_parts"] else ""
    yield _line("sent", show_time(row["sent_time"]), billed)
    yield _line("delivered", show_time(row["delivered_time"]))
    yield from _error(row)
    if usage := row["usage"]:
        limit = f"limit {usage['limit']}" if usage["limit"] else "no limit"
        counted = "counted" if usage["counted"] else "returned"
        yield _line("usage", f"{counted}; {usage['used']} used in {usage['month']}, {limit}")
    yield _line("request", row["request_id"])


def _error(row: Document) -> Iterator[str]:
    if row["error"]:
        yield _line("error", f"{row['failure_category']}:", row["error"])


def _submission(row: Document) -> str:
    if row["state"] == "complete":
        return "complete"
    times = f"due {show_time(row['due_at'])}, given up {show_time(row['give_up_at'])}"
    return f"{row['state']}, try {row['tries']} at {show_time(row['tried_at'])}, {times}"


def _recipient(document: Document) -> Iterator[str]:
    reasons = {
        "phone_opted_out": "the phone is opted out",
        "contact_opted_out": "a contact with this phone is opted out",
        "closed": "the organisation is closed",
    }
    applying = [reason for name, reason in reasons.items() if document["recipient"][name]]
    yield f"delivery now: {', '.join(applying) or 'no opt-out'}"
    if contact := document["contact"]:
        since = f"opted out since {show_time(contact['opted_out_at'])} ({contact['opt_out_source']})"
        state = "active" if contact["is_active"] else "deleted"
        yield f"contacts: contact {contact['id']}, {state}, {since if contact['opt_out'] else 'not opted out'}"
