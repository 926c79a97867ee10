"""What a test can make go wrong with the sandbox's gateway, and what it can see of it."""

from collections import Counter
from random import Random
from typing import Protocol

from attrs import define, field


class Line(Protocol):
    """A connection of the gateway."""

    @property
    def user_id(self) -> str | None:
        """Whose it is; `None`: it is not authenticated."""

    @property
    def waiting(self) -> int:
        """How many frames are still to be sent."""

    def drop(self, *, silently: bool) -> None:
        """End it without a CLOSE."""

    def flood(self) -> None:
        """Begin to send without end."""


@define(eq=False)
class Chance:
    """Whether something happens, drawn from a random generator of its own."""

    share: float
    random: Random = field(repr=False)

    def draw(self) -> bool:
        """Return whether it happens this time."""
        return self.random.random() < self.share


@define(eq=False)
class DoomedLines:
    """Which connections are dropped, and at which of their frames."""

    chance: Chance
    within: int
    silently: bool

    def draw(self) -> int | None:
        """Return at which frame a new connection is dropped, from 1; `None`: it is not."""
        # Both draws are made each time, so that a share changes nothing about which frame it is.
        drawn, frame = self.chance.draw(), self.chance.random.randint(1, self.within)
        return frame if drawn else None


@define(eq=False)
class Gateway:
    """The gateway of a sandbox: `sandbox.gateway`. Its faults stay until `clear`.

    A `share` is how likely something happens, between 0 and 1. Each kind of fault draws from its own random
    generator; with a `seed` the draws are the same in every run. Frames that answer the client
    (`authenticated`, `groupchat_subscribed`, `error`) are never doubled and never change places. A client for
    which more than 10,000 frames wait is dropped.
    """

    connects: int = field(default=0, init=False)
    """How many upgrades have been asked for so far, refused ones included."""
    lines: list[Line] = field(factory=list, init=False, repr=False)
    """The open connections, the oldest first; those that were dropped are none."""
    duplicates: Chance | None = field(default=None, init=False, repr=False)
    reordered: Chance | None = field(default=None, init=False, repr=False)
    doomed: DoomedLines | None = field(default=None, init=False, repr=False)
    seconds_late: float = field(default=0.0, init=False, repr=False)
    is_flooding: bool = field(default=False, init=False, repr=False)
    ignores_close: bool = field(default=False, init=False, repr=False)
    _refusal: int | None = field(default=None, init=False, repr=False)
    _refusals_left: int | None = field(default=None, init=False, repr=False)
    _closings_left: int | None = field(default=0, init=False, repr=False)
    _seeded: Counter[int | None] = field(factory=Counter, init=False, repr=False)

    def connected(self, user: str | None = None) -> int:
        """Return how many connections are authenticated now, of one user or of all."""
        ids = [line.user_id for line in self.lines]
        return len(ids) - ids.count(None) if user is None else ids.count(user)

    def waiting(self, user: str | None = None) -> int:
        """Return how many frames are still to be sent, to one user or to all."""
        return sum(line.waiting for line in self.lines if user is None or line.user_id == user)

    def drop(self, user: str | None = None, *, silently: bool = False) -> int:
        """Drop every connection, or those of one user, without a CLOSE; return how many there were.

        What was not sent yet is lost. With `silently` the TCP connection stays open, but nothing is read from
        it or written to it any more: neither the end of it (a FIN) nor a pong arrives at the client. After
        five minutes the sandbox ends such a connection.
        """
        dropped = [line for line in self.lines if user is None or line.user_id == user]
        for line in dropped:
            line.drop(silently=silently)
        return len(dropped)

    def drop_lines(
        self, share: float, *, within: int = 100, silently: bool = False, seed: int | None = None
    ) -> None:
        """Drop this share of the connections made from now on, each at a random one of its first frames.

        `within` says how many these are; that frame, and what waits behind it, is lost. `authenticated` is
        not counted.

        Raises:
            ValueError: a share that is not between 0 and 1, or `within` is below 1.
        """
        if within < 1:
            raise ValueError("within must be 1 or more")
        self.doomed = DoomedLines(self._chance(share, seed), within, silently)

    def duplicate(self, share: float, *, seed: int | None = None) -> None:
        """Send this share of the events twice.

        Raises:
            ValueError: a share that is not between 0 and 1.
        """
        self.duplicates = self._chance(share, seed)

    def reorder(self, share: float, *, seed: int | None = None) -> None:
        """Send this share of the events after the event that follows them, or half a second late.

        Raises:
            ValueError: a share that is not between 0 and 1.
        """
        self.reordered = self._chance(share, seed)

    def delay(self, seconds: float) -> None:
        """Send every frame so late, in the same order.

        Raises:
            ValueError: less than no seconds.
        """
        if not seconds >= 0:  # NaN is refused as well
            raise ValueError("the seconds must be 0 or more")
        self.seconds_late = seconds

    def flood(self) -> None:
        """Send presence without end over every connection, and answer no CLOSE."""
        self.is_flooding = True
        for line in self.lines:
            line.flood()

    def ignore_close(self) -> None:
        """Answer no CLOSE: the connection stays open until the client ends it."""
        self.ignores_close = True

    def close_at_once(self, *, times: int | None = None) -> None:
        """Accept the next `times` connections (`None`: all) and close them at once.

        Raises:
            ValueError: less than no times.
        """
        self._closings_left = _checked(times)

    def refuse(self, status: int, *, times: int | None = None) -> None:
        """Answer the next `times` upgrades (`None`: all) with this HTTP status.

        Raises:
            ValueError: it is no status that refuses, or less than no times.
        """
        if not 300 <= status <= 599:  # noqa: PLR2004 - HTTP
            raise ValueError("the status must be between 300 and 599")
        self._refusals_left = _checked(times)
        self._refusal = status

    def clear(self) -> None:
        """Take all faults away; what is dropped stays dropped."""
        self.duplicates = self.reordered = self.doomed = self._refusal = self._refusals_left = None
        self.is_flooding = self.ignores_close = False
        self.seconds_late, self._closings_left = 0.0, 0
        self._seeded.clear()

    def take_refusal(self) -> int | None:
        """Return the status with which an upgrade is refused, if it is."""
        if self._refusal is None or self._refusals_left == 0:
            return None
        if self._refusals_left is not None:
            self._refusals_left -= 1
        return self._refusal

    def take_closing(self) -> bool:
        """Return whether a connection is closed at once."""
        if self._closings_left == 0:
            return False
        if self._closings_left is not None:
            self._closings_left -= 1
        return True

    def _chance(self, share: float, seed: int | None) -> Chance:
        if not 0 <= share <= 1:  # NaN is refused as well
            raise ValueError("a share must be between 0 and 1")
        # With the bare seed, two faults would draw the same numbers, and choose the same frames.
        number = self._seeded[seed]
        self._seeded[seed] += 1
        return Chance(share, Random(None if seed is None else f"{seed}/{number}"))  # noqa: S311 - no secrets


def _checked(times: int | None) -> int | None:
    if times is not None and times < 0:
        raise ValueError("times must be 0 or more")
    return times
