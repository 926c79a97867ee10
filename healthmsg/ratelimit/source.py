"""Where a limiter's slots come from, if others have a share in them: what a shared source must do.

The limiter knows one thing of slots: a *window* (`window.py`) that says whether one is free now, makes the
slot of a call, and takes it back at a moment by the local clock. All of that is synchronous: the hot path
asks no server. Alone, a process has the window that is `SlidingWindow` itself, with all slots in it. A shared
*source* has a window of its own kind, and fills and empties it while calls come and go:

- slots on *lease* (`leases/`): the window has as many as this process holds now. What it owes to others is
  taken out before the dispatcher sees it; when the lease is over none is free.
- slots granted *per call*: the window has those that the store has granted and that are not too old. What is
  not used in time goes back; when a call's slot comes back, the store learns in how many seconds that is.
"""

from collections.abc import Callable
from typing import Final, Literal, Protocol

from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import LimitStats, SlidingWindow, Slot

Fallback = Literal["stop", "divide"]
"""What a process does while the store is away: no calls, or its part of them."""
OTHER_TERMS: Final = (
    "another process shares this limit by other terms: all must have the same RateLimit. Give this limit"
    " another name, or stop the other processes first"
)


class StoreAwayError(Exception):
    """What the limit is shared over cannot be reached. Its text is a sentence that says why."""


class Feeds(Protocol):
    """What a source may ask of the limiter that takes slots from it."""

    def now(self) -> float:
        """Return the time by the event loop's clock, in seconds."""

    def wake(self) -> None:
        """Let the dispatcher look again: a slot came from outside, or the source cannot go on."""

    def waiting_in(self) -> tuple[int, int, int]:
        """Return how many calls wait before the catching up, in it, and in the background."""

    def hold_off(self, until: float) -> None:
        """Let calls before that moment go through the queue, which knows their priorities."""

    def pause_for_others(self, seconds: float, *, asked: bool) -> None:
        """Let no call leave for that long, since another process was refused; `asked`: by the service."""

    def fail_waiting(self, error: Callable[[], Exception]) -> None:
        """Raise an error in all who wait."""

    async def acquire(self, priority: Priority) -> Slot:
        """Wait for a slot, for the end of a long upload."""


class SharedSource(Protocol):
    """A source of slots that several processes share.

    A `Limiter` takes it by `use()`, and then calls `start()` as soon as it knows its event loop. The source
    owns what runs from then on, and ends it in `close()`. All methods but that one return at once and are
    called within the event loop.

    Its `window` is a `SlidingWindow`, or one that overrides `is_one_free`, `count_returned`, `next_due`,
    `take_back` and `make_slot` (the class of its slots, made when `free` has just become one less). It must
    see to these:

    - `is_one_free(now)` is asked before each call. Only what may be used at this very moment counts: look at
      the clock that goes on while the machine sleeps. `Slot.sent()`, called just before a call's bytes are
      written, returns `False` if the slot is not ours any more: then the call does not leave, and is tried
      again with another one.
    - `next_due()` is when to look again; `infinity` if only the store can say. What comes from the store
      before that is put into the window, followed by `Feeds.wake()`.
    - `Slot.sent`, `answered`, `abandoned` and `release_unused` are called as with any window. They end in
      `window.take_back(slot, due)`: `due` is by the local clock; what goes to a store is `due - now()`.
    - `bulk_from` spreads the calls of the background, if the source wants that.
    """

    @property
    def window(self) -> SlidingWindow:
        """The window from which the limiter takes slots; it is there after `attach`."""

    def attach(self, limiter: Feeds) -> None:
        """Take the limiter that this source feeds; called once, before `start`, perhaps without a loop."""

    def start(self) -> None:
        """Begin to get slots. The event loop runs."""

    def demand_changed(self) -> None:
        """Note that one more call waits: `Feeds.waiting_in()` says of which kind."""

    def paused(self, seconds: float, *, asked: bool) -> None:
        """Tell the others that this process was refused and pauses for that long."""

    def problem(self) -> StoreAwayError | None:
        """Return why no call can get a slot now or soon, if so. Waiting calls are failed by the source."""

    def stats(self) -> LimitStats:
        """Return how it stands."""

    async def close(self) -> None:
        """Return what is left to the store, and end all that runs. Cancelled, it ends all the same."""
