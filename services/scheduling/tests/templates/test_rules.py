"""Placeholders: which are known, and how they are filled."""

import pytest

from common.events import PLACEHOLDERS
from scheduling.templates.rules import fill, find_unknown_placeholder, has_placeholders
from services.scheduling.tests.stage import Stage

ANA = {"first_name": "Ana", "last_name": "Lee"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hi {{first_name}} {{ last_name }}!", "Hi Ana Lee!"),
        ("{{company}} Hi", "Hi"),
        ("{first_name} {{first_name", "{first_name} {{first_name"),
        ("no braces", "no braces"),
    ],
)
def test_known_placeholders_are_filled(text: str, filled: str) -> None:
    assert find_unknown_placeholder(text) is None
    assert fill(text, ANA) == filled


@pytest.mark.parametrize("name", PLACEHOLDERS)
async def test_every_placeholder_field_of_a_contact_can_be_used(stage: Stage, name: str) -> None:
    contact = stage.make_contact({name: "value"})
    made = await stage.make_schedule(contact=contact["contact_id"], text=f"-{{{{{name}}}}}-")
    assert made["text"] == "-value-"


def test_a_value_that_looks_like_a_placeholder_is_not_filled() -> None:
    assert fill("Hi {{first_name}}", {"first_name": "{{last_name}}", "last_name": "Lee"}) == "Hi {{last_name}}"


@pytest.mark.parametrize("text", ["{{name}}", "{{}}", "{{ First_Name }}", "{{first name}}", "ok {{company}} {{x}}"])
def test_an_unknown_placeholder_is_found(text: str) -> None:
    assert find_unknown_placeholder(text)
    assert has_placeholders(text)


async def test_an_unknown_placeholder_is_refused_with_the_known_ones(stage: Stage) -> None:
    answer = await stage.client("POST", "/api/templates/", {"name": "x", "text": "Hi {{nickname}}"})
    [sentence] = answer.json()["text"]
    assert sentence.startswith("Unknown placeholder {{nickname}}: use {{first_name}}, ")
    assert all(f"{{{{{name}}}}}" in sentence for name in PLACEHOLDERS)
