"""Bodies of retries."""

from pydantic import BaseModel


class Retried(BaseModel):
    """How many messages are sent again."""

    retried: int
