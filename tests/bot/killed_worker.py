"""A process of its own that works through a bot's store, for the tests that kill it.

Arguments: the store, the log, and the id of the event that kills the process, if any. Each line of the log is
appended with one write, and so is in it or not when the process is killed. It ends when nothing is left.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from random import Random

from healthmsg.bot.clock import SystemClock
from healthmsg.bot.store.effects import Effect, PutStep
from healthmsg.bot.store.records import StepRecord
from healthmsg.bot.work import WorkLoop
from healthmsg.events import Event
from tests.bot.fakes import FakeEvents
from tests.bot.store.stores import opened


async def main(target: str, log: str, poison: str) -> None:
    lines = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    draw = Random(os.getpid())  # noqa: S311 - moments are no secrets

    async def handle(event: Event) -> Sequence[Effect]:
        os.write(lines, f"{event.id} {event.attempt}\n".encode())
        if event.id == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(draw.uniform(0, 0.005))
        return [PutStep(StepRecord(event.id, event.attempt, "done", ""))]

    async with opened(target) as store:
        loop = WorkLoop(store, FakeEvents(), handle, SystemClock())
        running = asyncio.create_task(loop.run())
        await loop.idle()
        loop.drain()
        await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
