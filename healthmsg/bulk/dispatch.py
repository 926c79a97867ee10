"""What a run's calls pass before they leave: their order, the window, and the lease on their messages."""

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
# Seconds' worth of calls, and how many that is at least and at most: enough that the limit never waits for
# the journal, and few enough that hardly any is in doubt without having been sent when the process ends.
_AHEAD: Final = 0.25
_LEAST: Final = 8
_MOST: Final = 64
# So many times within a lease it is renewed.
_RENEWALS: Final = 4
# The share of a lease after which it counts as lost, so that a call that has just left arrives within it.
_SAFE: Final = 1 - 1 / _RENEWALS
_LOST: Final = "The lease on this message may have ended before its call was made: it was not sent."
Prepare = Callable[[Request, "_Task | None"], object]


class CallTracker:
    """Knows which task of a pool makes which request: on closing, that says what may have left."""

    def __init__(self, api: Api, in_flight: Mapping[_Task, Any], prepare: Prepare | None = None) -> None:
        self.api: Api = evolve(api, send=self._send)
        """The service; the calls that are made through it are noted."""
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
        return 0 if request is None or request.current.slot is None else request.current.number

    def has_begun(self, task: _Task) -> bool:
        """Return whether anything of a task can have left: if not, it still waits for its first turn."""
        request = self.requests.get(task)
        return request is not None and (request.current.slot is not None or request.current.number > 1)


class DispatchWindow:
    """Room for a few messages that are noted as begun while they wait for the limit."""

    def __init__(self, rate: RateLimit) -> None:
        self._room = asyncio.Semaphore(min(max(_LEAST, int(_AHEAD * rate.calls / rate.per)), _MOST))
        self._waiting: set[_Task | None] = set()

    async def enter(self) -> None:
        """Wait until there is room, and take it until this task's call leaves."""
        await self._room.acquire()
        self._waiting.add(asyncio.current_task())

    def leave(self, task: _Task | None) -> None:
        """Make room, if that was not done yet."""
        if task in self._waiting:
            self._waiting.remove(task)
            self._room.release()


class OrderKeeper:
    """Keeps the messages to one patient in order, whatever their addresses.

    That two addresses lead to one chat can turn out while messages to both are under way. The journal learns
    it then, before another message is begun. When an earlier message is just starting the conversation with a
    user, the answer says which conversation that is: a message to an address that may be it waits.
    """

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._numbers = count()
        self._starting: dict[int, asyncio.Future[None]] = {}
        """The messages that are about to start a conversation."""
        self._learnt: list[Sequence[str]] = []
        """Addresses that lead to one chat, which the journal does not know yet."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note what the client learns about addresses meanwhile."""
        self._aliases.listen(self._learnt.append)
        try:
            yield
        finally:
            self._aliases.stop_listening(self._learnt.append)

    def learn_about(self, chats: Iterator[str]) -> None:
        """Have the journal learn what is known about these addresses."""
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
        """Note that the conversation of a message is known now, or will not be."""
        starting = self._starting.pop(number, None)
        if starting is not None and not starting.done():
            starting.set_result(None)

    async def record_aliases(self, journal: Journal) -> None:
        """Have the journal note which addresses lead to one chat; it decides which message is the next."""
        if self._learnt:
            learnt = [*self._learnt]
            self._learnt.clear()
            await journal.learn_same(learnt)


class Lease:
    """Renews the lease on all claims, and says of each call whether it may still be made.

    When renewing has not worked until shortly before the end, by the event loop's clock, all are lost: `lose`
    has to see to it that no call is made any more, nor still under way. Without a lease there is nothing to
    do.

    When a lease ends is decided by the database, by the clock of its machine. A worker judges by its own
    clocks whether the lease may have ended, and where the machine sleeps, or a virtual one is paused,
    some of them stand still. So the time since a claim was confirmed is taken from the one that has gone
    furthest: the machine's, which goes on during suspend, the time of day, or the event loop's. If one of
    them was only set forward, the worker asks the database once more, and goes on.

    A timer cannot do this, since it stands still with the event loop's clock. So each try of a call looks
    by itself: when it has its turn within the limit, when it has a connection, directly before its first
    byte leaves, and an upload once more before its last chunk does. What is left is a machine that falls
    asleep between that look and the sending, or while the operating system still has the bytes: then
    `settle` must be longer than the service keeps a silent connection open.
    """

    def __init__(self, journal: Journal, lose: Callable[[], None]) -> None:
        self._journal = journal
        self._lose = lose
        self._length = journal.lease
        self._safe_seconds = 0.0 if self._length is None else self._length.total_seconds() * _SAFE
        self._renewed: _SinceConfirmed | None = None
        self._kept: Mapping[str, int] = {}
        """What was this worker's when it was renewed last: keys, and the number of each claim."""
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
        """Return what a call with this message has to ask before it leaves; `None` where there is no lease.

        That raises `ClaimLostError` once another worker may have taken the message over. To be called before
        the journal is asked to note that the message is begun, since that confirms the claim.
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
            # What is claimed while this is under way counts from its own beginning.
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
    """How long ago the database was asked to confirm a claim, by the clock that has gone furthest."""

    __slots__ = ("_day",)

    def __init__(self) -> None:
        super().__init__()
        self._day = time.time()

    def seconds(self) -> float:
        # A paused virtual machine's other clocks may stand still; its time of day is put right afterwards.
        day, others = time.time() - self._day, Stopwatch.seconds(self)
        return day if day > others else others  # noqa: FURB136 - a third of the time of max()
