"""What became of a call."""

from enum import Enum


class Outcome(Enum):
    """What became of a message, or of any call that changes something.

    There is no fourth possibility, and `UNKNOWN` is never reported as one of the other two.
    """

    DELIVERED = "delivered"
    """The service accepted it."""

    NOT_SENT = "not sent"
    """It certainly had no effect; sending it (again) is safe."""

    UNKNOWN = "unknown"
    """The line broke when it may already have been accepted; sending it again may send it twice."""
