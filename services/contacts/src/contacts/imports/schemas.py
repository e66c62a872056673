"""The options and the response body of an import."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a file is imported.

    `dry_run` writes nothing. `group_id` makes the contacts members of a group. `update_existing` changes contacts that
    exist instead of refusing their rows.
    """

    dry_run: bool = False
    group_id: int | None = None
    update_existing: bool = False


class ImportProblem(BaseModel):
    """A cell because of which its row was not imported."""

    model_config = ConfigDict(from_attributes=True)

    row: int = Field(description="number of the row in the spreadsheet; the header is row 1")
    column: str = Field(description="field of the cell; empty when the whole row could not be read")
    value: str
    error: str


class ImportOut(BaseModel):
    """The result of an import. `errors` has the first 1,000 errors."""

    total: int = Field(description="rows that are not blank, without the header")
    imported: int = Field(description="contacts that were added or restored")
    updated: int | None = Field(None, description="contacts that were changed; only with on_duplicate=update")
    failed: int = Field(description="rows that were not imported")
    errors: list[ImportProblem]
