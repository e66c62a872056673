"""Messages, calls, limits with holds and configs, and what is heard of contacts and organisations."""

from alembic import op

from common.migrations import bus_tables, protect

revision = "0001"
down_revision = None

# Rows that are changed a few times and then stay, or go: vacuum follows their number, not a share of the table.
BUSY = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0"

MESSAGES = f"""
    CREATE TABLE messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        organisation_id text NOT NULL,
        schedule_id bigint NOT NULL,
        run int NOT NULL,
        group_schedule_id bigint,
        contact_id bigint,
        phone text NOT NULL,
        text text NOT NULL,
        format text NOT NULL CHECK (format IN ('sms', 'mms')),
        subject text,
        media_url text,
        units int NOT NULL CHECK (units > 0),
        scheduled_time timestamptz NOT NULL,
        period date NOT NULL,
        deadline timestamptz NOT NULL,
        lane text NOT NULL CHECK (lane IN ('single', 'bulk')),
        status text NOT NULL DEFAULT 'queued'
            CHECK (status IN ('queued', 'sending', 'retry_wait', 'unknown', 'sent', 'failed')),
        version int NOT NULL DEFAULT 0,
        attempts int NOT NULL DEFAULT 0,
        next_attempt_at timestamptz,
        alone boolean NOT NULL DEFAULT false,
        call_key uuid,
        call_requests int,
        provider text,
        provider_message_id text,
        sent_time timestamptz,
        category text,
        error text,
        request_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (schedule_id, run)
    ) WITH ({BUSY})
"""

CALLS = f"""
    CREATE TABLE calls (
        key uuid PRIMARY KEY,
        provider text NOT NULL,
        message_ids bigint[] NOT NULL,
        body bytea NOT NULL,
        requests int NOT NULL DEFAULT 1,
        state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'unknown')),
        requested_at timestamptz NOT NULL DEFAULT now(),
        due_at timestamptz NOT NULL,
        ends_at timestamptz NOT NULL
    ) WITH ({BUSY})
"""


def upgrade() -> None:
    for statement in (
        MESSAGES,
        # What the claim walks: an organisation at a time, oldest first.
        "CREATE INDEX messages_queued ON messages (format, lane, organisation_id, id) WHERE status = 'queued'",
        "CREATE INDEX messages_retry_wait ON messages (next_attempt_at) WHERE status = 'retry_wait'",
        # A call may hold messages of several organisations: only sessions that see all may see it.
        CALLS,
        "CREATE INDEX calls_due_at ON calls (provider, due_at)",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON calls TO delivery_all",
        """
        CREATE TABLE limits (
            organisation_id text NOT NULL,
            period date NOT NULL,
            format text NOT NULL CHECK (format IN ('sms', 'mms')),
            taken bigint NOT NULL CHECK (taken >= 0),
            PRIMARY KEY (organisation_id, period, format)
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
        """,
        """
        CREATE TABLE holds (
            reference uuid PRIMARY KEY,
            organisation_id text NOT NULL,
            period date NOT NULL,
            format text NOT NULL CHECK (format IN ('sms', 'mms')),
            units bigint NOT NULL CHECK (units >= 0),
            check_at timestamptz NOT NULL,
            FOREIGN KEY (organisation_id, period, format) REFERENCES limits
        )
        """,
        "CREATE INDEX holds_check_at ON holds (check_at)",
        """
        CREATE TABLE configs (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            organisation_id text NOT NULL,
            name text NOT NULL,
            value text NOT NULL,
            UNIQUE (organisation_id, name)
        )
        """,
        "CREATE INDEX configs_by_name ON configs (organisation_id, lower(name), id)",
        "CREATE SEQUENCE settings_versions",
        "GRANT USAGE ON SEQUENCE settings_versions TO delivery_tenant",
        """
        CREATE TABLE contact_opt_outs (
            organisation_id text NOT NULL,
            contact_id bigint NOT NULL,
            phone text NOT NULL,
            opt_out boolean NOT NULL,
            version bigint NOT NULL,
            PRIMARY KEY (contact_id, organisation_id)
        )
        """,
        "CREATE INDEX contact_opt_outs_phone ON contact_opt_outs (phone, organisation_id) WHERE opt_out",
        """
        CREATE TABLE organisations (
            organisation_id text PRIMARY KEY,
            closed boolean NOT NULL,
            version bigint NOT NULL
        )
        """,
    ):
        op.execute(statement)
    tables = ("messages", "limits", "holds", "configs", "contact_opt_outs", "organisations")
    for block in (*(protect(table, "delivery") for table in tables), bus_tables("delivery")):
        for statement in filter(str.strip, block.split(";")):
            op.execute(statement)
