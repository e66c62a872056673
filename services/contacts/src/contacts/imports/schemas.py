"""The options of an import, its report, and its state as the API shows it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from common.fields import Time, one_name, show_time
from contacts.models import ImportRow, ImportStatus

if TYPE_CHECKING:
    OnDuplicate = str | None
else:
    OnDuplicate = one_name("update")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a file is imported.

    `dry_run` writes no contact. `group_id` makes the contacts members of a group. `update_existing` changes contacts
    that exist instead of refusing their rows.
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


class ImportReport(BaseModel):
    """The result of an import. `errors` has the first 1,000 errors."""

    total: int = Field(description="rows that are not blank, without the header")
    imported: int = Field(description="contacts that were added or restored")
    updated: int | None = Field(None, description="contacts that were changed; only with on_duplicate=update")
    failed: int = Field(description="rows that were neither imported nor updated")
    errors: list[ImportProblem]
    ignored_columns: list[str] = Field(description="columns that are no field of a contact")
    encoding: str = Field(description="how the file was read: utf-8, utf-16 or windows-1252")


class ImportOut(BaseModel):
    """The state of an import. In a list, a report has its first 10 errors."""

    id: int
    status: ImportStatus
    rows_read: int = Field(description="rows that were read until now")
    rows_total: int | None = Field(description="rows of the file; null until they were counted")
    report: ImportReport | None = Field(description="null until the import is done")
    error: str | None = Field(description="why the import failed; nothing of a failed import was written")
    file_name: str
    dry_run: bool
    created_at: Time


def render(row: ImportRow) -> dict[str, Any]:
    """Return the import as ImportOut, with all errors if the row has them."""
    report = row.report
    if report is not None and row.more_errors is not None:
        report = {**report, "errors": report["errors"] + row.more_errors}
    return {
        "id": row.id,
        "status": row.status,
        "rows_read": row.rows_read,
        "rows_total": row.rows_total,
        "report": report,
        "error": row.error,
        "file_name": row.file_name,
        "dry_run": row.dry_run,
        "created_at": show_time(row.created_at),
    }
