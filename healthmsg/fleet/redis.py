"""The source of slots that Redis or Valkey grants call by call."""

import asyncio
import logging
import math
import secrets
from contextlib import suppress
from typing import Any, Final

from healthmsg.aio import finished, start
from healthmsg.clock import machine_seconds
from healthmsg.fleet.grants import IN_HAND, Grant, GrantWindow
from healthmsg.fleet.redis_script import SCRIPT
from healthmsg.log import log
from healthmsg.ratelimit.limiter import RateLimit
from healthmsg.ratelimit.source import OTHER_TERMS, Fallback, Feeds, StoreAwayError
from healthmsg.ratelimit.window import LimitStats
from healthmsg.redis_client import RedisError, answer_of, connect

_MICRO: Final = 1_000_000
# Seconds for which a grant is kept, besides the way from the store and back: it may have to wait for the
# spacing behind another one, and the event loop may be busy.
_GOOD_FOR: Final = 0.08
_LONGEST_GOOD_FOR: Final = 0.3
# Seconds that a grant may have waited here when more are asked for.
_BEHIND: Final = 0.008
# Seconds that a slot is granted in advance, besides the way to the store.
_AHEAD: Final = 0.02
# Of the interval between two calls: the store lets them follow each other a little closer, to make up.
_CLOSER: Final = 0.9
# Seconds that a place in the queue outlives the moment at which its worker was to ask again.
_PLACE_LIFE: Final = 0.1
# Seconds after which the store learns of calls that came back, if there is nothing else to ask.
_REPORT_AFTER: Final = 0.1
# Seconds after which a process without calls says that it is there: the store counts those of the last ten.
_BEAT: Final = 4.0
# Seconds: how long the store may take to answer, ...
_LONGEST_ANSWER: Final = 1.0
# ... how long calls wait for one that is away, and the waits between two attempts.
_PATIENCE: Final = 3.0
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 0.5
_LONGEST_CLOSE: Final = 1.0
# By how much two clocks may differ without that one of them was set.
_DRIFT: Final = 0.01
_SLOW_DRIFT: Final = 0.0005
_SET: Final = 0.01
_MARGIN: Final = 0.05
_AWAY: Final = (
    "the limit of calls is shared over a Redis that has not answered for {seconds:.0f} s ({problem}). See to"
    " the store; calls go on by themselves when it is back"
)
_TOO_LATE: Final = (
    "the limit of calls is shared over a Redis whose answers come too late to be used: something blocks this"
    " process's event loop, its machine is overloaded, or the way to the store is long"
)
_DIVIDES: Final = (
    "the Redis of the shared limit is away (%(problem)s): this process makes %(part)d calls of it"
)


class RedisSource:
    """Asks the store for a slot for each call that waits, by one task.

    The store decides who goes next. What this process says and hears are durations: in how many seconds a
    slot is free, or comes back. It counts them from before it asked where that is the careful side, and from
    the answer where that one is.
    """

    def __init__(
        self,
        url: str,
        name: str,
        rate: RateLimit,
        fallback: Fallback = "stop",
        workers: int | None = None,
    ) -> None:
        self._rate = rate
        self._redis = connect(url, _LONGEST_ANSWER)
        self._script = self._redis.register_script(SCRIPT)
        tag = f"healthmsg:limit:{{{name}}}"
        self._keys = [f"{tag}:{part}" for part in ("meta", "slots", "queue", "places", "workers")]
        self._me = secrets.token_hex(6)
        self._fallback = fallback
        self._workers = workers
        self._seen_workers: int | None = None
        self._limiter: Feeds | None = None
        self._task: asyncio.Task[None] | None = None
        self._poked = asyncio.Event()
        self._in_queue = (False, False, False)
        self._ask_at = self._report_at = self._beat_at = math.inf
        self._pause: tuple[float, float] | None = None
        """Until when, by our clock, and until when as the service asked; not said yet."""
        self._paused_until = -math.inf
        self._round_trip = 0.0
        self._last: tuple[float, float] | None = None
        """When the store was asked last, and when it answered, by the machine's clock."""
        self._since_known = 0.0
        """How much of the store's time has passed since this process first asked, as far as was heard."""
        self._ahead = math.inf
        """By how much our clock is ahead of that, at most."""
        self._was_set = self._is_refused = False
        self._away_since: float | None = None
        self._problem = ""
        self._late_since: float | None = None
        """Since when all that was granted was too old when it came."""
        self._part: _Part | None = None
        self.window: GrantWindow

    def attach(self, limiter: Feeds) -> None:
        """Take the limiter that this source feeds."""
        self._limiter = limiter
        self.window = GrantWindow(
            self._rate.calls,
            self._rate.per,
            now=limiter.now,
            wake=limiter.wake,
            acquire=limiter.acquire,
            when_back=self._report_soon,
            when_used=self.demand_changed,
        )

    def start(self) -> None:
        """Begin to ask."""
        self._task = start(self._run(), name="healthmsg shared limit")

    def demand_changed(self) -> None:
        """Ask at once for the first that waits in its lane."""
        wanted = self._wanted()
        if any(number and not known for number, known in zip(wanted, self._in_queue, strict=True)):
            self._ask_at = -math.inf
            self._poked.set()

    def paused(self, seconds: float, *, asked: bool) -> None:
        """Tell the others of a pause."""
        until = self._now() + seconds
        before = self._pause or (-math.inf, -math.inf)
        self._pause = max(before[0], until), max(before[1], until) if asked else before[1]
        self._paused_until = max(self._paused_until, until)
        self._ask_at = -math.inf
        self._poked.set()

    def problem(self) -> StoreAwayError | None:
        """Return why no call can get a slot, if so."""
        if self._is_refused:
            return StoreAwayError(OTHER_TERMS)
        away = self._away_for()
        if away is None or away < self._patience() or self._part is not None:
            return None
        return StoreAwayError(_AWAY.format(seconds=away, problem=self._problem))

    def stats(self) -> LimitStats:
        """Return how it stands."""
        return LimitStats("redis", workers=self._seen_workers, store_away_for=self._away_for())

    async def close(self) -> None:
        """Say what came back, and end."""
        task, self._task = self._task, None
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            await self._leave()
        finally:
            with suppress(RedisError, OSError):
                await finished(self._redis.aclose())

    async def _leave(self) -> None:
        if self._seen_workers is None or self._away_since is not None:
            return
        self.window.give_all_back()
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_LONGEST_CLOSE):
                await self._ask((0, 0, 0))
                await finished(answer_of(self._redis.zrem(self._keys[-1], self._me)))

    # --- the task

    async def _run(self) -> None:
        wait = _FIRST_WAIT
        while True:
            await self._until_there_is_something_to_ask()
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it is, no call may wait for ever
                self._note_away(type(error).__name__)
                await self._stay_away(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                wait = _FIRST_WAIT

    async def _until_there_is_something_to_ask(self) -> None:
        while (left := self._next_turn() - self._now()) > 0 or not self._has_to_ask():
            self._poked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else max(0.0, left)):
                    await self._poked.wait()
                    continue
            if not self._has_to_ask():
                self._ask_at = self._report_at = math.inf

    def _next_turn(self) -> float:
        return min(self._ask_at, self._report_at, self._beat_at)

    def _has_to_ask(self) -> bool:
        window = self.window
        if self._away_since is not None or self._is_refused or self._beat_at <= self._now():
            return True
        return bool(self._pause or window.back or window.taken or any(self._wanted()) or any(self._in_queue))

    async def _turn(self) -> None:
        wanted = self._wanted()
        asked_at = machine_seconds()
        self._beat_at = self._now() + _BEAT
        answer = await self._ask(wanted)
        answered_at = machine_seconds()
        if answer[0] == b"terms":
            self._is_refused, self._in_queue = True, (False, False, False)
            self._fail()
            self._ask_at = self._now() + _LONGEST_WAIT
            return
        self._note_back()
        if self._part is not None:
            self._end_part()
            return
        wait, paused, asked, elapsed, workers = (int(value) / _MICRO for value in answer[1:6])
        self._seen_workers = round(workers * _MICRO)
        trip = answered_at - asked_at
        self._round_trip = trip if not self._round_trip else 0.8 * self._round_trip + 0.2 * trip
        if elapsed >= 0 and self._has_been_set(elapsed, asked_at, answered_at):
            # What was granted by that clock is not used: the store forgets all.
            self._was_set = True
            self._forget_clock()
            self._ask_at = -math.inf
            return
        self._last = asked_at, answered_at
        self._compare_clocks(elapsed)
        self._hear_pause(paused, asked)
        self._take(answer[8:], asked_at, answered_at)
        granted = len(answer[8:]) // 2
        self._in_queue = _still_wanted(wanted, granted)
        self._ask_at = self._now() + wait if wait else math.inf
        self.demand_changed()

    async def _ask(self, wanted: tuple[int, int, int]) -> list[Any]:
        rate, window, now = self._rate, self.window, self._now()
        good_for = self._good_for()
        hold = window.longest_hold + good_for + IN_HAND
        pause = self._pause or (-math.inf, -math.inf)
        arguments: list[str | int] = [
            *(self._me, secrets.token_hex(4), int(self._was_set), rate.calls),
            int(_CLOSER * rate.per / rate.calls * _MICRO),
            *(
                _micro(hold),
                _micro(self._ahead_for()),
                # Others may be slower than this process.
                _micro(window.longest_hold + _LONGEST_GOOD_FOR + IN_HAND + _MARGIN),
                _micro(_PLACE_LIFE),
            ),
            *(_micro(max(0.0, until - now)) for until in pause),
            *(*wanted, f"{rate.per:g}"),
            -1 if self._last is None else _micro(machine_seconds() - self._last[0]),
        ]
        reported = dict(window.back)
        for id_, due in reported.items():
            arguments += [id_, _micro(due - now) if due > now else 0 if due == -math.inf else 1]
        taken = window.taken.copy()
        for n, due in enumerate(taken):
            if due > now:
                arguments += [f"{self._me}:taken:{n}:{secrets.token_hex(3)}:0", -_micro(due - now)]
        said, self._pause = self._pause, None
        try:
            answer: list[Any] = await finished(self._script(self._keys, arguments))
        except BaseException:
            self._pause = self._pause or said
            raise
        self._was_set = False
        for id_, due in reported.items():
            if window.back.get(id_) == due:  # else its call was answered meanwhile
                del window.back[id_]
        del window.taken[: len(taken)]
        self._report_at = math.inf if not window.back else self._now() + _REPORT_AFTER
        return answer

    def _take(self, granted: list[Any], asked_at: float, answered_at: float) -> None:
        """Put in what was granted: to be used from the moment that the store said, and for a while."""
        now, good_for = min(self._now(), self._ahead + self._since_known), self._good_for()
        grants = []
        for id_, delay in zip(granted[::2], granted[1::2], strict=True):
            seconds = int(delay) / _MICRO
            name = id_.decode() if isinstance(id_, bytes) else str(id_)
            end, last = asked_at + seconds + good_for, asked_at + seconds + good_for + IN_HAND
            # On a slow machine the way may have taken longer than the last ones.
            grants.append(Grant(name, now + seconds, min(max(end, answered_at + _GOOD_FOR), last), last))
        if not grants:
            return
        self.window.add(grants)
        if answered_at < max(grant.last for grant in grants):
            self._late_since = None
        elif self._late_since is None:
            self._late_since = answered_at
        elif answered_at - self._late_since > _PATIENCE and self._limiter is not None:
            self._late_since = None  # calls after these wait as long again
            self._limiter.fail_waiting(lambda: StoreAwayError(_TOO_LATE))

    def _good_for(self) -> float:
        return min(_GOOD_FOR + 2 * self._round_trip, _LONGEST_GOOD_FOR)

    def _has_been_set(self, elapsed: float, asked_at: float, answered_at: float) -> bool:
        """Return whether the store's clock shows another time between two questions than can have passed."""
        if self._last is None:
            return False
        least, most = asked_at - self._last[1], answered_at - self._last[0]
        return not least * (1 - _DRIFT) - _SET <= elapsed <= most * (1 + _DRIFT) + _SET

    def _compare_clocks(self, elapsed: float) -> None:
        """Learn the latest moment by our clock at which the store can have answered.

        The answer came then or later; each says so of all that follow, as far as two clocks go alike. So a
        grant need not wait for as long as its answer took.
        """
        if elapsed < 0:
            self._since_known, self._ahead = 0.0, math.inf
            elapsed = 0.0
        self._since_known += elapsed
        self._ahead = min(self._ahead + _SLOW_DRIFT * elapsed, self._now() - self._since_known)

    def _forget_clock(self) -> None:
        self._last, self._ahead = None, math.inf

    def _hear_pause(self, paused: float, asked: float) -> None:
        now = self._now()
        if self._limiter is not None and paused > 0 and now + paused > self._paused_until + _SET:
            self._paused_until = now + paused
            self._limiter.pause_for_others(max(paused, asked), asked=asked > 0)

    def _wanted(self) -> tuple[int, int, int]:
        """Return how many slots are wanted in each lane, besides those that are here.

        No more than are used soon: a grant that waits for its turn here gets too old, and so would all that
        follow.
        """
        if self._limiter is None:
            return 0, 0, 0
        grants = self.window.grants
        here = len(grants)
        is_behind = bool(grants) and grants[0].start < self._now() - _BEHIND
        most = max(2, int(self._ahead_for() * self._rate.calls / self._rate.per))
        room = 0 if is_behind else max(0, most - here)
        wanted = []
        for number in self._limiter.waiting_in():
            more = max(0, min(number - here, room))
            wanted.append(more)
            here, room = max(0, here - number), room - more
        return wanted[0], wanted[1], wanted[2]

    def _ahead_for(self) -> float:
        return _AHEAD + 2 * self._round_trip

    def _report_soon(self) -> None:
        self._report_at = min(self._report_at, self._now() + _REPORT_AFTER)
        self._poked.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # --- the store is away

    def _away_for(self) -> float | None:
        return None if self._away_since is None else machine_seconds() - self._away_since

    def _note_away(self, problem: str) -> None:
        self._problem, self._in_queue = problem, (False, False, False)
        self._forget_clock()  # the store may have answered what was not heard
        if self._away_since is None:
            self._away_since = machine_seconds()

    def _note_back(self) -> None:
        self._away_since = None
        self._is_refused = False

    async def _stay_away(self, seconds: float) -> None:
        """Wait before the next attempt, and after some patience fail calls or go on with a part."""
        self._ask_at = -math.inf
        part = self._own_part()
        if self._part is None and part and (self._away_for() or 0.0) >= self._patience():
            self._part = _Part(part, self.window.busy_until(self._now()))
            log(logging.WARNING, _DIVIDES, problem=self._problem, part=part)
        if self._part is not None:
            await self._divide(self._part, seconds)
            return
        if self.problem() is not None:
            self._fail()
        await asyncio.sleep(seconds)

    def _own_part(self) -> int:
        """Return how many slots are this process's without the store; 0: none, or it must not go on so."""
        workers = self._workers or self._seen_workers
        return self._rate.calls // workers if workers and self._fallback == "divide" else 0

    def _patience(self) -> float:
        """Return for how many seconds calls wait; with parts, until what the store granted must be over."""
        if not self._own_part():
            return _PATIENCE
        return max(_PATIENCE, self.window.longest_hold + _LONGEST_GOOD_FOR + IN_HAND)

    def _end_part(self) -> None:
        """Let all begin again as with a new store: the others may go on with their parts for a moment."""
        self.window.give_all_back()
        self.window.back.clear()
        self._part = None
        self._was_set = True
        self._forget_clock()
        self._ask_at = -math.inf

    def _fail(self) -> None:
        if self._limiter is not None:
            self._limiter.fail_waiting(lambda: self.problem() or StoreAwayError(OTHER_TERMS))

    async def _divide(self, part: "_Part", seconds: float) -> None:
        """Grant a part of the limit here, for so long."""
        end = self._now() + seconds
        while (now := self._now()) < end:
            part.count_back(self.window, now)
            if any(self._wanted()) and (id_ := part.take()):
                good_until = machine_seconds() + _GOOD_FOR
                self.window.add([Grant(id_, now, good_until, good_until + IN_HAND)])
            await asyncio.sleep(min(0.01, end - now))


class _Part:
    """Some slots of the limit, which this process grants itself while the store is away."""

    def __init__(self, slots: int, busy: list[float]) -> None:
        self._slots = slots
        self._due = {f"busy:{n}": due for n, due in enumerate(busy)}
        """When those come back that are taken; infinity: it is not known yet."""
        self._ids = 0

    def take(self) -> str:
        """Take a slot that is free and return its name; an empty one if there is none."""
        if len(self._due) >= self._slots:
            return ""
        self._ids += 1
        id_ = f"own:{self._ids}"
        self._due[id_] = math.inf
        return id_

    def count_back(self, window: GrantWindow, now: float) -> None:
        """Take back what was not used, and what can be counted no more."""
        window.count_returned(now)
        for id_ in self._due.keys() & window.back.keys():
            self._due[id_] = window.back.pop(id_)
        self._due = {id_: due for id_, due in self._due.items() if due > now}


def _still_wanted(wanted: tuple[int, int, int], granted: int) -> tuple[bool, bool, bool]:
    left = []
    for number in wanted:
        left.append(number > granted)
        granted = max(0, granted - number)
    return left[0], left[1], left[2]


def _micro(seconds: float) -> int:
    return math.ceil(seconds * _MICRO)
