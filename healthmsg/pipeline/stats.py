"""What a client has done so far, in figures."""

from attrs import define, frozen


@frozen
class Stats:
    """The figures of a client and all its views together, at one moment.

    They count tries, not calls: each repetition and each token call is one more. What can be told of single
    tries is what `on_call` receives.
    """

    calls: int
    """Tries begun since the client was made."""
    retries: int
    """Those among them that repeated a try that had failed."""
    rate_limited: int
    """429s received [D]: over the limit, or over a user's quota."""
    waited: float
    """Seconds that the tries have waited for the limit, all added up; calls wait side by side."""
    in_flight: int
    """Tries under way now: let go by the limit, not answered yet. A download is answered when it begins."""
    queued: int
    """Calls that wait for the limit now; where clients share a limiter, those of all of them."""


@define(eq=False)
class Counters:
    """The same as it is being counted, by all record steps of a client."""

    calls: int = 0
    retries: int = 0
    rate_limited: int = 0
    waited: float = 0.0
    in_flight: int = 0

    def stats(self, *, queued: int) -> Stats:
        """Give the figures of this moment."""
        return Stats(self.calls, self.retries, self.rate_limited, self.waited, self.in_flight, queued)
