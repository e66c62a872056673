"""Bodies of retries."""

from pydantic import BaseModel


class Retried(BaseModel):
    """The number of messages that are sent again."""

    retried: int
