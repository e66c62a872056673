"""The size of a text, whether it can be sent, and its plainer form."""

from collections.abc import Mapping

import pytest

from common.errors import Invalid
from common.events import Format
from scheduling.texts.rules import check_message, simplify
from scheduling.texts.schemas import render_preview

ANA = {"first_name": "Ana", "last_name": "Lee"}


@pytest.mark.parametrize(
    ("message_format", "text", "fields"),
    [
        ("sms", "{{first_name}}", None),
        ("sms", "{{company}}", ANA),
        ("sms", "x" * 1531, ANA),
        ("mms", "x" * 1601, None),
    ],
)
def test_a_text_that_cannot_be_sent_is_refused_under_its_field(
    message_format: Format, text: str, fields: Mapping[str, str] | None
) -> None:
    with pytest.raises(Invalid) as error:
        check_message(message_format, text, fields, 10, "message")
    assert list(error.value.fields) == ["message"]


def test_a_text_that_can_be_sent_has_parts() -> None:
    assert check_message("sms", "x" * 1530, None, 10, "text") == 10
    assert check_message("sms", "{{first_name}}", ANA, 10, "text") == 1
    assert check_message("mms", "", None, 10, "text") == 1


def test_a_preview_suggests_a_plainer_text() -> None:
    preview = render_preview("“Hi”\u00a0{{first_name}}…")
    assert (preview.encoding, preview.parts) == ("UCS-2", 1)
    assert preview.suggestion is not None
    assert (preview.suggestion.text, preview.suggestion.encoding) == ('"Hi" {{first_name}}...', "GSM-7")
    assert render_preview("Hi Ana").suggestion is None


def test_a_preview_suggests_composed_letters() -> None:
    preview = render_preview("Cafe\u0301 A\u030angstro\u0308m")
    assert preview.encoding == "UCS-2"
    assert preview.suggestion is not None
    assert (preview.suggestion.text, preview.suggestion.encoding) == ("Café Ångström", "GSM-7")


def test_characters_without_a_plain_form_stay() -> None:
    assert simplify("a\u200bb – c’s 😀 ç") == "ab - c's 😀 ç"
