"""Turn the documents of the commands into HTML. Every value is escaped."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from cooee.output import printable, show_age, show_time
from cooee.page.sign_in import Session, Sessions

_FOLDER = Path(__file__).parent / "templates"
_STATES = {
    **dict.fromkeys(("ok", "active", "available", "delivered", "sent", "success", "done", "complete"), "good"),
    **dict.fromkeys(("failed", "unavailable", "refused", "closed", "error"), "bad"),
    **dict.fromkeys(
        ("unknown", "retry_wait", "degraded", "paused", "queued", "processing", "pending", "begun"), "warn"
    ),
}
_HEADINGS = {
    "sender_id": "sender ID",
    "provider_message_id": "provider's id",
    "clerk_id": "id at Clerk",
    "begun_at": "begun",
    "ended_at": "ended",
}
# The page of each id. A path is always below this page's own, whatever the id is.
_LINKS = {
    "organisation_id": "/organisations/{}",
    "organisation": "/organisations/{}",
    "message_id": "/messages/{}",
    "schedule_id": "/schedules/{}",
}


class Renderer:
    """Renders templates."""

    def __init__(self, sessions: Sessions) -> None:
        """Load the templates of this package."""
        self._sessions = sessions
        self._environment = Environment(
            loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._environment.filters |= {
            "show": show,
            "age": show_age,
            "time": show_time,
            "heading": heading,
            "state": lambda value: _STATES.get(str(value), ""),
        }
        self._environment.tests["time"] = lambda value: isinstance(value, datetime)
        self._environment.globals |= {"link_of": link_of, "is_table": is_table, "query": query}

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page. Its template knows the operator, and the token that its forms need."""
        session: Session | None = getattr(request.state, "session", None)
        common = {
            "operator": session.operator if session else "",
            "form_token": self._sessions.form_token(session) if session else "",
            "path": request.url.path,
        }
        return HTMLResponse(self._environment.get_template(template).render(common | values), status)


def show(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return show_time(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return ", ".join(f"{heading(str(name))}: {show(one)}" for name, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(show, value))
    return printable(str(value))


def heading(name: str) -> str:
    """Return the name of a field as a heading."""
    if name in _HEADINGS:
        return _HEADINGS[name]
    return name.replace("_", " ").removesuffix(" at").removesuffix(" id")


def link_of(name: str, value: Any) -> str:
    """Return the address of the page of an id, or nothing for other fields."""
    if name not in _LINKS or value is None or str(value) in ("", "(all)"):
        return ""
    return _LINKS[name].format(quote(str(value), safe=""))


def is_table(value: Any) -> bool:
    """Return whether a value is a list of rows."""
    return isinstance(value, Sequence) and bool(value) and all(isinstance(row, Mapping) for row in value)


def query(path: str, **values: Any) -> str:
    """Return an address with those values that are set."""
    given = {name: str(value) for name, value in values.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
