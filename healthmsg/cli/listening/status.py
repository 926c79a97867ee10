"""What a stream of events is doing, as lines for a person, only when that changes."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define, field

if TYPE_CHECKING:
    from healthmsg.gateway.stream import EventsState

# Seconds. How often it is looked at,
_CHECK_INTERVAL: Final = 0.25
# and how long it catches up after it has connected before that is worth a line.
_SHORTEST: Final = 2.0
_WORDS: Final = {
    "standing by": "Another process has the store: standing by to take over.",
    "connecting": "Connecting.",
    "waiting": "No connection: trying again.",
    "live": "Connected: events are shown as they come.",
}


class Stream(Protocol):
    """A stream of events."""

    @property
    def state(self) -> "EventsState":
        """What it is doing."""

    @property
    def behind(self) -> int:
        """How many chats are still being read."""


@define
class StatusLines:
    """Decides what is printed."""

    _said: str = field(default="", init=False)
    _began: float | None = field(default=None, init=False)
    """Since when chats are being read."""

    def line(self, now: float, state: str, behind: int) -> str | None:
        """Return what to print at this time, if anything."""
        is_catching_up = state == "catching up"
        if not is_catching_up or self._began is None:
            self._began = now if is_catching_up else None
        if state == self._said or (state not in _WORDS and not is_catching_up):
            return None
        # While it is connected, single chats are read again all the time: that is no news.
        if is_catching_up and (self._said == "live" or self._lasts(now) < _SHORTEST):
            return None
        if state == "connecting" and self._said == "waiting":
            return None  # each try would make two lines
        self._said = state
        return _catching_up(behind) if is_catching_up else _WORDS[state]

    def _lasts(self, now: float) -> float:
        return 0.0 if self._began is None else now - self._began


def _catching_up(behind: int) -> str:
    return f"Connected, catching up: {behind:,} {'chat' if behind == 1 else 'chats'}."


async def watch(stream: Stream, say: Callable[[str], None]) -> None:
    """Look at a stream until this is cancelled, and say what changes."""
    lines, loop = StatusLines(), asyncio.get_running_loop()
    while True:
        if (line := lines.line(loop.time(), stream.state.value, stream.behind)) is not None:
            say(line)
        await asyncio.sleep(_CHECK_INTERVAL)
