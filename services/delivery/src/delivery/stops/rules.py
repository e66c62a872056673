"""When a number has stopped: of all words about it the newest counts, in whatever order they come."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

Source = Literal["reply", "provider", "confirmed"]


@dataclass(frozen=True, slots=True)
class Word:
    """Somebody said that a number (E.164) stops, or may be written to again. `message_id`: the one that said so."""

    organisation_id: str
    phone: str
    stopped: bool
    at: datetime
    source: Source
    message_id: int | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds for a number: since `at` nobody said anything else. `said_by` is the word that made it so."""

    stopped: bool
    at: datetime
    said_by: Word | None = None


def follow(standing: Standing, words: Iterable[Word]) -> tuple[Standing, list[Word]]:
    """What holds after these words, and those of them that changed it. Of two at the same moment (providers' clocks
    tell seconds) the one that was told later counts."""
    changing = []
    for word in sorted(words, key=lambda word: word.at):
        if word.at < standing.at:
            continue
        if word.stopped == standing.stopped:
            standing = replace(standing, at=word.at)
        else:
            changing.append(word)
            standing = Standing(word.stopped, word.at, word)
    return standing, changing
