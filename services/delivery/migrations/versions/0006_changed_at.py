"""When a message last came to stand as it does: what is told again since a time goes by it."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("ALTER TABLE messages ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now()")
