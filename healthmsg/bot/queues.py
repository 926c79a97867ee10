"""What of each chat is in memory, and which one is next. No I/O, no clock: see `work.py`."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Final

from attrs import define, field, frozen

from healthmsg.bot.signals import LONGEST
from healthmsg.bot.store.records import Waiting
from healthmsg.events import Event
from healthmsg.gateway.inbox.event_rows import chat_of

MOST: Final = 1000
"""Events in memory."""
LEAST_ROOM: Final = MOST // 4
"""As long as there is less, nothing more is read."""
CHATS_AT_ONCE: Final = 64
MOST_OF_A_CHAT: Final = (MOST - LEAST_ROOM) // CHATS_AT_ONCE
"""Of one chat: long queues, even of all that are busy, must not keep the others out. The rest of each stays
on the disk."""
_MOST_PASSING: Final = 3
"""Events of a chat that keep what comes at most once from being handled: it would come late."""
_NO_CHAT: Final = "#"


@frozen
class Passing:
    """An event that comes at most once: it is not stored, and dropped where there is no room."""

    event: Event


Item = Waiting | Passing


Next = tuple[str, Item]
"""What is to be handled now, behind the key of its chat, which is busy with it until `ChatQueues.done`."""


@frozen
class Place:
    """Where on the disk the rest of a chat is."""

    chat: str = field(repr=False)
    after: int
    until: int


@define(eq=False)
class _Chat:
    queue: list[Item] = field(factory=list)
    """It is short, see `MOST_OF_A_CHAT`: a deque would be slower."""
    is_running: bool = False
    is_on_disk: bool = False
    """Whether there is more of it on the disk that was read past."""
    not_before: datetime | None = None

    @property
    def is_idle(self) -> bool:
        return not (self.queue or self.is_running)


@define(eq=False)
class ChatQueues:
    """Which events of which chats are in memory, in the order of each chat.

    An event without a chat is a chat of its own; so are those of a timer that has none. A chat that waits
    until a moment has nothing in memory. What was read past, since its chat had enough in memory, is read
    again by the chat's name when that is empty.
    """

    held: int = field(default=0, init=False)
    """Events that wait in memory."""
    to_read: dict[str, None] = field(factory=dict, init=False, repr=False)
    """Chats of which there is nothing in memory, and more on the disk."""
    dropped: int = field(default=0, init=False)
    longest: timedelta = field(default=LONGEST, init=False)
    """For how long an event may wait: one that seems to wait longer was put off while the clock was wrong."""
    _chats: dict[str, _Chat] = field(factory=dict, init=False, repr=False)
    _ready: "deque[str]" = field(factory=deque, init=False, repr=False)
    _moments: list[tuple[datetime, str]] = field(factory=list, init=False, repr=False)
    _number: int = field(default=0, init=False)

    @property
    def room(self) -> int:
        """How many more events memory takes."""
        return MOST - self.held

    @property
    def ready(self) -> int:
        """How many chats have something to be handled now."""
        return len(self._ready)

    @property
    def next_moment(self) -> datetime | None:
        """Until when the chat that goes on first waits."""
        return self._moments[0][0] if self._moments else None

    # --- what comes in

    def add(self, waiting: Waiting, now: datetime) -> None:
        """Take an event that was read from the disk, in order."""
        key = _key_of(waiting)
        chat = self._chats.get(key)
        if chat is None:  # as `_chat` does: written out, since this runs for each event
            chat = self._chats[key] = _Chat()
        if chat.is_on_disk or chat.not_before is not None or len(chat.queue) >= MOST_OF_A_CHAT:
            chat.is_on_disk = True
            return
        if waiting.not_before is not None and self.has_to_wait(waiting, now):
            chat.is_on_disk = True
            if chat.is_idle:
                self._wait(key, chat, waiting.not_before)
            return
        self._append(key, chat, waiting)

    def add_passing(self, event: Event) -> None:
        """Take an event that comes at most once, or drop it."""
        key = chat_of(event)
        if not key:
            self._number += 1
            key = f"{_NO_CHAT}passing/{self._number}"
        chat = self._chats.get(key)
        is_busy = chat is not None and (
            chat.is_on_disk or chat.not_before is not None or len(chat.queue) >= _MOST_PASSING
        )
        if is_busy or self.room <= 0:
            self.dropped += 1
            return
        self._append(key, self._chat(key), Passing(event))

    def place_of(self, key: str, until: int) -> Place:
        """Return where the rest of a chat is, of which all up to a sequence was read past."""
        if key.startswith(_NO_CHAT):
            sequence = int(key.removeprefix(_NO_CHAT))
            return Place("", sequence - 1, sequence)
        return Place(key, 0, until)

    def add_rest(self, key: str, found: Iterable[Waiting], *, is_all: bool, now: datetime) -> None:
        """Take what was read of a chat in `to_read`; `is_all`: there is no more of it."""
        self.to_read.pop(key, None)
        chat = self._chats[key]
        chat.is_on_disk = False
        for one in found:
            self.add(one, now)
        chat.is_on_disk = chat.is_on_disk or not is_all
        self._settle(key, chat)

    def has_to_wait(self, waiting: Waiting, now: datetime) -> bool:
        """Return whether an event is put off."""
        return waiting.not_before is not None and self._is_to_come(waiting.not_before, now)

    def set_back(self, now: datetime) -> None:
        """Let chats go on that wait for a moment of a clock that was wrong."""
        self._moments = [(one if self._is_to_come(one, now) else now, key) for one, key in self._moments]
        heapify(self._moments)

    def go_on(self, now: datetime) -> None:
        """Let chats go on that have waited until now."""
        while self._moments and self._moments[0][0] <= now:
            _, key = heappop(self._moments)
            chat = self._chats[key]
            chat.not_before = None
            self._settle(key, chat)

    # --- what goes out

    def next(self) -> Next | None:
        """Return what is to be handled next, of the chat that has waited longest."""
        if not self._ready:
            return None
        key = self._ready.popleft()
        chat = self._chats[key]
        chat.is_running = True
        self.held -= 1
        return key, chat.queue.pop(0)

    def next_of(self, key: str) -> Next | None:
        """Return what is next in a chat that is busy, which it stays."""
        chat = self._chats[key]
        if not chat.queue:
            return None
        self.held -= 1
        return key, chat.queue.pop(0)

    def take_alone(self, waiting: Waiting) -> Next:
        """Return an event as what is to be handled next, before anything of its chat is in memory."""
        key = _key_of(waiting)
        self._chat(key).is_running = True
        return key, waiting

    def done(self, key: str, not_before: datetime | None = None) -> None:
        """Let a chat go on, at once or at a moment."""
        chat = self._chats[key]
        chat.is_running = False
        if not_before is not None:
            self._forget(chat)
            chat.is_on_disk = True
            self._wait(key, chat, not_before)
        elif chat.queue:
            self._ready.append(key)
        elif chat.is_on_disk:  # as `_settle` does: a chat that was busy waits for no moment
            self.to_read[key] = None
        else:
            del self._chats[key]

    # --- helpers

    def _is_to_come(self, moment: datetime, now: datetime) -> bool:
        return timedelta() < moment - now <= self.longest

    def _chat(self, key: str) -> _Chat:
        chat = self._chats.get(key)
        if chat is None:
            chat = self._chats[key] = _Chat()
        return chat

    def _append(self, key: str, chat: _Chat, item: Item) -> None:
        if not (chat.queue or chat.is_running):
            self._ready.append(key)
        chat.queue.append(item)
        self.held += 1

    def _wait(self, key: str, chat: _Chat, until: datetime) -> None:
        chat.not_before = until
        heappush(self._moments, (until, key))

    def _forget(self, chat: _Chat) -> None:
        self.held -= len(chat.queue)
        self.dropped += sum(isinstance(one, Passing) for one in chat.queue)
        chat.queue.clear()

    def _settle(self, key: str, chat: _Chat) -> None:
        """See to a chat of which nothing may be in memory."""
        if chat.queue or chat.is_running or chat.not_before is not None:
            return
        if chat.is_on_disk:
            self.to_read[key] = None
        else:
            del self._chats[key]


def _key_of(waiting: Waiting) -> str:
    return chat_of(waiting.event) or f"{_NO_CHAT}{waiting.sequence}"
