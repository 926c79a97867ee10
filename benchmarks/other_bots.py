"""Bots of other libraries with ten handlers, the last of which is meant, each fed as its own connection does.

They get a message of the same length, as their service sends it. Nothing goes over a network.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

HANDLERS: Final = 10
AT_ONCE: Final = 50


def word(number: int) -> str:
    """Return what a handler waits for: a text of 100 letters, as patients write them."""
    return f"Ik wil graag mijn afspraak verzetten {number} ".ljust(100, "x")


WANTED: Final = word(HANDLERS - 1)
Feed = Callable[[bytes], Awaitable[object]]


async def cost_of(texts: list[bytes], feed: Feed, called: list[int]) -> float:
    """Return the microseconds of CPU for an update; each has to reach its handler."""
    before, began = len(called), time.process_time()
    for text in texts:
        await feed(text)
    while len(called) - before < len(texts):  # noqa: ASYNC110 - turns of the loop, of which there are few
        await asyncio.sleep(0)
    return (time.process_time() - began) / len(texts) * 1e6


# --- no library


async def bare(count: int) -> float:
    """Return what `orjson.loads` and an await cost."""
    called: list[int] = []

    async def handle(_: object) -> None:
        called.append(1)

    async def feed(text: bytes) -> None:
        await handle(orjson.loads(text))

    return await cost_of([orjson.dumps(frame(number)) for number in range(count)], feed, called)


def frame(number: int, chat: str = "c1") -> dict[str, object]:
    """Return a message of the gateway."""
    return {
        "event": "conversation_new_message",
        "data": {
            "conversation_id": chat,
            "message_id": f"6d1f6a0e-3c53-4c57-9d3f-{number:012d}",
            "user_id": "0b44928a-7734-5904-8def-8752524a231e",
            "body": WANTED,
            "attachments": [],
            "mentions": [],
        },
    }


# --- Telegram


def telegram_texts(count: int) -> list[bytes]:
    """Make the updates of messages, as Telegram sends them."""
    user = {"id": 7, "is_bot": False, "first_name": "An", "language_code": "nl"}
    chat = {"id": 7, "first_name": "An", "type": "private"}
    known = {"from": user, "chat": chat, "date": 1767225600, "text": WANTED}
    return [
        orjson.dumps({"update_id": number, "message": {"message_id": number, **known}})
        for number in range(count)
    ]


async def aiogram_with_classes(count: int) -> float:
    """Return what aiogram spends with filters that are classes whose `__call__` is `async`."""
    from aiogram.filters import Filter  # type: ignore[import-not-found] # noqa: PLC0415 - it may not be there

    class Text(Filter):  # type: ignore[misc] # as above
        def __init__(self, wanted: str) -> None:
            self.wanted = wanted

        async def __call__(self, message: Any) -> bool:
            return bool(message.text == self.wanted)

    return await _aiogram(count, Text)


async def aiogram_with_f(count: int) -> float:
    """Return what aiogram spends with its `F.text`, each of which it calls in a thread."""
    from aiogram import F  # type: ignore[import-not-found] # noqa: PLC0415 - it may not be there

    return await _aiogram(count // 10, lambda wanted: F.text == wanted)


async def _aiogram(count: int, filter_of: Callable[[str], Any]) -> float:
    from aiogram import Bot, Dispatcher, Router  # noqa: PLC0415 - as above

    called: list[int] = []
    router = Router()

    async def handle(message: Any) -> None:  # noqa: ARG001 - its author's
        called.append(1)

    for number in range(HANDLERS):
        router.message(filter_of(word(number)))(handle)
    bot = Bot("42:TOKEN")
    dispatcher = Dispatcher()
    dispatcher.include_router(router)

    async def feed(text: bytes) -> None:
        await dispatcher.feed_raw_update(bot, orjson.loads(text))

    return await cost_of(telegram_texts(count), feed, called)


async def python_telegram_bot(count: int) -> float:
    """Return what python-telegram-bot spends."""
    from telegram import Update  # type: ignore[import-not-found] # noqa: PLC0415 - it may not be there
    from telegram.ext import (  # type: ignore[import-not-found] # noqa: PLC0415 - as above
        Application,
        MessageHandler,
        filters,
    )

    called: list[int] = []
    application = Application.builder().token("42:TOKEN").updater(None).build()

    async def handle(update: Any, context: Any) -> None:  # noqa: ARG001 - its author's
        called.append(1)

    for number in range(HANDLERS):
        application.add_handler(MessageHandler(filters.Text([word(number)]), handle))
    application._initialized = True  # noqa: SLF001 - else it asks Telegram who it is

    async def feed(text: bytes) -> None:
        await application.process_update(Update.de_json(orjson.loads(text), application.bot))

    return await cost_of(telegram_texts(count), feed, called)


# --- Discord


def discord_texts(count: int) -> list[bytes]:
    """Make the frames of messages, as Discord sends them."""
    author = {"id": "2", "username": "a", "discriminator": "0", "avatar": None, "public_flags": 0}
    known: dict[str, object] = {
        "type": 0,
        "content": WANTED,
        "channel_id": "5",
        "author": author,
        "timestamp": "2026-01-01T00:00:00+00:00",
        "attachments": [],
        "embeds": [],
        "mentions": [],
        "mention_roles": [],
        "components": [],
        "pinned": False,
        "mention_everyone": False,
        "tts": False,
        "flags": 0,
        "edited_timestamp": None,
    }
    return [
        orjson.dumps({"op": 0, "t": "MESSAGE_CREATE", "s": number, "d": {"id": str(100 + number), **known}})
        for number in range(count)
    ]


async def discord_py(count: int) -> float:
    """Return what discord.py spends: it has one listener, in which its author compares."""
    import discord  # type: ignore[import-not-found] # noqa: PLC0415 - it may not be there

    called: list[int] = []
    words = [word(number) for number in range(HANDLERS)]

    class Bot(discord.Client):  # type: ignore[misc] # as above
        async def on_message(self, message: Any) -> None:
            for one in words:
                if message.content == one:
                    await self.handle(message)
                    return

        async def handle(self, message: Any) -> None:  # noqa: ARG002 - its author's
            called.append(1)

    bot = Bot(intents=discord.Intents.all())
    bot.loop = asyncio.get_running_loop()
    me = {"id": "1", "username": "me", "discriminator": "0001", "avatar": None}
    bot._connection.user = discord.ClientUser(state=bot._connection, data=me)  # noqa: SLF001 - as its gateway does
    parsers = bot._connection.parsers  # noqa: SLF001 - as above
    fed = 0

    async def feed(text: bytes) -> None:
        nonlocal fed
        found = discord.utils._from_json(text.decode())  # noqa: SLF001 - as above
        parsers[found["t"]](found["d"])
        fed += 1
        if fed % AT_ONCE == 0:
            await asyncio.sleep(0)

    return await cost_of(discord_texts(count), feed, called)
