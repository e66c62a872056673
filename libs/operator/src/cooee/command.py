"""What a command is, and what it returns."""

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cooee.errors import ExitCode
from cooee.stack import Stack


@dataclass(frozen=True)
class Report:
    """The result of a command: a document for --json, and the same as lines for a person."""

    document: Mapping[str, Any]
    lines: Sequence[str]
    code: ExitCode = ExitCode.OK


@dataclass(frozen=True)
class Command:
    """A command. Its description in --help is the docstring of `run`, with `effect` after the first line.

    A command that `changes` data takes --reason and --operator, and runs by `cooee.audit.run_audited`.
    """

    name: str
    summary: str
    run: Callable[[Stack, argparse.Namespace], Awaitable[Report]]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None
    changes: bool = False
    effect: str = ""


@dataclass(frozen=True)
class Group:
    """Commands about one subject, such as `cooee inbound list` and `cooee inbound match`."""

    name: str
    summary: str
    commands: tuple[Command, ...]
