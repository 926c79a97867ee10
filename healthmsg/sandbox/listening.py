"""Listening on this machine."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web
from attrs import frozen
from yarl import URL

# How long calls that are running when the sandbox stops may take to end by themselves.
_GRACE: Final = 0.05
# Addresses that one can listen on but not call.
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@frozen
class Listening:
    """A server that listens."""

    _runner: web.ServerRunner
    origins: Sequence[str]
    """Scheme, host and port, for each port that was asked for."""

    @classmethod
    async def start(cls, answer: Answer, host: str, ports: Sequence[int]) -> "Listening":
        """Listen; port 0 takes a free one.

        Raises:
            OSError: it cannot listen there.
        """
        runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            for port in ports:
                await web.TCPSite(runner, host, port).start()
        except BaseException:
            await runner.cleanup()
            raise
        reachable = _WILDCARDS.get(host, host)
        listening = [address[1] for address in runner.addresses]
        return cls(
            runner, [str(URL.build(scheme="http", host=reachable, port=number)) for number in listening]
        )

    async def stop(self) -> None:
        """Stop, cut every connection, and end what is still running."""
        await self._runner.cleanup()
        await asyncio.sleep(0)  # aiohttp cancels what is left, without waiting for it to end
