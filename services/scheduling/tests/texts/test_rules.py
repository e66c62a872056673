import pytest

from common.errors import Invalid
from scheduling.texts.rules import Names, fill, find_unknown, simplify
from scheduling.texts.service import check_message, preview

ANA = Names("Ana", "Lee", "")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hi {{first_name}} {{ last_name }}!", "Hi Ana Lee!"),
        ("{{company}} Hi", "Hi"),
        ("{first_name} {{first_name", "{first_name} {{first_name"),
        ("no braces", "no braces"),
    ],
)
def test_placeholders_are_filled(text, filled):
    assert find_unknown(text) is None
    assert fill(text, ANA) == filled


def test_a_name_that_looks_like_a_placeholder_stays_a_name():
    assert fill("Hi {{first_name}}", Names("{{last_name}}", "Lee", "")) == "Hi {{last_name}}"


@pytest.mark.parametrize("text", ["{{name}}", "{{}}", "{{ First_Name }}", "{{first name}}", "ok {{company}} {{x}}"])
def test_unknown_placeholders_are_found(text):
    assert find_unknown(text)


def test_what_cannot_go_out_is_refused_under_its_field():
    for text, names in (("{{first_name}}", None), ("{{company}}", ANA), ("x" * 1531, ANA)):
        with pytest.raises(Invalid) as error:
            check_message("sms", text, names, 10, "message")
        assert list(error.value.fields) == ["message"]
    assert check_message("sms", "x" * 1530, None, 10, "text") == 10
    assert check_message("mms", "", None, 10, "text") == 1
    with pytest.raises(Invalid):
        check_message("mms", "x" * 1601, None, 10, "text")


def test_a_preview_offers_a_plainer_text():
    told = preview("“Hi”\u00a0{{first_name}}…", None)
    assert (told.encoding, told.parts) == ("UCS-2", 1)
    assert told.suggestion is not None
    assert (told.suggestion.text, told.suggestion.encoding) == ('"Hi" {{first_name}}...', "GSM-7")
    assert preview("Hi {{first_name}}", ANA).suggestion is None


def test_simplifying_keeps_what_has_no_plain_form():
    assert simplify("a\u200bb – c’s 😀 ç") == "ab - c's 😀 ç"
