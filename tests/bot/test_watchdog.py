"""The watchdog names what blocks the event loop, while it does."""

import asyncio
import logging
import threading

import pytest

from healthmsg.bot import IncomingMessage
from healthmsg.bot.watchdog import Watchdog
from tests.bot.routing import Bot, message


class Heard(logging.Handler):
    """Ends the blocking once it has been named: a handler that waits for this proves the word `while`."""

    def __init__(self) -> None:
        super().__init__()
        self.named = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.named.set()


@pytest.fixture
def heard() -> object:
    heard, logger = Heard(), logging.getLogger("healthmsg")
    logger.addHandler(heard)
    yield heard
    logger.removeHandler(heard)


async def test_a_handler_that_blocks_is_named_while_it_does(heard: Heard) -> None:
    bot = Bot()

    @bot.router.message
    async def block(message: IncomingMessage) -> None:
        assert heard.named.wait(10)

    async with Watchdog(bot.start().origins, limit=0.05):
        await bot.handle(message("geheim"))
    line = block.__code__.co_firstlineno
    assert heard.lines[0].startswith(f"block ({__file__}:{line}) has blocked the event loop")
    assert f"at {__file__}:{line + 2}" in heard.lines[0]
    assert "geheim" not in "".join(heard.lines)


async def test_a_handler_that_waits_is_not_named(heard: Heard) -> None:
    bot = Bot()

    @bot.router.message
    async def wait(message: IncomingMessage) -> None:
        await asyncio.sleep(0.3)

    async with Watchdog(bot.start().origins, limit=0.2):
        await bot.handle(message("a"))
    assert heard.lines == []
