"""Translate queries, bodies and answers by the table of names. Pure functions on bytes.

The names in a JSON text are replaced in place, without parsing it. So numbers, repeated names and even malformed JSON
reach the service as the client wrote them, and its errors are those of today.
"""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_plus

from gateway.v1.names import ROWS, STATUSES, V1_ROWS, Path, to_today, to_v1

# A whole string, then optionally a colon and the begin of a list or a short word. A string without an end matches up
# to the end of the text. Without this, a hostile text would be searched again from each of its quotes.
_STRING = re.compile(
    rb'"(?P<text>[^"\\]*+(?:\\.[^"\\]*+)*+)'
    rb'(?:"(?:(?P<colon>\s*+:\s*+)(?:(?P<list>\[)|"(?P<word>[a-z]++)")?)?|\\?\Z)',
    re.DOTALL,
)
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")


def translate_query(query: bytes, row: Path, method: str) -> bytes:
    """Return the query of today: its names, v1's page size, and v1's names of statuses."""
    parts = []
    has_limit = False
    for part in query.split(b"&"):
        written, equals, value = part.partition(b"=")
        name = unquote_plus(written.decode("latin-1"))
        new = to_today(name)
        if new == "status_format" or (new == "limit" and not value):
            continue
        has_limit = has_limit or new == "limit"
        parts.append(part if new == name else quote(new).encode() + equals + value)
    if row.limit and not has_limit and method == "GET":
        parts.append(b"limit=%d" % row.limit)
    if row.status_format:
        parts.append(b"status_format=v1")
    return b"&".join(part for part in parts if part)


def translate_request(body: bytes) -> bytes:
    """Return a JSON body with today's names."""
    return _rename(body, lambda name, _: to_today(name))


def translate_answer(body: bytes, row: Path) -> bytes:
    """Return a JSON answer with v1's names, and with v1's statuses where the service does not have them."""
    return _rename(body, _name_in_answer, STATUSES if row.statuses else {})


def _name_in_answer(name: str, is_list: bool) -> str:
    return V1_ROWS if name == ROWS and is_list else to_v1(name)


def translate_error(body: bytes, row: Path | None) -> bytes:
    """Return the body of an error with v1's names, and with `error` or `errors`, which a client of v1 reads.

    `errors` has an entry for each message of a field. `error` is one text in every error.
    """
    try:
        given = json.loads(body)
    except ValueError:
        return body
    if not isinstance(given, dict):
        return body
    own_names = {} if row is None else {"contact_id": row.contact_id}
    renamed = {name: own_names.get(name) or to_v1(name) for name in given}
    fields = {name: value for name, value in given.items() if _is_messages(value)}
    shown: dict[str, Any] = {renamed[name]: value for name, value in given.items()}
    if "detail" in given:
        shown = {"error": given["detail"], **shown}
    elif fields:
        errors = [{"field": renamed[name], "message": text} for name, texts in fields.items() for text in texts]
        shown = {"error": " ".join(dict.fromkeys(one["message"] for one in errors)), "errors": errors, **shown}
    return json.dumps(shown, ensure_ascii=False).encode()


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _rename(text: bytes, rename: Callable[[str, bool], str], statuses: dict[str, str] | None = None) -> bytes:
    def replace(found: re.Match[bytes]) -> bytes:
        name = found["text"]
        if found["colon"] is None or not _NAME.fullmatch(name):
            return found[0]
        new = rename(name.decode(), found["list"] is not None).encode()
        if statuses and name == b"status" and found["word"] is not None:
            word = found["word"].decode()
            return b'"%b"%b"%b"' % (new, found["colon"], statuses.get(word, word).encode())
        return b'"%b"%b' % (new, found[0][len(name) + 2 :])

    return _STRING.sub(replace, text)
