"""What each call of a run waits for before it is sent: order, window and lease."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

from attrs import evolve

from healthmsg.aio import start
from healthmsg.api import Api
from healthmsg.bulk.journal.base import Claim, Journal
from healthmsg.clock import Stopwatch
from healthmsg.delivery.aliases import Aliases
from healthmsg.errors import ClaimLostError
from healthmsg.pipeline.request import Request, Response
from healthmsg.ratelimit.limiter import RateLimit

_Task = asyncio.Task[Any]
# Calls that may be noted in the journal before their turn: as many as the limit allows in this many seconds,
# within bounds. Enough that the limit never waits for the journal. Few enough that little is in doubt when
# the process is killed.
_WINDOW_SECONDS: Final = 0.25
_SMALLEST_WINDOW: Final = 8
_LARGEST_WINDOW: Final = 64
# Renewals in the time of one lease.
_RENEWALS: Final = 4
# The share of a lease after which it counts as lost, so that a call just sent still arrives within it.
_SAFE: Final = 1 - 1 / _RENEWALS
_LOST: Final = "The lease on this message may have ended before its call was made: it was not sent."
Prepare = Callable[[Request, "_Task | None"], object]


class CallTracker:
    """Knows which task of a pool makes which request, and so what may have been sent when the pool closes."""

    def __init__(self, api: Api, in_flight: Mapping[_Task, Any], prepare: Prepare | None = None) -> None:
        self.api: Api = evolve(api, send=self._send)
        """The service; calls made through it are tracked."""
        self.requests: dict[_Task, Request] = {}
        """The last request of each task of the pool."""
        self._send_untracked = api.send
        self._in_flight = in_flight
        self._prepare = prepare

    def _send(self, request: Request) -> Awaitable[Response]:
        task = asyncio.current_task()
        its_task = task if task in self._in_flight else None
        if self._prepare is not None:
            self._prepare(request, its_task)
        if its_task is not None:
            self.requests[its_task] = request
        return self._send_untracked(request)

    def forget(self, task: _Task | None) -> None:
        """Forget what a task has requested."""
        if task is not None:
            self.requests.pop(task, None)

    def calls_of(self, task: _Task | None) -> int:
        """Return how many calls the last request of a task has led to so far."""
        request = self.requests.get(task) if task is not None else None
        if request is None:
            return 0
        # A try that has no slot yet has not been made; those before it have.
        return request.current.number - (request.current.slot is None)

    def has_begun(self, task: _Task) -> bool:
        """Return whether a task may have sent anything. If not, it still waits for its first turn."""
        request = self.requests.get(task)
        return request is not None and (request.current.slot is not None or request.current.number > 1)


class DispatchWindow:
    """Limits how many messages are noted as begun while they wait for the rate limit."""

    def __init__(self, rate: RateLimit) -> None:
        calls = int(_WINDOW_SECONDS * rate.calls / rate.per)
        self._room = asyncio.Semaphore(min(max(_SMALLEST_WINDOW, calls), _LARGEST_WINDOW))
        self._waiting: set[_Task | None] = set()

    @property
    def has_room(self) -> bool:
        """Whether `enter` would not wait."""
        return not self._room.locked()

    async def enter(self) -> None:
        """Wait for room, unless this task has some, and hold it until its call is sent."""
        if asyncio.current_task() in self._waiting:
            return
        await self._room.acquire()
        self._waiting.add(asyncio.current_task())

    def leave(self, task: _Task | None) -> None:
        """Release the room, once."""
        if task in self._waiting:
            self._waiting.remove(task)
            self._room.release()


class OrderKeeper:
    """Keeps the messages to one patient in order, also when they have different addresses.

    The client may learn that two addresses lead to one chat while messages to both are under way. The journal
    is updated before another message begins. While a message is starting a conversation, its id is not known
    yet: a later message to an address that may be the same conversation waits for the answer.
    """

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._numbers = count()
        self._starting: dict[int, asyncio.Future[None]] = {}
        """Messages that are starting a conversation."""
        self._learnt: list[Sequence[str]] = []
        """Addresses that lead to one chat, which the journal does not know yet."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Collect what the client learns about addresses in the meantime."""
        self._aliases.listen(self._learnt.append)
        try:
            yield
        finally:
            self._aliases.stop_listening(self._learnt.append)

    def learn_about(self, chats: Iterator[str]) -> None:
        """Queue for the journal what is known about these addresses."""
        self._learnt += self._aliases.known_groups(chats)

    async def enter(self, chat: str) -> int:
        """Wait for the conversations that earlier messages start, if this address may be one of them.

        Return a number for `mark_started`, which must be called in the end.
        """
        number = next(self._numbers)
        while self._starting and self._aliases.may_be_started(chat):
            earlier = [starting for other, starting in self._starting.items() if other < number]
            if not earlier:
                break
            await asyncio.wait(earlier)
        if self._aliases.is_still_to_start(chat):
            self._starting[number] = asyncio.get_running_loop().create_future()
        return number

    def mark_started(self, number: int) -> None:
        """Note that the conversation is known, or could not be started."""
        starting = self._starting.pop(number, None)
        if starting is not None and not starting.done():
            starting.set_result(None)

    async def record_aliases(self, journal: Journal) -> None:
        """Write to the journal which addresses lead to one chat. It decides which message is next."""
        if self._learnt:
            learnt = [*self._learnt]
            self._learnt.clear()
            await journal.learn_same(learnt)


class Lease:
    """Renews the lease on all claims, and decides before each call whether it may still be made.

    If renewing fails until shortly before the end, by the event loop's clock, all claims are lost: `lose`
    must stop every call, also those under way. A journal without a lease needs none of this.

    The database decides when a lease ends, by its own clock. A worker can only estimate that, and some of its
    clocks stop while the machine sleeps or a virtual machine is paused. So the time since a claim was
    confirmed is the largest of three: the machine's clock, which counts suspend, the time of day, and the
    event loop's clock. If a clock was only set forward, the worker asks the database again and continues.

    A timer cannot do this, since it stops with the event loop's clock. So each try of a call checks the
    lease: when it gets its turn within the limit, when it has a connection, and directly before its first
    byte is written. An upload checks once more before its last chunk. One gap remains: the machine falls
    asleep after the last check, or while the operating system still holds the bytes. For that, `settle` must
    be longer than the service keeps a silent connection open.
    """

    def __init__(self, journal: Journal, lose: Callable[[], None]) -> None:
        self._journal = journal
        self._lose = lose
        self._length = journal.lease
        self._safe_seconds = 0.0 if self._length is None else self._length.total_seconds() * _SAFE
        self._renewed: _SinceConfirmed | None = None
        self._kept: Mapping[str, int] = {}
        """The claims that the last renewal confirmed: keys and fence numbers."""
        self._end: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._length is not None:
            self._postpone_end(self._length)
            self._renewing = start(self._renew(self._length))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            if not self._renewing.cancelled():
                self._renewing.exception()  # the journal has failed, which all its users see
        if self._end is not None:
            self._end.cancel()

    def of(self, claim: Claim) -> Callable[[], None] | None:
        """Return the check that a call with this message makes before it is sent; `None` without a lease.

        The check raises `ClaimLostError` once another worker may have the message. Call this before the
        journal notes that the message is begun, since that confirms the claim.
        """
        return None if self._length is None else partial(self._check, claim, _SinceConfirmed())

    def _check(self, claim: Claim, begun: "_SinceConfirmed") -> None:
        if begun.seconds() < self._safe_seconds:
            return
        is_kept = self._renewed is not None and self._kept.get(claim.key) == claim.fence
        if is_kept and self._renewed is not None and self._renewed.seconds() < self._safe_seconds:
            return
        raise ClaimLostError(_LOST)

    async def _renew(self, length: timedelta) -> None:
        while True:
            await asyncio.sleep(length.total_seconds() / _RENEWALS)
            asked_at, asked = asyncio.get_running_loop().time(), _SinceConfirmed()
            # A message that is claimed during the renewal counts from its own claim.
            self._kept = await self._journal.renew()
            self._renewed = asked
            self._postpone_end(length, asked_at)

    def _postpone_end(self, length: timedelta, now: float | None = None) -> None:
        if self._end is not None:
            self._end.cancel()
        loop = asyncio.get_running_loop()
        now = loop.time() if now is None else now
        self._end = loop.call_at(now + length.total_seconds() * _SAFE, self._lose)


class _SinceConfirmed(Stopwatch):
    """The time since the database confirmed a claim, by the clock that shows the most."""

    __slots__ = ("_day",)

    def __init__(self) -> None:
        super().__init__()
        self._day = time.time()

    def seconds(self) -> float:
        # In a paused virtual machine all clocks may stop, but its time of day is corrected afterwards.
        day, others = time.time() - self._day, Stopwatch.seconds(self)
        return day if day > others else others  # noqa: FURB136 - a third of the time of max()
