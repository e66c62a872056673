"""Alembic's entry point. The code is in common."""

from common.migrations import run_migrations

run_migrations()
