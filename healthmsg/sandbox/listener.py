"""Listening on this machine, and being offline for a while."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import inf
from typing import Final

from aiohttp import web
from attrs import define, field
from yarl import URL

# How long calls that are running when the sandbox stops may take to end by themselves.
_GRACE: Final = 0.05
# Addresses that one can listen on but not call.
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@define(eq=False)
class Listener:
    """A server that listens, except while it is offline."""

    _answer: Answer
    _host: str
    _ports: Sequence[int]
    """0: a free one."""
    _addresses: Sequence[tuple[str, int]] = field(init=False)
    """Where it listens, with the ports that it got."""
    _sockets: Sequence[socket.socket] = field(init=False)
    _runner: web.ServerRunner = field(init=False)
    _is_stopping: asyncio.Event = field(factory=asyncio.Event, init=False)
    _offline_until: float = field(default=-inf, init=False)
    """On the event loop's clock."""
    _outage: asyncio.Task[None] | None = field(default=None, init=False)
    _running: set[asyncio.Task[object]] = field(factory=set, init=False)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: it cannot listen there.
        """
        self._sockets = _bind([(self._host, port) for port in self._ports])
        self._addresses = [bound.getsockname()[:2] for bound in self._sockets]
        await self._open()

    @property
    def origins(self) -> Sequence[str]:
        """Scheme, host and port, for each port that was asked for."""
        reachable = _WILDCARDS.get(self._host, self._host)
        return [str(URL.build(scheme="http", host=reachable, port=port)) for _, port in self._addresses]

    def go_offline(self, seconds: float) -> asyncio.Task[None]:
        """Cut every connection and refuse new ones for so many seconds; return the task that ends after that.

        While it is offline already, the latest of the moments counts. The task fails with `OSError` if it
        cannot listen there again.

        Raises:
            ValueError: less than no seconds.
        """
        if not seconds >= 0:  # NaN is refused as well
            raise ValueError("the seconds to be offline must be 0 or more")
        loop = asyncio.get_running_loop()
        self._offline_until = max(self._offline_until, loop.time() + seconds)
        if self._outage is None:
            self._outage = loop.create_task(self._be_offline())
        return self._outage

    async def stop(self) -> None:
        """Stop, cut every connection, and end what is still running.

        Raises:
            OSError: it was offline, and could not listen again.
        """
        self._is_stopping.set()
        if self._outage is not None:
            await self._outage
        await self._close()

    async def _be_offline(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self._offline_until and not self._is_stopping.is_set():
            await self._close()
            self._sockets = _bind(self._addresses)  # no other program gets the ports meanwhile
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._offline_until):
                    await self._is_stopping.wait()
            await self._open()
        self._outage = None

    async def _open(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._answer_tracked, access_log=None), shutdown_timeout=_GRACE
        )
        await self._runner.setup()
        try:
            for bound in self._sockets:
                await web.SockSite(self._runner, bound).start()
        except BaseException:
            await self._close()
            raise

    async def _close(self) -> None:
        await self._stop_accepting()
        await self._runner.cleanup()
        for bound in self._sockets:
            bound.close()
        # aiohttp does not wait for what it cancels, and forgets the calls whose callers have gone.
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await asyncio.sleep(0)

    async def _stop_accepting(self) -> None:
        # On Python 3.11 a server loses the connections, unclosed, that it accepts while it is closed.
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError):  # on Windows
            for bound in self._sockets:
                loop.remove_reader(bound)
        for _ in range(3):  # a connection that has just been accepted takes so long to be known
            await asyncio.sleep(0)

    async def _answer_tracked(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - aiohttp makes one
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await self._answer(request)


def is_allowed_host(request: web.BaseRequest, names: Collection[str]) -> bool:
    """Return whether a call's `Host` is one of these names, on loopback, or the address that it came in at.

    A browser lets a page call any host under the page's own name, which then may lead to this machine (DNS
    rebinding). Such a page could read all that the sandbox knows, even its made-up credentials.
    """
    header = request.headers.get("Host")
    if header is None:  # no browser leaves it out
        return True
    try:
        host = URL(f"http://{header}").host
    except ValueError:
        return False
    name = (host or "").rstrip(".").lower()
    if name in {"localhost", *names} or name.endswith(".localhost"):
        return True
    try:
        address = _address_of(name)
    except ValueError:
        return False
    where = request.get_extra_info("sockname")
    return address.is_loopback or (where is not None and address == _address_of(where[0]))


def _address_of(host: str) -> IPv4Address | IPv6Address:
    """Parse the address of a socket; one for both versions shows an IPv4 address as `::ffff:10.0.0.5`."""
    address = ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _bind(addresses: Sequence[tuple[str, int]]) -> Sequence[socket.socket]:
    """Reserve these ports, without listening yet."""
    with ExitStack() as until_all_are_bound:
        sockets = []
        for host, port in addresses:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            bound = until_all_are_bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if os.name == "posix":  # there, connections that have ended keep a port for a while
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
            sockets.append(bound)
        until_all_are_bound.pop_all()
    return sockets
