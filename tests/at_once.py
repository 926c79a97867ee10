"""Counting, on the other side, how many calls are made at once."""

import asyncio

from aiohttp import web
from attrs import define

from healthmsg.sandbox.faults import Execute


@define
class AtOnce:
    """A fault that changes nothing, but takes a while, and counts how many calls are in there at once."""

    seconds: float = 0.05
    now: int = 0
    most: int = 0

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            return await execute()
        finally:
            self.now -= 1
