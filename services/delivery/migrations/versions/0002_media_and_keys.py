"""Media that was uploaded, and the first answers of keyed requests."""

from alembic import op

from common.migrations import idempotency_table, protect

revision = "0002"
down_revision = "0001"

MEDIA = f"""
    CREATE TABLE media (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        organisation_id text NOT NULL,
        name text NOT NULL UNIQUE,
        storage text NOT NULL,
        content_type text NOT NULL,
        size int NOT NULL,
        created_by bigint,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    {protect("media", "delivery")}
"""


def upgrade() -> None:
    for statement in filter(str.strip, (MEDIA + idempotency_table("delivery")).split(";")):
        op.execute(statement)
