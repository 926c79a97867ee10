"""A bot for the tests that kill it: it answers every message, or holds a dialog of twenty questions.

Arguments: the API's URL, the gateway's, the store, the log, the number of this run, what it does (see
`Kind`), and the seconds to settle. The token is in the environment. SIGTERM drains it and ends it with 0;
with 3 it has lost the store to another process, with 4 another one has it. The log is that of
`killed_consumer`.
"""

import asyncio
import os
import sys
from enum import Enum
from pathlib import Path
from random import Random
from typing import Final

from attrs import define

from healthmsg import Client, Environment, RateLimit
from healthmsg.bot import Bot, Dialog, Dialogs, IncomingMessage, Router, in_conversation, text
from healthmsg.bot.surface import Seams
from healthmsg.errors import InboxLostError, JournalInUseError
from tests.gateway.killed_consumer import HAS_LOST, IS_REFUSED, LONGEST_PAUSE, Handler

QUESTIONS: Final = 20
BEGIN: Final = "begin"


class Kind(Enum):
    """What the bot does."""

    ANSWERS = "answers"
    WITHOUT_KEYS = "without keys"
    """As the first one, but the replies are sent as any client sends: a control."""
    DIALOGS = "dialogs"


@define
class Draw:
    """Decides whether a handler takes its time."""

    random: Random

    async def pause(self) -> None:
        if self.random.random() < 0.5:
            await asyncio.sleep(self.random.uniform(0, LONGEST_PAUSE))


def answer_to(body: str) -> str:
    return f"Antwoord op {body}"


answers = Router()


@answers.message
async def answer(message: IncomingMessage, log: Handler, draw: Draw) -> None:
    log.note("begin", message.event)
    await draw.pause()
    await message.reply(answer_to(message.body))
    await draw.pause()
    log.note("end", message.event)


without_keys = Router()


@without_keys.message
async def send(message: IncomingMessage, log: Handler, draw: Draw) -> None:
    log.note("begin", message.event)
    await draw.pause()
    await message.chat.handle.send(answer_to(message.body))
    await draw.pause()
    log.note("end", message.event)


dialogs = Router()


@dialogs.dialog
async def twenty(d: Dialog) -> None:
    given = []
    for number in range(QUESTIONS):
        given.append(await d.text(f"Vraag {number}?"))
        if number % 5 == 4:
            await d.say(f"{number + 1} van {QUESTIONS}")
    await d.say(f"Klaar: {len(set(given))} antwoorden.")


@dialogs.message(text(BEGIN), in_conversation)
async def begin(message: IncomingMessage, started: Dialogs) -> None:
    await started.start(twenty, message)


def made(client: Client, store: str, log: Handler, kind: Kind, settle: float) -> Bot:
    # A line after each commit, so that kills can come close to one. And no event is parked because it was in
    # hand at three kills in a row, as one that waits until a reply is reconciled may be.
    seams = Seams(settle=settle, on_step=lambda _: log.note("step"), most_crashes=None)
    bot = Bot(client, store=store, seams=seams)
    bot.provide(log, Draw(Random(log.run)))  # noqa: S311 - moments are no secrets
    bot.include({Kind.ANSWERS: answers, Kind.WITHOUT_KEYS: without_keys, Kind.DIALOGS: dialogs}[kind])
    return bot


async def main_of(environment: Environment, store: str, log: Handler, kind: Kind, settle: float) -> None:
    token, limit = os.environ["HEALTHMSG_TOKEN"], RateLimit(calls=1000)
    async with (
        Client(token, environment=environment, rate_limit=limit) as client,
        made(client, store, log, kind, settle) as bot,
    ):
        log.note("ready")
        await bot.run()


def main() -> int:
    api_url, gateway_url, store, log, number, kind, settle = sys.argv[1:]
    environment = Environment("sandbox", api_url, gateway_url=gateway_url)
    try:
        handler = Handler(int(number), Path(log))
        asyncio.run(main_of(environment, store, handler, Kind(kind), float(settle)))
    except InboxLostError:
        return HAS_LOST
    except JournalInUseError:
        return IS_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
