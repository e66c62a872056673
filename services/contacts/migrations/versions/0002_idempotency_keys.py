"""The first answers of keyed requests."""

from alembic import op

from common.migrations import idempotency_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for statement in filter(str.strip, idempotency_table("contacts").split(";")):
        op.execute(statement)
