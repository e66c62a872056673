"""Bodies of the preview of a text."""

from typing import Literal

from pydantic import BaseModel

from common.fields import Id, RequestBody
from common.sms import measure
from scheduling.templates.schemas import AnyText
from scheduling.texts.rules import simplify


class PreviewRequest(RequestBody):
    """A message or a template, and the contact that it would go to."""

    message: AnyText | None = None
    template_id: Id | None = None
    contact_id: Id | None = None


class Cost(BaseModel):
    """A text and its size. `units` are septets (GSM-7) or 16-bit units (UCS-2)."""

    text: str
    encoding: Literal["GSM-7", "UCS-2"]
    units: int
    parts: int


class Preview(Cost):
    """A text, its size, and as `suggestion` a plainer text if there is one."""

    suggestion: Cost | None


def render_preview(text: str) -> Preview:
    """Return the answer of a previewed text."""
    plain = simplify(text)
    return Preview(**_measure(text).model_dump(), suggestion=_measure(plain) if plain != text else None)


def _measure(text: str) -> Cost:
    size = measure(text)
    return Cost(text=text, encoding=size.encoding, units=size.units, parts=size.parts)
