"""Every statement on the actions of operators. None changes or deletes a row."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from contacts.models import OperatorActionRow
from contacts.operator_actions.rules import ActionOutcome

_ADD_BEGIN = text(
    """
    INSERT INTO operator_actions (action_id, step, action, operator, reason, arguments, organisation_id)
    VALUES (:action_id, 'begin', :action, :operator, :reason, CAST(:arguments AS jsonb), :organisation_id)
    """
)
_ADD_END = text(
    """
    INSERT INTO operator_actions
        (action_id, step, action, operator, reason, arguments, organisation_id, outcome, exit_code)
    SELECT action_id, 'end', action, operator, reason, arguments, organisation_id, :outcome, :exit_code
    FROM operator_actions WHERE action_id = :action_id AND step = 'begin'
    """
)
_PAGE = text(
    """
    SELECT b.id, b.action_id, b.at AS begun_at, e.at AS ended_at, b.action, b.operator, b.reason, b.arguments,
           b.organisation_id, e.outcome, e.exit_code
    FROM operator_actions b LEFT JOIN operator_actions e ON e.action_id = b.action_id AND e.step = 'end'
    WHERE b.step = 'begin' AND (CAST(:before AS bigint) IS NULL OR b.id < :before)
      AND (CAST(:organisation_id AS text) IS NULL OR b.organisation_id = :organisation_id)
      AND (CAST(:operator AS text) IS NULL OR b.operator = :operator)
    ORDER BY b.id DESC LIMIT :limit
    """
)


async def add_begin(session: AsyncSession, values: Mapping[str, Any]) -> None:
    """Add the first row of an action."""
    await session.execute(_ADD_BEGIN, {**values, "arguments": json.dumps(values["arguments"])})


async def add_end(session: AsyncSession, action_id: UUID, outcome: ActionOutcome, exit_code: int) -> None:
    """Add the second row of an action. It repeats the first one, so that each row says all."""
    await session.execute(_ADD_END, {"action_id": action_id, "outcome": outcome, "exit_code": exit_code})


async def page_all_tenants(
    session: AsyncSession, limit: int, *, before: int | None, organisation_id: str | None, operator: str | None
) -> list[OperatorActionRow]:
    """Return actions before an id, the newest first."""
    values = {"limit": limit, "before": before, "organisation_id": organisation_id, "operator": operator}
    return [OperatorActionRow._make(row) for row in await session.execute(_PAGE, values)]
