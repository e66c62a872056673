"""The context of the application: what its views share."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from common.errors import Forbidden, NotAuthenticated
from cooee.page.forms import Fields
from cooee.page.gate import Cookies
from cooee.page.rendering import Renderer
from cooee.page.settings import PageSettings
from cooee.page.sign_in import Operators, Session, Sessions
from cooee.stack import Stack


@dataclass(frozen=True)
class AppContext:
    """The parts of the application that its views use."""

    settings: PageSettings
    stack: Stack
    operators: Operators
    sessions: Sessions
    cookies: Cookies
    renderer: Renderer

    @classmethod
    def of(cls, settings: PageSettings, stack: Stack) -> "AppContext":
        """Return the context of the application for a stack."""
        sessions = Sessions(settings)
        return cls(
            settings=settings,
            stack=stack,
            operators=Operators(settings),
            sessions=sessions,
            cookies=Cookies(settings, sessions),
            renderer=Renderer(sessions),
        )

    def render(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page."""
        return self.renderer.page(request, template, status=status, **values)

    def check_form(self, request: Request, fields: Fields) -> Session:
        """Return the session for which a form was made. Raises NotAuthenticated and Forbidden."""
        session: Session | None = request.state.session
        if session is None:
            raise NotAuthenticated("Sign in to do this.")
        if not self.sessions.accepts(session, fields.get("form_token")):
            raise Forbidden("The form is not of this session. Open its page again, and send it from there.")
        return session


def context_of(request: Request) -> AppContext:
    """Return the context of the application that has this request."""
    context: AppContext = request.app.state.context
    return context
