"""The source of slots on lease: it keeps a holder's lease in a ledger, by one task."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from healthmsg.aio import start
from healthmsg.clock import machine_seconds
from healthmsg.log import log
from healthmsg.ratelimit.leases.holder import Change, Holder, Notice, Read
from healthmsg.ratelimit.leases.ledger import Terms
from healthmsg.ratelimit.leases.shares import Needs
from healthmsg.ratelimit.leases.window import LeasedWindow
from healthmsg.ratelimit.source import OTHER_TERMS, Fallback, Feeds, StoreAwayError
from healthmsg.ratelimit.window import LimitStats

# Seconds: the length of a lease, ...
LEASE: Final = 1.2
# ... for how long calls wait for a store that is away, when what was leased is over, ...
_PATIENCE: Final = 5.0
# ... and the waits between two attempts to connect.
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 0.5
# Turns a second, on average, and how many may follow one another at once.
_TURNS_PER_SECOND: Final = 3.5
_TURNS_AT_ONCE: Final = 5.0
# What another attempt costs, when another process was faster.
_OF_A_CONFLICT: Final = 0.4
_LONGEST_CLOSE: Final = 1.0
_AWAY: Final = (
    "the limit of calls is shared over a store that has not answered for {seconds:.0f} s ({problem}), and"
    " what was leased is over. See to the store; calls go on by themselves when it is back"
)
_CANNOT: Final = "the limit of calls cannot be shared: {problem}. See to the URL, the rights and the store"
_DIVIDES: Final = (
    "the store of the shared limit is away (%(problem)s): this process makes %(part)d calls of it"
)


class LedgerStore(Protocol):
    """Where a ledger is kept."""

    lock: int | None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""

    async def connect(self, patience: float) -> None:
        """Connect. Each statement may take that many seconds."""

    async def turn(self, member: str) -> Read:
        """Let the own beat rise, and read everything."""

    async def write(self, change: Change) -> bool:
        """Write the ledger, unless another was faster."""

    async def close(self) -> None:
        """End the connection."""

    def terminate(self) -> None:
        """End the connection without a word."""

    def is_away(self, error: Exception) -> bool:
        """Return whether the store itself is away, so that no other process is served either."""

    def problem_of(self, error: Exception) -> tuple[str, bool]:
        """Return what went wrong, without anything private, and whether it will go wrong again."""


MakeStore = Callable[[Callable[[Notice], object], Callable[[], object]], LedgerStore]


class LeasedSource:
    """Keeps a lease, and the window of the slots on it."""

    window: LeasedWindow

    def __init__(self, make_store: MakeStore, terms: Terms, fallback: Fallback, workers: int | None) -> None:
        self._terms = terms
        self._fallback = fallback
        self._workers = workers
        self._store = make_store(self._hear, self._see_loss)
        self._limiter: Feeds
        self._holder: Holder
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._heard = False
        """Whether others have written what concerns this process."""
        self._is_closing = False
        self._budget = _TURNS_AT_ONCE
        self._budget_at = 0.0
        self._away_since: float | None = 0.0
        self._problem = "it was not reached yet"
        self._is_hopeless = False
        self._is_dividing = False
        self._barred_until = -math.inf
        """After dividing: others may do so until then."""

    # --- what the limiter asks

    def attach(self, limiter: Feeds) -> None:
        """Take the limiter that this source feeds."""
        self._limiter = limiter
        self.window = LeasedWindow(
            self._terms.calls,
            self._terms.per,
            now=limiter.now,
            machine_now=machine_seconds,
            wake=limiter.wake,
            acquire=limiter.acquire,
        )
        self.window.when_paid = self._changed.set
        self.window.hold_off = limiter.hold_off
        self._holder = Holder(self._terms, self.window, when_paused=self._pause)

    def start(self) -> None:
        """Begin to keep the lease."""
        self._away_since = self._budget_at = machine_seconds()
        self._task = start(self._run(), name="healthmsg shared limit")

    def demand_changed(self) -> None:
        """Note that one more call waits."""
        self._changed.set()

    def paused(self, seconds: float, *, asked: bool) -> None:
        """Tell the others."""
        self._holder.pause(seconds, machine_seconds(), asked=asked)
        self._heard = True
        self._changed.set()

    def problem(self) -> StoreAwayError | None:
        """Return why no call can get a slot now or soon, if so."""
        now = machine_seconds()
        if self._away_since is None or now < self.window.usable_until:
            return None
        if self._is_hopeless:
            return StoreAwayError(_CANNOT.format(problem=self._problem))
        away = now - self._away_since
        if away < _PATIENCE or self._may_divide():
            return None
        return StoreAwayError(_AWAY.format(seconds=away, problem=self._problem))

    def stats(self) -> LimitStats:
        """Return how it stands."""
        now = machine_seconds()
        held = self.window.total if now < self.window.usable_until else 0
        is_known = self._task is not None and self._away_since is not None
        away = now - (self._away_since or now) if is_known else None
        return LimitStats("postgresql", held, self._holder.workers or None, away)

    async def close(self) -> None:
        """Return what is left to the store, and end the task."""
        task, self._task = self._task, None
        if task is None:
            return
        self._is_closing = True
        self._changed.set()
        try:
            async with asyncio.timeout(_LONGEST_CLOSE):
                await asyncio.shield(task)
        except TimeoutError:
            pass
        finally:
            task.cancel()
            self._store.terminate()
            self.window.clear()
            await asyncio.wait([task])

    # --- the task

    async def _run(self) -> None:
        wait = _FIRST_WAIT
        while not self._is_closing:
            try:
                await self._store.connect(self._terms.lease)
                self._holder.lock = self._store.lock
                await self._keep()
            except Exception as error:  # noqa: BLE001 - each is said, and what follows is the same
                if self._away_since is None:
                    self._away_since, wait = machine_seconds(), _FIRST_WAIT
                self._note_failure(error)
            if not self._is_closing:
                await self._wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _note_failure(self, error: Exception) -> None:
        self._holder.unclear()
        self._see_loss()
        self._store.terminate()
        if isinstance(error, _OtherTermsError):
            self._problem, self._is_hopeless = OTHER_TERMS, False
            return
        self._problem, self._is_hopeless = self._store.problem_of(error)
        if self._store.is_away(error) and not self._is_dividing:
            self._holder.go_on()

    async def _wait(self, seconds: float) -> None:
        """Wait before the next attempt to connect, and see to those who wait meanwhile."""
        until = machine_seconds() + seconds
        while not self._is_closing and (left := until - machine_seconds()) > 0:
            if self.problem() is not None:
                self._limiter.fail_waiting(lambda: self.problem() or StoreAwayError(self._problem))
            elif self._may_divide():
                self._divide()
            await self._until_changed(left)

    async def _keep(self) -> None:
        self._heard = True
        while not self._is_closing:
            if not self._store.is_connected:
                raise ConnectionResetError
            now = machine_seconds()
            self._refill(now)
            needs = self._holder.needs(now, self._limiter.waiting_in())
            wanted_at = now if self._is_turn_wanted(needs) else self._holder.next_turn()
            at = max(wanted_at, now + (1 - self._budget) / _TURNS_PER_SECOND, self._barred_until)
            if at <= now:
                await self._turn(needs)
            else:
                await self._until_changed(at - now)
        await self._turn((0, 0, 0))
        await self._store.close()

    def _is_turn_wanted(self, needs: Needs) -> bool:
        return self._heard or self._holder.has_to_return() or self._holder.wants_more(needs)

    def _refill(self, now: float) -> None:
        self._budget = min(_TURNS_AT_ONCE, self._budget + (now - self._budget_at) * _TURNS_PER_SECOND)
        self._budget_at = now

    async def _until_changed(self, seconds: float) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _turn(self, needs: Needs) -> None:
        holder = self._holder
        self._budget -= 1
        self._heard = False
        while True:
            if not self._store.is_connected:
                raise ConnectionResetError
            holder.begin(machine_seconds())
            read = holder.with_terms(await self._store.turn(holder.id), machine_seconds())
            if read is None:
                raise _OtherTermsError
            self._end_dividing()
            if self._barred_until > machine_seconds():
                break
            if holder.is_outdated(read):
                self._budget -= _OF_A_CONFLICT
                if self._is_turn_put_off():
                    break
                continue
            if not holder.renewed(read, machine_seconds(), needs) and not self._is_closing:
                break
            change = holder.decide(read, machine_seconds(), needs, leaving=self._is_closing)
            if await self._store.write(change):
                holder.committed(change.ledger, machine_seconds())
                break
            holder.refused()
            self._budget -= _OF_A_CONFLICT
            if self._is_turn_put_off():
                break
        self._away_since, self._is_hopeless = None, False

    def _is_turn_put_off(self) -> bool:
        """Return whether it has been tried too often in a row, and is to be taken up again later."""
        if self._budget >= -1 or self._is_closing:
            return False
        self._heard = True
        return True

    # --- what comes from outside

    def _hear(self, notice: Notice) -> None:
        if self._holder.hear(notice, machine_seconds()):
            self._heard = True
            self._changed.set()

    def _see_loss(self) -> None:
        if not self._is_dividing:  # then nothing in the window is on lease
            self._holder.stop()
        self._changed.set()

    def _pause(self, seconds: float, asked: bool) -> None:  # noqa: FBT001 - the holder's
        self._limiter.pause_for_others(seconds, asked=asked)

    # --- without the store

    def _may_divide(self) -> bool:
        return self._fallback == "divide" and self._own_part() > 0

    def _own_part(self) -> int:
        """Return how many slots are this process's without the store; 0: that is not known, or none."""
        workers = self._workers or self._holder.workers
        return self._terms.calls // workers if workers else 0

    def _divide(self) -> None:
        """Take a part of the limit when all leases must be over, as each of the others does."""
        now = machine_seconds()
        over_at = max(self._holder.lease_until, self._away_since or now) + self._terms.longest_use(0.0)
        part = self._own_part()
        if self._is_dividing or now < over_at:
            return
        self._is_dividing = True
        self.window.clear()
        self.window.add([0.0] * part)
        self.window.usable_until = math.inf
        self._limiter.wake()
        log(logging.WARNING, _DIVIDES, part=part, problem=self._problem)

    def _end_dividing(self) -> None:
        """Use nothing until the others have seen as well that the store is back."""
        if self._is_dividing:
            self._is_dividing = False
            self.window.clear()
            self.window.usable_until = -math.inf
            self._barred_until = machine_seconds() + self._terms.longest_use(0.0)


class _OtherTermsError(Exception):
    """Another process shares this limit by other terms."""
