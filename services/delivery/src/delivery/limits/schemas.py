"""What goes in and out at the configs' routes and at the internal ones of holds."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.fields import line


class ConfigOut(BaseModel):
    """A setting of the organisation."""

    model_config = ConfigDict(json_schema_extra={"example": {"id": 1, "name": "sms_limit", "value": "5000"}})

    id: int
    name: str
    value: str


class ConfigCreate(BaseModel):
    """Known names: `sms_limit` (parts a month), `mms_limit` (messages a month), each a whole number or `unlimited`;
    `timezone`, an IANA name; `stop_words_off`, those of CANCEL and END that do not opt out; `stop_reply`,
    `start_reply`, `help_reply`, what STOP, START and HELP are answered with, or `off`. Others are kept as they are."""

    name: line(100, min_length=1)  # type: ignore[valid-type]
    value: line(1000)  # type: ignore[valid-type]


class ConfigUpdate(BaseModel):
    """Only what is given changes."""

    name: line(100, min_length=1) = None  # type: ignore[valid-type]
    value: line(1000) = None  # type: ignore[valid-type]


class HoldIn(BaseModel):
    """Places that a send needs: parts of an SMS, messages of an MMS."""

    format: Literal["sms", "mms"]
    units: int = Field(ge=0, le=2**40)
    scheduled_time: AwareDatetime


class HoldOut(BaseModel):
    """What the limit leaves; null when there is none."""

    remaining: int | None


class LimitsOut(BaseModel):
    """An organisation's limits (null: none) and zone."""

    sms_limit: int | None
    mms_limit: int | None
    timezone: str
