"""A stream of events that a test hands out, in the place of the service's.

As `python -m tests.cli.event_stream`, it reads the events from a file, as JSON lines, and notes in another
which are done.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Self

from healthmsg.cli import main
from healthmsg.client import Client
from healthmsg.events import Event, event_from_dict
from healthmsg.gateway.stream import EventsState

EVENTS, DONE = "TEST_EVENTS", "TEST_EVENTS_DONE"


class EventStream:
    """Hands out events, then waits for ever, or ends with an error. An event is done as in the real one."""

    state = EventsState.LIVE
    behind = 0

    def __init__(
        self,
        events: Iterable[Event],
        on_done: Callable[[str], object] = lambda _: None,
        error: Exception | None = None,
    ) -> None:
        self._events = events
        self._on_done = on_done
        self._error = error
        self.asked: dict[str, Any] = {}
        self.is_closed = False

    def opened(self, **asked: Any) -> Self:
        """Take the place of `Client.events`."""
        self.asked = asked
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_closed = True

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self._events:
            yield event
            self._on_done(event.id)
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()


def _stream_of_files() -> EventStream:
    lines = Path(os.environ[EVENTS]).read_text(encoding="utf-8").splitlines()
    done = Path(os.environ[DONE])

    def note(event_id: str) -> None:
        with done.open("a", encoding="utf-8") as file:
            file.write(f"{event_id}\n")

    return EventStream([event_from_dict(json.loads(line)) for line in lines], note)


if __name__ == "__main__":
    Client.events = _stream_of_files().opened  # type: ignore[method-assign, assignment]
    main()
