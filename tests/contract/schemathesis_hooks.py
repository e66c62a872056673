"""Hooks of the Schemathesis run, which loads this file by its path."""

import schemathesis
from schemathesis import Case, HookContext

from common.fields import clean_text
from scheduling.schedules.schemas import STATUS_NAMES


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Leave out requests that the services accept and the document does not allow, which Schemathesis would report.

    The services count the length of a text after its clean-up. An empty query parameter counts as absent, and the
    last value of a repeated one counts. The services ignore every `status` in a body that does not cancel.
    """
    body = case.body if isinstance(case.body, dict) else {}
    if any(isinstance(value, str) and _is_changed(value) for value in body.values()):
        return False
    if isinstance(body.get("status"), str) and body["status"] not in STATUS_NAMES:
        return False
    return not any(_is_left_out(name, value) for name, value in (case.query or {}).items())


def _is_left_out(name: str, value: object) -> bool:
    if name == "status":
        return _is_empty(value) or (isinstance(value, str) and not value.strip(", "))
    return _is_empty(value) or isinstance(value, list | dict)


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
