"""Types of arguments that several commands share. Their errors say what to enter."""

import argparse
import getpass
from datetime import UTC, datetime, timedelta

from contacts.operator_actions.rules import InvalidActionText, check_operator, check_reason

_LARGEST_ID = 2**63 - 1
_LARGEST_LIMIT = 1_000_000
_LONGEST_MINUTES = 5_256_000  # ten years


def read_positive(value: str) -> int:
    """Read an id or a limit: a whole number from 1 to the largest id of the database."""
    if not (value.isascii() and value.isdigit() and len(value) < 20 and 1 <= int(value) <= _LARGEST_ID):
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive whole number")
    return int(value)


def read_minutes(value: str) -> float:
    """Read a number of minutes, from 0 to ten years."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _LONGEST_MINUTES:  # false for nan, too
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of minutes from 0 to {_LONGEST_MINUTES}")
    return number


def read_since(value: str) -> datetime:
    """Read a time in ISO 8601, or an age such as `90m`, `6h`, `2d`."""
    symbols = {"m": "minutes", "h": "hours", "d": "days"}
    try:
        if value[:-1].isdecimal() and value[-1] in symbols:
            return datetime.now(UTC) - timedelta(**{symbols[value[-1]]: int(value[:-1])})
        moment = datetime.fromisoformat(value)
        # Without a zone it is UTC. The conversion fails for times that no other zone can have.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        examples = "2026-11-25T09:00Z, or 90m, 6h, 2d for a time ago"
        raise argparse.ArgumentTypeError(f"{value!r} is not a time: enter {examples}") from None


def read_limit(value: str) -> int:
    """Read how many rows to list, or which page of them: up to a million."""
    number = read_positive(value)
    if number > _LARGEST_LIMIT:
        raise argparse.ArgumentTypeError(f"{value!r} is more than {_LARGEST_LIMIT:,}")
    return number


def add_organisation(parser: argparse.ArgumentParser) -> None:
    """Add the organisation as the next argument."""
    parser.add_argument("organisation", help="the id of the organisation, org_…")


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add --limit."""
    parser.add_argument("--limit", type=read_limit, default=50, help="how many to list (50)")


def add_privacy(parser: argparse.ArgumentParser, *, texts: bool = True) -> None:
    """Add --show-phones, and --show-texts for a command that can show texts."""
    parser.add_argument("--show-phones", action="store_true", help="show phones in full; without it they are masked")
    if texts:
        parser.add_argument("--show-texts", action="store_true", help="show the texts of messages")


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Add what the audit of a changing command needs: --reason and --operator."""
    parser.add_argument("--reason", type=_read_reason, required=True, help="why, in 5 to 500 characters without phones")
    parser.add_argument(
        "--operator", type=_read_operator, default=_user(), help="who does it (the user of the operating system)"
    )


def _read_reason(value: str) -> str:
    try:
        return check_reason(value)
    except InvalidActionText as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _read_operator(value: str) -> str:
    try:
        return check_operator(value)
    except InvalidActionText as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return "unknown"
