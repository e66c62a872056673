"""Keywords, and the owner of an inbound message."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from delivery.configs.rules import STOP_WORDS_OFF
from delivery.inbound.rules import EarlierMessage, Owner, auto_reply_text, choose_owner, find_keyword
from delivery.providers.base import InboundMessage, Keyword

AT = datetime(2026, 4, 4, 16, 30, tzinfo=UTC)
OURS, THEIRS, DEFAULT = "+61491570006", "+61491570156", "+61491570157"


def inbound(text: str, keyword: Keyword | None = None) -> InboundMessage:
    return InboundMessage(id="1", phone="+61453000001", to="", text=text, received_at=AT, keyword=keyword)


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        *((text, "stop") for text in ("STOP", "stopall", "Stop all", "Unsubscribe", "OPTOUT", "opt-out", "Opt Out")),
        *((text, "stop") for text in ("END", "quit", "Cancel", "revoke", "REMOVE", " stop! ", "S.T.O.P.", "“Stop”")),
        *((text, "stop") for text in ("Stop 🙏", "ＳＴＯＰ", "stop\n")),
        *((text, "start") for text in ("start", "UNSTOP", "Start.")),
        *((text, "help") for text in ("help", "INFO?", "Help!!")),
        *(
            (text, None)
            for text in ("", "stop it", "please stop", "no info", "yes", "Re: move", "end of story", "starts")
        ),
    ],
)
def test_a_keyword_is_the_whole_message(text: str, keyword: Keyword | None) -> None:
    assert find_keyword(inbound(text), frozenset(), is_opted_out=False) == keyword


def test_yes_means_start_only_from_an_opted_out_number() -> None:
    assert find_keyword(inbound("Yes!"), frozenset(), is_opted_out=True) == "start"


def test_a_keyword_that_is_off_counts_only_if_the_provider_acts_on_it() -> None:
    off = STOP_WORDS_OFF.parse("CANCEL, End")
    assert find_keyword(inbound("cancel"), off, is_opted_out=False) is None
    assert find_keyword(inbound("quit"), off, is_opted_out=False) == "stop"
    assert find_keyword(inbound("cancel", "stop"), off, is_opted_out=False) == "stop"


def test_an_auto_reply_is_the_default_the_configured_text_or_off() -> None:
    default = auto_reply_text("help", {})
    assert default is not None
    assert "STOP" in default
    assert auto_reply_text("help", {"help_reply": "Call us."}) == "Call us."
    assert auto_reply_text("help", {"help_reply": " Off "}) is None


def earlier(organisation: str, sender_id: str | None, contact: int = 1) -> EarlierMessage:
    return EarlierMessage(
        phone="+61453000001",
        provider="twilio",
        organisation_id=organisation,
        sender_id=sender_id,
        contact_id=contact,
        schedule_id=contact * 10,
    )


@pytest.mark.parametrize(
    ("to", "candidates", "owners", "expected"),
    [
        # The last message from that number, although another organisation wrote later from another number.
        (OURS, [earlier("b", THEIRS), earlier("a", OURS, 3)], {}, Owner("a", 3, 30)),
        # The organisation that owns the number, with its last message, from there if there is one.
        (OURS, [earlier("b", None), earlier("a", None, 3)], {OURS: "a"}, Owner("a", 3, 30)),
        (OURS, [earlier("a", None), earlier("a", OURS, 3)], {OURS: "a"}, Owner("a", 3, 30)),
        (OURS, [earlier("b", None)], {OURS: "a"}, Owner("a")),
        (OURS, [], {OURS: "a"}, Owner("a")),
        # The same although the former owner of the number wrote from it.
        (OURS, [earlier("b", OURS), earlier("a", None, 3)], {OURS: "a"}, Owner("a", 3, 30)),
        (OURS, [earlier("b", OURS)], {OURS: "a"}, Owner("a")),
        # The last message from any number.
        ("Cooee", [earlier("b", None, 2), earlier("a", None)], {}, Owner("b", 2, 20)),
        # No organisation owns the provider's default sender ID, even if it was assigned before.
        (DEFAULT, [earlier("b", None, 2)], {DEFAULT: "a"}, Owner("b", 2, 20)),
        (DEFAULT, [], {DEFAULT: "a"}, None),
        (OURS, [], {}, None),
    ],
)
def test_an_inbound_message_finds_its_owner(
    to: str, candidates: list[EarlierMessage], owners: Mapping[str, str], expected: Owner | None
) -> None:
    assert choose_owner(to, candidates, owners, {DEFAULT}) == expected
