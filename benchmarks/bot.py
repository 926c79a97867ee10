"""Bots: what it costs to dispatch an event, a dialog that waits, a whole bot, and a reply beside other work.

- `dispatch`: CPU of an event from its JSON to the last of ten handlers, beside other libraries.
- `dialogs`: memory of a dialog that waits, and CPU to load and replay one.
- `messages`: a whole bot on SQLite that answers each message: how many a second, and at what CPU.
- `replies`: how long a patient waits for a reply, with 30 calls a second, while nothing else is on, and
  while a bulk run and a catch-up are.

What other libraries cost is left out where they are not installed: aiogram, python-telegram-bot, discord.py.
"""

import argparse
import asyncio
import gc
import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import orjson
from attrs import define, field
from bot_dialogs import cost_of_loading, memory_of_one
from bot_service import OTHER, QUESTION, OtherProcess, service_beside
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

from healthmsg import Client, Outgoing, RateLimit
from healthmsg.bot import Bot, IncomingMessage, Router, text
from healthmsg.bot.clock import SystemClock
from healthmsg.bot.dialogs.engine import DialogEngine
from healthmsg.bot.dispatch import Dispatcher
from healthmsg.bot.scope import Scope, Services
from healthmsg.bot.store.effects import Effect, Watchers
from healthmsg.bot.store.records import Waiting
from healthmsg.bot.work import WorkLoop
from healthmsg.events import Event, event_of_frame
from healthmsg.json_text import parse_json

CHATS: Final = 40
ROUNDS: Final = 5
JOINED_AFTER: Final = 15.0
"""Seconds until what was missed in a chat has been read, and read again when the lists no longer lag."""
UNLIMITED: Final = RateLimit(calls=100_000, per=1.0, burst=100_000)
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
        while len(called) < min(start + AT_ONCE, count):  # noqa: ASYNC110 - turns of the loop, of which there are few
            await asyncio.sleep(0)
    spent = time.process_time() - began
    loop.drain()
    await running
    return spent / count * 1e6


@define(eq=False)
class MemoryStore:
    """A store that keeps events in memory, and notes nothing: what is left is the cost of the loop itself."""

    watchers: Watchers = field(factory=Watchers)
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
        self.watchers.note(effects)

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
            with suppress(ModuleNotFoundError):
                found[name].append(await measure(count))
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


# --- dialogs


async def measure_dialogs() -> None:
    """Print what dialogs that wait cost."""
    for name, count, is_kept in (("evicted", 4000, False), ("kept", 1000, True)):
        size = await memory_of_one(count, is_kept=is_kept)
        print(f"a dialog that waits, {name:8} {size:6.0f} bytes", flush=True)
    for answers, times in ((20, 1000), (500, 40)):
        rounds = [await cost_of_loading(answers, times) for _ in range(ROUNDS)]
        replayed, read = (statistics.median(found) for found in zip(*rounds, strict=True))
        least = min(found[0] for found in rounds)
        print(
            f"{answers:3} answers: load and replay {replayed:6.0f} µs (least {least:.0f}),"
            f" with the reading from SQLite {read:6.0f} µs",
            flush=True,
        )


# --- a whole bot


def answering() -> Router:
    """Return handlers that answer questions, and nothing else."""
    router = Router()

    @router.message(text(QUESTION))
    async def answer(message: IncomingMessage) -> None:
        await message.reply("Uw afspraak is morgen om 14:30 uur.")

    return router


@asynccontextmanager
async def bot_on(client: Client, store: Path) -> AsyncIterator[Bot]:
    """Run a bot until the end of the block."""
    bot = Bot(client, store=store)
    bot.include(answering())
    async with bot:
        task = asyncio.create_task(bot.run(signals=False))
        try:
            while not (bot.is_ready or task.done()):  # noqa: ASYNC110 - a benchmark may look
                await asyncio.sleep(0.01)
            yield bot
        finally:
            bot.stop()
            await task


async def measure_messages(count: int) -> None:
    """Print how fast a whole bot answers, what it costs, and how often it writes to its store."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            service_beside(limited=False) as service,
            Client(service.token, environment=service.environment, rate_limit=UNLIMITED) as client,
        ):
            chats = await service.ask("chats", count=CHATS)
            async with bot_on(client, Path(folder) / "bot.db") as bot:
                await bot.idle()
                await service.ask("flood", chats=chats, count=200)
                transactions = counted_transactions(bot)
                began = time.process_time()
                seconds = await service.ask("flood", chats=chats, count=count)
                spent = time.process_time() - began
    print(
        f"received, handled and answered {count / seconds:6.0f} a second   CPU {spent / count * 1e6:6.0f} µs"
        f"   transactions {transactions[0] / count:.2f} a message",
        flush=True,
    )


def counted_transactions(bot: Bot) -> list[int]:
    """Count the transactions of a bot's store from now on."""
    database = bot._require_running().store.database  # noqa: SLF001 - there is no other way to its store
    run, count = database.run, [0]

    async def counted(*args: Any, **named: Any) -> Any:
        count[0] += 1
        return await run(*args, **named)

    database.run = counted  # type: ignore[method-assign] # as above
    return count


# --- replies beside other work


def bulk_messages(chats: Sequence[str]) -> Iterator[Outgoing]:
    """Make messages without end."""
    for number in itertools.count():
        yield Outgoing(chats[number % len(chats)], "De praktijk is morgen gesloten.")


async def send_bulk(client: Client, chats: Sequence[str], sent: list[int]) -> None:
    """Send until cancelled."""
    async for _ in client.send_many(bulk_messages(chats)):
        sent[0] += 1


async def measure_replies(count: int, seconds: float, behind: int) -> None:
    """Print how long patients wait for replies, with nothing else and beside other work."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "bot.db"
        async with service_beside(limited=True) as service:
            chats, others, bulk = [
                await service.ask("chats", count=number) for number in (CHATS, behind, CHATS)
            ]
            alone = await reply_times(service, store, chats, None, count, seconds)
            await service.ask("say", chats=others, text=OTHER)
            beside = await reply_times(service, store, chats, bulk, count, seconds)
    p99s = []
    for name, took in (("nothing else", alone), ("a bulk run, a catch-up", beside)):
        p99s.append(statistics.quantiles(took, n=100)[98])
        print(
            f"{name:24}{len(took):5} replies   median {statistics.median(took):6.1f} ms"
            f"   p99 {p99s[-1]:6.1f} ms   longest {max(took):6.1f} ms",
            flush=True,
        )
    print(f"p99 above idle: {p99s[1] - p99s[0]:.1f} ms")


async def reply_times(  # noqa: PLR0913, PLR0917 - what is to be going on
    service: OtherProcess,
    store: Path,
    chats: Sequence[str],
    bulk: Sequence[str] | None,
    count: int,
    seconds: float,
) -> list[float]:
    """Return how long each patient waited for a reply."""
    async with (
        Client(service.token, environment=service.environment) as client,
        bot_on(client, store) as bot,
    ):
        sent = [0]
        sending = None if bulk is None else asyncio.create_task(send_bulk(client, bulk, sent))
        while (await bot.stats()).behind > 0 and bulk is None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.5)
        # In a chat that was not read since the connect, what comes is held until then. Have these read.
        await service.ask("say", chats=chats, text=OTHER)
        await asyncio.sleep(JOINED_AFTER)
        before = await bot.stats()
        took: list[float] = await service.ask("talk", chats=chats, count=count, seconds=seconds)
        after = await bot.stats()
        if sending is not None:
            if sending.done():
                sending.result()
            sending.cancel()
            await asyncio.wait([sending])
            print(f"chats behind: {before.behind}, {after.behind} at the end; {sent[0]} bulk messages sent")
    if len(took) < count:
        print(f"{count - len(took)} of {count} were not answered")
    return took


PARTS: Final = ("dispatch", "dialogs", "messages", "replies")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=4_000, help="of `dispatch`, per round")
    parser.add_argument("--messages", type=int, default=4_000, help="of `messages`")
    parser.add_argument("--replies", type=int, default=300, help="of `replies`, each time")
    parser.add_argument("--seconds", type=float, default=30.0, help="of `replies`, each time")
    parser.add_argument("--behind", type=int, default=600, help="of `replies`: chats to be caught up with")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    logging.getLogger("healthmsg").setLevel(logging.ERROR)  # that a run was ended is no news
    parts: dict[str, Callable[[], None]] = {
        "dispatch": lambda: asyncio.run(measure_dispatch(given.events)),
        "dialogs": lambda: asyncio.run(measure_dialogs()),
        "messages": lambda: asyncio.run(measure_messages(given.messages)),
        "replies": lambda: asyncio.run(measure_replies(given.replies, given.seconds, given.behind)),
    }
    for name, part in parts.items():
        if given.only in {None, name}:
            print(name)
            part()


if __name__ == "__main__":
    main()
