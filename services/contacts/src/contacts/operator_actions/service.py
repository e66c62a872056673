"""Record what operators do: a row before an action begins and one after it ended. No row can be changed."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from contacts.models import OperatorActionRow
from contacts.operator_actions import repository
from contacts.operator_actions.rules import ActionOutcome, check_operator, check_reason


async def begin_action(
    session: AsyncSession,
    action: str,
    *,
    operator: str,
    reason: str,
    arguments: Mapping[str, Any],
    organisation_id: str | None = None,
) -> UUID:
    """Record that an action begins and return its id. Commit before the action begins. Raises InvalidActionText."""
    action_id = uuid4()
    await repository.add_begin(
        session,
        {
            "action_id": action_id,
            "action": action,
            "operator": check_operator(operator),
            "reason": check_reason(reason),
            "arguments": arguments,
            "organisation_id": organisation_id,
        },
    )
    return action_id


async def end_action(session: AsyncSession, action_id: UUID, outcome: ActionOutcome, exit_code: int) -> None:
    """Record how an action ended."""
    await repository.add_end(session, action_id, outcome, exit_code)


async def list_actions(
    session: AsyncSession,
    limit: int,
    *,
    before: int | None = None,
    organisation_id: str | None = None,
    operator: str | None = None,
) -> list[OperatorActionRow]:
    """Return the newest actions, each with its end. `before` is the id of the last action of the page before."""
    return await repository.page_all_tenants(
        session, limit, before=before, organisation_id=organisation_id, operator=operator
    )
