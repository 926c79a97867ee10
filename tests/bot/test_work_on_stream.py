"""The work loop over a real stream and store: what is said is handled, and nothing of it is left."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from healthmsg import Client, Event, MessageCreated, TypingStarted
from healthmsg.bot.clock import SystemClock
from healthmsg.bot.store.effects import Effect
from healthmsg.bot.store.store import BotStore
from healthmsg.bot.work import WorkLoop
from healthmsg.errors import JournalMismatchError
from healthmsg.gateway.opening import events_over
from healthmsg.gateway.source import EventSource
from healthmsg.sandbox import Sandbox
from tests.gateway.test_stream import SETTLE, client_of, live
from tests.waiting import until


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=None, sample_data=False) as sandbox:
        yield sandbox


@asynccontextmanager
async def working(
    client: Client, store: BotStore, handled: list[Event]
) -> "AsyncIterator[tuple[WorkLoop, asyncio.Task[None]]]":
    async def handle(event: Event) -> Sequence[Effect]:
        handled.append(event)
        return ()

    async with events_over(client._parts, store.inbox, subscribe="active", settle=SETTLE) as events:
        loop = WorkLoop(store, EventSource(events), handle, SystemClock())
        task = asyncio.create_task(loop.run())
        try:
            await EventSource(events).prepared()
            await live(events)
            yield loop, task
            assert events.stats().handed_out == loop.counters.begun
        finally:
            loop.drain()
            await asyncio.wait([task])


async def test_what_is_said_is_handled_and_what_is_said_meanwhile_at_the_next_start(
    sandbox: Sandbox, tmp_path: Path, nothing_is_left_behind: None
) -> None:
    chat = sandbox.add_conversation()
    handled: list[Event] = []
    async with client_of(sandbox) as client:
        async with (
            BotStore.open(tmp_path / "bot.db") as store,
            working(client, store, handled) as (loop, task),
        ):
            for number in range(5):
                sandbox.say(None, chat, str(number))
            sandbox.type(None, chat)
            await until(lambda: len(handled) == 6)
            await loop.idle()
            assert await store.waiting(0, 9) == []
            loop.drain()
            await task
        sandbox.say(None, chat, "5")
        async with (
            BotStore.open(tmp_path / "bot.db") as store,
            working(client, store, handled) as (loop, _),
        ):
            await until(lambda: len(handled) == 7)
            await loop.idle()
    said = [event.message.body for event in handled if isinstance(event, MessageCreated)]
    assert said == ["0", "1", "2", "3", "4", "5"]
    assert any(isinstance(event, TypingStarted) for event in handled)


async def test_a_store_of_another_account_ends_the_loop_with_that_error(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with BotStore.open(tmp_path / "bot.db") as store:
        await store.inbox.start("u-other", sandbox.environment.api_url, None)
    async with (
        client_of(sandbox) as client,
        BotStore.open(tmp_path / "bot.db") as store,
        events_over(client._parts, store.inbox, subscribe="active", settle=SETTLE) as events,
    ):

        async def handle(_: Event) -> Sequence[Effect]:
            return ()

        with pytest.raises(JournalMismatchError):
            await WorkLoop(store, EventSource(events), handle, SystemClock()).run()
