"""When a message is tried again, and whether somebody waited for its outcome."""

from alembic import op

revision = "0003"
down_revision = "0002"

_COLUMNS = (
    "ALTER TABLE schedules ADD COLUMN next_attempt_at timestamptz, ADD COLUMN waited boolean NOT NULL DEFAULT false"
)

# The view of 0001 with two columns more.
_SHOWN = """
    CREATE OR REPLACE VIEW shown_schedules WITH (security_invoker = true) AS
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
           CASE WHEN s.kind = 'child' THEN p.request_id ELSE s.request_id END AS request_id,
           s.next_attempt_at, s.waited
    FROM schedules s
    LEFT JOIN LATERAL (SELECT * FROM schedules p
                       WHERE p.id = s.parent_id AND p.organisation_id = s.organisation_id LIMIT 1) p ON true
"""


def upgrade() -> None:
    op.execute(_COLUMNS)
    op.execute(_SHOWN)
