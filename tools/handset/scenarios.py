"""Numbers that misbehave: the 30 mobiles that ACMA keeps for fiction, and no others.

Every other number is accepted. How a behaviour looks on the wire is in each vendor's file. What acts on the whole
request (everything but accept, refuse and block) acts on all messages of a batch that holds such a number.
"""

from enum import Enum, auto

SLOW_S = 4.0
RETRY_AFTER_S = 1
REFUSALS_BEFORE_ACCEPT = 2


class Behaviour(Enum):
    """What happens to a message for the number."""

    ACCEPT = auto()
    # One message is refused for good, the rest of its batch is not touched.
    BLOCK = auto()  # the recipient has unsubscribed
    REFUSE_NUMBER = auto()
    REFUSE_SENDER = auto()
    REFUSE_CONTENT = auto()
    # The request is refused and nothing taken.
    THROTTLE = auto()  # 429 with Retry-After, always
    THROTTLE_TWICE = auto()  # 429, twice per number and reference, then accepted
    BUSY_TWICE = auto()  # 503 with Retry-After, twice, then accepted
    FAIL_ONCE = auto()  # 500 without a usable body, once, then accepted
    NO_CREDIT = auto()  # the account's fault
    # The request is taken, and its sender does not hear of it in time. A repetition under its key is answered.
    NEVER_ANSWER = auto()
    DROP = auto()  # the connection is reset
    SLOW = auto()  # answered after SLOW_S


SCENARIOS: dict[str, Behaviour] = {
    "+61491570006": Behaviour.ACCEPT,
    "+61491570110": Behaviour.ACCEPT,
    "+61491570156": Behaviour.BLOCK,
    "+61491570157": Behaviour.REFUSE_NUMBER,
    "+61491570158": Behaviour.REFUSE_SENDER,
    "+61491570159": Behaviour.REFUSE_CONTENT,
    "+61491570313": Behaviour.THROTTLE_TWICE,
    "+61491570737": Behaviour.BUSY_TWICE,
    "+61491571266": Behaviour.FAIL_ONCE,
    "+61491571491": Behaviour.NEVER_ANSWER,
    "+61491571804": Behaviour.DROP,
    "+61491572549": Behaviour.SLOW,
    "+61491572665": Behaviour.THROTTLE,
    "+61491572983": Behaviour.NO_CREDIT,
    "+61491573087": Behaviour.ACCEPT,
    "+61491573770": Behaviour.ACCEPT,
    "+61491574118": Behaviour.ACCEPT,
    "+61491574632": Behaviour.ACCEPT,
    "+61491575254": Behaviour.ACCEPT,
    "+61491575789": Behaviour.ACCEPT,
    "+61491576398": Behaviour.ACCEPT,
    "+61491576801": Behaviour.ACCEPT,
    "+61491577426": Behaviour.ACCEPT,
    "+61491577644": Behaviour.ACCEPT,
    "+61491578148": Behaviour.ACCEPT,
    "+61491578888": Behaviour.ACCEPT,
    "+61491578957": Behaviour.ACCEPT,
    "+61491579212": Behaviour.ACCEPT,
    "+61491579455": Behaviour.ACCEPT,
    "+61491579760": Behaviour.ACCEPT,
}
