"""Dead letters that an operator let pass."""

from alembic import op

from common.migrations import LET_DEAD_LETTERS_PASS

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for statement in LET_DEAD_LETTERS_PASS:
        op.execute(statement)
