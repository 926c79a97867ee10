"""An inbox that ends with the process."""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from attrs import evolve

from healthmsg.events import Event
from healthmsg.gateway.inbox.base import Change, ChatRecord, OpenQuestion, Start
from healthmsg.gateway.inbox.packing import hint_in, packed, unpacked

MOST_EVENTS: Final = 1000
"""Events that wait. More stay in the service's lists."""
_MOST_IDS: Final = 10_000
"""Ids of events that were taken last: none of them is taken twice."""


class MemoryInbox:
    """Holds at most 1,000 events, and what is known of each chat."""

    is_durable: bool = False

    def __init__(self) -> None:
        self.on_taken_back: Callable[[], object] = lambda: None  # it takes nothing back
        self._records: dict[str, bytes] = {}
        self._waiting: deque[Event] = deque()
        self._running: dict[str, Event] = {}
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._questions: dict[str, OpenQuestion] = {}

    async def hold(self) -> None:
        """Do nothing: no other process sees it."""

    async def start(self, account: str, api_url: str, now: datetime | None) -> Start:  # noqa: ARG002 - of a lasting one
        """Begin."""
        return Start(now, has_baseline=False)

    async def set_baseline(self) -> None:
        """Do nothing: it ends with the process."""

    async def keys(self) -> list[tuple[str, str | None]]:
        """Return the key and the hint of every chat."""
        return [(key, hint_in(record)) for key, record in self._records.items()]

    async def load(self, keys: Sequence[str]) -> dict[str, ChatRecord]:
        """Return the records of chats, of those that it knows."""
        return {key: unpacked(key, self._records[key]) for key in keys if key in self._records}

    async def apply(self, changes: Sequence[Change]) -> int:
        """Take changes in; return how many events are new."""
        before = len(self._waiting)
        for change in changes:
            if change.chat is not None:
                if change.removed:
                    self._records.pop(change.chat.key, None)
                else:
                    self._records[change.chat.key] = packed(change.chat)
            for event in change.events:
                if event.id not in self._ids:
                    self._ids[event.id] = None
                    self._waiting.append(event)
            for question in change.questions:
                self._questions[question.message_id] = question
            for message_id in change.closed_questions:
                self._questions.pop(message_id, None)
        while len(self._ids) > _MOST_IDS:
            self._ids.popitem(last=False)
        return len(self._waiting) - before

    async def next(self, most: int, done: Sequence[str] = ()) -> list[Event]:
        """Return the next events."""
        for event_id in done:
            self._running.pop(event_id, None)
        waiting = self._waiting
        events: list[Event] = []
        while waiting and len(events) < most:
            event = waiting.popleft()
            self._running[event.id] = event
            events.append(event)
        return events

    async def release(self, ids: Sequence[str]) -> None:
        """Put events back, in their old order."""
        for event_id in reversed(ids):
            event = self._running.pop(event_id, None)
            if event is not None:
                self._waiting.appendleft(evolve(event, attempt=event.attempt + 1))

    async def open_questions(self) -> list[OpenQuestion]:
        """Return the questions that are remembered."""
        return list(self._questions.values())

    def room(self) -> int:
        """Return how many more events it takes."""
        return MOST_EVENTS - len(self._waiting) - len(self._running)
