"""Hooks of the Schemathesis run, which loads this file by its path."""

import schemathesis
from pydantic import TypeAdapter, ValidationError
from schemathesis import Case, HookContext

_BOOLEANS = ("is_active", "opt_out", "confirm_opt_in")
_BOOLEAN = TypeAdapter(bool)


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Leave out bodies with another spelling of a boolean.

    The services accept 0, "yes" and the like, as v2 did. The document does not list them, so Schemathesis would report
    that they are not refused.
    """
    body = case.body if isinstance(case.body, dict) else {}
    return not any(_is_other_spelling(body[name]) for name in _BOOLEANS if name in body)


def _is_other_spelling(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        _BOOLEAN.validate_python(value)
    except ValidationError:
        return False
    return True
