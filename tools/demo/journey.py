"""The main job as a client does it, over HTTP only: from a spreadsheet to every handset, exactly once.

The demo shows it, the end-to-end and chaos tests assert on it, on whatever stack the addresses point at.
"""

import asyncio
import csv
import io
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from common.phones import normalise_phone

CSV = Path(__file__).with_name("contacts.csv")
TEXT = "Hi {{first_name}}, your appointment is tomorrow at 10:30. Reply to change it. Torrens Physio"
OPEN = ("pending", "processing")
_PAGE = 50

Progress = Callable[[str, dict[str, Any]], None]
Token = Callable[[], str]


class JourneyFailed(AssertionError):
    """What was promised did not happen; the message says what."""


@dataclass
class Result:
    """What came of the journey."""

    imported: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    total_rows: int = 0
    group_id: int = 0
    schedule_id: int = 0
    opted_out_phone: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    parts: int = 0
    limit: str = ""
    limit_used: int = 0
    due_at: float = 0.0
    seconds: float = 0.0
    lateness_s: list[float] = field(default_factory=list)


class Api:
    """One organisation's client of the gateway. `token` makes a fresh session token; sessions last a minute."""

    def __init__(self, session: aiohttp.ClientSession, gateway: str, token: Token) -> None:
        self._session, self._gateway, self._token = session, gateway.rstrip("/"), token

    async def call(self, method: str, path: str, *, expect: tuple[int, ...] = (200, 201, 202, 204), **more: Any) -> Any:
        """The JSON answer. Raises JourneyFailed on another status; reads wait for a gateway that is away."""
        deadline = time.monotonic() + 60
        while True:
            headers = {"Authorization": f"Bearer {self._token()}", **more.get("headers", {})}
            try:
                async with self._session.request(
                    method, self._gateway + path, **{**more, "headers": headers}
                ) as answer:
                    body = await answer.json(content_type=None) if answer.status != 204 else None
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError):
                status, body = 502, None
            if status in expect:
                return body
            if method != "GET" or status not in (502, 503, 504) or time.monotonic() > deadline:
                raise JourneyFailed(f"{method} {path}: {status} {body}")
            await asyncio.sleep(0.5)


async def run_journey(
    api: Api,
    *,
    rows: bytes,
    due_in_s: float = 3.0,
    progress: Progress = lambda _stage, _facts: None,
    while_sending: Callable[[dict[str, int]], Awaitable[None]] | None = None,
    patience_s: float = 180.0,
) -> Result:
    """Import, group, opt-out, limit, template, group schedule; then waits until every message has its outcome.

    `while_sending` is called with the counts at every look, for whoever wants to disturb. Raises JourneyFailed.
    """
    result = Result()
    group = await api.call("POST", "/api/groups/", json={"name": f"Patients {datetime.now(UTC):%d %b %H:%M:%S}"})
    result.group_id = group["id"]
    progress("group", group)
    await _import(api, result, rows)
    progress("import", {"imported": result.imported, "total": result.total_rows, "refused": result.refused})
    await _opt_out(api, result)
    progress("opt-out", {"phone": result.opted_out_phone})
    await _set_limit(api, result)
    template = await api.call("POST", "/api/templates/", json={"name": "Reminder", "text": TEXT})
    due = datetime.now(UTC) + timedelta(seconds=due_in_s)
    parent = await api.call(
        "POST",
        "/api/group-schedules/",
        json={
            "name": "Tomorrow's reminders",
            "group_id": result.group_id,
            "template_id": template["id"],
            "scheduled_time": due.isoformat(),
        },
    )
    result.schedule_id, result.due_at = parent["id"], due.timestamp()
    progress("schedule", {"id": parent["id"], "children": parent["child_count"], "due": due})
    await _watch(api, result, progress, while_sending, patience_s)
    await _collect(api, result)
    return result


async def _import(api: Api, result: Result, rows: bytes) -> None:
    form = aiohttp.FormData()
    form.add_field("file", rows, filename="contacts.csv", content_type="text/csv")
    path = f"/api/contacts/import/?group_id={result.group_id}"
    told = await api.call("POST", path, data=form, expect=(200, 207))
    result.imported, result.total_rows, result.refused = told["imported"], told["total"], told["errors"]


async def _opt_out(api: Api, result: Result) -> None:
    group = await api.call("GET", f"/api/groups/{result.group_id}/?limit=1")
    contact = group["members"]["results"][0]
    await api.call("PATCH", f"/api/contacts/{contact['id']}/", json={"opt_out": True})
    result.opted_out_phone = normalise_phone(contact["phone"])


async def _set_limit(api: Api, result: Result) -> None:
    configs = await api.call("GET", "/api/configs/")
    known = next((c for c in configs["results"] if c["name"] == "sms_limit"), None)
    result.limit = known["value"] if known else "1000000"
    if known is None:
        await api.call("POST", "/api/configs/", json={"name": "sms_limit", "value": result.limit})


async def _watch(
    api: Api,
    result: Result,
    progress: Progress,
    while_sending: Callable[[dict[str, int]], Awaitable[None]] | None,
    patience_s: float,
) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        parent = await api.call("GET", f"/api/group-schedules/{result.schedule_id}/?limit=1")
        result.counts = {status: number for status, number in parent["counts"].items() if number}
        progress("sending", {"status": parent["status"], **result.counts})
        if parent["status"] not in OPEN:
            result.seconds = max(0.001, time.time() - result.due_at)
            return
        if time.monotonic() > deadline:
            raise JourneyFailed(f"not every message had its outcome within {patience_s:.0f} s: {result.counts}")
        if while_sending is not None:
            await while_sending(result.counts)
        await asyncio.sleep(0.2)


async def _collect(api: Api, result: Result) -> None:
    """Reads every child once, page by page."""
    failures: Counter[str] = Counter()
    page = 1
    while True:
        parent = await api.call("GET", f"/api/group-schedules/{result.schedule_id}/?page={page}&limit={_PAGE}")
        for child in parent["schedules"]:
            if child["status"] == "failed":
                failures[child["failure_category"]] += 1
            elif child["sent_time"]:
                result.parts += child["message_parts"]
                sent = datetime.fromisoformat(child["sent_time"]).timestamp()
                result.lateness_s.append(sent - result.due_at)
        if not parent["pagination"]["hasNext"]:
            break
        page += 1
    result.failures = dict(failures)
    stats = await api.call("GET", "/api/stats/monthly/", expect=(200, 404))
    months = (stats or {}).get("monthly_stats") or [{}]
    result.limit_used = months[0].get("sms_parts", result.parts)


def expected_messages(rows: bytes, refused: list[dict[str, Any]], opted_out: str) -> dict[str, str]:
    """Phone → text that must be on the handsets: every row that was not refused, less the opted-out contact's."""
    bad = {error["row"] for error in refused}
    expected: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(rows.decode("utf-8-sig")), delimiter=";"), start=1):
        if number == 1 or number in bad:
            continue
        expected[normalise_phone(row[2])] = TEXT.replace("{{first_name}}", row[0])
    expected.pop(opted_out, None)
    return expected


async def read_handset(session: aiohttp.ClientSession, handset: str) -> list[dict[str, Any]]:
    """Everything the handset took, in order of arrival."""
    messages: list[dict[str, Any]] = []
    after = ""
    while True:
        params = {"limit": "1000", **({"after": after} if after else {})}
        async with session.get(f"{handset.rstrip('/')}/api/messages/", params=params) as answer:
            body = await answer.json()
        messages += body["messages"]
        if not body["next"] or not body["messages"]:
            return messages
        after = str(body["next"])


def check_exactly_once(messages: list[dict[str, Any]], expected: dict[str, str]) -> None:
    """Raises JourneyFailed unless the handset has each expected text exactly once and nothing else."""
    got = Counter((message["to"], message["text"]) for message in messages)
    missing = [phone for phone, text in expected.items() if got[(phone, text)] == 0]
    doubled = [key[0] for key, times in got.items() if times > 1]
    surprising = [key[0] for key in got if expected.get(key[0]) != key[1]]
    if missing or doubled or surprising:
        raise JourneyFailed(
            f"of {len(expected)}: {len(missing)} missing, {len(doubled)} doubled, {len(surprising)} unexpected "
            f"(first of each: {missing[:1]} {doubled[:1]} {surprising[:1]})"
        )
