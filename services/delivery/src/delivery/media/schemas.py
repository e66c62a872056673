"""The answer to an upload."""

from pydantic import BaseModel, ConfigDict


class MediaOut(BaseModel):
    """A file that providers can fetch. `url` is the `media_url` of an MMS."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "url": "https://sms.example.com/media/5f0c…/6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c11.png",
                "file_id": "6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c11.png",
                "size": 20480,
                "content_type": "image/png",
            }
        }
    )

    url: str
    file_id: str
    size: int
    content_type: str
