"""Hooks of the Schemathesis run, which loads this file by its path."""

import schemathesis
from pydantic import TypeAdapter, ValidationError
from schemathesis import Case, HookContext

from common.fields import clean_text
from scheduling.schedules.schemas import STATUS_NAMES

_BOOLEANS = ("is_active", "opt_out", "confirm_opt_in")
_BOOLEAN = TypeAdapter(bool)


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Leave out requests that the services accept and the document does not allow, which Schemathesis would report.

    The services accept 0, "yes" and the like for a boolean, as v2 did. They count the length of a text after its
    clean-up. An empty query parameter counts as absent. They ignore every `status` in a body that does not cancel.
    """
    body = case.body if isinstance(case.body, dict) else {}
    if any(_is_other_spelling(body[name]) for name in _BOOLEANS if name in body):
        return False
    if any(isinstance(value, str) and _is_changed(value) for value in body.values()):
        return False
    if isinstance(body.get("status"), str) and body["status"] not in STATUS_NAMES:
        return False
    return not any(map(_is_empty, (case.query or {}).values()))


def _is_empty(value: object) -> bool:
    """Return whether a value is sent as an empty text. An empty list and an empty object are, too."""
    if isinstance(value, list | dict):
        return all(map(_is_empty, value))
    return value is None or value == ""


def _is_changed(text: str) -> bool:
    try:
        return clean_text(text) != text
    except ValueError:
        return False


def _is_other_spelling(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        _BOOLEAN.validate_python(value)
    except ValidationError:
        return False
    return True
