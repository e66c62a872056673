"""Request and response bodies of `/api/configs/`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.fields import RequestBody, bounded_text
from delivery.configs.rules import SPECS

_KNOWN_NAMES = Field(
    description="Known names: "
    + "; ".join(f"`{spec.name}` is {spec.meaning}" for spec in SPECS.values())
    + ". Other names are stored as they are."
)


class ConfigOut(BaseModel):
    """A setting of the organisation."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": 1, "name": "sms_limit", "value": "5000"}})

    id: int
    name: str
    value: str


class ConfigCreate(RequestBody):
    """A setting with its value, which is checked where the name is known."""

    name: Annotated[bounded_text(100, min_length=1), _KNOWN_NAMES]  # type: ignore[valid-type]
    value: bounded_text(1000)  # type: ignore[valid-type]


class ConfigUpdate(RequestBody):
    """The fields that change. A field that is not given stays as it is."""

    name: bounded_text(100, min_length=1) = None  # type: ignore[valid-type]
    value: bounded_text(1000) = None  # type: ignore[valid-type]
