"""Which schedules name a file: delivery asks before it removes one. Dead letters that an operator let pass."""

from alembic import op

from common.migrations import LET_DEAD_LETTERS_PASS

revision = "0002"
down_revision = "0001"

# Of media_url what delivery names a file; only MMS have one. The query says the same.
MEDIA = """
    CREATE INDEX schedules_media ON schedules (substring(media_url from '[0-9a-f-]{36}[.][a-z]{3}'))
        WHERE media_url IS NOT NULL
"""


def upgrade() -> None:
    for statement in (MEDIA, *LET_DEAD_LETTERS_PASS):
        op.execute(statement)
