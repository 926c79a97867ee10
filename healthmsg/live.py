"""What a program sends over the gateway: that its user types, and is there. Messages go over REST alone.

Both are dropped, never queued: while there is no connection, and over the gateway's budget of 250 events a
minute [D].
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from attrs import frozen

from healthmsg.aio import AsyncOnly, start
from healthmsg.errors import ConfigurationError
from healthmsg.ids import ChatAddress
from healthmsg.validation import check_choice

Presence = Literal["online", "busy", "away", "offline"]
"""What a user can be [V]."""
PRESENCES: Final = ("online", "busy", "away", "offline")
# Seconds. How long others show it is not documented; the vendor's bot stops after half a second.
_REPEAT: Final = 4.0


@frozen
class EventsStats:
    """The figures of a stream of events, since it was opened."""

    handed_out: int
    """Events that the program got, repeated ones included."""
    frames: int
    """Frames that the gateway sent."""
    unreadable: int
    """Those among them that could not be read."""
    connects: int
    missed: int
    """Messages that no frame had brought, and that were found in a list."""
    late: int
    """Those among them that were found only by the audit."""
    dropped: int
    """Likes, typing and presence for which there was no room."""
    behind: int
    """Chats that are still being read."""


class Sender(Protocol):
    """A stream of events, and its connection. What sends returns whether it was sent."""

    @property
    def stats(self) -> Callable[[], EventsStats]:
        """Returns the stream's figures as of now."""

    def send_typing(self, chat: ChatAddress) -> bool:
        """Say that the user types."""

    def send_typing_stopped(self, chat: ChatAddress) -> bool:
        """Say that the user types no more."""

    def send_presence(self, status: Presence) -> bool:
        """Say whether the user is there."""


class Live:
    """The connection that one user of a client has, while a stream of events is open."""

    def __init__(self) -> None:
        self.sender: Sender | None = None

    def require(self) -> Sender:
        """Return the connection.

        Raises:
            ConfigurationError: no stream of events is open.
        """
        if self.sender is None:
            raise ConfigurationError(
                "typing and presence go over the gateway: open a stream with `client.events()` first"
            )
        return self.sender

    def stats(self) -> EventsStats | None:
        """Return the figures of the stream that is open; `None`: none is."""
        return None if self.sender is None else self.sender.stats()

    async def presence(self, status: Presence) -> bool:
        """Say whether the user is there."""
        check_choice(status, "status", PRESENCES)
        return self.require().send_presence(status)


class Typing(AsyncOnly):
    """Says that the user types in a chat, from entering until leaving it. Contract: `typing` [V]."""

    def __init__(self, live: Live, chat: ChatAddress) -> None:
        self._live = live
        self._chat = chat
        self._repeating: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Typing {self._chat.shown}>"

    async def __aenter__(self) -> Self:
        if self._chat.kind.is_auxiliary:
            raise ConfigurationError("the gateway knows no auxiliary ids: use the chat's own id")
        self._live.require().send_typing(self._chat)
        self._repeating = start(self._repeat(), name="healthmsg typing")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        repeating, self._repeating = self._repeating, None
        if repeating is not None:
            repeating.cancel()
        if self._live.sender is not None:
            self._live.sender.send_typing_stopped(self._chat)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(_REPEAT)
            if self._live.sender is not None:
                self._live.sender.send_typing(self._chat)
