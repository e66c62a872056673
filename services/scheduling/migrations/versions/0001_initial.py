"""Create the schema: templates with their versions, schedules, and copies of what contacts and delivery publish."""

from alembic import op

from common.counters import counter
from common.migrations import bus_tables, idempotency_table, moved_rows_table, protect, statements
from scheduling.models import FINAL, MEDIA_NAME, OPEN, ScheduleKind, ScheduleStatus, sql_list

revision = "0001"
down_revision = None

_ORGANISATIONS = """
    CREATE TABLE organisations (
        organisation_id text PRIMARY KEY,
        timezone text NOT NULL DEFAULT 'Australia/Adelaide',
        timezone_version bigint NOT NULL DEFAULT 0,
        closed boolean NOT NULL DEFAULT false,
        closed_version bigint NOT NULL DEFAULT 0
    );
"""

# The newest state of each contact that changed within the last day.
_CONTACT_CHANGES = """
    CREATE TABLE contact_changes (
        organisation_id text NOT NULL,
        contact_id bigint NOT NULL,
        version bigint NOT NULL,
        phone text NOT NULL,
        fields jsonb NOT NULL,
        is_active boolean NOT NULL,
        opt_out boolean NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organisation_id, contact_id)
    );
    CREATE INDEX contact_changes_received_at ON contact_changes (received_at);
"""

_TEMPLATES = """
    CREATE TABLE templates (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        organisation_id text NOT NULL,
        name text NOT NULL,
        text text NOT NULL,
        is_active boolean NOT NULL DEFAULT true,
        version int NOT NULL DEFAULT 1,
        created_by bigint,
        updated_by bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (organisation_id, id)
    );
    CREATE INDEX templates_by_name ON templates (organisation_id, lower(name), id) WHERE is_active;
    CREATE TABLE template_versions (
        organisation_id text NOT NULL,
        template_id bigint NOT NULL,
        version int NOT NULL,
        name text NOT NULL,
        text text NOT NULL,
        created_by bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organisation_id, template_id, version),
        FOREIGN KEY (organisation_id, template_id) REFERENCES templates (organisation_id, id)
    );
"""

# A message of a batch has a text and a time of its own only when it was changed or retried by itself. Null means that
# it has those of its batch.
# `next_due_at` of a batch is the earliest time at which one of its messages may be due.
# The `retry_…` columns of a batch describe a retry of its failed messages: since when and for whom it runs, whether it
# includes those whose outcome is unknown, and the last message that it has reopened. `retry_at` is null without one.
_SCHEDULES = f"""
    CREATE TABLE schedules (
        id bigint GENERATED ALWAYS AS IDENTITY,
        organisation_id text NOT NULL,
        kind text NOT NULL CHECK (kind IN ({sql_list(ScheduleKind)})),
        status text NOT NULL DEFAULT 'pending' CHECK (status IN ({sql_list(ScheduleStatus)})),
        batch_id bigint,
        batch_position int,
        group_id bigint,
        group_name text,
        contact_id bigint,
        contact_version bigint NOT NULL DEFAULT 0,
        has_own_phone boolean NOT NULL DEFAULT false,
        phone text,
        fields jsonb NOT NULL DEFAULT '{{}}',
        name text,
        template_id bigint,
        template_version int,
        text text,
        message_parts int,
        scheduled_time timestamptz,
        next_due_at timestamptz,
        format text CHECK (format IN ('sms', 'mms')),
        media_url text,
        subject text,
        dispatch_number int NOT NULL DEFAULT 0,
        outcome_version bigint NOT NULL DEFAULT 0,
        attempts int NOT NULL DEFAULT 0,
        next_attempt_at timestamptz,
        error text,
        failure_category text,
        provider text,
        sent_time timestamptz,
        delivered_time timestamptz,
        outcome_awaited boolean NOT NULL DEFAULT false,
        reservation uuid,
        sweep_at timestamptz,
        sweep_count smallint NOT NULL DEFAULT 0,
        fan_out_cursor bigint NOT NULL DEFAULT 0,
        fan_out_lease_until timestamptz,
        fanned_out_at timestamptz,
        message_count int,
        retry_at timestamptz,
        retry_by bigint,
        retry_unknown boolean NOT NULL DEFAULT false,
        retry_cursor bigint NOT NULL DEFAULT 0,
        content_removed boolean NOT NULL DEFAULT false,
        created_by bigint,
        updated_by bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        request_id text NOT NULL DEFAULT '',
        PRIMARY KEY (id, organisation_id),
        FOREIGN KEY (batch_id, organisation_id) REFERENCES schedules (id, organisation_id),
        FOREIGN KEY (organisation_id, template_id, template_version)
            REFERENCES template_versions (organisation_id, template_id, version),
        CHECK ((kind = 'batch_message') = (batch_id IS NOT NULL)),
        CHECK ((kind = 'batch_message') = (batch_position IS NOT NULL)),
        CHECK (kind = 'batch_message' OR (text IS NOT NULL AND scheduled_time IS NOT NULL AND format IS NOT NULL)),
        CHECK (kind = 'batch' OR phone IS NOT NULL),
        CHECK (kind <> 'batch' OR (group_id IS NOT NULL AND next_due_at IS NOT NULL AND message_count IS NOT NULL)),
        CHECK (status <> 'failed' OR (failure_category IS NOT NULL AND error IS NOT NULL))
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
"""

# Every change of a status writes an entry to every index, so there are few. The primary key serves the foreign key too.
# When a row is deleted, PostgreSQL looks for messages with its id as their batch. The condition of
# schedules_batch_messages is one that this look-up implies.
# Only statements that name a position can use schedules_batch_positions. If its condition were the kind, the claim would
# use it whenever few messages were pending at the last ANALYZE, and read all messages of the batch.
# schedules_retained gets an entry when a schedule becomes final, not while it waits or is dispatched.
_SCHEDULE_INDEXES = f"""
    CREATE INDEX schedules_due ON schedules (kind, scheduled_time, id)
        WHERE status = 'pending' AND scheduled_time IS NOT NULL;
    CREATE INDEX schedules_open_batches ON schedules (next_due_at, id)
        WHERE kind = 'batch' AND status IN ({sql_list(OPEN)});
    CREATE INDEX schedules_to_fan_out ON schedules (fan_out_lease_until, id)
        WHERE kind = 'batch' AND fanned_out_at IS NULL AND status IN ({sql_list(OPEN)});
    CREATE INDEX schedules_batch_messages ON schedules (batch_id, status, id) WHERE batch_id IS NOT NULL;
    CREATE UNIQUE INDEX schedules_batch_positions ON schedules (batch_id, batch_position)
        WHERE batch_position IS NOT NULL;
    CREATE INDEX schedules_listed ON schedules (organisation_id, kind, scheduled_time DESC, id DESC)
        WHERE kind <> 'batch_message';
    CREATE INDEX schedules_of_contact ON schedules (organisation_id, contact_id) WHERE contact_id IS NOT NULL;
    CREATE INDEX schedules_pending_without_contact ON schedules (organisation_id, phone)
        WHERE status = 'pending' AND contact_id IS NULL AND kind <> 'batch';
    CREATE INDEX schedules_of_group ON schedules (organisation_id, group_id, scheduled_time DESC, id DESC)
        WHERE kind = 'batch';
    CREATE INDEX schedules_sweep ON schedules (sweep_at) WHERE status = 'processing' AND kind <> 'batch';
    CREATE INDEX schedules_open_reservations ON schedules (reservation)
        WHERE reservation IS NOT NULL AND status IN ({sql_list(OPEN)});
    CREATE INDEX schedules_reservations_to_release ON schedules (id)
        WHERE reservation IS NOT NULL AND kind = 'batch' AND status IN ({sql_list(FINAL)});
    CREATE INDEX schedules_retrying ON schedules (retry_at, id) WHERE retry_at IS NOT NULL;
    CREATE INDEX schedules_retained ON schedules (kind, content_removed, updated_at)
        WHERE status IN ({sql_list(FINAL)});
    CREATE INDEX schedules_media ON schedules (({MEDIA_NAME})) WHERE media_url IS NOT NULL;
"""

# The view shows a message of a batch with what it has from its batch. A pending message of a cancelled batch is shown
# as cancelled, because cancelling a batch writes only the batch's row. The LIMIT keeps the planner from reading all
# batches at once.
_SHOWN_SCHEDULES = """
    CREATE VIEW shown_schedules WITH (security_invoker = true) AS
    SELECT s.id, s.organisation_id, s.kind,
           CASE WHEN s.status = 'pending' AND b.status = 'cancelled' THEN 'cancelled' ELSE s.status END AS status,
           s.batch_id, coalesce(b.group_id, s.group_id) AS group_id, coalesce(b.group_name, s.group_name) AS group_name,
           s.contact_id, s.contact_version, s.has_own_phone, s.phone, s.fields,
           coalesce(s.name, b.name) AS name,
           CASE WHEN s.text IS NULL THEN b.template_id ELSE s.template_id END AS template_id,
           CASE WHEN s.text IS NULL THEN b.template_version ELSE s.template_version END AS template_version,
           coalesce(s.text, b.text) AS text,
           coalesce(s.scheduled_time, b.scheduled_time) AS scheduled_time,
           coalesce(s.format, b.format) AS format,
           CASE WHEN s.text IS NULL THEN b.media_url ELSE s.media_url END AS media_url,
           CASE WHEN s.text IS NULL THEN b.subject ELSE s.subject END AS subject,
           s.dispatch_number, s.attempts, s.error, s.failure_category, s.provider, s.sent_time, s.delivered_time,
           s.next_attempt_at, coalesce(s.reservation, b.reservation) AS reservation, s.sweep_count,
           s.fanned_out_at, s.message_count,
           s.text IS NOT NULL AS has_own_text, s.scheduled_time IS NOT NULL AS has_own_time, s.outcome_awaited,
           s.content_removed OR coalesce(b.content_removed, false) AS content_removed,
           s.created_by, s.updated_by, s.created_at, s.updated_at,
           CASE WHEN s.kind = 'batch_message' THEN b.request_id ELSE s.request_id END AS request_id
    FROM schedules s
    LEFT JOIN LATERAL (SELECT * FROM schedules b
                       WHERE b.id = s.batch_id AND b.organisation_id = s.organisation_id LIMIT 1) b ON true;
    GRANT SELECT ON shown_schedules TO scheduling_tenant, scheduling_all;
"""


def upgrade() -> None:
    tables = ("organisations", "contact_changes", "templates", "template_versions", "schedules")
    # The list of a day counts the schedules of whole quarters of an hour, at which days begin in every time zone.
    counts = counter(
        "scheduling",
        "schedule_counts",
        "schedules",
        keys={"quarter": ("timestamptz", "date_bin('15 minutes', r.scheduled_time, timestamptz '2000-01-01Z')")},
        counted="r.kind = 'single' AND r.group_id IS NULL AND r.status <> 'cancelled'",
    )
    batch_counts = counter(
        "scheduling",
        "batch_counts",
        "schedules",
        keys={"batch_id": ("bigint", "r.batch_id"), "status": ("text", "r.status")},
        counted="r.kind = 'batch_message'",
    )
    script = statements(
        _ORGANISATIONS,
        _CONTACT_CHANGES,
        _TEMPLATES,
        _SCHEDULES,
        _SCHEDULE_INDEXES,
        _SHOWN_SCHEDULES,
        bus_tables("scheduling"),
        idempotency_table("scheduling"),
        moved_rows_table("scheduling"),
        "GRANT USAGE ON SEQUENCE templates_id_seq, schedules_id_seq TO scheduling_all",
        *(protect(table, "scheduling") for table in tables),
    )
    for statement in (*script, *counts, *batch_counts, "GRANT USAGE ON SEQUENCE schedules_id_seq TO scheduling_tenant"):
        op.execute(statement)
