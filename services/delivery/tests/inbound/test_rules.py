"""Keywords, sender IDs, and the organisations of an inbound message."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from delivery.configs.rules import STOP_WORDS_OFF
from delivery.inbound.rules import (
    EarlierMessage,
    InboundPolicy,
    OwnedMessage,
    Owner,
    ReceivedMessage,
    auto_reply_text,
    choose_owners,
    find_keyword,
    sender_key,
)
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


def earlier(organisation: str, sender_id: str | None, contact: int = 1, provider: str = "twilio") -> EarlierMessage:
    return EarlierMessage(
        provider=provider,
        organisation_id=organisation,
        sender_id=sender_id,
        contact_id=contact,
        schedule_id=contact * 10,
    )


def received(to: str, provider: str = "twilio") -> ReceivedMessage:
    return ReceivedMessage(
        event_id=1,
        provider=provider,
        fingerprint=b"1",
        message=InboundMessage(id="1", phone="+61453000001", to=to, text="Stop", received_at=AT),
        answered_id=None,
        arrived_at=AT,
        request_id="",
    )


A, B = Owner("a", 3, 30), Owner("b", 1, 10)


@pytest.mark.parametrize(
    ("to", "candidates", "assigned", "expected"),
    [
        # The last message from that number, although another organisation wrote later from another number.
        (OURS, [earlier("b", THEIRS), earlier("a", OURS, 3)], {}, [A]),
        # The organisation that owns the number, with its last message, from there if there is one.
        (OURS, [earlier("b", THEIRS), earlier("a", DEFAULT, 3)], {OURS: "a"}, [A]),
        (OURS, [earlier("a", DEFAULT), earlier("a", OURS, 3)], {OURS: "a"}, [A]),
        (OURS, [earlier("b", DEFAULT)], {OURS: "a"}, [Owner("a")]),
        (OURS, [], {OURS: "a"}, [Owner("a")]),
        # The same although the former owner of the number wrote from it. A STOP counts for both.
        (OURS, [earlier("b", OURS), earlier("a", DEFAULT, 3)], {OURS: "a"}, [A, B]),
        (OURS, [earlier("b", OURS)], {OURS: "a"}, [Owner("a"), B]),
        # A number that the provider chose for a message, or else the last message from any number.
        (OURS, [earlier("b", THEIRS), earlier("a", None, 3)], {}, [A]),
        ("", [earlier("b", THEIRS), earlier("a", DEFAULT, 3)], {}, [B]),
        # No organisation owns the default sender ID, even if it was assigned before. A STOP counts for all.
        (DEFAULT, [earlier("b", DEFAULT), earlier("a", DEFAULT, 3)], {DEFAULT: "c"}, [B, A]),
        (DEFAULT, [earlier("b", DEFAULT), earlier("b", DEFAULT, 3, "aws")], {}, [B]),
        (DEFAULT, [], {DEFAULT: "a"}, []),
        (OURS, [], {}, []),
        # Through another provider the sender ID must be the same one.
        (OURS, [earlier("a", OURS, 3, "aws")], {}, [A]),
        (OURS, [earlier("b", THEIRS, provider="aws")], {}, []),
        (OURS, [earlier("b", None, provider="aws")], {}, []),
        ("", [earlier("b", None, provider="aws")], {}, []),
        (OURS, [earlier("b", THEIRS), earlier("a", OURS, 3, "aws")], {}, [A]),
    ],
)
def test_an_inbound_message_finds_its_organisations(
    to: str, candidates: list[EarlierMessage], assigned: Mapping[str, str], expected: list[Owner]
) -> None:
    policy = InboundPolicy(default_sender_ids=frozenset({DEFAULT}))
    assert choose_owners(received(to), None, candidates, policy.assigned_to(to, assigned)) == expected


def test_the_answered_message_decides_and_a_stop_counts_for_the_sender_id_too() -> None:
    answered = Owner("c", 7, 70)
    others = [earlier("b", THEIRS), earlier("a", OURS, 3)]
    assert choose_owners(received(OURS), answered, others, None) == [answered, A]
    assert choose_owners(received(OURS), answered, others, "d") == [answered, Owner("d"), A]
    assert choose_owners(received(""), answered, others, None) == [answered]


@pytest.mark.parametrize(
    ("spellings", "key"),
    [
        (("+61491570006", "61491570006", "0491570006", "491570006", "0491 570 006", "(0491) 570-006"), OURS),
        (("+61281234567", "61281234567", "0281234567", "(02) 8123 4567"), "+61281234567"),
        (("+14155550100", "14155550100", "+1 (415) 555-0100"), "+14155550100"),
        (("1900", "19 00"), "1900"),
        (("Fern", "FERN", " fern "), "fern"),
        (("",), ""),
    ],
)
def test_a_sender_id_is_compared_in_any_spelling(spellings: tuple[str, ...], key: str) -> None:
    assert {sender_key(spelling) for spelling in spellings} == {key}


def test_a_copy_of_a_stop_shows_nothing_but_the_keyword() -> None:
    for text, shown in (("Stop.", "Stop."), ("Leave Ana alone", "STOP")):
        message = InboundMessage(
            id="1", phone="", to="", text=text, received_at=AT, keyword="stop", media_urls=("https://example.com/a",)
        )
        copied = replace(received(OURS), message=message)
        copy = OwnedMessage(id=1, received=copied, owner=A, keyword="stop", is_copy=True)
        assert (copy.text, copy.media_urls) == (shown, ())
        assert replace(copy, is_copy=False).text == text
