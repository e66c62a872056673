"""The embedded stack: PostgreSQL, a Kafka broker and every service on one machine, without containers."""
