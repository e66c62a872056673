"""The pages that change something, or show what is masked. Each wants a reason and leaves rows in the audit."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cooee.command import Report
from cooee.page.actions import find_action, read, reveal, run_action
from cooee.page.context import page_of
from cooee.page.forms import read_form, read_query
from cooee.page.gate import clerk_policy
from cooee.page.views import dead_letter_line, history_line

_SHOWN = ("--show-phones", "--show-texts")


async def show_action(request: Request) -> Response:
    """Show the form of an action. The query fills in its fields."""
    action, fields = find_action(request.path_params["name"]), read_query(request)
    values = {field.name: fields.get(field.name) for field in action.fields}
    return page_of(request).render(request, "action.html", action=action, values=values, back=action.back(fields))


async def run(request: Request) -> Response:
    """Run an action and show its result."""
    page, fields = page_of(request), await read_form(request)
    session = page.check_form(request, fields)
    action = find_action(request.path_params["name"])
    report = await run_action(page.stack, action, fields, session.operator)
    return page.render(request, "done.html", action=action, lines=report.lines, back=action.back(fields))


async def reveal_history(request: Request) -> Response:
    """Show the history of a message with its phone and text, after a reason was recorded."""
    report = await _reveal(request, history_line(request))
    return page_of(request).render(request, "history.html", history=report.document, unmasked=True)


async def reveal_dead_letter(request: Request) -> Response:
    """Show a dead letter with its body, after a reason was recorded."""
    report = await _reveal(request, dead_letter_line(request))
    return page_of(request).render(
        request, "dead_letter.html", letter=report.document["dead_letters"][0], unmasked=True
    )


async def _reveal(request: Request, line: Sequence[str]) -> Report:
    page, fields = page_of(request), await read_form(request)
    session = page.check_form(request, fields)
    masked = (await read(page.stack, *line)).document
    rows = [masked.get("schedule"), *masked.get("messages", ())]
    organisation = next((row["organisation_id"] for row in rows if row), "")
    return await reveal(
        page.stack,
        [*line, *_SHOWN],
        reason=fields.get("reason"),
        operator=session.operator,
        organisation=organisation,
    )


async def show_sign_in(request: Request) -> Response:
    """Show the form with which an operator signs in."""
    if request.state.session is not None:
        return RedirectResponse("/", 303)
    return sign_in_page(request)


async def sign_in(request: Request) -> Response:
    """Verify a session token, of the form or of Clerk's cookie, and begin a session."""
    page, fields = page_of(request), await read_form(request)
    token = fields.get("token") or request.cookies.get("__session", "")
    session = page.sessions.start(await page.operators.verify(token))
    response = RedirectResponse("/", 303)
    page.cookies.write(response, session)
    return response


async def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    page = page_of(request)
    page.check_form(request, await read_form(request))
    response = RedirectResponse("/sign-in", 303)
    page.cookies.clear(response)
    return response


def sign_in_page(request: Request, error: str = "", status: int = 200) -> Response:
    """Return the page with the form for a token or, with a publishable key, with Clerk's own form."""
    page = page_of(request)
    settings = page.settings
    response = page.render(
        request,
        "sign_in.html",
        status=status,
        error=error,
        organisation=settings.operators_organisation,
        role=settings.operators_role.removeprefix("org:"),
        issuer=settings.clerk_issuer.rstrip("/"),
        publishable_key=settings.clerk_publishable_key,
        is_embedded="COOEE_HOME" in page.stack.environment,
        has_clerk_cookie="__session" in request.cookies,
    )
    if settings.clerk_publishable_key:
        response.headers["Content-Security-Policy"] = clerk_policy(settings.clerk_issuer.rstrip("/"))
    return response
