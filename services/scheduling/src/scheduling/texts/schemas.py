"""Texts that several features take, and what one costs."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from common.fields import clean_text
from scheduling.texts.rules import find_unknown


def _known_placeholders(text: str) -> str:
    unknown = find_unknown(text)
    if unknown is not None:
        raise ValueError(
            f"Unknown placeholder {unknown[:60]}: use {{{{first_name}}}}, {{{{last_name}}}} or {{{{company}}}}."
        )
    return text


def _not_blank(text: str) -> str:
    if not text:
        raise ValueError("This field may not be blank.")
    return text


AnyText = Annotated[str, AfterValidator(clean_text), AfterValidator(_known_placeholders)]
Text = Annotated[AnyText, AfterValidator(_not_blank)]


class Cost(BaseModel):
    """A text and what it costs: `units` are septets (GSM-7) or 16-bit units (UCS-2)."""

    text: str
    encoding: str = Field(examples=["GSM-7", "UCS-2"])
    units: int
    parts: int


class Preview(Cost):
    """`suggestion`: the cleaned-up text, when cleaning changes it."""

    suggestion: Cost | None
