"""Templates with their versions, schedules, and what is kept of contacts and organisations."""

from alembic import op

from common.migrations import bus_tables, idempotency_table, protect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ORGANISATIONS = """
    CREATE TABLE organisations (
        organisation_id text PRIMARY KEY,
        timezone text NOT NULL DEFAULT 'Australia/Adelaide',
        timezone_version bigint NOT NULL DEFAULT 0,
        closed boolean NOT NULL DEFAULT false,
        closed_version bigint NOT NULL DEFAULT 0
    );
"""

_CONTACT_CHANGES = """
    CREATE TABLE contact_changes (
        organisation_id text NOT NULL,
        contact_id bigint NOT NULL,
        version bigint NOT NULL,
        phone text NOT NULL,
        first_name text NOT NULL,
        last_name text NOT NULL,
        company text NOT NULL,
        is_active boolean NOT NULL,
        opt_out boolean NOT NULL,
        heard_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organisation_id, contact_id)
    );
    CREATE INDEX contact_changes_heard_at ON contact_changes (heard_at);
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

# A child has a text and a time of its own only when it was changed or retried by itself; null means its parent's.
# `wake_at` of a parent: the earliest time at which one of its children may be due.
# Every change of status is an entry in every index, so there are few: the primary key serves the foreign key too.
_SCHEDULES = """
    CREATE TABLE schedules (
        id bigint GENERATED ALWAYS AS IDENTITY,
        organisation_id text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('single', 'parent', 'child')),
        status text NOT NULL DEFAULT 'pending'
            CHECK (status IN ('pending', 'processing', 'sent', 'delivered', 'failed', 'cancelled')),
        parent_id bigint,
        group_id bigint,
        group_name text,
        contact_id bigint,
        contact_version bigint NOT NULL DEFAULT 0,
        own_phone boolean NOT NULL DEFAULT false,
        phone text,
        first_name text NOT NULL DEFAULT '',
        last_name text NOT NULL DEFAULT '',
        company text NOT NULL DEFAULT '',
        name text,
        template_id bigint,
        template_version int,
        text text,
        message_parts int,
        scheduled_time timestamptz,
        wake_at timestamptz,
        format text CHECK (format IN ('sms', 'mms')),
        media_url text,
        subject text,
        run int NOT NULL DEFAULT 0,
        outcome_version bigint NOT NULL DEFAULT 0,
        attempts int NOT NULL DEFAULT 0,
        error text,
        failure_category text,
        provider text,
        sent_time timestamptz,
        delivered_time timestamptz,
        hold uuid,
        sweep_at timestamptz,
        swept smallint NOT NULL DEFAULT 0,
        expansion_cursor bigint NOT NULL DEFAULT 0,
        lease_until timestamptz,
        expanded_at timestamptz,
        child_count int,
        created_by bigint,
        updated_by bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        request_id text NOT NULL DEFAULT '',
        PRIMARY KEY (id, organisation_id),
        FOREIGN KEY (parent_id, organisation_id) REFERENCES schedules (id, organisation_id),
        FOREIGN KEY (organisation_id, template_id, template_version)
            REFERENCES template_versions (organisation_id, template_id, version),
        CHECK ((kind = 'child') = (parent_id IS NOT NULL)),
        CHECK (kind = 'child' OR (text IS NOT NULL AND scheduled_time IS NOT NULL AND format IS NOT NULL)),
        CHECK (kind = 'parent' OR phone IS NOT NULL),
        CHECK (kind <> 'parent' OR (group_id IS NOT NULL AND wake_at IS NOT NULL AND child_count IS NOT NULL)),
        CHECK (status <> 'failed' OR (failure_category IS NOT NULL AND error IS NOT NULL))
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

    CREATE INDEX schedules_due ON schedules (kind, scheduled_time, id)
        WHERE status = 'pending' AND scheduled_time IS NOT NULL;
    CREATE INDEX schedules_open_parents ON schedules (wake_at, id)
        WHERE kind = 'parent' AND status IN ('pending', 'processing');
    CREATE INDEX schedules_unexpanded ON schedules (lease_until, id)
        WHERE kind = 'parent' AND expanded_at IS NULL AND status IN ('pending', 'processing');
    CREATE INDEX schedules_children ON schedules (parent_id, status, id) WHERE kind = 'child';
    CREATE UNIQUE INDEX schedules_child_of_contact ON schedules (parent_id, contact_id) WHERE kind = 'child';
    CREATE INDEX schedules_listed ON schedules (organisation_id, kind, scheduled_time DESC, id DESC)
        WHERE kind <> 'child';
    CREATE INDEX schedules_of_contact ON schedules (organisation_id, contact_id) WHERE contact_id IS NOT NULL;
    CREATE INDEX schedules_bare_pending ON schedules (organisation_id, phone)
        WHERE status = 'pending' AND contact_id IS NULL AND kind <> 'parent';
    CREATE INDEX schedules_of_group ON schedules (organisation_id, group_id, scheduled_time DESC, id DESC)
        WHERE kind = 'parent';
    CREATE INDEX schedules_sweep ON schedules (sweep_at) WHERE status = 'processing' AND kind <> 'parent';
    CREATE INDEX schedules_open_holds ON schedules (hold)
        WHERE hold IS NOT NULL AND status IN ('pending', 'processing');
    CREATE INDEX schedules_ended_holds ON schedules (id)
        WHERE hold IS NOT NULL AND kind = 'parent' AND status IN ('sent', 'failed', 'cancelled');
"""

# What a reader sees of a schedule: a child with what it has from its parent. A pending child of a cancelled parent is
# cancelled: a batch is cancelled by writing one row. The LIMIT keeps the planner from reading all parents at once.
_SHOWN = """
    CREATE VIEW shown_schedules WITH (security_invoker = true) AS
    SELECT s.id, s.organisation_id, s.kind,
           CASE WHEN s.status = 'pending' AND p.status = 'cancelled' THEN 'cancelled' ELSE s.status END AS status,
           s.parent_id, coalesce(p.group_id, s.group_id) AS group_id, coalesce(p.group_name, s.group_name) AS group_name,
           s.contact_id, s.contact_version, s.own_phone, s.phone, s.first_name, s.last_name, s.company,
           coalesce(s.name, p.name) AS name,
           CASE WHEN s.text IS NULL THEN p.template_id ELSE s.template_id END AS template_id,
           CASE WHEN s.text IS NULL THEN p.template_version ELSE s.template_version END AS template_version,
           coalesce(s.text, p.text) AS text,
           coalesce(s.scheduled_time, p.scheduled_time) AS scheduled_time,
           coalesce(s.format, p.format) AS format,
           CASE WHEN s.text IS NULL THEN p.media_url ELSE s.media_url END AS media_url,
           CASE WHEN s.text IS NULL THEN p.subject ELSE s.subject END AS subject,
           s.run, s.attempts, s.error, s.failure_category, s.provider, s.sent_time, s.delivered_time,
           coalesce(s.hold, p.hold) AS hold, s.swept, s.expanded_at, s.child_count,
           s.text IS NOT NULL AS own_text, s.scheduled_time IS NOT NULL AS own_time,
           s.created_by, s.updated_by, s.created_at, s.updated_at,
           CASE WHEN s.kind = 'child' THEN p.request_id ELSE s.request_id END AS request_id
    FROM schedules s
    LEFT JOIN LATERAL (SELECT * FROM schedules p
                       WHERE p.id = s.parent_id AND p.organisation_id = s.organisation_id LIMIT 1) p ON true;
    GRANT SELECT ON shown_schedules TO scheduling_tenant, scheduling_all;
"""


def upgrade() -> None:
    script = (
        _ORGANISATIONS
        + _CONTACT_CHANGES
        + _TEMPLATES
        + _SCHEDULES
        + _SHOWN
        + bus_tables("scheduling")
        + idempotency_table("scheduling")
    )
    for table in ("organisations", "contact_changes", "templates", "template_versions", "schedules"):
        script += protect(table, "scheduling")
    for statement in script.split(";"):
        if statement.strip():
            op.execute(statement)
