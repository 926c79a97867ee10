"""The states of what is kept, as they stand in the tables."""

from enum import Enum


class State(Enum):
    """The state of a message."""

    WAITING = "waiting"
    SENDING = "sending"
    """Its call was made, or is about to be made."""
    DELIVERED = "delivered"
    NOT_SENT = "not sent"
    UNKNOWN = "unknown"
    PARKED = "parked"
    """An earlier run was given it and did not send it, and this run was not given it."""


class CampaignState(Enum):
    """Whether a campaign's messages are sent."""

    RUNNING = "running"
    PAUSED = "paused"
    """Nothing of it is begun. What is under way goes on to its end."""
    CANCELLED = "cancelled"
    """For good: what had not begun is not sent."""
