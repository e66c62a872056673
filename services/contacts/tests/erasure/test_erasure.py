"""An erased contact stays as a deleted row without a person, cannot be changed, and its phone can be added again."""

from contacts.erasure import service

from ..conftest import Stage

PHONE = "0491570006"


async def erase(stage: Stage, organisation: str | None = None) -> None:
    stored = "+61" + PHONE[1:]
    async with stage.database.all_tenants() as session:
        erasure_id, _ = await service.begin_erasure(session, stored, organisation, operator="ana", reason="request 12")
    async with stage.database.all_tenants() as session:
        await service.finish_erasure(session, erasure_id, stored, organisation, counts={})


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
