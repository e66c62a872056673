"""What can go wrong here, in domain words."""

from common.errors import Invalid


class PhoneTaken(Invalid):
    """Phones are unique within an organisation."""

    def __init__(self) -> None:
        super().__init__(fields={"phone": ["A contact with this phone number already exists."]})


class NotCsv(Invalid):
    """The uploaded file cannot be read as a list of contacts."""

    def __init__(self, sentence: str) -> None:
        super().__init__(fields={"file": [sentence]})
