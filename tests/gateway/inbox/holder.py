"""A process of its own that has an inbox, and says what it does: it is killed, or frozen, by a test."""

import asyncio
import sys
import time

from healthmsg.errors import HealthmsgError
from tests.gateway.inbox.inboxes import message, of, opened


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - for the test


async def main(target: str, role: str) -> None:
    """Take one event after the other; `dies`: wait for ever with the first; `writes`: enter one more each."""
    async with opened(target) as inbox:
        say("holds", time.monotonic())
        done: list[str] = []
        number = 1000
        while True:
            if role == "writes":
                number += 1
                await inbox.apply(of(message(number, f"c{number}")))
            for event in await inbox.next(1, done):
                say("got", event.id, event.attempt, time.monotonic())
                done = [event.id]
            if role == "dies":
                await asyncio.Event().wait()
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except HealthmsgError as error:
        say("failed", type(error).__name__)
