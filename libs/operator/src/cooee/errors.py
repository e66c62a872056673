"""Exit codes, and why a command could not do what was asked."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes, from which a script knows what happened. `MEANINGS` explains each."""

    OK = 0
    FOUND = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    REFUSED = 5
    SETTINGS = 6
    INTERNAL = 70
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "all is well, or the command is done",
    ExitCode.FOUND: "something is wrong: a service is unavailable, messages are stuck, dead letters are new, …",
    ExitCode.USAGE: "wrong usage: the command line is wrong, and nothing was done",
    ExitCode.UNREACHABLE: "a database, the gateway or a provider cannot be reached",
    ExitCode.NOT_FOUND: "what the command line names does not exist, such as a message or an organisation",
    ExitCode.REFUSED: "refused, because it contradicts what is stored",
    ExitCode.SETTINGS: "a setting of the environment is missing or invalid",
    ExitCode.INTERNAL: "an error of cooee itself; --debug prints where",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}


class CommandError(RuntimeError):
    """A command cannot do what was asked. The message says what is wrong and what to do."""

    code = ExitCode.INTERNAL


class WrongUsage(CommandError):
    """The command line is wrong. Nothing was done."""

    code = ExitCode.USAGE


class Unreachable(CommandError):
    """A database, the gateway or a provider does not answer."""

    code = ExitCode.UNREACHABLE


class NotFound(CommandError):
    """What the command line names does not exist."""

    code = ExitCode.NOT_FOUND


class Refused(CommandError):
    """The request contradicts what is stored."""

    code = ExitCode.REFUSED


class WrongSettings(CommandError):
    """A setting of the environment is missing or invalid."""

    code = ExitCode.SETTINGS
