"""Which organisation a number or name belongs to, by the word of the operator whose account it is."""

from alembic import op

from common.migrations import protect

revision = "0005"
down_revision = "0004"

# `sender` as delivery.limits.rules.canonical_sender has it: one owner however it is spelt.
SENDERS = f"""
    CREATE TABLE senders (
        sender text PRIMARY KEY,
        organisation_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX senders_organisation_id ON senders (organisation_id);
    {protect("senders", "delivery")}
    REVOKE INSERT, UPDATE, DELETE ON senders FROM delivery_tenant
"""


def upgrade() -> None:
    for statement in filter(str.strip, SENDERS.split(";")):
        op.execute(statement)
