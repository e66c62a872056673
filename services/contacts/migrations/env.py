"""Alembic's entry: common knows how."""

from common.migrations import run_migrations

run_migrations()
