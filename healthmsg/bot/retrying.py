"""How often a handler that failed is called again, and what happens after that."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from attrs import field, frozen

from healthmsg.bot.signals import LONGEST
from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.validation import check_count

_MOST_DOUBLINGS: Final = 30


def _not_negative(_: object, __: object, value: int) -> None:
    try:
        check_count(value, "times")
    except InvalidInputError as error:
        problem = str(error)
    else:
        return
    raise ConfigurationError(problem)


def _positive(_: object, attribute: object, value: timedelta) -> None:
    if not isinstance(value, timedelta) or value <= timedelta():
        name = getattr(attribute, "name", "")
        raise ConfigurationError(
            f"{name} must be a timedelta that is more than nothing: timedelta(seconds=5)"
        )
    if value > LONGEST:
        name = getattr(attribute, "name", "")
        raise ConfigurationError(f"{name} can be {LONGEST.days} days at most: the event's chat waits so long")


@frozen
class Retry:
    """How often an event is handled again when its handler failed; its chat waits meanwhile.

    It is handled `times` times more. Each wait is drawn at random between nothing and a bound, which is
    `first` and then doubles each time, up to `longest`. After that the event is parked: it is left to a
    person, and its chat goes on. Starts that ended with the process count too. No wait is over 366 days.

    Raises:
        ConfigurationError: a number or a time that cannot be right.
    """

    times: int = field(default=3, validator=_not_negative)
    first: timedelta = field(default=timedelta(seconds=5), validator=_positive)
    longest: timedelta = field(default=timedelta(minutes=10), validator=_positive)

    def wait(self, attempt: int, random: Callable[[], float]) -> timedelta | None:
        """Return how long to wait after a start that failed, counted from 1; `None`: no further one.

        *random* returns a number from 0 to 1.
        """
        if attempt > self.times:
            return None
        doublings = min(max(attempt - 1, 0), _MOST_DOUBLINGS)
        # In seconds: a timedelta that is doubled so often may go beyond what one can be.
        seconds = min(self.longest.total_seconds(), self.first.total_seconds() * (1 << doublings))
        return timedelta(seconds=seconds * random())
