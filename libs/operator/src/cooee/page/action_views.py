"""The pages that change something, or unmask data. Each wants a reason and leaves rows in the audit."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cooee.command import Report
from cooee.page.actions import find_action, read, run_action, unmask
from cooee.page.context import context_of
from cooee.page.forms import read_form, read_query
from cooee.page.gate import clerk_policy
from cooee.page.views import dead_letter_line, history_line

_UNMASKED = ("--show-phones", "--show-texts")


async def show_action(request: Request) -> Response:
    """Show the form of an action. The query fills in its fields."""
    action, fields = find_action(request.path_params["name"]), read_query(request)
    values = {field.name: fields.get(field.name) for field in action.fields}
    return context_of(request).render(request, "action.html", action=action, values=values, back=action.back_of(fields))


async def run(request: Request) -> Response:
    """Run an action and show its result."""
    context, fields = context_of(request), await read_form(request)
    session = context.check_form(request, fields)
    action = find_action(request.path_params["name"])
    report = await run_action(context.stack, action, fields, session.operator)
    return context.render(request, "done.html", action=action, lines=report.lines, back=action.back_of(fields))


async def unmask_history(request: Request) -> Response:
    """Unmask the phone and the text in the history of a message, after a reason was recorded."""
    report = await _unmask(request, history_line(request))
    return context_of(request).render(request, "history.html", history=report.document, unmasked=True)


async def unmask_dead_letter(request: Request) -> Response:
    """Unmask the body of a dead letter, after a reason was recorded."""
    report = await _unmask(request, dead_letter_line(request))
    return context_of(request).render(
        request, "dead_letter.html", letter=report.document["dead_letters"][0], unmasked=True
    )


async def _unmask(request: Request, line: Sequence[str]) -> Report:
    context, fields = context_of(request), await read_form(request)
    session = context.check_form(request, fields)
    masked = (await read(context.stack, *line)).document
    rows = [masked.get("schedule"), *masked.get("messages", ())]
    organisation = next((row["organisation_id"] for row in rows if row), "")
    return await unmask(
        context.stack,
        [*line, *_UNMASKED],
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
    context, fields = context_of(request), await read_form(request)
    token = fields.get("token") or request.cookies.get("__session", "")
    session = context.sessions.start(await context.operators.verify(token))
    response = RedirectResponse("/", 303)
    context.cookies.write(response, session)
    return response


async def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    context = context_of(request)
    context.check_form(request, await read_form(request))
    response = RedirectResponse("/sign-in", 303)
    context.cookies.clear(response)
    return response


def sign_in_page(request: Request, error: str = "", status: int = 200) -> Response:
    """Return the page with the form for a token or, with a publishable key, with Clerk's own form."""
    context = context_of(request)
    settings = context.settings
    response = context.render(
        request,
        "sign_in.html",
        status=status,
        error=error,
        organisation=settings.operators_organisation,
        role=settings.operators_role.removeprefix("org:"),
        issuer=settings.clerk_issuer.rstrip("/"),
        publishable_key=settings.clerk_publishable_key,
        is_embedded="COOEE_HOME" in context.stack.environment,
        has_clerk_cookie="__session" in request.cookies,
    )
    if settings.clerk_publishable_key:
        response.headers["Content-Security-Policy"] = clerk_policy(settings.clerk_issuer.rstrip("/"))
    return response
