"""The scenario numbers: the 30 mobile numbers that ACMA reserves for fiction each have a behaviour.

Messages to other numbers are accepted and delivered. Each provider's file has the wire format of a behaviour. A
behaviour of the whole request (throttled, busy, failed, no credit, not answered, dropped, slow) applies to all messages
of a request with such a number.
"""

from enum import Enum
from typing import NamedTuple

SLOW_S = 4.0
RETRY_AFTER_S = 1
REFUSALS_BEFORE_ACCEPT = 2
SENT_AFTER_S = 0.3
FINAL_AFTER_S = 1.0
LATE_AFTER_S = 30.0


class Behaviour(Enum):
    """The behaviour for a number. The value describes it to people."""

    ACCEPT = "accepted and delivered"
    # One message is refused permanently. The rest of its request is accepted, but MessageMedia refuses all of it.
    BLOCK = "refused: the recipient has unsubscribed (MessageMedia: accepted, then rejected with 302)"
    REFUSE_NUMBER = "refused: the number is not valid"
    REFUSE_SENDER = "refused: the account may not use the sender ID"
    REFUSE_CONTENT = "refused: the text is not permitted"
    # The whole request is refused.
    THROTTLE = "429, always"
    THROTTLE_TWICE = "429 twice, then accepted"
    BUSY_TWICE = "503 twice, then accepted"
    FAIL_ONCE = "500 once, then accepted"
    NO_CREDIT = "refused: the account has no credit"
    # The request is accepted, but the answer does not arrive in time. A repeated request with its key is answered.
    NEVER_ANSWER = "accepted, and the request is never answered"
    DROP = "accepted, and the connection is reset"
    SLOW = "accepted, answered after 4 s"
    # The request is accepted, and the receipts vary.
    UNDELIVERED = "sent, then not delivered"
    UNKNOWN_NUMBER = "sent, then no such subscriber"
    EXPIRE = "sent, then expired"
    NETWORK_BLOCK = "sent, then blocked by the carrier"
    FILTER = "sent, then filtered as spam"
    PART_FAILS = "the last part fails, the others are delivered (other providers than Mobile Message: not delivered)"
    NO_RECEIPT = "accepted, and no receipt is sent"
    LATE = "sent, delivered after 30 s"
    EARLY = "the receipts are sent before the answer to the request"
    TWICE = "each receipt is sent twice"
    OUT_OF_ORDER = "the receipt delivered is sent before sent"
    CORRECTED = "not delivered, then corrected to delivered"
    MANGLED = "delivered, with changed ids in the receipt"
    FORGED = "only a receipt of a failure with a wrong signature"


class Step(NamedTuple):
    """One receipt of a message. `mangled` changes the spelling of its ids, `forged` gives it a wrong signature."""

    after_s: float
    status: str
    mangled: bool = False
    forged: bool = False


_SENT = Step(SENT_AFTER_S, "sent")
_DELIVERED = Step(FINAL_AFTER_S, "delivered")
RECEIPTS: dict[Behaviour, tuple[Step, ...]] = {
    Behaviour.UNDELIVERED: (_SENT, Step(FINAL_AFTER_S, "undelivered")),
    Behaviour.UNKNOWN_NUMBER: (_SENT, Step(FINAL_AFTER_S, "unknown_number")),
    Behaviour.EXPIRE: (_SENT, Step(FINAL_AFTER_S, "expired")),
    Behaviour.NETWORK_BLOCK: (_SENT, Step(FINAL_AFTER_S, "blocked")),
    Behaviour.FILTER: (_SENT, Step(FINAL_AFTER_S, "filtered")),
    Behaviour.PART_FAILS: (_SENT, Step(FINAL_AFTER_S, "part_failed")),
    Behaviour.NO_RECEIPT: (),
    Behaviour.LATE: (_SENT, Step(LATE_AFTER_S, "delivered")),
    Behaviour.EARLY: (Step(0.0, "sent"), Step(0.0, "delivered")),
    Behaviour.TWICE: (_SENT, _SENT, _DELIVERED, _DELIVERED),
    Behaviour.OUT_OF_ORDER: (Step(SENT_AFTER_S, "delivered"), Step(FINAL_AFTER_S, "sent")),
    Behaviour.CORRECTED: (_SENT, Step(FINAL_AFTER_S, "undelivered"), Step(2 * FINAL_AFTER_S, "delivered")),
    Behaviour.MANGLED: (_SENT, Step(FINAL_AFTER_S, "delivered", mangled=True)),
    Behaviour.FORGED: (Step(SENT_AFTER_S, "undelivered", forged=True),),
}
USUAL_RECEIPTS = (_SENT, _DELIVERED)

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
    "+61491573087": Behaviour.UNDELIVERED,
    "+61491573770": Behaviour.UNKNOWN_NUMBER,
    "+61491574118": Behaviour.EXPIRE,
    "+61491574632": Behaviour.NETWORK_BLOCK,
    "+61491575254": Behaviour.FILTER,
    "+61491575789": Behaviour.PART_FAILS,
    "+61491576398": Behaviour.NO_RECEIPT,
    "+61491576801": Behaviour.LATE,
    "+61491577426": Behaviour.EARLY,
    "+61491577644": Behaviour.TWICE,
    "+61491578148": Behaviour.OUT_OF_ORDER,
    "+61491578888": Behaviour.CORRECTED,
    "+61491578957": Behaviour.MANGLED,
    "+61491579212": Behaviour.FORGED,
    "+61491579455": Behaviour.ACCEPT,
    "+61491579760": Behaviour.ACCEPT,
}


def behaviour_for(phone: str) -> Behaviour:
    """Return the behaviour for a number in E.164 format."""
    return SCENARIOS.get(phone, Behaviour.ACCEPT)
