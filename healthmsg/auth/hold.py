"""How long a lock over a renewal is certainly still held, and what keeps it from ending."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from healthmsg.aio import start
from healthmsg.clock import machine_seconds
from healthmsg.errors import ClaimLostError, ConfigurationError, TokenStoreError
from healthmsg.pipeline.request import Request, Response, Send

LIFE: Final = 30.0
"""Seconds after which a lock ends whose owner has not been heard of."""
_SHORTEST_LIFE: Final = 0.2
# The clocks of two machines may run apart by that much.
_CERTAIN: Final = 0.99
_RENEWALS_IN_A_LIFE: Final = 3
_LOST: Final = (
    "The lock over the renewal was lost: this process stood still for too long, or the store was away."
    " Another process may have renewed the token since, so nothing was sent or saved after that."
)


def checked_life(seconds: float) -> float:
    """Return such a length of a lock's life.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not isinstance(seconds, int | float) or not _SHORTEST_LIFE <= seconds < math.inf:
        raise ConfigurationError(f"lock_life must be {_SHORTEST_LIFE} seconds or more")
    return float(seconds)


class Hold:
    """A lock that this process has, for as long as the store keeps it without being asked again.

    It is counted from before the store was asked, by a clock that goes on while the machine sleeps.
    """

    def __init__(self, life: float, asked_at: float) -> None:
        self._life = life
        self._until = asked_at + life * _CERTAIN

    def check(self) -> None:
        """Do nothing, quickly, as long as the lock is certainly held.

        Raises:
            TokenStoreError: it may be lost.
        """
        if machine_seconds() >= self._until:
            raise TokenStoreError(_LOST)

    def lose(self) -> None:
        """Note that the lock is lost."""
        self._until = -math.inf

    @asynccontextmanager
    async def kept(self, extend: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
        """Ask the store again and again to keep the lock, as long as this is entered."""
        keeper = start(self._keep(extend), name="healthmsg token lock")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _keep(self, extend: Callable[[], Awaitable[bool]]) -> None:
        while True:
            await asyncio.sleep(self._life / _RENEWALS_IN_A_LIFE)
            asked_at = machine_seconds()
            # A store that is away for a moment is asked again; the time that is left goes on.
            with suppress(Exception):
                if not await extend():
                    self.lose()
                    return
                self._until = asked_at + self._life * _CERTAIN


Check = Callable[[], None]


def check_of(store: object) -> Check:
    """Return what raises a `TokenStoreError` once the store's lock may be lost: its `check_lock`, if any."""
    check: Check = getattr(store, "check_lock", _cannot_be_lost)
    return check


def _cannot_be_lost() -> None:
    """Do nothing: such a lock ends with the process."""


def sending_while_held(check: Check, send: Send) -> Send:
    """Return a `send` that raises `ClaimLostError` where a call would leave without the lock."""

    async def send_while_held(request: Request) -> Response:
        request.before_send = partial(_check_before_send, check)
        return await send(request)

    return send_while_held


def _check_before_send(check: Check) -> None:
    try:
        check()
    except TokenStoreError:
        pass
    else:
        return
    raise ClaimLostError("The lock over the renewal was lost.")
