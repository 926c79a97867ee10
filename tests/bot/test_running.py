"""A bot as a whole, over real sockets: how it ends, and what comes again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from healthmsg import Client
from healthmsg.bot import Bot, IncomingMessage, Router
from healthmsg.bot import running as running_module
from healthmsg.bot.surface import Seams
from healthmsg.sandbox import Sandbox
from tests.waiting import until

SEAMS = Seams(settle=0.2, reconnect=0.1)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=None, sample_data=False) as sandbox:
        yield sandbox


def bot_of(client: Client, store: Path, router: Router) -> Bot:
    bot = Bot(client, store=store, seams=SEAMS)
    bot.include(router)
    return bot


@asynccontextmanager
async def runs(
    sandbox: Sandbox, store: Path, router: Router
) -> "AsyncIterator[tuple[Bot, asyncio.Task[None]]]":
    async with (
        Client(sandbox.issue_token(), environment=sandbox.environment) as client,
        bot_of(client, store, router) as bot,
    ):
        task = asyncio.create_task(bot.run(signals=False))
        try:
            await until(lambda: bot.is_ready or task.done())
            yield bot, task
        finally:
            bot.stop()
            await asyncio.wait([task])


def replies(sandbox: Sandbox, chat: str) -> list[str | None]:
    found = sandbox.messages(f"conversations/{chat}")
    return [one.body for one in found if one.sender_id == sandbox.user_id]


async def test_a_bot_that_is_to_end_does_not_wait_for_a_service_that_is_away(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_module, "_AWAY_FOR", 0.2)
    chat, store, begun = sandbox.add_conversation(), tmp_path / "bot.db", list[int]()
    router, gone = Router(), asyncio.Event()

    @router.message
    async def answer(message: IncomingMessage) -> None:
        begun.append(message.event.attempt)
        await gone.wait()
        await message.reply("Ja")

    async with runs(sandbox, store, router) as (bot, task):
        sandbox.say(None, f"conversations/{chat}", "Hallo?")
        await until(lambda: begun)
        away = asyncio.create_task(sandbox.go_offline(3))
        await asyncio.sleep(0)
        gone.set()
        bot.stop()
        await asyncio.wait([task])
        assert task.exception() is None
        assert not away.done()
    await away
    assert replies(sandbox, chat) == []
    async with runs(sandbox, store, router) as (bot, _):
        await until(lambda: replies(sandbox, chat))
        await bot.idle()
        assert await bot.parked() == []
    assert replies(sandbox, chat) == ["Ja"]
    assert begun == [1, 2]
