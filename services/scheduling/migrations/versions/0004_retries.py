"""A batch whose failed messages go again, some thousand at a time."""

from alembic import op

revision = "0004"
down_revision = "0003"

# Of a parent: since when its failed children go again, for whom, with those whose outcome is unknown or without, and
# up to which child they do already. Null: nothing is left to do.
_COLUMNS = """
    ALTER TABLE schedules
        ADD COLUMN retry_at timestamptz,
        ADD COLUMN retry_by bigint,
        ADD COLUMN retry_unknown boolean NOT NULL DEFAULT false,
        ADD COLUMN retry_cursor bigint NOT NULL DEFAULT 0
"""


def upgrade() -> None:
    op.execute(_COLUMNS)
    op.execute("CREATE INDEX schedules_retried ON schedules (retry_at, id) WHERE retry_at IS NOT NULL")
