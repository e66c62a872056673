"""An erased contact stays as a deleted row without a person, cannot be changed, and its phone can be added again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from common.events import OptOutChanged
from contacts.contacts.rules import ErasedOptOut
from contacts.contacts.service import apply_opt_out_changed
from contacts.erasure import service

from ..conftest import Stage

PHONE, STORED = "0491570006", "+61491570006"
AT = datetime(2026, 11, 1, 3, tzinfo=UTC)


async def erase(stage: Stage, organisation: str | None = None, opt_outs: Sequence[ErasedOptOut] = ()) -> None:
    async with stage.database.all_tenants() as session:
        erasure_id, _ = await service.begin_erasure(session, STORED, organisation, operator="ana", reason="request 12")
    async with stage.database.all_tenants() as session:
        await service.finish_erasure(session, erasure_id, STORED, organisation, opt_outs=opt_outs, counts={})


async def test_an_erased_contact_is_deleted_nameless_and_published_so(stage: Stage) -> None:
    ana = await stage.mine.add_contact(PHONE, first_name="Ana", last_name="Silva", email="a@b.com", company="Fern")
    theirs = await stage.theirs.add_contact(PHONE, first_name="Ana")
    group = await stage.mine.add_group("A", ana["id"])
    await erase(stage, "org_mine")
    shown = await stage.mine.get_contact(ana["id"])
    personal = ("first_name", "last_name", "email", "company", "phone")
    assert [shown[name] for name in personal] == ["", "", "", "", f"erased-{ana['id']}"]
    assert (shown.keys(), shown["is_active"]) == (ana.keys(), False)
    assert (await stage.theirs.get_contact(theirs["id"]))["first_name"] == "Ana"
    for search in ("", "Ana", PHONE):
        assert (await stage.mine.get("/api/contacts/", search=search))["results"] == []
    assert (await stage.mine.get_group(group["id"]))["member_count"] == 0
    deleted, erased = [event.contacts[0] for event in await stage.events()]
    assert (deleted.is_active, erased.is_active, erased.phone) == (False, False, f"erased-{ana['id']}")
    assert not any(erased.fields.values())


async def test_an_erased_contact_cannot_be_changed_or_restored(stage: Stage) -> None:
    ana = await stage.mine.add_contact(PHONE)
    await erase(stage)
    for change in ({"is_active": True}, {"phone": "0491570156"}, {"first_name": "Ana"}):
        answer = await stage.mine.call("PATCH", f"/api/contacts/{ana['id']}/", json=change)
        assert (answer.status_code, "erased" in answer.json()["detail"]) == (400, True)
    again = await stage.mine.add_contact(PHONE)
    assert again["id"] != ana["id"]
    await stage.mine.delete_contact(ana["id"])


def opt_out(version: int, **changes: Any) -> OptOutChanged:
    values = {"phone": STORED, "opted_out": True, "changed_at": AT, "source": "reply", "message_id": 77}
    return OptOutChanged(organisation_id="org_mine", version=version, **(values | changes))


async def consume(stage: Stage, *events: OptOutChanged) -> None:
    async with stage.database.all_tenants() as session:
        await apply_opt_out_changed(session, events)


async def is_refused(stage: Stage, organisation: str = "org_mine") -> bool:
    scheduling = stage.client_of(organisation, issuer="scheduling", role="system", user_id=None)
    found = await scheduling.post("/internal/recipients/", {"recipients": [{"phone": STORED}]}, 200)
    return bool(found["recipients"][0]["refused"] == "opted_out")


@pytest.fixture
async def opted_out(stage: Stage) -> Stage:
    """Opt a phone out, then erase it."""
    await stage.mine.add_contact(PHONE)
    await consume(stage, opt_out(4))
    await erase(stage, opt_outs=[ErasedOptOut("org_mine", AT, "reply", 5)])
    return stage


async def test_the_phone_of_an_erased_opt_out_is_nowhere_and_refused_at_its_organisation(opted_out: Stage) -> None:
    async with opted_out.database.all_tenants() as session:
        rows = await session.execute(text("SELECT to_jsonb(e) FROM erased_opt_outs e"))
        assert STORED[1:] not in str(rows.all())
        assert (await session.execute(text("SELECT 1 FROM opt_outs"))).all() == []
    assert (await is_refused(opted_out), await is_refused(opted_out, "org_theirs")) == (True, False)


async def test_a_contact_that_is_added_or_imported_again_is_opted_out(opted_out: Stage) -> None:
    mine = await opted_out.mine.add_contact(PHONE)
    assert (mine["opt_out"], mine["opt_out_source"], mine["opt_out_message_id"]) == (True, "reply", None)
    assert (await opted_out.theirs.add_contact(PHONE))["opt_out"] is False
    other = await opted_out.mine.add_contact("0491570156")
    assert other["opt_out"] is False
    await erase(opted_out)
    assert (await opted_out.mine.upload(f"phone\n{PHONE}\n")).json()["imported"] == 1
    (again,) = (await opted_out.mine.get("/api/contacts/", search=PHONE))["results"]
    assert (again["opt_out"], again["id"] > other["id"]) == (True, True)
    assert (await opted_out.mine.patch(f"/api/contacts/{other['id']}/", {"phone": "0491570110"}))["opt_out"] is False


async def test_a_confirmed_consent_ends_an_erased_opt_out(opted_out: Stage) -> None:
    contact = await opted_out.mine.add_contact(PHONE)
    path = f"/api/contacts/{contact['id']}/"
    assert "opt_out" in await opted_out.mine.patch(path, {"opt_out": False}, 400)
    changed = await opted_out.mine.patch(path, {"opt_out": False, "confirm_opt_in": True})
    assert (changed["opt_out"], await is_refused(opted_out)) == (False, False)


async def test_an_event_of_before_the_erasure_is_ignored_and_a_later_opt_in_ends_the_opt_out(opted_out: Stage) -> None:
    await consume(opted_out, opt_out(4, opted_out=False))
    assert await is_refused(opted_out)
    async with opted_out.database.all_tenants() as session:
        assert (await session.execute(text("SELECT 1 FROM opt_outs"))).all() == [], "the phone must not come back"
    await consume(opted_out, opt_out(6, opted_out=False), opt_out(6, phone="+61491570156"))
    assert not await is_refused(opted_out)
    assert (await opted_out.mine.add_contact("0491570156"))["opt_out"] is True


async def test_an_opt_out_that_only_contacts_has_stays(stage: Stage) -> None:
    await consume(stage, opt_out(4))
    await erase(stage)
    assert await is_refused(stage)
