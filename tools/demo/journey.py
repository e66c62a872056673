"""The main journey of a client, over HTTP only: import a spreadsheet, and send to every contact exactly once.

The demo shows it. The end-to-end and chaos tests check it, on the stack that the addresses name.
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
    """The result is not as promised. The message says what differs."""


@dataclass
class Result:
    """The result of the journey."""

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
    """A client of the gateway for one organisation. `token` returns a new session token; Clerk's last a minute."""

    def __init__(self, session: aiohttp.ClientSession, gateway: str, token: Token) -> None:
        self._session, self._gateway, self._token = session, gateway.rstrip("/"), token

    async def call(self, method: str, path: str, *, expect: tuple[int, ...] = (200, 201, 202, 204), **more: Any) -> Any:
        """Return the JSON answer. Raises JourneyFailed on other statuses.

        A GET or a PATCH is sent again for 60 s while a service is unavailable: a repetition of it changes nothing more.
        """
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
            if method not in ("GET", "PATCH") or status not in (502, 503, 504) or time.monotonic() > deadline:
                raise JourneyFailed(f"{method} {path}: {status} {body}")
            await asyncio.sleep(0.5)


async def run_journey(
    api: Api,
    *,
    rows: bytes,
    due_in_s: float = 3.0,
    progress: Progress = lambda _stage, _values: None,
    while_sending: Callable[[dict[str, int]], Awaitable[None]] | None = None,
    timeout_s: float = 180.0,
) -> Result:
    """Create a group, import contacts, opt one out, set a limit, schedule a batch, and wait for all outcomes.

    `while_sending` is called with the counts of each poll. A test uses it to inject faults. Raises JourneyFailed.
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
    batch = await api.call(
        "POST",
        "/api/group-schedules/",
        json={
            "name": "Tomorrow's reminders",
            "group_id": result.group_id,
            "template_id": template["id"],
            "scheduled_time": due.isoformat(),
        },
    )
    result.schedule_id, result.due_at = batch["id"], due.timestamp()
    progress("schedule", {"id": batch["id"], "messages": batch["child_count"], "due": due})
    try:
        async with asyncio.timeout(timeout_s):
            await _wait_for_outcomes(api, result, progress, while_sending)
    except TimeoutError:
        message = f"not every message had its outcome within {timeout_s:.0f} s: {result.counts}"
        raise JourneyFailed(message) from None
    await _collect(api, result)
    return result


async def _import(api: Api, result: Result, rows: bytes) -> None:
    form = aiohttp.FormData()
    form.add_field("file", rows, filename="contacts.csv", content_type="text/csv")
    path = f"/api/contacts/import/?group_id={result.group_id}"
    report = await api.call("POST", path, data=form, expect=(200, 207))
    result.imported, result.total_rows, result.refused = report["imported"], report["total"], report["errors"]


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


async def _wait_for_outcomes(
    api: Api,
    result: Result,
    progress: Progress,
    while_sending: Callable[[dict[str, int]], Awaitable[None]] | None,
) -> None:
    while True:
        batch = await api.call("GET", f"/api/group-schedules/{result.schedule_id}/?limit=1")
        result.counts = {status: number for status, number in batch["counts"].items() if number}
        progress("sending", {"status": batch["status"], **result.counts})
        if batch["status"] not in OPEN:
            result.seconds = max(0.001, time.time() - result.due_at)
            return
        if while_sending is not None:
            await while_sending(result.counts)
        await asyncio.sleep(0.2)


async def _collect(api: Api, result: Result) -> None:
    """Read every message of the batch once, page by page."""
    failures: Counter[str] = Counter()
    page = 1
    while True:
        batch = await api.call("GET", f"/api/group-schedules/{result.schedule_id}/?page={page}&limit={_PAGE}")
        for schedule in batch["schedules"]:
            if schedule["status"] == "failed":
                failures[schedule["failure_category"]] += 1
            elif schedule["sent_time"]:
                result.parts += schedule["message_parts"]
                sent = datetime.fromisoformat(schedule["sent_time"]).timestamp()
                result.lateness_s.append(sent - result.due_at)
        if not batch["pagination"]["hasNext"]:
            break
        page += 1
    result.failures = dict(failures)
    stats = await api.call("GET", "/api/stats/monthly/", expect=(200, 404))
    months = (stats or {}).get("monthly_stats") or [{}]
    result.limit_used = months[0].get("sms_parts", result.parts)


def expected_messages(rows: bytes, refused: list[dict[str, Any]], opted_out: str) -> dict[str, str]:
    """Return phone → text of the expected messages: of every row except refused ones and the opted-out contact."""
    refused_rows = {error["row"] for error in refused}
    expected: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(rows.decode("utf-8-sig")), delimiter=";"), start=1):
        if number == 1 or number in refused_rows:
            continue
        expected[normalise_phone(row[2])] = TEXT.replace("{{first_name}}", row[0])
    expected.pop(opted_out, None)
    return expected


async def read_handset(session: aiohttp.ClientSession, handset: str) -> list[dict[str, Any]]:
    """Return all messages on the handset, in order of arrival."""
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
    """Check that the handset has each expected text exactly once and nothing else. Raises JourneyFailed."""
    got = Counter((message["to"], message["text"]) for message in messages)
    missing = [phone for phone, text in expected.items() if got[(phone, text)] == 0]
    duplicated = [key[0] for key, times in got.items() if times > 1]
    unexpected = [key[0] for key in got if expected.get(key[0]) != key[1]]
    if missing or duplicated or unexpected:
        raise JourneyFailed(
            f"of {len(expected)}: {len(missing)} missing, {len(duplicated)} duplicated, {len(unexpected)} unexpected "
            f"(first of each: {missing[:1]} {duplicated[:1]} {unexpected[:1]})"
        )
