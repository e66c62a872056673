"""Media are looked at again when they may have grown old."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE media ADD COLUMN check_at timestamptz NOT NULL DEFAULT now()")
    op.execute("CREATE INDEX media_check_at ON media (check_at)")
