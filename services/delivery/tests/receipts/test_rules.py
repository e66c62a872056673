"""Words, owners and spellings: pure rules."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from delivery.providers.base import InboundMessage
from delivery.receipts.rules import LOOK_FOR_S, next_look, spellings
from delivery.inbound.rules import Owner, choose_owner, read_keyword, read_words_off

AT = datetime(2026, 4, 4, 16, 30, tzinfo=UTC)


def inbound(text: str, keyword: Any = None) -> InboundMessage:
    return InboundMessage(id="1", phone="+61453000001", to="", text=text, received_at=AT, keyword=keyword)


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        *((word, "stop") for word in ("STOP", "stopall", "Stop all", "Unsubscribe", "OPTOUT", "opt-out", "Opt Out")),
        *((word, "stop") for word in ("END", "quit", "Cancel", "revoke", "REMOVE", " stop! ", "S.T.O.P.", "“Stop”")),
        *((word, "stop") for word in ("Stop 🙏", "ＳＴＯＰ", "stop\n")),
        *((word, "start") for word in ("start", "UNSTOP", "Start.")),
        *((word, "help") for word in ("help", "INFO?", "Help!!")),
        *(
            (word, None)
            for word in ("", "stop it", "please stop", "no info", "yes", "Re: move", "end of story", "starts")
        ),
    ],
)
def test_a_keyword_is_the_whole_message(text: str, keyword: str | None) -> None:
    assert read_keyword(inbound(text), frozenset(), has_stopped=False) == keyword


def test_yes_is_a_start_where_there_is_a_stop() -> None:
    assert read_keyword(inbound("Yes!"), frozenset(), has_stopped=True) == "start"


def test_words_can_be_switched_off_but_not_what_the_provider_acts_on() -> None:
    off = read_words_off("CANCEL, End")
    assert read_keyword(inbound("cancel"), off, has_stopped=False) is None
    assert read_keyword(inbound("quit"), off, has_stopped=False) == "stop"
    assert read_keyword(inbound("cancel", "stop"), off, has_stopped=False) == "stop"


def candidate(organisation: str, sender: str | None, contact: int = 1) -> Any:
    return SimpleNamespace(organisation_id=organisation, sender=sender, contact_id=contact, schedule_id=contact * 10)


OURS, THEIRS, INSTALLATION = "+61491570006", "+61491570156", "+61491570157"


@pytest.mark.parametrize(
    ("to", "candidates", "owners", "expected"),
    [
        # who wrote last from that number, however another wrote later from elsewhere
        (OURS, [candidate("b", THEIRS), candidate("a", OURS, 3)], {}, Owner("a", 3, 30)),
        # whose number it is, with what it wrote last, from there if it did
        (OURS, [candidate("b", None), candidate("a", None, 3)], {OURS: "a"}, Owner("a", 3, 30)),
        (OURS, [candidate("a", None), candidate("a", OURS, 3)], {OURS: "a"}, Owner("a", 3, 30)),
        (OURS, [candidate("b", None)], {OURS: "a"}, Owner("a")),
        (OURS, [], {OURS: "a"}, Owner("a")),
        # also after another wrote from it, whose it was before
        (OURS, [candidate("b", OURS), candidate("a", None, 3)], {OURS: "a"}, Owner("a", 3, 30)),
        (OURS, [candidate("b", OURS)], {OURS: "a"}, Owner("a")),
        # who wrote last at all
        ("Cooee", [candidate("b", None, 2), candidate("a", None)], {}, Owner("b", 2, 20)),
        # the installation's own number belongs to whoever wrote from it, whomever it was assigned to before
        (INSTALLATION, [candidate("b", None, 2)], {INSTALLATION: "a"}, Owner("b", 2, 20)),
        (INSTALLATION, [], {INSTALLATION: "a"}, None),
        (OURS, [], {}, None),
    ],
)
def test_whose_a_reply_is(to: str, candidates: list[Any], owners: Any, expected: Owner | None) -> None:
    assert choose_owner(to, candidates, owners, {INSTALLATION}) == expected


def test_an_id_is_looked_for_as_it_is_first() -> None:
    assert spellings("00aB1") == ["00aB1", "aB1", "ab1", "AB1"]
    assert spellings("12") == ["12"]
    assert spellings("000") == ["000"]
    assert spellings(None) == spellings("") == []


def test_looks_double_to_an_hour_and_end_after_three_days() -> None:
    assert [next_look(looks, AT, AT) for looks in (0, 1, 5, 12, 999)] == [1, 2, 32, 3600, 3600]
    assert next_look(3, AT, AT + timedelta(seconds=LOOK_FOR_S + 1)) is None
