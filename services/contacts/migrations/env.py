"""Run this service's migrations. Alembic imports this file."""

from common.migrations import run_migrations

run_migrations()
