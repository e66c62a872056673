"""Bodies of templates, and the types of text fields that may have placeholders."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, Field

from common.fields import Audit, Flag, RequestBody, bounded_text, clean_text, is_blank
from common.paging import Page, Paginated, Pagination
from scheduling.models import Template
from scheduling.templates.rules import find_unknown_placeholder


def _check_placeholders(text: str) -> str:
    fault = find_unknown_placeholder(text)
    if fault is not None:
        raise ValueError(fault)
    return text


def _check_not_blank(text: str) -> str:
    if is_blank(text):
        raise ValueError("This field may not be blank.")
    return text


# A text that was filled may have placeholders of any name, from a contact's fields. Who writes it back changes nothing.
ShownText = Annotated[str, AfterValidator(clean_text)]
AnyText = Annotated[ShownText, AfterValidator(_check_placeholders)]
Text = Annotated[AnyText, AfterValidator(_check_not_blank)]
if TYPE_CHECKING:
    Name = str
else:
    Name = bounded_text(200, min_length=1)


class TemplateCreate(RequestBody):
    """A new template, or all of one (PUT)."""

    name: Name
    text: Annotated[Text, Field(examples=["Hello {{first_name}}, see you tomorrow."])]
    is_active: Annotated[Flag, Field(description="false deletes the template, true restores it")] = True


class TemplateUpdate(RequestBody):
    """Changes of a template. Omitted fields stay; `is_active: true` restores a deleted template."""

    name: Name = ""
    text: Text = ""
    is_active: Annotated[Flag, Field(description="false deletes the template, true restores it")] = True


class TemplateFields(BaseModel):
    """The fields of a template before its audit fields."""

    id: int
    name: str
    text: str
    is_active: bool
    version: int


class TemplateOut(Audit, TemplateFields):
    """A template. Every update makes a new `version`; a message keeps the version it was made from."""


def render_template(template: Template) -> TemplateOut:
    """Return the answer of a template."""
    return TemplateOut(**asdict(template))


def render_templates(templates: Sequence[Template], total: int, page: Page) -> Paginated[TemplateOut]:
    """Return the answer of a page of templates."""
    results = [render_template(template) for template in templates]
    return Paginated(results=results, pagination=Pagination.of(page, total))
