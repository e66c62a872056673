"""The file of `--users`: which user of v1 is which user here."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from contacts.models import FoundMember
from cooee.errors import WrongUsage
from cooee.moving_in.source import Row

CLERK_ID = "clerk_id"
# The columns that can name a user of v1, with the field of the user that each is compared with.
NAMED_BY = {"v1_id": "id", "azure_id": "azure_id", "email": "email"}
_MOST_BYTES, _MOST_LINES, _SHOWN = 1_000_000, 10_000, 20


class UserLine(NamedTuple):
    """A line of the file. `named_by` is the column that names the user of v1, and `name` its cell."""

    line: int
    named_by: str
    name: str
    clerk_id: str


class _Problem(NamedTuple):
    line: int
    reason: str


def read_users(path: Path) -> list[UserLine]:
    """Read the lines of the file. Raises WrongUsage with the problems of its lines."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise WrongUsage(f"--users: {path} has more than {_MOST_BYTES:,} bytes")
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as error:
        raise WrongUsage(f"--users: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise WrongUsage(f"--users: {path} is no CSV file in UTF-8: {error}") from None
    _, heading = rows[0] if rows else (1, [])
    named_by = [name for name in NAMED_BY if name in heading]
    if len(named_by) != 1 or CLERK_ID not in heading or len(set(heading)) < len(heading):
        raise WrongUsage(
            f"--users: line 1 of {path} must name the columns: {CLERK_ID}, and one of {', '.join(NAMED_BY)}, once each"
        )
    lines = [(number, row) for number, row in rows[1:] if any(row)]
    if len(lines) > _MOST_LINES:
        raise WrongUsage(f"--users: {path} has more than {_MOST_LINES:,} lines")
    return _check_lines(path, heading, named_by[0], lines)


def _check_lines(
    path: Path, heading: Sequence[str], named_by: str, lines: Iterable[tuple[int, Sequence[str]]]
) -> list[UserLine]:
    found: dict[str, UserLine] = {}
    problems = []
    for number, row in lines:
        cells = dict(zip(heading, row, strict=False))
        name, clerk_id = _comparable(cells.get(named_by, ""), named_by), cells.get(CLERK_ID, "")
        if len(row) != len(heading):
            problems.append(_Problem(number, f"it has {len(row)} cells, and the heading {len(heading)}"))
        elif not name or not clerk_id:
            problems.append(_Problem(number, f"{CLERK_ID if name else named_by} is empty"))
        elif name in found:
            problems.append(_Problem(number, f"its {named_by} is in line {found[name].line}, too"))
        else:
            found[name] = UserLine(number, named_by, name, clerk_id)
    _raise(path, problems)
    return list(found.values())


def match_users(
    path: Path, lines: Sequence[UserLine], users: Iterable[Row], known: Mapping[str, FoundMember]
) -> dict[str, int]:
    """Return the ids here of the users of v1, by their ids there. Raises WrongUsage with the problems of the lines.

    `known` has the users here who are or were members of the organisation, by Clerk id.
    """
    by_name: dict[str, list[str]] = {}
    named_by = lines[0].named_by if lines else ""
    for user in users if lines else ():
        name = _comparable(str(user[NAMED_BY[named_by]] or ""), named_by)
        by_name.setdefault(name, []).append(str(user["id"]))
    found, problems = {}, []
    for line in lines:
        old_ids = by_name.get(line.name, [])
        if len(old_ids) != 1:
            number = "no user" if not old_ids else f"{len(old_ids)} users"
            problems.append(_Problem(line.line, f"v1 has {number} with this {line.named_by}"))
        elif line.clerk_id not in known:
            problems.append(_Problem(line.line, f"no user with this {CLERK_ID} is or was a member of the organisation"))
        else:
            found[old_ids[0]] = known[line.clerk_id].user_id
    _raise(path, problems)
    return found


def _comparable(name: str, named_by: str) -> str:
    return name.strip() if named_by == "v1_id" else name.strip().lower()


def _raise(path: Path, problems: Sequence[_Problem]) -> None:
    if not problems:
        return
    shown = [f"line {problem.line}: {problem.reason}" for problem in problems[:_SHOWN]]
    more = len(problems) - len(shown)
    raise WrongUsage(f"--users: {path}: {'; '.join(shown)}" + (f"; and {more:,} more" if more else ""))
