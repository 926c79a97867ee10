"""A time-out for sending: aiohttp has none."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol

# So many looks make the standstill end at most a tenth late.
_LOOKS: Final = 10


class _Outlet(Protocol):
    @property
    def output_size(self) -> int: ...

    @property
    def transport(self) -> asyncio.Transport | None: ...


class Standstill:
    """Strikes when what waits to be sent does not move for `seconds`.

    Only bytes that wait for the network count: while a file is being read, or the limit is waited for,
    nothing stands still.
    """

    def __init__(self, outlet: _Outlet, seconds: float, strike: Callable[[], None]) -> None:
        self._outlet = outlet
        self._seconds = seconds
        self._strike = strike
        self._loop = asyncio.get_running_loop()
        self._taken = -1
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._look()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        transport, now = self._outlet.transport, self._loop.time()
        waiting = 0 if transport is None else transport.get_write_buffer_size()
        taken = self._outlet.output_size - waiting
        if not waiting or taken != self._taken:
            self._taken, self._since = taken, now
        elif now - self._since >= self._seconds:
            self._timer = None
            self._strike()
            return
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)
