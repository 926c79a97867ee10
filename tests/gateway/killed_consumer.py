"""A program that handles events with a store, for the tests that kill it.

Arguments: the API's URL, the gateway's, the store, the log, the number of this run, how it takes events (see
`Way`), and the seconds to settle. The token is in the environment. Each line of the log is appended with one
write, and so is in it or not when the process is killed. SIGTERM ends it with 0; with 3 it has lost the store
to another process, with 4 another one has it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from random import Random
from typing import Final

from attrs import define, field, frozen

from healthmsg import Client, Environment, Event, RateLimit
from healthmsg.errors import InboxLostError, JournalInUseError
from healthmsg.gateway.stream import Events

BATCH: Final = 20
LONGEST_PAUSE: Final = 0.005
"""Seconds that handling an event takes at most."""
HAS_LOST: Final = 3
IS_REFUSED: Final = 4


class Way(Enum):
    """How a consumer takes events."""

    ONE_BY_ONE = "one by one"
    BATCHES = "batches"
    QUEUE = "queue"
    """It asks for the next event before it has handled the last one: it acknowledges before it handles."""

    @property
    def most_in_hand(self) -> int:
        return BATCH if self is Way.BATCHES else 1


@frozen
class Line:
    """What the log says: that a process is `ready`, has been given a `batch`, or handles an event."""

    run: int
    what: str
    event: str = "-"
    attempt: int = 0

    def __str__(self) -> str:
        return f"{self.run} {self.what} {self.event} {self.attempt}\n"

    @classmethod
    def parse(cls, text: str) -> "Line":
        run, what, event, attempt = text.split()
        return cls(int(run), what, event, int(attempt))


@define
class Handler:
    run: int
    path: Path
    _file: int = field(init=False)
    _draw: Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._draw = Random(self.run)  # noqa: S311 - moments are no secrets

    def note(self, what: str, event: Event | None = None) -> None:
        line = Line(self.run, what) if event is None else Line(self.run, what, event.id, event.attempt)
        os.write(self._file, str(line).encode())

    async def handle(self, event: Event) -> None:
        self.note("begin", event)
        if self._draw.random() < 0.5:
            await asyncio.sleep(self._draw.uniform(0, LONGEST_PAUSE))
        self.note("end", event)


async def one_by_one(events: Events, handler: Handler) -> None:
    async for event in events:
        await handler.handle(event)


async def in_batches(events: Events, handler: Handler) -> None:
    async for batch in events.batches(BATCH):
        handler.note("batch")
        for event in batch:
            await handler.handle(event)


async def through_a_queue(events: Events, handler: Handler) -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()

    async def read_ahead() -> None:
        async for event in events:
            queue.put_nowait(event)

    async with asyncio.TaskGroup() as group:
        group.create_task(read_ahead())
        while True:
            await handler.handle(await queue.get())


WAYS: Final[dict[Way, Callable[[Events, Handler], Awaitable[None]]]] = {
    Way.ONE_BY_ONE: one_by_one,
    Way.BATCHES: in_batches,
    Way.QUEUE: through_a_queue,
}


async def consume(environment: Environment, store: str, handler: Handler, way: Way, settle: float) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    token, limit = os.environ["HEALTHMSG_TOKEN"], RateLimit(calls=1000)
    async with (
        Client(token, environment=environment, rate_limit=limit) as client,
        client.events(store=store, settle=settle) as events,
    ):
        handler.note("ready")
        await WAYS[way](events, handler)


def main() -> int:
    api_url, gateway_url, store, log, run, way, settle = sys.argv[1:]
    environment = Environment("sandbox", api_url, gateway_url=gateway_url)
    try:
        asyncio.run(consume(environment, store, Handler(int(run), Path(log)), Way(way), float(settle)))
    except asyncio.CancelledError:
        return 0
    except InboxLostError:
        return HAS_LOST
    except JournalInUseError:
        return IS_REFUSED
    return 1


if __name__ == "__main__":
    sys.exit(main())
