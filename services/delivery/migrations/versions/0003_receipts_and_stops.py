"""What providers tell: receipts, messages that come in, numbers that stopped; and how organisations route."""

from alembic import op

from common.migrations import protect

revision = "0003"
down_revision = "0002"

# The index of deadlines is for those who write its condition: to the planner it must not look like one more index of
# what is queued, which the claim would be planned on whenever nothing was queued at the last ANALYZE.
MESSAGES = """
    ALTER TABLE messages DROP CONSTRAINT messages_status_check;
    ALTER TABLE messages ADD CONSTRAINT messages_status_check
        CHECK (status IN ('queued', 'sending', 'retry_wait', 'unknown', 'sent', 'delivered', 'failed'));
    ALTER TABLE messages ALTER COLUMN schedule_id DROP NOT NULL;
    ALTER TABLE messages
        ADD COLUMN sender text,
        ADD COLUMN delivered_time timestamptz,
        ADD COLUMN billed_parts int,
        ADD COLUMN provider_status text,
        ADD COLUMN answers bigint;
    CREATE UNIQUE INDEX messages_answers ON messages (answers) WHERE answers IS NOT NULL;
    CREATE INDEX messages_deadline ON messages (deadline)
        WHERE CASE status WHEN 'queued' THEN true WHEN 'retry_wait' THEN true ELSE false END;
    CREATE INDEX messages_newest ON messages (organisation_id, created_at DESC, id DESC);
    CREATE INDEX messages_phone ON messages (phone, organisation_id, created_at DESC, id DESC);
    CREATE INDEX messages_contact_id ON messages (contact_id, organisation_id, created_at DESC, id DESC)
        WHERE contact_id IS NOT NULL;
    CREATE INDEX messages_provider_message_id ON messages (provider_message_id, provider)
        WHERE provider_message_id IS NOT NULL;
    GRANT USAGE ON SEQUENCE messages_id_seq TO delivery_tenant, delivery_all
"""

# One sequence for both directions, so that an id names one message in a conversation.
INBOUND = f"""
    CREATE TABLE inbound_messages (
        id bigint PRIMARY KEY DEFAULT nextval('messages_id_seq'),
        organisation_id text NOT NULL,
        phone text NOT NULL,
        to_number text NOT NULL,
        text text NOT NULL,
        received_at timestamptz NOT NULL,
        provider text NOT NULL,
        provider_message_id text,
        contact_id bigint,
        schedule_id bigint,
        keyword text CHECK (keyword IN ('stop', 'start', 'help')),
        media_urls text[] NOT NULL DEFAULT '{{}}',
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX inbound_messages_newest ON inbound_messages (organisation_id, received_at DESC, id DESC);
    CREATE INDEX inbound_messages_phone ON inbound_messages (phone, organisation_id, received_at DESC, id DESC);
    CREATE INDEX inbound_messages_contact_id
        ON inbound_messages (contact_id, organisation_id, received_at DESC, id DESC) WHERE contact_id IS NOT NULL;
    {protect("inbound_messages", "delivery")}
"""

# How organisations route, and which number is whose: few rows, read by name across all of them.
ROUTING = """
    CREATE INDEX configs_routing ON configs (name, organisation_id)
        WHERE name IN ('sms_providers', 'mms_providers', 'sender')
"""

STOPS = f"""
    CREATE TABLE stops (
        organisation_id text NOT NULL,
        phone text NOT NULL,
        stopped boolean NOT NULL,
        changed_at timestamptz NOT NULL,
        source text NOT NULL CHECK (source IN ('reply', 'provider', 'confirmed')),
        message_id bigint,
        version bigint NOT NULL,
        PRIMARY KEY (phone, organisation_id)
    );
    CREATE SEQUENCE stop_versions;
    GRANT USAGE ON SEQUENCE stop_versions TO delivery_tenant, delivery_all;
    {protect("stops", "delivery")}
"""

# What providers told, once each, before anybody knows whose it is: only sessions that see all may see it. `due_at` is
# when it is looked at (again), null when it is dealt with.
NOTICES = """
    CREATE TABLE notices (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        provider text NOT NULL,
        fingerprint bytea NOT NULL,
        kind text NOT NULL CHECK (kind IN ('receipt', 'inbound')),
        reference bigint,
        provider_message_id text,
        body jsonb NOT NULL,
        message_id bigint,
        looks int NOT NULL DEFAULT 0,
        due_at timestamptz DEFAULT now(),
        received_at timestamptz NOT NULL DEFAULT now(),
        request_id text NOT NULL,
        UNIQUE (fingerprint, provider)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
    CREATE INDEX notices_due_at ON notices (due_at, id) WHERE due_at IS NOT NULL;
    CREATE INDEX notices_message_id ON notices (message_id) WHERE message_id IS NOT NULL;
    CREATE INDEX notices_received_at ON notices (received_at);
    GRANT SELECT, INSERT, UPDATE, DELETE ON notices TO delivery_all
"""


def upgrade() -> None:
    for statement in filter(str.strip, ";".join((MESSAGES, INBOUND, ROUTING, STOPS, NOTICES)).split(";")):
        op.execute(statement)
