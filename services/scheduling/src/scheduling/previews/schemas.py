"""Bodies of the preview."""

from pydantic import BaseModel

from common.fields import Id
from scheduling.texts.service import AnyText


class PreviewRequest(BaseModel):
    """A message or a template, and whom it would go to."""

    message: AnyText | None = None
    template_id: Id | None = None
    contact_id: Id | None = None
