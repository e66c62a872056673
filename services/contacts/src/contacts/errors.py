"""What can go wrong here, in domain words."""

from typing import ClassVar

from common.errors import Invalid


class PhoneTaken(Invalid):
    """Phones are unique within an organisation."""

    sentence: ClassVar[str] = "A contact with this phone number already exists."

    def __init__(self) -> None:
        super().__init__(fields={"phone": [self.sentence]})


class NumberOptedOut(Invalid):
    """Who said STOP, here or to the provider, is not opted in again by a tick in a form."""

    def __init__(self) -> None:
        sentence = (
            "This number has said STOP, to us or to the provider. Its owner can send START; or, when the person has"
            " consented again, confirm that with `confirm_opt_in`: true."
        )
        super().__init__(fields={"opt_out": [sentence]})


class NotCsv(Invalid):
    """The uploaded file cannot be read as a list of contacts."""

    def __init__(self, sentence: str) -> None:
        super().__init__(fields={"file": [sentence]})
