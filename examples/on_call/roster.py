"""Who is on duty when; here in memory, in earnest the hospital's own system."""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from attrs import frozen

AMSTERDAM: Final = ZoneInfo("Europe/Amsterdam")


@frozen
class Person:
    """A member of the team."""

    id: str
    name: str


@frozen
class Roster:
    """The order in which people are called, by day and by night."""

    day: list[Person]
    night: list[Person]
    backup: str = "de achterwacht, 088 765 43 21"
    """Who is left when no one goes."""

    def on_duty(self, moment: datetime) -> list[Person]:
        """Return who is on duty at a moment, in the order in which they are called."""
        hour = moment.astimezone(AMSTERDAM).hour
        return [*(self.day if 8 <= hour < 20 else self.night)]  # noqa: PLR2004 - o'clock
