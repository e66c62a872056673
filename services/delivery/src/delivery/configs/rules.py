"""The configs that delivery knows: one specification each. Other names are stored without a check."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from common.fields import is_blank, place_zones
from common.sms import measure
from delivery.sender_ids.rules import read_sender_id
from delivery.settings import split_names

Chains = Mapping[str, Sequence[str]]  # format → the providers that this installation has for it
ValueT_co = TypeVar("ValueT_co", covariant=True)

DEFAULT_ZONE = "Australia/Adelaide"
UNLIMITED = "unlimited"
OFF = "off"
WHOLE_NUMBER = "[0-9]{1,15}"
OPTIONAL_KEYWORDS = frozenset({"CANCEL", "END"})
_MAX_REPLY_PARTS = 4


@dataclass(frozen=True, slots=True)
class ConfigSpec(Generic[ValueT_co]):
    """A config that delivery knows.

    `meaning` completes the sentence "`name` is …". `check` returns what is wrong with a new value, or None; it gets the
    provider chains of the installation. `parse` returns what a stored value means.
    """

    name: str
    meaning: str
    check: Callable[[str, Chains], str | None]
    parse: Callable[[str], ValueT_co]


@dataclass(frozen=True, slots=True)
class Routing:
    """What one organisation chose about routing: its provider chains by format, and its sender ID."""

    organisation_id: str
    chains: Mapping[str, Sequence[str]]
    sender_id: str | None = None


def _check_limit(value: str, _: Chains) -> str | None:
    if value == UNLIMITED or re.fullmatch(WHOLE_NUMBER, value):
        return None
    return f"Enter a whole number, or {UNLIMITED}."


def _parse_limit(value: str) -> int | None:
    return int(value) if re.fullmatch(WHOLE_NUMBER, value) else None


def _check_zone(value: str, _: Chains) -> str | None:
    if value in place_zones():
        return None
    return "Enter UTC or the IANA name of a place's time zone, for example Australia/Adelaide."


def _check_chain(message_format: str) -> Callable[[str, Chains], str | None]:
    def check(value: str, chains: Chains) -> str | None:
        enabled = chains[message_format]
        if set(split_names(value)) <= set(enabled):
            return None
        return f"Enter names of providers, separated by commas. Enabled are: {', '.join(enabled)}."

    return check


def _check_sender(value: str, _: Chains) -> str | None:
    if not value or read_sender_id(value) is not None:
        return None
    return "Enter an Australian mobile number, or 3 to 11 letters and digits with at least one letter."


def _check_keywords_off(value: str, _: Chains) -> str | None:
    if set(split_names(value.upper())) <= OPTIONAL_KEYWORDS:
        return None
    return "Only CANCEL and END can be switched off. Separate them by a comma."


def _parse_keywords_off(value: str) -> frozenset[str]:
    return frozenset(split_names(value.casefold()))


def _check_reply(value: str, _: Chains) -> str | None:
    if not is_blank(value) and measure(value).parts <= _MAX_REPLY_PARTS:
        return None
    return f"Enter a text of at most {_MAX_REPLY_PARTS} parts, or {OFF}."


def _parse_reply(value: str) -> str | None:
    return None if value.strip().lower() == OFF else value


SMS_LIMIT = ConfigSpec("sms_limit", "the monthly limit of SMS parts, or unlimited", _check_limit, _parse_limit)
MMS_LIMIT = ConfigSpec("mms_limit", "the monthly limit of MMS messages, or unlimited", _check_limit, _parse_limit)
TIMEZONE = ConfigSpec("timezone", "the IANA name of the organisation's time zone", _check_zone, str)
SMS_PROVIDERS = ConfigSpec(
    "sms_providers", "the providers of SMS, the preferred one first", _check_chain("sms"), split_names
)
MMS_PROVIDERS = ConfigSpec(
    "mms_providers", "the providers of MMS, the preferred one first", _check_chain("mms"), split_names
)
SENDER = ConfigSpec(
    "sender", "the sender ID of the organisation's messages, which the operator assigned", _check_sender, read_sender_id
)
STOP_WORDS_OFF = ConfigSpec(
    "stop_words_off", "those of CANCEL and END that do not opt out", _check_keywords_off, _parse_keywords_off
)
STOP_REPLY = ConfigSpec("stop_reply", "the auto-reply to STOP, or off", _check_reply, _parse_reply)
START_REPLY = ConfigSpec("start_reply", "the auto-reply to START, or off", _check_reply, _parse_reply)
HELP_REPLY = ConfigSpec("help_reply", "the auto-reply to HELP, or off", _check_reply, _parse_reply)

LIMITS = {"sms": SMS_LIMIT, "mms": MMS_LIMIT}
CHAINS = {"sms": SMS_PROVIDERS, "mms": MMS_PROVIDERS}
SPECS: dict[str, ConfigSpec[object]] = {
    spec.name: spec
    for spec in (
        *LIMITS.values(),
        TIMEZONE,
        *CHAINS.values(),
        SENDER,
        STOP_WORDS_OFF,
        STOP_REPLY,
        START_REPLY,
        HELP_REPLY,
    )
}


def check_value(name: str, value: str, chains: Chains) -> str | None:
    """Return what is wrong with the value of a config, or None. A name that delivery does not know takes any value."""
    spec = SPECS.get(name)
    return spec.check(value, chains) if spec is not None else None
