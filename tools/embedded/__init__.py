"""The whole system on one machine without containers: PostgreSQL, a Kafka broker and every service."""
