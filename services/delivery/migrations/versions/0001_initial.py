"""Create the schema: messages and submissions, limits, configs, sender IDs, opt-outs, inbound messages and media."""

from alembic import op

from common.counters import counter
from common.migrations import (
    bus_tables,
    erased_opt_outs_table,
    idempotency_table,
    moved_rows_table,
    protect,
    statements,
)
from delivery.models import FINAL, IS_WAITING, OPEN, PLAIN_ID, Lane, MessageStatus, PauseKind, SubmissionState, sql_list

revision = "0001"
down_revision = None

# Rows that change a few times and then stay, or are deleted. Autovacuum follows their number instead of a share of the
# table.
BUSY = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0"

# The index messages_queued is what a claim reads: one organisation at a time, the oldest message first.
#
# The condition of messages_deadline is written so that only the statement that expires messages uses it. PostgreSQL
# would otherwise plan the claim on it whenever nothing was queued at the last ANALYZE.
MESSAGES = f"""
    CREATE TABLE messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        organisation_id text NOT NULL,
        schedule_id bigint,
        dispatch_number int NOT NULL,
        batch_id bigint,
        contact_id bigint,
        phone text NOT NULL,
        text text NOT NULL,
        format text NOT NULL CHECK (format IN ('sms', 'mms')),
        subject text,
        media_url text,
        parts int NOT NULL CHECK (parts > 0),
        scheduled_time timestamptz NOT NULL,
        period date NOT NULL,
        deadline timestamptz NOT NULL,
        lane text NOT NULL CHECK (lane IN ({sql_list(Lane)})),
        status text NOT NULL DEFAULT '{MessageStatus.QUEUED}' CHECK (status IN ({sql_list(MessageStatus)})),
        version int NOT NULL DEFAULT 0,
        attempts int NOT NULL DEFAULT 0,
        next_attempt_at timestamptz,
        is_separate boolean NOT NULL DEFAULT false,
        submission_key uuid,
        submission_tries int,
        provider text,
        provider_message_id text,
        provider_status text,
        sender_id text,
        sent_time timestamptz,
        delivered_time timestamptz,
        billed_parts int,
        failure_category text,
        error text,
        auto_reply_to bigint,
        request_id text NOT NULL,
        traceparent text,
        content_removed boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (schedule_id, dispatch_number)
    ) WITH ({BUSY});
    CREATE UNIQUE INDEX messages_auto_reply_to ON messages (auto_reply_to) WHERE auto_reply_to IS NOT NULL;
    CREATE INDEX messages_queued ON messages (format, lane, organisation_id, id)
        WHERE status = '{MessageStatus.QUEUED}';
    CREATE INDEX messages_retry_wait ON messages (next_attempt_at) WHERE status = '{MessageStatus.RETRY_WAIT}';
    CREATE INDEX messages_deadline ON messages (deadline) WHERE {IS_WAITING};
    CREATE INDEX messages_newest ON messages (organisation_id, created_at DESC, id DESC);
    CREATE INDEX messages_phone ON messages (phone, organisation_id, created_at DESC, id DESC);
    CREATE INDEX messages_contact_id ON messages (contact_id, organisation_id, created_at DESC, id DESC)
        WHERE contact_id IS NOT NULL;
    CREATE INDEX messages_provider_message_id ON messages ({PLAIN_ID.format(id="provider_message_id")}, provider)
        WHERE provider_message_id IS NOT NULL;
    CREATE INDEX messages_retained ON messages (content_removed, changed_at) WHERE status IN ({sql_list(FINAL)});
    GRANT USAGE ON SEQUENCE messages_id_seq TO delivery_tenant, delivery_all;
    {protect("messages", "delivery")}
"""

# A submission may have messages of several organisations, so tenant sessions may not read it.
SUBMISSIONS = f"""
    CREATE TABLE submissions (
        key uuid PRIMARY KEY,
        provider text NOT NULL,
        message_ids bigint[] NOT NULL,
        body bytea NOT NULL,
        tries int NOT NULL DEFAULT 1,
        state text NOT NULL DEFAULT '{SubmissionState.OPEN}' CHECK (state IN ({sql_list(SubmissionState)})),
        tried_at timestamptz NOT NULL DEFAULT now(),
        due_at timestamptz NOT NULL,
        give_up_at timestamptz NOT NULL
    ) WITH ({BUSY});
    CREATE INDEX submissions_due_at ON submissions (provider, due_at);
    CREATE INDEX submissions_unknown ON submissions (provider, tried_at) WHERE state = '{SubmissionState.UNKNOWN}';
    GRANT SELECT, INSERT, UPDATE, DELETE ON submissions TO delivery_all
"""

# Tenant sessions may not read why an operator paused something.
PAUSES = f"""
    CREATE TABLE pauses (
        kind text NOT NULL CHECK (kind IN ({sql_list(PauseKind)})),
        name text NOT NULL,
        since timestamptz NOT NULL DEFAULT now(),
        operator text NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (kind, name)
    );
    ALTER TABLE pauses ENABLE ROW LEVEL SECURITY;
    ALTER TABLE pauses FORCE ROW LEVEL SECURITY;
    CREATE POLICY all_tenants ON pauses TO delivery_all USING (true) WITH CHECK (true);
    GRANT SELECT, INSERT, DELETE ON pauses TO delivery_all
"""

LIMITS = f"""
    CREATE TABLE limit_usage (
        organisation_id text NOT NULL,
        period date NOT NULL,
        format text NOT NULL CHECK (format IN ('sms', 'mms')),
        usage bigint NOT NULL CHECK (usage >= 0),
        PRIMARY KEY (organisation_id, period, format)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
    {protect("limit_usage", "delivery")};
    CREATE TABLE moved_usage (
        organisation_id text NOT NULL,
        period date NOT NULL,
        format text NOT NULL CHECK (format IN ('sms', 'mms')),
        parts bigint NOT NULL,
        PRIMARY KEY (organisation_id, period, format),
        FOREIGN KEY (organisation_id, period, format) REFERENCES limit_usage
    );
    {protect("moved_usage", "delivery")};
    CREATE TABLE reservations (
        reference uuid PRIMARY KEY,
        organisation_id text NOT NULL,
        period date NOT NULL,
        format text NOT NULL CHECK (format IN ('sms', 'mms')),
        parts bigint NOT NULL CHECK (parts >= 0),
        check_at timestamptz NOT NULL,
        FOREIGN KEY (organisation_id, period, format) REFERENCES limit_usage
    );
    CREATE INDEX reservations_check_at ON reservations (check_at);
    {protect("reservations", "delivery")}
"""

# The index configs_routing is for the routes: few rows, which are read by name across all organisations.
#
# A sender ID is stored in its canonical form (delivery.sender_ids.rules), so that it has one owner however it is spelt.
# An operator assigns it; tenants only read their own.
CONFIGS = f"""
    CREATE TABLE configs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        organisation_id text NOT NULL,
        name text NOT NULL,
        value text NOT NULL,
        UNIQUE (organisation_id, name)
    );
    CREATE INDEX configs_by_name ON configs (organisation_id, lower(name), id);
    CREATE INDEX configs_routing ON configs (name, organisation_id)
        WHERE name IN ('sms_providers', 'mms_providers', 'sender');
    CREATE SEQUENCE settings_versions;
    GRANT USAGE ON SEQUENCE settings_versions TO delivery_tenant, delivery_all;
    {protect("configs", "delivery")};
    CREATE TABLE sender_ids (
        sender_id text PRIMARY KEY,
        organisation_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX sender_ids_organisation_id ON sender_ids (organisation_id);
    {protect("sender_ids", "delivery")};
    REVOKE INSERT, UPDATE, DELETE ON sender_ids FROM delivery_tenant
"""

OPT_OUTS = f"""
    CREATE TABLE opt_outs (
        organisation_id text NOT NULL,
        phone text NOT NULL,
        opted_out boolean NOT NULL,
        changed_at timestamptz NOT NULL,
        source text NOT NULL CHECK (source IN ('reply', 'provider', 'confirmed')),
        message_id bigint,
        version bigint NOT NULL,
        PRIMARY KEY (phone, organisation_id)
    );
    CREATE SEQUENCE opt_out_versions;
    GRANT USAGE ON SEQUENCE opt_out_versions TO delivery_tenant, delivery_all;
    {protect("opt_outs", "delivery")};
    CREATE TABLE contact_opt_outs (
        organisation_id text NOT NULL,
        contact_id bigint NOT NULL,
        phone text NOT NULL,
        opt_out boolean NOT NULL,
        version bigint NOT NULL,
        PRIMARY KEY (contact_id, organisation_id)
    );
    CREATE INDEX contact_opt_outs_phone ON contact_opt_outs (phone, organisation_id) WHERE opt_out;
    {protect("contact_opt_outs", "delivery")}
"""

ORGANISATIONS = f"""
    CREATE TABLE organisations (
        organisation_id text PRIMARY KEY,
        closed boolean NOT NULL,
        version bigint NOT NULL
    );
    {protect("organisations", "delivery")}
"""

# Both directions have one sequence, so that an id names one message in the list of messages.
#
# A message that matches no organisation has none. Row-level security then hides it from every tenant session.
#
# `fingerprint` is that of the webhook event: a provider's message is stored once for an organisation.
INBOUND = f"""
    CREATE TABLE inbound_messages (
        id bigint PRIMARY KEY DEFAULT nextval('messages_id_seq'),
        organisation_id text,
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
        fingerprint bytea,
        content_removed boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE UNIQUE INDEX inbound_messages_fingerprint
        ON inbound_messages (fingerprint, provider, organisation_id) NULLS NOT DISTINCT WHERE fingerprint IS NOT NULL;
    CREATE INDEX inbound_messages_unmatched ON inbound_messages (id) WHERE organisation_id IS NULL;
    CREATE INDEX inbound_messages_retained ON inbound_messages (content_removed, created_at);
    CREATE INDEX inbound_messages_newest ON inbound_messages (organisation_id, received_at DESC, id DESC);
    CREATE INDEX inbound_messages_phone ON inbound_messages (phone, organisation_id, received_at DESC, id DESC);
    CREATE INDEX inbound_messages_contact_id
        ON inbound_messages (contact_id, organisation_id, received_at DESC, id DESC) WHERE contact_id IS NOT NULL;
    {protect("inbound_messages", "delivery")}
"""

# A webhook event is stored before its organisation is known, so tenant sessions may not read it. `due_at` is when it is
# checked (again); it is null when the event is complete.
WEBHOOK_EVENTS = """
    CREATE TABLE webhook_events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        provider text NOT NULL,
        fingerprint bytea NOT NULL,
        kind text NOT NULL CHECK (kind IN ('receipt', 'inbound')),
        reference bigint,
        provider_message_id text,
        body jsonb NOT NULL,
        message_id bigint,
        checks int NOT NULL DEFAULT 0,
        due_at timestamptz DEFAULT now(),
        received_at timestamptz NOT NULL DEFAULT now(),
        request_id text NOT NULL,
        traceparent text,
        UNIQUE (fingerprint, provider)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
    CREATE INDEX webhook_events_due_at ON webhook_events (due_at, id) WHERE due_at IS NOT NULL;
    CREATE INDEX webhook_events_message_id ON webhook_events (message_id) WHERE message_id IS NOT NULL;
    CREATE INDEX webhook_events_received_at ON webhook_events (received_at);
    GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_events TO delivery_all
"""

MEDIA = f"""
    CREATE TABLE media (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        organisation_id text NOT NULL,
        name text NOT NULL UNIQUE,
        storage text NOT NULL,
        content_type text NOT NULL,
        size int NOT NULL,
        created_by bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        check_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX media_check_at ON media (check_at);
    {protect("media", "delivery")}
"""


def upgrade() -> None:
    """Create the tables with their indexes, rights and policies."""
    open_statuses = sql_list(OPEN)
    status = f"CASE WHEN r.status IN ({open_statuses}) THEN 'processing' ELSE r.status END"  # as the API names it
    counts = (
        *counter("delivery", "message_counts", "messages", keys={"status": ("text", status)}, counted="true"),
        *counter("delivery", "inbound_counts", "inbound_messages", keys={}, counted="r.organisation_id IS NOT NULL"),
    )
    tables = statements(
        MESSAGES,
        SUBMISSIONS,
        PAUSES,
        LIMITS,
        CONFIGS,
        OPT_OUTS,
        erased_opt_outs_table("delivery"),
        ORGANISATIONS,
        INBOUND,
        WEBHOOK_EVENTS,
        MEDIA,
        idempotency_table("delivery"),
        moved_rows_table("delivery"),
        bus_tables("delivery"),
    )
    for statement in (*tables, *counts):
        op.execute(statement)
