"""Bodies of templates."""

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from common.fields import Audit, line
from scheduling.texts.service import Text

if TYPE_CHECKING:
    Name = str
else:
    Name = line(200, min_length=1)


class TemplateCreate(BaseModel):
    """A new template; a PUT too. `is_active` matters to a PUT only."""

    name: Name
    text: Annotated[Text, Field(examples=["Hello {{first_name}}, see you tomorrow."])]
    is_active: bool = True


class TemplateUpdate(BaseModel):
    """What is left out stays. `is_active: true` brings a deleted template back."""

    name: Name = ""
    text: Text = ""
    is_active: bool = True


class TemplateFields(BaseModel):
    """What a template shows beside who wrote it."""

    id: int
    name: str
    text: str
    is_active: bool
    version: int


class TemplateOut(Audit, TemplateFields):
    """Every update makes a new `version`; a message keeps the one it was made from."""
