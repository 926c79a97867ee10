"""What there is to know of campaigns and of those who send them."""

from datetime import datetime
from typing import Final

from attrs import frozen

from healthmsg.bulk.preview import Problem
from healthmsg.codec import Model
from healthmsg.database.states import CampaignState
from healthmsg.errors import InvalidInputError
from healthmsg.validation import check_text

LEAST_WEIGHT: Final = 1
MOST_WEIGHT: Final = 100
_LONGEST_NAME: Final = 100
"""Characters."""


@frozen
class CampaignCounts(Model):
    """How many of a campaign's messages are in each state. Each message is in one of them."""

    waiting: int = 0
    """Will be sent as soon as it is their turn."""
    held: int = 0
    """Not sent while the campaign is paused, or not entered completely."""
    under_way: int = 0
    """Their call is being made, or what became of it is being found out."""
    delivered: int = 0
    not_sent: int = 0
    """Certainly not delivered, and will not be: refused, or cancelled before they had begun."""
    unknown: int = 0
    """Whether they were delivered could not be found out: a person decides (`healthmsg journal decide`)."""

    @property
    def messages(self) -> int:
        """All of them."""
        return self.waiting + self.held + self.under_way + self.delivered + self.not_sent + self.unknown

    @property
    def open(self) -> int:
        """Those to which something may still happen by itself."""
        return self.waiting + self.held + self.under_way


@frozen
class CampaignInfo(Model):
    """A campaign as the journal has it."""

    name: str
    state: CampaignState
    weight: int
    is_entered: bool
    """Whether everything that was to be added at first is there; before that, nothing is sent."""
    created_at: datetime
    updated_at: datetime
    """When its state or weight was changed last."""
    counts: CampaignCounts
    rate: float = 0.0
    """Messages delivered per second, over the last minute."""
    problem: str | None = None
    """Why messages that wait are not sent just now, as far as that is known."""


@frozen
class EntryReport(Model):
    """What became of messages that were given to be entered. Nothing of it was sent by that."""

    entered: int
    """Are new in the journal."""
    known: int
    """Were there already, in whatever state: they are not sent a second time."""
    refused: int
    """Cannot be sent, and are not in the journal."""
    problems: tuple[Problem, ...] = ()
    """Why, of the first 1,000 of those that were refused."""

    @property
    def messages(self) -> int:
        """How many were given."""
        return self.entered + self.known + self.refused


@frozen
class OthersOfCampaign(Model):
    """What would be sent of a campaign beside messages that are to be added to it."""

    recipients: int
    """Recipients of new ones that have another message of the campaign already."""
    left_over: int
    """Messages of an `add` that was cut off, which are not among these: sent once these are entered."""


@frozen
class Workforce(Model):
    """The workers that have been seen in the last half minute."""

    workers: int
    problems: tuple[str, ...] = ()
    """Why those wait that send nothing just now, each reason once."""


def check_name(value: object) -> str:
    """Return the name of a campaign.

    Raises:
        InvalidInputError: it is none: text of 1 to 100 characters that can be printed, without blanks around.
    """
    name = check_text(value, "a campaign's name")
    if not name or len(name) > _LONGEST_NAME or name != name.strip() or not name.isprintable():
        raise InvalidInputError(
            f"a campaign's name must be text of 1 to {_LONGEST_NAME} characters that can be printed, without"
            " blanks around it"
        )
    return name


def check_weight(value: object) -> int:
    """Return the weight of a campaign.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and LEAST_WEIGHT <= value <= MOST_WEIGHT:
        return value
    raise InvalidInputError(
        f"a campaign's weight must be a whole number from {LEAST_WEIGHT} to {MOST_WEIGHT}"
    )
