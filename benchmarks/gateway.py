"""Live events: what one costs from its frame to the consumer, what idle chats cost, and a slow consumer.

The frames are those of messages with 100 letters. healthmsg takes them through its protocol, its catching up
and its inbox. discord.py and hikari, if they are installed, take a message of the same length from their own
gateway's text to one listener. "bare" is `orjson.loads` and an await.
"""

import argparse
import asyncio
import gc
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import orjson

from healthmsg import Client
from healthmsg.gateway.budget import Budget
from healthmsg.gateway.catch_up import SETTLE, CatchUp
from healthmsg.gateway.hints import Listed
from healthmsg.gateway.inbox import Change, ChatRecord, open_inbox
from healthmsg.gateway.protocol import Authenticated, GatewayProtocol, Received
from healthmsg.gateway.questions import Questions
from healthmsg.gateway.reading import Found, Reached
from healthmsg.gateway.schedule import ListChats, ReadChat
from healthmsg.gateway.stream import Events, EventsState
from healthmsg.models import Message
from healthmsg.sandbox import Sandbox
from healthmsg.transport.websocket import Opcode

BODY = "Uw afspraak is bevestigd. " * 4
CHATS = 40
AT_ONCE = 50
WARM_UP = 500


def frames(count: int, chats: list[str], first: int = 0) -> list[bytes]:
    """Make the frames of messages, in turn over the chats."""
    return [
        orjson.dumps(
            {
                "event": "conversation_new_message",
                "data": {
                    "conversation_id": chats[number % len(chats)],
                    "message_id": f"6d1f6a0e-3c53-4c57-9d3f-{number:012d}",
                    "user_id": "0b44928a-7734-5904-8def-8752524a231e",
                    "body": BODY,
                    "attachments": [],
                    "mentions": [],
                },
            }
        )
        for number in range(first, first + count)
    ]


@asynccontextmanager
async def listening(store: Path | None) -> AsyncIterator[tuple[Events, list[str]]]:
    """Open a stream that has caught up, and return it with the ids of its chats."""
    async with (
        Sandbox(rate_limit=None, sample_data=False) as sandbox,
        Client(sandbox.issue_token(), environment=sandbox.environment) as client,
    ):
        chats = [sandbox.add_conversation() for _ in range(CHATS)]
        async with client.events(store=store, settle=0.1) as events:
            while events.state is not EventsState.LIVE:  # noqa: ASYNC110 - a benchmark may look
                await asyncio.sleep(0.01)
            yield events, chats


def heard(events: Events) -> Callable[[bytes], None]:
    """Return what takes a frame as the connection's reader does."""
    protocol = GatewayProtocol("token", budget=Budget(), now=0.0)
    authenticated = protocol.received(
        Opcode.TEXT, b'{"event": "authenticated", "data": {"user": {"id": "u"}, "session_id": "s"}}'
    )
    assert isinstance(authenticated, Authenticated)  # noqa: S101 - for mypy

    def hear(text: bytes) -> None:
        happening = protocol.received(Opcode.TEXT, text)
        assert isinstance(happening, Received)  # noqa: S101 - for mypy
        events.frame(happening.name, happening.data)

    return hear


async def feed(events: Events, texts: list[bytes], seen: list[int], more: asyncio.Event) -> None:
    """Push frames as fast as they are consumed."""
    hear = heard(events)
    for start in range(0, len(texts), AT_ONCE):
        for text in texts[start : start + AT_ONCE]:
            hear(text)
        while start + AT_ONCE - seen[0] > 8 * AT_ONCE:
            more.clear()
            await more.wait()
        await asyncio.sleep(0)


async def consume(
    events: Events, count: int, batch: int | None, seen: list[int], more: asyncio.Event
) -> None:
    """Take so many events, one by one or in batches."""
    if batch is None:
        async for _ in events:
            seen[0] += 1
            more.set()
            if seen[0] >= count:
                return
        return
    async for some in events.batches(batch):
        seen[0] += len(some)
        more.set()
        if seen[0] >= count:
            return


async def per_event(count: int, batch: int | None, *, stored: bool) -> float:
    """Return the microseconds of CPU for an event."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "inbox.db" if stored else None
        async with listening(store) as (events, chats):
            for texts in (frames(WARM_UP, chats), frames(count, chats, WARM_UP)):
                gc.collect()
                seen, more = [0], asyncio.Event()
                began = time.process_time()
                feeding = asyncio.create_task(feed(events, texts, seen, more))
                await consume(events, len(texts), batch, seen, more)
                await feeding
                spent = time.process_time() - began
    return spent / count * 1e6


async def bare(count: int) -> float:
    """Return what `orjson.loads` and an await cost."""

    async def handle(_: object) -> None:
        pass

    texts = frames(count, ["c1"])
    began = time.process_time()
    for text in texts:
        await handle(orjson.loads(text))
    return (time.process_time() - began) / count * 1e6


def discord_texts(count: int) -> list[bytes]:
    """Make the frames of a message of the same length, as Discord sends them."""
    author = {"id": "2", "username": "a", "discriminator": "0", "avatar": None, "public_flags": 0}
    empty: dict[str, list[str]] = {
        "attachments": [],
        "embeds": [],
        "mentions": [],
        "mention_roles": [],
        "components": [],
    }
    flags = {"pinned": False, "mention_everyone": False, "tts": False, "flags": 0, "edited_timestamp": None}
    known = {
        "type": 0,
        "content": BODY,
        "channel_id": "5",
        "author": author,
        "timestamp": "2026-01-01T00:00:00+00:00",
    }
    return [
        orjson.dumps(
            {"op": 0, "t": "MESSAGE_CREATE", "s": n, "d": {"id": str(100 + n), **known, **empty, **flags}}
        )
        for n in range(count)
    ]


async def discord_py(count: int) -> float:
    """Return what discord.py spends on a message, to one listener."""
    import discord  # type: ignore[import-not-found] # noqa: PLC0415 - it may not be there

    class Bot(discord.Client):  # type: ignore[misc] # as above
        async def on_message(self, message: object) -> None:
            pass

    bot = Bot(intents=discord.Intents.all())
    bot.loop = asyncio.get_running_loop()
    me = {"id": "1", "username": "me", "discriminator": "0001", "avatar": None}
    bot._connection.user = discord.ClientUser(state=bot._connection, data=me)  # noqa: SLF001 - as its gateway does
    parsers = bot._connection.parsers  # noqa: SLF001 - as above

    def take(text: bytes) -> None:
        frame = discord.utils._from_json(text.decode())  # noqa: SLF001 - as above
        parsers[frame["t"]](frame["d"])

    return await taken(count, take)


async def hikari_bot(count: int) -> float:
    """Return what hikari spends on a message, to one listener."""
    import hikari  # type: ignore[import-not-found] # noqa: PLC0415 - it may not be there
    from hikari.internal import data_binding  # type: ignore[import-not-found] # noqa: PLC0415 - as above

    bot = hikari.GatewayBot("MTIz.abc.def", banner=None, logs=None, suppress_optimization_warning=True)

    async def handle(event: hikari.MessageCreateEvent) -> None:
        pass

    bot.event_manager.subscribe(hikari.MessageCreateEvent, handle)
    shard = mock.Mock(id=0)

    def take(text: bytes) -> None:
        frame = data_binding.default_json_loads(text)
        bot.event_manager.consume_raw_event(frame["t"], shard, frame["d"])

    return await taken(count, take)


async def taken(count: int, take: Callable[[bytes], None]) -> float:
    """Push frames into another library, and let its listeners run."""
    texts = discord_texts(count)
    began = time.process_time()
    for number, text in enumerate(texts):
        take(text)
        if number % AT_ONCE == AT_ONCE - 1:
            for _ in range(3):
                await asyncio.sleep(0)
    return (time.process_time() - began) / count * 1e6


async def idle_chats(count: int, *, stored: bool) -> float:
    """Return the bytes that are kept of a chat in which nothing happens."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_inbox(Path(folder) / "inbox.db" if stored else None) as inbox:
            await inbox.start("me", "http://127.0.0.1:1", datetime.now(UTC))
            await inbox.apply([Change(one, ()) for one in records(10)])
            gc.collect()
            tracemalloc.start()
            for start in range(0, count, 1000):
                await inbox.apply([Change(one, ()) for one in records(1000, start)])
            core = core_of(await inbox.keys())
            core.connected(0.0, "me")
            await inbox.apply(read_all(core))
            gc.collect()
            size = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
    return size / count


def read_all(core: CatchUp) -> list[Change]:
    """Read all chats, in none of which anything has happened, and return what is to be written."""
    changes: list[Change] = []
    while core.behind:
        job = core.next_job(SETTLE)
        if isinstance(job, ListChats):
            shown = (records(1, int(key[-12:]))[0] for key in [*core.keys])
            changes += core.listed(Listed(one.key, one.hint or "") for one in shown)
            core.listing_ended()
            continue
        assert isinstance(job, ReadChat)  # noqa: S101 - for mypy
        record = records(1, int(job.key[-12:]))[0]
        core.loaded(job.key, record, SETTLE)
        core.begin(job.key, SETTLE)
        found = tuple(Message(id=one, created_at=record.anchor_at) for one in record.anchor or ())
        changes += core.finish(job.key, Found(found, Reached.ANCHOR), SETTLE, room=1000)
    return changes


def records(count: int, first: int = 0) -> list[ChatRecord]:
    """Make the records of chats that were read."""
    return [
        ChatRecord(
            f"conversations/0b44928a-7734-5904-8def-{number:012d}",
            tuple(f"6d1f6a0e-3c53-4c57-{place:04d}-{number:012d}" for place in range(20)),
            datetime(2026, 1, 1, tzinfo=UTC),
            f"{number:016x}",
        )
        for number in range(first, first + count)
    ]


def core_of(keys: list[tuple[str, str | None]]) -> CatchUp:
    """Make what catches up on these chats."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return CatchUp(
        dict(keys),
        Questions((), "me", lambda: moment),
        is_first_start=False,
        started_at=moment,
        moment=lambda: moment,
    )


async def start_with(count: int) -> float:
    """Return the seconds from opening a store with so many chats to the first thing that is to be read."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "inbox.db"
        async with open_inbox(store) as inbox:
            await inbox.start("me", "http://127.0.0.1:1", datetime.now(UTC))
            for start in range(0, count, 1000):
                await inbox.apply([Change(one, ()) for one in records(1000, start)])
        began = time.perf_counter()
        async with open_inbox(store) as inbox:
            await inbox.start("me", "http://127.0.0.1:1", datetime.now(UTC))
            core = core_of(await inbox.keys())
            core.connected(0.0, "me")
            if core.next_job(0.0) is None:
                raise RuntimeError("there is nothing to read")
            return time.perf_counter() - began


async def blocked(count: int, *, stored: bool) -> float:
    """Return the MiB by which memory grows while so many events wait for a consumer that does not come."""
    with tempfile.TemporaryDirectory() as folder:
        async with listening(Path(folder) / "inbox.db" if stored else None) as (events, chats):
            hear = heard(events)
            hear(frames(1, chats, count)[0])
            async for _ in events:  # and it does not ask for the next one
                break
            before = peak()
            for start in range(0, count, AT_ONCE):
                for text in frames(AT_ONCE, chats, start):
                    hear(text)
                await asyncio.sleep(0.001 if stored else 0)
            if events.stats().connects > 1:
                raise RuntimeError("the connection was lost")
            return peak() - before


def peak() -> float:
    """Return the most memory that this process has had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def costs(count: int) -> None:
    """Print what an event costs."""
    rows: list[tuple[str, Callable[[], Awaitable[float]]]] = [
        ("bare orjson and await", lambda: bare(count)),
        ("healthmsg", lambda: per_event(count, None, stored=False)),
        ("healthmsg, SQLite, by 10", lambda: per_event(count, 10, stored=True)),
        ("healthmsg, SQLite, by 100", lambda: per_event(count, 100, stored=True)),
        ("discord.py", lambda: discord_py(count)),
        ("hikari", lambda: hikari_bot(count)),
    ]
    first = 0.0
    for name, measure in rows:
        try:
            spent = await measure()
        except ModuleNotFoundError:
            print(f"{name:26} is not installed")
            continue
        first = first or spent
        print(f"{name:26} {spent:7.1f} µs an event   ratio {spent / first:6.1f}", flush=True)


async def main(count: int) -> None:
    """Print all figures."""
    # First, since only the most that a process ever had is known.
    for stored in (False, True):
        where = "with a store" if stored else "without"
        grown = await blocked(100_000, stored=stored)
        print(f"100,000 waiting {where:12}  +{grown:6.1f} MiB", flush=True)
    await costs(count)
    for stored in (True, False):
        where = "with a store" if stored else "without"
        print(f"an idle chat {where:13} {await idle_chats(5000, stored=stored):7.0f} bytes", flush=True)
    print(f"start with 50,000 chats    {await start_with(50_000):7.2f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    sys.exit(asyncio.run(main(parser.parse_args().events)))
