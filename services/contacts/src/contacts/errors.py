"""The errors of this service."""

from typing import ClassVar

from common.errors import Invalid, Unavailable


class PhoneExists(Invalid):
    """Another active contact of the organisation has this phone."""

    sentence: ClassVar[str] = "A contact with this phone number already exists."

    def __init__(self) -> None:
        super().__init__(fields={"phone": [self.sentence]})


class ContactErased(Invalid):
    default = "This contact was erased on request of the person. Add a new contact."


class NumberOptedOut(Invalid):
    """The owner of the number opted out. Only the owner, or a confirmed new consent, can opt in again."""

    def __init__(self) -> None:
        sentence = (
            "The owner of this number opted out with STOP or at the provider. The owner can send START. If the person"
            " consented again, send `confirm_opt_in`: true together with `opt_out`: false."
        )
        super().__init__(fields={"opt_out": [sentence]})


class NotCsv(Invalid):
    """The uploaded file cannot be read as a list of contacts."""

    def __init__(self, sentence: str) -> None:
        super().__init__(fields={"file": [sentence]})


class TooManyImports(Unavailable):
    """Many imports of the organisation wait for a worker."""

    default = "Many imports of your organisation are waiting. Try again when some of them have ended."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "60"})


class OrganisationClosed(Invalid):
    """The organisation was deleted in Clerk after its import was accepted."""

    default = "The organisation was closed."
