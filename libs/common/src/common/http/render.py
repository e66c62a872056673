"""Render answers from rows to bytes in one step.

The response models are the documentation. Hot routes do not build and validate them on the way out; a test checks that
what they render validates against their models.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Response

from common.paging import Page


def json_response(content: Any, status: int = 200) -> Response:
    """Return the answer with `content` as JSON. Its values are dicts, lists, strings, numbers, booleans and None."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def page_response(results: Sequence[dict[str, Any]], page: Page, total: int) -> Response:
    """Return the answer of a list: one page of rendered rows, and where it is in the list of `total` rows."""
    pages = -(-total // page.limit)
    pagination = {
        "total": total,
        "page": page.number,
        "limit": page.limit,
        "totalPages": pages,
        "hasNext": page.number < pages,
        "hasPrev": page.number > 1 and total > 0,
    }
    return json_response({"results": results, "pagination": pagination})
