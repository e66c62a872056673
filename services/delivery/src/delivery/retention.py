"""The rules by which old messages lose their content, and by which rows leave."""

from common.retention import COMMON_RULES, Rule
from delivery.models import FINAL, sql_list

# The index messages_retained has the columns content_removed and changed_at.
_FINAL = f"r.content_removed = {{removed}} AND r.status IN ({sql_list(FINAL)})"
REMOVE_CONTENT = "content_removed = true, text = '', subject = NULL, media_url = NULL"
REMOVE_INBOUND_CONTENT = "content_removed = true, text = '', media_urls = '{}'"

RULES = (
    Rule(
        "content of messages",
        "messages",
        age="r.changed_at",
        days="retention_message_text_days",
        condition=_FINAL.format(removed="false"),
        change=REMOVE_CONTENT,
    ),
    Rule(
        "messages",
        "messages",
        age="r.changed_at",
        days="retention_message_days",
        condition=_FINAL.format(removed="true"),
    ),
    Rule(
        "content of inbound messages",
        "inbound_messages",
        age="r.created_at",
        days="retention_inbound_text_days",
        condition="r.content_removed = false",
        change=REMOVE_INBOUND_CONTENT,
    ),
    Rule(
        "inbound messages",
        "inbound_messages",
        age="r.created_at",
        days="retention_inbound_days",
        condition="r.content_removed = true",
    ),
    Rule("webhook events", "webhook_events", age="r.received_at", days="retention_webhook_event_days"),
)
ALL_RULES = (*RULES, *COMMON_RULES)
