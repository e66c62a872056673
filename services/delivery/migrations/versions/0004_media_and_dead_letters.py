"""Media are looked at again when they may have grown old. Dead letters that an operator let pass."""

from alembic import op

from common.migrations import LET_DEAD_LETTERS_PASS

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for statement in (
        "ALTER TABLE media ADD COLUMN check_at timestamptz NOT NULL DEFAULT now()",
        "CREATE INDEX media_check_at ON media (check_at)",
        # An operator has the settings of all organisations published again.
        "GRANT USAGE ON SEQUENCE settings_versions TO delivery_all",
        *LET_DEAD_LETTERS_PASS,
    ):
        op.execute(statement)
