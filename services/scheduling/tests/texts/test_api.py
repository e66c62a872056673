"""`/api/sms/preview/`."""

import pytest

from services.scheduling.tests.stage import Stage

PREVIEW = "/api/sms/preview/"


async def test_a_template_is_previewed_for_a_contact(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana"})
    template = await stage.client.ok("POST", "/api/templates/", {"name": "t", "text": "Hi {{first_name}} – ok"})
    body = {"template_id": template["id"], "contact_id": ana["contact_id"]}
    assert await stage.client.ok("POST", PREVIEW, body) == {
        "text": "Hi Ana – ok",
        "encoding": "UCS-2",
        "units": 11,
        "parts": 1,
        "suggestion": {"text": "Hi Ana - ok", "encoding": "GSM-7", "units": 11, "parts": 1},
    }
    for foreign in ({"template_id": template["id"]}, {"message": "x", "contact_id": ana["contact_id"]}):
        assert (await stage.other("POST", PREVIEW, foreign)).status_code == 404


async def test_without_a_contact_placeholders_stay(stage: Stage) -> None:
    preview = await stage.client.ok("POST", PREVIEW, {"message": "Hi {{first_name}}"})
    assert (preview["text"], preview["suggestion"]) == ("Hi {{first_name}}", None)


async def test_a_preview_without_a_text_is_refused(stage: Stage) -> None:
    assert (await stage.client("POST", PREVIEW, {})).json()["message"]


@pytest.mark.parametrize("text", ["one", "two"])
async def test_a_preview_takes_no_idempotency_key(stage: Stage, text: str) -> None:
    for message in ("before", text):
        answer = await stage.client("POST", PREVIEW, {"message": message}, headers={"Idempotency-Key": "k1"})
        assert (answer.status_code, answer.json()["text"]) == (200, message)
