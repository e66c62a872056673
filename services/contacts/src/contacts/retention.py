"""The rules by which rows of contacts leave."""

from common.retention import COMMON_RULES, Rule

RULES = (
    # `finished_at` is null while an import is queued or runs.
    Rule("imports", "imports", age="r.finished_at", days="retention_import_days"),
    Rule("record of erasures", "erasures", age="r.started_at", days="retention_erasure_days"),
)
ALL_RULES = (*RULES, *COMMON_RULES)
