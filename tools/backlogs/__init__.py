"""Backlogs on the embedded stack: an unavailable broker, unavailable delivery, a full outbox, a long queue."""
