"""Bots: what it costs to dispatch an event, a dialog that waits, a whole bot, and a reply beside other work.

- `dispatch`: CPU of an event from its JSON to the last of ten handlers, beside other libraries.
- `dialogs`: memory of a dialog that waits, and CPU to load and replay one.
- `messages`: a whole bot on SQLite that answers each message: how many a second, and at what CPU.
- `replies`: how long a patient waits for a reply, with 30 calls a second, while nothing else is on, and while a
  bulk run and a catch-up are.
"""

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import orjson
from attrs import define, field
from other_bots import (
    AT_ONCE,
    HANDLERS,
    aiogram_with_classes,
    aiogram_with_f,
    bare,
    discord_py,
    frame,
    python_telegram_bot,
    word,
)

from healthmsg.bot import IncomingMessage, Router, text
from healthmsg.bot.clock import SystemClock
from healthmsg.bot.dialogs.engine import DialogEngine
from healthmsg.bot.dispatch import Dispatcher
from healthmsg.bot.scope import Scope, Services
from healthmsg.bot.store.effects import Effect
from healthmsg.bot.store.records import Waiting
from healthmsg.bot.work import WorkLoop
from healthmsg.events import Event, event_of_frame
from healthmsg.json_text import parse_json

CHATS: Final = 40
ROUNDS: Final = 5
ME: Final = "11111111-7734-5904-8def-8752524a231e"


# --- dispatch


def ten_handlers(called: list[int]) -> Router:
    """Return a router with ten handlers."""
    router = Router()

    async def handle(message: IncomingMessage) -> None:  # noqa: ARG001 - its author's
        called.append(1)

    for number in range(HANDLERS):
        router.message(text(word(number)))(handle)
    return router


def event_of(frame_text: bytes) -> Event:
    """Read a frame, as the stream does."""
    document = parse_json(frame_text)
    found = event_of_frame(document["event"], document["data"], me=ME, now=datetime.now(UTC))
    assert isinstance(found, Event)  # noqa: S101 - for mypy
    return found


def services(store: "MemoryStore") -> Services:
    """Return what a bot's handlers work with, as far as these need it."""
    engine = DialogEngine(cast("Any", store), cast("Any", None), SystemClock())
    return Services(cast("Any", None), cast("Any", None), store, SystemClock(), ME, engine)


async def dispatcher_alone(count: int) -> float:
    """Return the microseconds of CPU for an event: read, and handed to its handler."""
    called: list[int] = []
    dispatcher = Dispatcher([ten_handlers(called)])
    known = services(MemoryStore())
    texts = frames(count)
    began = time.process_time()
    for one in texts:
        await dispatcher.handle(Scope(event_of(one), known))
    spent = time.process_time() - began
    assert len(called) == count  # noqa: S101 - else it measured something else
    return spent / count * 1e6


def frames(count: int) -> list[bytes]:
    """Make the frames of messages, in turn over the chats."""
    return [orjson.dumps(frame(number, f"c{number % CHATS}")) for number in range(count)]


async def with_a_queue_per_chat(count: int) -> float:
    """Return the same with the work loop of a bot, on a store in memory."""
    called: list[int] = []
    dispatcher = Dispatcher([ten_handlers(called)])
    store, events = MemoryStore(), MemoryEvents()
    known = services(store)

    async def handle(event: Event) -> Sequence[Effect]:
        scope = Scope(event, known)
        await dispatcher.handle(scope)
        return scope.effects

    loop = WorkLoop(store, events, handle, SystemClock())
    running = asyncio.ensure_future(loop.run())
    await asyncio.sleep(0)
    texts = frames(count)
    began = time.process_time()
    for start in range(0, count, AT_ONCE):
        store.add([event_of(one) for one in texts[start : start + AT_ONCE]])
        events.arrived.set()
        while len(called) < min(start + AT_ONCE, count):
            await asyncio.sleep(0)
    spent = time.process_time() - began
    loop.drain()
    await running
    return spent / count * 1e6


@define(eq=False)
class MemoryStore:
    """A store that keeps events in memory, and notes nothing: what is left is the cost of the loop itself."""

    watchers: list[Callable[[Sequence[Effect]], object]] = field(factory=list)
    newest: int = 0
    _waiting: list[Waiting] = field(factory=list)

    def add(self, events: list[Event]) -> None:
        """Have events wait."""
        self._waiting += [Waiting(self.newest + number, event) for number, event in enumerate(events, 1)]
        self.newest += len(events)

    def event_key(self, event_id: str) -> str:
        """Return what stands for an event."""
        return event_id

    async def commit(self, *effects: Effect) -> None:
        """Write nothing, but tell who watches."""
        for watch in self.watchers:
            watch(effects)

    async def waiting(
        self, after: int, most: int, *, chat: str | None = None, until: int = 0
    ) -> list[Waiting]:
        """Hand out what waits. All of it fits in memory, so that no chat is asked for alone."""
        if chat is not None or len(self._waiting) > most:
            raise NotImplementedError(after, until)
        found, self._waiting = self._waiting, []
        return found

    async def crashed(self) -> list[Waiting]:
        """Return nothing."""
        return []

    async def due(self, now: datetime, most: int) -> list[Any]:  # noqa: ARG002 - as the real one
        """Return nothing."""
        return []

    async def next_due(self) -> datetime | None:
        """Return nothing."""
        return None

    async def dialog(self, chat: str, user: str) -> None:
        """Return that there is none."""


@define(eq=False)
class MemoryEvents:
    """A stream without a connection."""

    arrived: asyncio.Event = field(factory=asyncio.Event)
    is_prepared: bool = True
    is_written: bool = True

    def require_going_on(self) -> None:
        """Go on."""

    def take_passing(self) -> list[Event]:
        """Return nothing."""
        return []

    def note_handed_out(self, count: int) -> None:
        """Count nothing."""


async def measure_dispatch(count: int) -> None:
    """Print what an event costs: the median of rounds, in each of which every library has its turn."""
    rows: dict[str, Callable[[int], Awaitable[float]]] = {
        "bare orjson and await": bare,
        "healthmsg, its dispatcher": dispatcher_alone,
        "healthmsg, queue per chat": with_a_queue_per_chat,
        "discord.py": discord_py,
        "python-telegram-bot": python_telegram_bot,
        "aiogram, async filters": aiogram_with_classes,
        "aiogram, F.text": aiogram_with_f,
    }
    found: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, measure in rows.items():
            gc.collect()
            try:
                found[name].append(await measure(count))
            except ModuleNotFoundError:
                pass
    ours = statistics.median(found["healthmsg, its dispatcher"])
    for name, costs in found.items():
        if not costs:
            print(f"{name:26} is not installed")
            continue
        spent = statistics.median(costs)
        print(
            f"{name:26} {spent:7.1f} µs an event (least {min(costs):.1f})   ratio {spent / ours:6.2f}",
            flush=True,
        )


PARTS: Final = ("dispatch", "dialogs", "messages", "replies")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=4_000, help="of `dispatch`, per round")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "dispatch": lambda: asyncio.run(measure_dispatch(given.events)),
    }
    for name, part in parts.items():
        if given.only in {None, name}:
            print(name)
            part()


if __name__ == "__main__":
    main()
