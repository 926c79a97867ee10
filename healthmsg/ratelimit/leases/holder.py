"""The holder: what one process knows of its lease, and what it writes into the ledger. No I/O and no clock.

A *turn* begins with one statement that lets the process's beat rise and reads everything: `begin`, and
`renewed` with what was read. Mostly that is all. If there is something to change, the ledger is written:
`decide`, then `committed`, `refused` (another was faster: the turn begins again) or `unclear` (the answer was
lost).
"""

import math
import secrets
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from attrs import define, evolve, field, frozen

from healthmsg.ratelimit.leases.ledger import Ledger, Member, Pause, Terms
from healthmsg.ratelimit.leases.shares import Needs
from healthmsg.ratelimit.leases.window import LeasedWindow

# The share of a lease that counts: clocks may run at rates that differ by as much as one per cent.
_COUNTS: Final = 0.99
# The share of a lease after which it is renewed: one attempt may fail, and most of a second one.
_RENEWED_AFTER: Final = 1 / 3
# Seconds by which the end of a connection may be seen later here than by the store.
_SEEN_LATE: Final = 0.1
# For how many seconds interactive demand is remembered. It holds slots while its calls do, and a while
# more: with 2 s here, bursts of five calls every 3 s kept six slots for ever, and the fleet made 25.8 calls
# a second and not 27.
_REMEMBERED: Final = 1.0


@frozen
class Read:
    """What was read from the store."""

    ledger: Ledger | None
    """`None`: there is none yet."""
    server: str
    """Which start of the store it is."""
    beats: Mapping[str, int]
    """How often each process has renewed its lease. One that is in the ledger and not here has none."""
    locks: AbstractSet[int] | None
    """The locks that sessions hold; `None`: that cannot be known."""


@frozen
class Notice:
    """What others learn of a turn at once, beside the ledger."""

    gifts: dict[str, tuple[int, list[float]]]
    """How many slots were ever handed to a process, and the rests of the last ones."""
    debts: dict[str, int]
    pause: Pause | None

    def __bool__(self) -> bool:
        return bool(self.gifts or self.debts or self.pause)


@define
class _Seen:
    """Since when another process has not written."""

    beat: int
    since: float
    without_lock_since: float | None = None


@frozen
class Change:
    """What is to be written."""

    ledger: Ledger
    notice: Notice
    id: str
    joins: bool
    """Whether the process is new there, so that its beat begins."""
    leaves: bool
    over: dict[str, int]
    """Processes that are taken out, and the beat with which they stand still. If one has risen, nothing is
    written."""


@define
class _Attempt:
    writes: int
    returned: int


@define(eq=False)
class Holder:
    """Keeps one process's lease. Moments `now` are by the machine's clock, those of slots by the loop's."""

    terms: Terms
    window: LeasedWindow
    lock: int | None = None
    """The lock that this session holds, if it can."""
    new_id: Callable[[], str] = lambda: secrets.token_hex(6)
    when_paused: Callable[[float, bool], None] = lambda _seconds, _asked: None
    id: str = field(default="", init=False)
    writes: int = field(default=0, init=False)
    workers: int = field(default=0, init=False)
    """How many share the limit."""
    lease_until: float = field(default=-math.inf, init=False)
    renew_at: float = field(default=-math.inf, init=False)
    reported: Needs = field(default=(0, 0, 0), init=False)
    """What the others know that this process needs."""
    _given: int = field(default=0, init=False)
    _returning: list[float] = field(factory=list, init=False)
    """When those slots come back that are out of the window, and in its name in the ledger."""
    _server: str = field(default="", init=False)
    _written: int = field(default=0, init=False)
    """How many of them are free in the ledger that is being written."""
    _attempt: _Attempt | None = field(default=None, init=False)
    _asked_at: float = field(default=-math.inf, init=False)
    _seen: dict[str, _Seen] = field(factory=dict, init=False)
    _expires_at: float = field(default=math.inf, init=False)
    _pause: tuple[int, float, bool] | None = field(default=None, init=False)
    """The pause that is known, and until when."""
    _new_pause: tuple[float, bool] | None = field(default=None, init=False)
    _interactive: list[tuple[float, int]] = field(factory=list, init=False)
    _target: int = field(default=0, init=False)
    """How many slots this process should have, by its last turn."""

    # --- when to take a turn

    def next_turn(self) -> float:
        """Return when the next turn is due, if nothing else happens."""
        return min(self.renew_at, self._expires_at)

    def has_to_return(self) -> bool:
        """Return whether slots that are owed have come back."""
        return bool(self.window.paid or self._returning)

    def needs(self, now: float, waiting: Needs) -> Needs:
        """Return how many slots this process needs; interactive ones with one to spare, as of late."""
        left = self.window.left_in(self.window.now())
        background = left[2] + waiting[2]
        if waiting[2]:  # more will come: ask in large steps
            background *= 2
        interactive = left[0] + waiting[0]
        self._interactive = [(at, most) for at, most in self._interactive if at > now - _REMEMBERED]
        if interactive and (not self._interactive or self._interactive[-1][1] != interactive):
            self._interactive.append((now, interactive))
        most = max((most for _, most in self._interactive), default=0)
        calls = self.terms.calls
        return (
            min(calls, most + 1 if most else 0),
            min(calls, left[1] + waiting[1]),
            min(calls, background),
        )

    def wants_more(self, needs: Needs) -> bool:
        """Return whether more is needed than others know, and more than is held.

        Where the last turn could not fill a need, a greater one of the same lane would change nothing.
        """
        for lane in (1, 2, 3):
            need, known = sum(needs[:lane]), sum(self.reported[:lane])
            if need > max(known, self.window.total) and known <= max(1, self._target):
                return True
        return False

    # --- a turn

    def begin(self, now: float) -> None:
        """Note when a turn begins: its lease counts from here."""
        self._asked_at = now

    def is_outdated(self, read: Read) -> bool:
        """Return whether more is known here than was read: others have written since, and that was heard."""
        me = None if read.ledger is None else read.ledger.members.get(self.id)
        return me is not None and read.server == self._server and me.given < self._given

    def renewed(self, read: Read, now: float, needs: Needs) -> bool:
        """Take in what was read, the own beat having risen; return whether there is something to write."""
        ledger = read.ledger
        me = None if ledger is None else ledger.members.get(self.id)
        if ledger is None or me is None or self.id not in read.beats:
            return True
        if read.server != self._server:  # it may have lost what it had handed out last
            self._given = min(self._given, me.given)
        self._settle_attempt(me)
        self._take_gifts(me.given, me.gifts)
        if me.lock == self.lock:  # else others may miss the old one
            self._extend()
        if ledger.pause is not None:
            self._hear_pause(ledger.pause, now)
        over, self._server = self._watch(ledger, read, now), read.server
        self.workers = len(ledger.members)
        self._target = ledger.targets()[self.id]
        return bool(
            over
            or ledger.server != read.server
            or me.server != read.server
            or me.lock != self.lock
            or me.needs != needs
            or self.has_to_return()
            or me.held != self.window.total
            or ledger.debts()[self.id] > self.window.owed
            or (ledger.free and me.held < self._target)
            or self._new_pause is not None
            or len(me.gifts) > self.terms.calls
        )

    def with_terms(self, read: Read, now: float) -> Read | None:
        """Return what was read, by the terms of this process; `None`: others still keep other terms."""
        ledger = read.ledger
        if ledger is None or ledger.terms == self.terms:
            return read
        if ledger.members.keys() - self._watch(ledger, read, now).keys() - {self.id}:
            return None
        return evolve(read, ledger=Ledger.new(self.terms, read.server, self._longest_use()))

    def decide(self, read: Read, now: float, needs: Needs, *, leaving: bool = False) -> Change:
        """Return what is to be written. The ledger that was read is changed."""
        ledger = read.ledger
        if ledger is None:
            ledger = Ledger.new(self.terms, read.server, self._longest_use() if self.writes else 0.0)
        self._note_restart(ledger, read.server)
        joins, me = self._enter(ledger, read)
        self._balance(ledger, me)
        before = {name: member.given for name, member in ledger.members.items()}
        self._write(me, needs, read.server)
        over, self._server = self._watch(ledger, read, now), read.server
        for name in over:
            ledger.remove(name)
        self._give_back(ledger, me)
        if leaving:
            self.window.paid.extend(self.window.empty())
        else:
            self.window.owe(ledger.debts()[self.id])
        self._give_back(ledger, me)
        if leaving:
            del ledger.members[self.id]
        ledger.hand_out()
        self._share_pause(ledger, now)
        self._attempt = _Attempt(me.writes, len(self._returning))
        self.workers = len(ledger.members)
        return Change(ledger, self._notice(ledger, before), self.id, joins, leaving, over)

    def refused(self) -> None:
        """Note that another was faster: nothing was written."""
        self._attempt = None

    def unclear(self) -> None:
        """Note that the answer was lost: what was returned is used by no process until that is known."""

    def committed(self, ledger: Ledger, now: float) -> None:
        """Note that it was written."""
        self._settle()
        self._extend()
        me = ledger.members.get(self.id)
        if me is not None:
            self.reported, self._target = me.needs, ledger.targets()[self.id]
            self._take_gifts(me.given, me.gifts)
        else:  # it has left
            self.stop()
        if self._pause is not None and self._pause[1] <= now:
            self._pause = None
        self._new_pause = None

    def _extend(self) -> None:
        self.lease_until = self._asked_at + _COUNTS * self.terms.lease
        self.renew_at = self._asked_at + _RENEWED_AFTER * self.terms.lease
        self.window.usable_until = self.lease_until
        self.window.wake()

    def hear(self, notice: Notice, now: float) -> bool:
        """Take in what another has written; return whether a turn is needed to learn the rest."""
        if notice.pause is not None:
            self._hear_pause(notice.pause, now)
        incomplete = False
        if self.id in notice.gifts:
            given, rests = notice.gifts[self.id]
            incomplete = given - self._given > len(rests)
            if not incomplete:
                self._take_gifts(given, rests)
        return incomplete or bool(notice.debts.get(self.id))

    def pause(self, seconds: float, now: float, *, asked: bool) -> None:
        """Note a pause of this process, for the others."""
        if self._new_pause is None or now + seconds > self._new_pause[0]:
            self._new_pause = now + seconds, asked

    def stop(self) -> None:
        """Let nothing leave until the next turn: the session has ended, and others may have seen that."""
        self.window.usable_until = -math.inf

    def go_on(self) -> None:
        """Use what is leased: the store itself is away, so that no other can have seen anything."""
        self.window.usable_until = self.lease_until
        self.window.wake()

    # --- what is written

    def _longest_use(self) -> float:
        return self.terms.longest_use(self.window.arrival)

    def _note_restart(self, ledger: Ledger, server: str) -> None:
        """Let what is free rest: what the store acknowledged last may be lost, and in use."""
        if ledger.server != server:
            ledger.server = server
            ledger.free = [max(rest, self._longest_use()) for rest in ledger.free]

    def _enter(self, ledger: Ledger, read: Read) -> tuple[bool, Member]:
        me = ledger.members.get(self.id)
        joins = me is None or self.id not in read.beats
        if me is None or joins:
            # The first time; or the lease was over long ago, and all that was held is used by others.
            self.window.clear()
            self._returning.clear()
            self._attempt = None
            if me is not None or self.writes or not self.id:
                self.id = self.new_id()
            self.writes = self._given = 0
            me = ledger.members[self.id] = Member(self.window.arrival)
        self._settle_attempt(me)
        self._take_gifts(me.given, me.gifts)
        me.gifts = []
        return joins, me

    def _settle_attempt(self, me: Member) -> None:
        if self._attempt is not None and me.writes == self._attempt.writes:
            self._settle()  # it was written, only the answer was lost
        self._attempt = None

    def _settle(self) -> None:
        if self._attempt is not None:
            del self._returning[: self._attempt.returned]
            self.writes = self._attempt.writes
            self._attempt = None

    def _take_gifts(self, given: int, rests: list[float]) -> None:
        new = given - self._given
        if new > 0:
            self.window.add(rests[-new:])
            self._given = given

    def _balance(self, ledger: Ledger, me: Member) -> None:
        """Bring the ledger and what is known here together: they differ when the store lost what it had."""
        self._returning += self.window.paid
        self.window.paid.clear()
        known = self.window.total + len(self._returning)
        if me.held > known:
            self._returning += [self.window.now() + self._longest_use()] * (me.held - known)
        elif me.held < known:
            self.window.clear()
            self._returning.clear()
            ledger.put([self._longest_use()] * me.held)
            me.held = 0

    def _write(self, me: Member, needs: Needs, server: str) -> None:
        self._written = 0
        me.writes = self.writes + 1
        me.arrival = self.window.arrival
        me.needs = needs
        me.lock, me.server = self.lock, server

    def _give_back(self, ledger: Ledger, me: Member) -> None:
        self._returning += self.window.paid
        self.window.paid.clear()
        now = self.window.now()
        dues = self._returning[self._written :]
        ledger.put([due - now for due in dues])
        me.held -= len(dues)
        self._written = len(self._returning)
        me.owes = self.window.owed

    def _watch(self, ledger: Ledger, read: Read, now: float) -> dict[str, int]:
        """Return those whose lease is over, with their beats, and see when the next one may be."""
        over: dict[str, int] = {}
        if read.server != self._server:
            # A beat that was lost and has risen again would look as if it stood still.
            self._seen.clear()
        self._expires_at = math.inf
        # Beats of those who began one and then were not fast enough to write the ledger. They go on with it:
        # a process that deleted it meanwhile would wait for them, and they for it.
        unused = read.beats.keys() - ledger.members.keys() - {self.id}
        known = ledger.members.keys() | unused
        self._seen = {name: seen for name, seen in self._seen.items() if name in known}
        for name, member in list(ledger.members.items()):
            if name == self.id:
                continue
            beat = read.beats.get(name, -1)
            seen = self._look(name, beat, now)
            over_at = seen.since + self.terms.longest_use(member.arrival)
            if _is_gone(member, read):
                if seen.without_lock_since is None:
                    seen.without_lock_since = now
                arrival = max(member.arrival, self.terms.arrival)
                over_at = min(over_at, seen.without_lock_since + self.terms.per + arrival + _SEEN_LATE)
                self._expires_at = min(self._expires_at, over_at)
            else:
                seen.without_lock_since = None
                if now - seen.since > self.terms.lease:
                    self._expires_at = min(self._expires_at, over_at)
            if now >= over_at or beat == -1:
                over[name] = beat
        for name in unused:
            if now - self._look(name, read.beats[name], now).since >= self._longest_use():
                over[name] = read.beats[name]
        return over

    def _look(self, name: str, beat: int, now: float) -> _Seen:
        seen = self._seen.get(name)
        if seen is None or seen.beat != beat:
            seen = self._seen[name] = _Seen(beat, now)
        return seen

    def _notice(self, ledger: Ledger, before: Mapping[str, int]) -> Notice:
        gifts = {
            name: (member.given, member.gifts[before.get(name, 0) - member.given :])
            for name, member in ledger.members.items()
            if name != self.id and member.given > before.get(name, 0)
        }
        debts = {}
        for name, debt in ledger.debts().items():
            member = ledger.members[name]
            if name != self.id:
                if debt > member.owes:
                    debts[name] = debt
                member.owes = debt
        pause = ledger.pause if self._new_pause is not None else None
        return Notice(gifts, debts, pause)

    # --- pauses

    def _share_pause(self, ledger: Ledger, now: float) -> None:
        if ledger.pause is not None:
            self._hear_pause(ledger.pause, now)
        if self._new_pause is not None:
            until, asked = self._new_pause
            known_until = self._pause[1] if self._pause is not None else -math.inf
            if until > known_until:
                number = max(ledger.pause.number if ledger.pause else 0, self._pause[0] if self._pause else 0)
                self._pause = (number + 1, until, asked)
        if self._pause is not None:
            number, until, asked = self._pause
            ledger.pause = Pause(number, round(until - now, 4), asked) if until > now else None

    def _hear_pause(self, pause: Pause, now: float) -> None:
        if self._pause is None or pause.number > self._pause[0]:
            self._pause = (pause.number, now + pause.seconds, pause.asked)
            self.when_paused(pause.seconds, pause.asked)


def _is_gone(member: Member, read: Read) -> bool:
    """Return whether the session of a process has ended, though the store has not."""
    if read.locks is None or member.lock is None or member.server != read.server:
        return False
    return member.lock not in read.locks
