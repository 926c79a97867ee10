"""Working on what catching up asks for."""

import asyncio
from typing import Any, cast

from attrs import define, field

from healthmsg.gateway.jobs import AT_ONCE, Jobs
from healthmsg.gateway.schedule import Job, ReadChat


@define(eq=False)
class Core:
    """Has so many chats to be read, all of which are gone by the time."""

    left: int
    done: int = 0
    all_done: asyncio.Event = field(factory=asyncio.Event)

    def next_job(self, now: float) -> Job | None:  # noqa: ARG002 - as the real one
        if not self.left:
            return None
        self.left -= 1
        return ReadChat(f"conversations/c{self.left}", needs_record=False)

    def due(self) -> None:
        return None

    def begin(self, key: str, now: float) -> None:  # noqa: ARG002 - as the real one
        self.done += 1
        if not self.left:
            self.all_done.set()


async def test_readings_that_all_end_in_the_same_turn_are_followed_by_others() -> None:
    core = Core(left=3 * AT_ONCE)
    unused = cast("Any", None)
    jobs = Jobs(
        unused,
        cast("Any", core),
        unused,
        now=lambda: 0.0,
        moment=unused,
        write=unused,
        written=unused,
        room=unused,
        listed=unused,
    )
    running = asyncio.create_task(jobs.run())
    try:
        async with asyncio.timeout(2):
            await core.all_done.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])
