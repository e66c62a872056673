"""Numbers that stopped, as delivery tells of them, and what of it a contact keeps."""

from alembic import op

from common.migrations import protect

revision = "0003"
down_revision = "0002"

# `heard_at` is when the row came to be as it is here: contacts that were being written meanwhile are brought to it
# for some minutes (see the repository).
STOPS = f"""
    CREATE TABLE stops (
        organisation_id text NOT NULL,
        phone text NOT NULL,
        stopped boolean NOT NULL,
        changed_at timestamptz NOT NULL,
        source text NOT NULL CHECK (source IN ('reply', 'provider', 'confirmed')),
        message_id bigint,
        version bigint NOT NULL,
        heard_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (phone, organisation_id)
    );
    CREATE INDEX stops_heard_at ON stops (heard_at);
    {protect("stops", "contacts")}
"""

CONTACTS = """
    ALTER TABLE contacts
        ADD COLUMN opt_out_message_id bigint,
        ADD COLUMN opt_in_confirmed_at timestamptz,
        DROP CONSTRAINT contacts_opt_out_source_check,
        ADD CONSTRAINT contacts_opt_out_source_check CHECK (opt_out_source IN ('manual', 'reply', 'provider')),
        ADD CHECK (opt_out OR opt_out_message_id IS NULL)
"""


def upgrade() -> None:
    for statement in filter(str.strip, ";".join((STOPS, CONTACTS)).split(";")):
        op.execute(statement)
