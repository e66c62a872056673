"""Which schedules name a file: delivery asks before it removes one."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Of media_url what delivery names a file; only MMS have one. The query says the same.
    op.execute(
        """
        CREATE INDEX schedules_media ON schedules (substring(media_url from '[0-9a-f-]{36}[.][a-z]{3}'))
            WHERE media_url IS NOT NULL
        """
    )
