"""The rules by which old messages lose their content, and later leave."""

from common.retention import COMMON_RULES, Rule
from scheduling.models import FINAL, ScheduleKind, sql_list

_TEXT, _ROW = "retention_message_text_days", "retention_message_days"
# The index schedules_retained has the same columns, in this order: kind, content_removed, updated_at.
_FINAL = f"r.kind = '{{kind}}' AND r.content_removed = {{removed}} AND r.status IN ({sql_list(FINAL)})"
_HAS_PENDING = """EXISTS (SELECT FROM schedules m
    WHERE m.kind = 'batch_message' AND m.batch_id = r.id AND m.status = 'pending')"""
_HAS_MESSAGE = "EXISTS (SELECT FROM schedules m WHERE m.kind = 'batch_message' AND m.batch_id = r.id)"
# A message of a batch without a text of its own keeps none: null means that it has its batch's.
REMOVE_CONTENT = """content_removed = true, text = CASE WHEN text IS NOT NULL THEN '' END, fields = '{}',
    media_url = NULL, subject = NULL"""


def _content(name: str, kind: ScheduleKind, condition: str = "true") -> Rule:
    return Rule(
        f"content of {name}",
        "schedules",
        age="r.updated_at",
        days=_TEXT,
        condition=f"{_FINAL.format(kind=kind.value, removed='false')} AND {condition}",
        change=REMOVE_CONTENT,
    )


def _row(name: str, kind: ScheduleKind) -> Rule:
    return Rule(
        name,
        "schedules",
        age="r.updated_at",
        days=_ROW,
        condition=_FINAL.format(kind=kind.value, removed="true"),
    )


RULES = (
    # Cancelling a batch writes only the batch's row. Its pending messages become final here.
    Rule(
        "pending messages of cancelled batches",
        "schedules",
        age="b.updated_at",
        days=_TEXT,
        condition="true",
        change="status = 'cancelled'",
        source=f"""
            schedules b JOIN schedules r ON r.kind = 'batch_message' AND r.batch_id = b.id AND r.status = 'pending'
            AND b.kind = 'batch' AND NOT b.content_removed AND b.status = 'cancelled'
            AND b.status IN ({sql_list(FINAL)}) -- the condition of the index
        """,
    ),
    _content("single messages", ScheduleKind.SINGLE),
    _content("messages of batches", ScheduleKind.BATCH_MESSAGE),
    _content("batches", ScheduleKind.BATCH, condition=f"NOT (r.status = 'cancelled' AND {_HAS_PENDING})"),
    _row("single messages", ScheduleKind.SINGLE),
    _row("messages of batches", ScheduleKind.BATCH_MESSAGE),
    Rule(
        "batches",
        "schedules",
        age="r.updated_at",
        days=_ROW,
        condition=f"{_FINAL.format(kind='batch', removed='true')} AND NOT {_HAS_MESSAGE}",
        returning="organisation_id, id",
        # The counts of a batch without messages are 0.
        also="""DELETE FROM batch_counts c USING gone
            WHERE c.organisation_id = gone.organisation_id AND c.batch_id = gone.id""",
    ),
    # A request that read a contact a day ago has written its schedules.
    Rule("contact changes", "contact_changes", age="r.received_at", days=1),
)
ALL_RULES = (*RULES, *COMMON_RULES)
