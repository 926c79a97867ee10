"""How long a call may take."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol

from attrs import evolve, field, frozen

from healthmsg.errors import ConfigurationError
from healthmsg.validation import positive


@frozen(kw_only=True)
class Timeout:
    """How long one try of a call may take, in seconds.

    `connect` bounds making a connection: finding the host's address, a proxy's consent and TLS included.
    `write` bounds a standstill while a body is being sent, `read` the wait for the answer and between two
    pieces of it, `total` the whole try without the wait for the limit, but with the time that decoding a
    large list takes. An upload's `total` grows by a second for each 50 kB, and a file that is downloaded has
    none. What the operating system has taken counts as sent: the last part of a body falls under `read`.
    Seconds in which the machine sleeps do not count: an answer that came meanwhile is still read.

    Raises:
        ConfigurationError: a number that cannot be a time.
    """

    connect: float = field(default=10.0, validator=positive)
    write: float = field(default=30.0, validator=positive)
    read: float = field(default=60.0, validator=positive)
    total: float = field(default=60.0, validator=positive)


def as_timeout(value: object, default: Timeout) -> Timeout:
    """Return a `Timeout` as it is, and of a number `default` with that as its `total`.

    Raises:
        ConfigurationError: it is neither.
    """
    if value is None:
        return default
    if isinstance(value, Timeout):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return evolve(default, total=value)
    raise ConfigurationError("timeout must be a number of seconds or a Timeout")


class Deadline:
    """Cancels the task of a call that takes longer than `seconds`. A task makes one call at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}
        """When the time of each call is up, oldest first."""
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: "asyncio.Task[object]") -> None:
        """Watch a call."""
        loop = asyncio.get_running_loop()
        self._ends[task] = end = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)

    def end(self, task: "asyncio.Task[object]") -> bool:
        """Watch a call no longer, and return whether its time was up."""
        if self._ends.pop(task, None) is not None or task not in self._expired:
            return False
        self._expired.discard(task)
        return True

    def close(self) -> None:
        """Stop the timer when the last call is over. Calls over a session that was passed in may go on."""
        if self._timer is not None and not self._ends:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for task, end in tuple(self._ends.items()):
            if end > loop.time():
                self._timer = loop.call_at(end, self._look)
                return
            del self._ends[task]
            self._expired.add(task)
            task.cancel()


# Checks in each period: the standstill is noticed at most a tenth late.
_LOOKS: Final = 10


class _Outlet(Protocol):
    @property
    def output_size(self) -> int: ...

    @property
    def transport(self) -> asyncio.Transport | None: ...


class Standstill:
    """Calls `time_out` when what waits to be sent does not move for `seconds`.

    Only bytes that wait for the network count: while a file is being read, or the limit is waited for,
    nothing stands still.
    """

    def __init__(self, outlet: _Outlet, seconds: float, time_out: Callable[[], None]) -> None:
        self._outlet = outlet
        self._seconds = seconds
        self._time_out = time_out
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
            self._time_out()
            return
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)
