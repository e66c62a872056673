"""Pauses between checks."""

from datetime import UTC, datetime, timedelta

from delivery.receipts.rules import CHECK_FOR_S, WebhookEventRow, next_check_s

AT = datetime(2026, 4, 4, 16, 30, tzinfo=UTC)


def event(checks: int, age_s: float = 0.0) -> WebhookEventRow:
    return WebhookEventRow(
        id=1,
        provider="twilio",
        fingerprint=b"",
        kind="receipt",
        reference=None,
        provider_message_id=None,
        body="{}",
        checks=checks,
        received_at=AT,
        request_id="",
        traceparent=None,
        checked_at=AT + timedelta(seconds=age_s),
    )


def test_the_pause_doubles_to_an_hour_and_ends_after_three_days() -> None:
    assert [next_check_s(event(checks)) for checks in (0, 1, 5, 12, 999)] == [1, 2, 32, 3600, 3600]
    assert next_check_s(event(3, CHECK_FOR_S + 1)) is None
