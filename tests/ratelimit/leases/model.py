"""A model of several processes that share a limit on lease, of their store and of the server, in fake time.

It drives the same holders, ledgers and windows as the program. Time goes on in ticks. What can happen to a
process, to its connection, to the store and to the store's clock is chosen by a seed.
"""

import heapq
import itertools
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from attrs import define, field

from healthmsg.ratelimit.leases.holder import Change, Holder, Notice, Read
from healthmsg.ratelimit.leases.ledger import Ledger, Terms
from healthmsg.ratelimit.leases.window import LeasedSlot, LeasedWindow
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import Slot

TICK = 0.004
TERMS = Terms(30, 1.0, 0.1, 1.2)
# Seconds between two turns at least, on average; and how many may follow at once.
TURNS_PER_SECOND, TURNS_AT_ONCE = 5.0, 3


@define
class Network:
    """How long a leg takes, in seconds."""

    least: float = 0.0005
    most: float = 0.02


@define(eq=False)
class Store:
    """What a database keeps, and what it does with it."""

    text: str | None = None
    token: int = 0
    server: str = "1"
    locks: set[int] = field(factory=set)
    is_up: bool = True
    beats: dict[str, int] = field(factory=dict)
    history: list[tuple[float, str | None, dict[str, int]]] = field(factory=list)
    turns: int = 0

    def write(self, change: Change, *, is_current: bool) -> bool:
        """Let beats begin, rise and end; return whether the ledger may be written.

        What happens to beats before that is seen stays, as in the database.
        """
        if change.joins:
            self.beats[change.id] = self.beats.get(change.id, 0) + 1
        elif change.id not in self.beats:
            return False
        else:
            self.beats[change.id] += 1
        for name, beat in change.over.items():
            if self.beats.get(name, -1) != beat:
                return False  # those before it stay out: their leases were over
            self.beats.pop(name, None)
        if is_current and change.leaves:
            del self.beats[change.id]
        return is_current

    def restart(self, now: float, forget: float = 0.0) -> None:
        """Start again, perhaps without what was acknowledged last."""
        self.server = str(int(self.server) + 1)
        self.locks = set()
        self.is_up = True
        if forget:
            known = [(text, beats) for at, text, beats in self.history if at <= now - forget]
            if known:
                self.text, self.beats = known[-1][0], dict(known[-1][1])
            self.token += 1_000_000


@define(eq=False)
class Process:
    """One worker: it sends what it is asked to as soon as it has a slot."""

    fleet: "Fleet"
    number: int
    rate: float
    ahead: float
    is_pooled: bool
    demand: Callable[[float], tuple[int, int]]
    """How many interactive calls and calls of the background are to wait at such a moment."""
    is_alive: bool = True
    asleep_until: float = -1.0
    slept: float = 0.0
    """For how long its machine was suspended: its loop's clock stood still meanwhile."""
    frozen_loop: bool = False
    window: LeasedWindow = field(init=False)
    holder: Holder = field(init=False)
    turn: int = 0
    in_turn: bool = False
    is_connected: bool = True
    has_left: bool = False
    cut_until: float = -1.0
    """Until when nothing comes through between it and the store."""
    needs_turn: bool = True
    budget: float = TURNS_AT_ONCE
    free_from: float = -1.0
    waiting_since: list[float] = field(factory=list)
    waits: list[float] = field(factory=list)
    inbox: list[Callable[[], None]] = field(factory=list)
    turns: list[float] = field(factory=list)
    sent: int = 0

    def __attrs_post_init__(self) -> None:
        self.window = LeasedWindow(
            TERMS.calls,
            TERMS.per,
            now=self.loop_now,
            machine_now=self.machine_now,
            wake=lambda: None,
            acquire=_never,
        )
        self.window.assume_arrival(TERMS.arrival)
        ids = itertools.count()
        self.holder = Holder(TERMS, self.window, new_id=lambda: f"{self.number}.{next(ids)}")
        self.take_lock()

    def take_lock(self) -> None:
        if self.holder.lock is not None:  # what is left of a connection that was cut
            self.fleet.store.locks.discard(self.holder.lock)
        if not self.is_pooled:
            self.holder.lock = self.fleet.random.getrandbits(31)
            self.fleet.store.locks.add(self.holder.lock)

    def machine_now(self) -> float:
        return self.fleet.now * self.rate + self.ahead

    def loop_now(self) -> float:
        return (self.fleet.now - self.slept) * self.rate + self.ahead

    # --- one tick

    def step(self) -> None:
        now, machine = self.fleet.now, self.machine_now()
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            message()
        interactive, background = self.demand(now)
        while len(self.waiting_since) < interactive:
            self.waiting_since.append(now)
        self.dispatch(background)
        self.budget = min(TURNS_AT_ONCE, self.budget + TICK * TURNS_PER_SECOND)
        needs = self.holder.needs(machine, (len(self.waiting_since), 0, background))
        due = (
            self.needs_turn
            or machine >= self.holder.next_turn()
            or self.holder.wants_more(needs)
            or self.holder.has_to_return()
        )
        if due and not self.in_turn and self.is_connected and self.budget >= 1 and not self.has_left:
            self.budget -= 1
            self.begin(needs)

    def dispatch(self, background: int) -> None:
        window = self.window
        now = window.now()
        while now >= self.free_from and (self.waiting_since or background) and window.is_one_free(now):
            if not self.waiting_since and now < window.bulk_from:
                break
            window.free -= 1
            priority = Priority.INTERACTIVE if self.waiting_since else Priority.BACKGROUND
            if self.waiting_since:
                self.waits.append(self.fleet.now - self.waiting_since.pop(0))
            slot = LeasedSlot(window, priority)
            self.free_from = max(self.free_from, now - 0.002) + TERMS.per / TERMS.calls
            self.fleet.after(self.fleet.connecting(), partial(self.send, slot), to=self)

    def send(self, slot: Slot) -> None:
        if not slot.sent():
            slot.release_unused()
            return
        self.sent += 1
        fleet = self.fleet
        flight = fleet.flight()
        fleet.after(flight, lambda: fleet.arrivals.append(fleet.now))
        fate = fleet.random.random()
        if fate < 0.97:
            fleet.after(flight + fleet.flight(), slot.answered, to=self)
        elif fate < 0.985:
            fleet.after(3.0, slot.answered, to=self)
        else:
            fleet.after(0.05, slot.abandoned, to=self)

    # --- a turn

    def begin(self, needs: tuple[int, int, int], *, leaving: bool = False) -> None:
        self.in_turn, self.needs_turn = True, False
        self.turn += 1
        self.turns.append(self.fleet.now)
        self.holder.begin(self.machine_now())
        self.read(self.turn, needs, leaving)

    def read(self, turn: int, needs: tuple[int, int, int], leaving: bool) -> None:
        fleet, store = self.fleet, self.fleet.store

        def at_the_store() -> None:
            if self.is_cut(turn):
                return
            if not store.is_up or turn != self.turn:
                self.fail(turn)
                return
            locks = None if self.is_pooled else set(store.locks)
            read = (store.text, store.token, store.server, dict(store.beats), locks)
            if self.holder.id in store.beats:
                store.beats[self.holder.id] += 1
            fleet.requests += 1
            fleet.after(fleet.leg(), lambda: self.decide(turn, read, needs, leaving), to=self)

        fleet.after(fleet.leg(), at_the_store)

    def decide(self, turn: int, read: Any, needs: tuple[int, int, int], leaving: bool) -> None:
        if turn != self.turn:
            return
        fleet, store = self.fleet, self.fleet.store
        text, token, server, beats, locks = read
        found = Read(None if text is None else Ledger.from_json(text), server, beats, locks)
        if self.holder.is_outdated(found):
            self.read(turn, needs, leaving)
            return
        if not self.holder.renewed(found, self.machine_now(), needs) and not leaving:
            self.in_turn = False
            return
        change = self.holder.decide(found, self.machine_now(), needs, leaving=leaving)
        ledger = change.ledger
        assert len(ledger.free) + sum(member.held for member in ledger.members.values()) == TERMS.calls
        written = ledger.to_json()

        def at_the_store() -> None:
            if self.is_cut(turn):
                return
            if not store.is_up or store.server != server:
                self.fail(turn)
                return
            fleet.requests += 1
            if not store.write(change, is_current=store.token == token):
                fleet.after(fleet.leg(), lambda: self.refused(turn, needs, leaving), to=self)
                return
            store.text, store.token = written, store.token + 1
            store.history.append((fleet.now, written, dict(store.beats)))
            fleet.notify(self, change.notice)
            if fleet.random.random() < fleet.lost_answers:
                self.fail(turn)
                return
            fleet.after(fleet.leg(), lambda: self.committed(turn, ledger), to=self)

        fleet.after(fleet.leg(), at_the_store)

    def refused(self, turn: int, needs: tuple[int, int, int], leaving: bool) -> None:
        if turn == self.turn:
            self.holder.refused()
            self.read(turn, needs, leaving)

    def committed(self, turn: int, ledger: Ledger) -> None:
        if turn == self.turn:
            self.in_turn = False
            self.holder.committed(ledger, self.machine_now())

    def is_cut(self, turn: int) -> bool:
        """Return whether a message is lost on the way. That is noticed when the statement takes too long."""
        if self.fleet.now >= self.cut_until:
            return False
        self.fleet.after(TERMS.lease, lambda: self.give_up(turn), to=self)
        return True

    def give_up(self, turn: int) -> None:
        if turn == self.turn:
            self.turn += 1
            self.is_connected = False
            self.see_loss()

    def cut(self, seconds: float, *, ends_session: bool) -> None:
        """Let nothing come through; with `ends_session`, the connection was ended before, on both sides."""
        if ends_session:
            self.lose_connection()
        self.cut_until = self.fleet.now + seconds

    def fail(self, turn: int) -> None:
        """Let the connection break: the store sees it at once, this process a little later."""
        if turn == self.turn:
            self.lose_connection()

    def lose_connection(self) -> None:
        fleet = self.fleet
        if self.holder.lock is not None:
            fleet.store.locks.discard(self.holder.lock)
        self.turn += 1
        self.is_connected = False
        fleet.after(fleet.random.uniform(0, 0.05), self.see_loss, to=self, first=True)

    def see_loss(self) -> None:
        self.holder.unclear()
        self.holder.stop()
        self.in_turn = False
        self.fleet.after(self.fleet.random.uniform(0.01, 0.05), self.connect, to=self)

    def connect(self) -> None:
        if self.fleet.now < self.cut_until:
            self.fleet.after(0.2, self.connect, to=self)
            return
        if not self.fleet.store.is_up:
            self.holder.go_on()
            self.fleet.after(0.1, self.connect, to=self)
            return
        self.take_lock()
        self.is_connected = self.needs_turn = True

    def leave(self) -> None:
        if self.is_connected and not self.in_turn:
            self.begin((0, 0, 0), leaving=True)
            self.has_left = True
            self.demand = lambda _: (0, 0)
            self.fleet.after(1.0, self.kill)
        else:
            self.fleet.after(0.05, self.leave)

    def kill(self) -> None:
        self.is_alive = False
        if self.holder.lock is not None:
            self.fleet.after(self.fleet.random.uniform(0, 0.02), self._drop_lock)

    def _drop_lock(self) -> None:
        if self.holder.lock is not None:
            self.fleet.store.locks.discard(self.holder.lock)

    def sleep(self, seconds: float, *, machine: bool) -> None:
        """Stop for that long; with `machine`, the event loop's clock stands still meanwhile."""
        self.asleep_until = self.fleet.now + seconds
        if machine:
            self.slept += seconds


async def _never(priority: Priority) -> Slot:
    raise AssertionError


@define(eq=False)
class Fleet:
    """All of it."""

    seed: int
    network: Network = field(factory=Network)
    jitter: tuple[float, float] = (0.0005, 0.002)
    lost_answers: float = 0.0
    connect_most: float = 0.002
    now: float = 0.0
    random: Random = field(init=False)
    store: Store = field(factory=Store)
    processes: list[Process] = field(factory=list)
    arrivals: list[float] = field(factory=list)
    requests: int = 0
    events: list[tuple[float, int, Process | None, bool, Callable[[], None]]] = field(factory=list)
    numbers: Any = field(factory=itertools.count)

    def __attrs_post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311 - a schedule

    def join(self, demand: Callable[[float], tuple[int, int]], *, pooled: bool = False) -> Process:
        process = Process(
            self,
            len(self.processes),
            self.random.uniform(0.997, 1.003),
            self.random.uniform(0, 1e6),
            pooled,
            demand,
        )
        self.processes.append(process)
        return process

    def leg(self) -> float:
        return self.random.uniform(self.network.least, self.network.most)

    def flight(self) -> float:
        return self.random.uniform(*self.jitter)

    def connecting(self) -> float:
        return self.random.uniform(0, self.connect_most)

    def after(
        self,
        seconds: float,
        action: Callable[[], Any],
        *,
        to: Process | None = None,
        first: bool = False,
    ) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), to, first, action))

    def notify(self, writer: Process, notice: Notice) -> None:
        if not notice:
            return
        for process in self.processes:
            hears = process.is_connected and not process.is_pooled and self.now >= process.cut_until
            if process is not writer and hears:

                def hear(process: Process = process) -> None:
                    if process.is_connected and process.holder.hear(notice, process.machine_now()):
                        process.needs_turn = True

                self.after(self.leg(), hear, to=process)

    def run(self, until: float) -> None:
        while self.now < until:
            self.now += TICK
            while self.events and self.events[0][0] <= self.now:
                _, _, process, first, action = heapq.heappop(self.events)
                if process is None:
                    action()
                elif process.is_alive:
                    if process.asleep_until > self.now:
                        process.inbox.insert(0, action) if first else process.inbox.append(action)
                    else:
                        action()
            for process in self.processes:
                if process.is_alive and process.asleep_until <= self.now:
                    process.step()

    # --- what the server saw

    def most_in_a_second(self) -> int:
        """Return the most arrivals within any second that does not hold its end."""
        arrivals = sorted(self.arrivals)
        return max(
            (bisect_right(arrivals, at + TERMS.per - 1e-9) - index for index, at in enumerate(arrivals)),
            default=0,
        )

    def rate(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.arrivals) / (until - since)


def bulk(_: float) -> tuple[int, int]:
    """Have calls of the background wait always."""
    return 0, 50


def restart(fleet: Fleet, seconds: float, forget: float = 0.0) -> None:
    """Let the store be away for that long; `forget`: for which last seconds it has lost all."""
    fleet.store.is_up = False
    fleet.store.locks = set()
    for process in fleet.processes:
        if process.is_alive:
            process.lose_connection()
    fleet.after(seconds, lambda: fleet.store.restart(fleet.now, forget))


def changing_demand(random: Random) -> Callable[[float], tuple[int, int]]:
    """Return a demand that comes and goes, or one that is always there."""
    if random.random() < 0.5:
        return bulk
    period, background = random.uniform(1, 6), random.choice([0, 50])

    def demand(now: float) -> tuple[int, int]:
        interactive = random.choice([0, 0, 0, 0, 0, 0, 1, 3]) if int(now / period) % 2 else 0
        return interactive, background if int(now / period / 2) % 2 else 0

    return demand


EVENTS = ["kill", "freeze", "suspend", "join", "leave", "end session", "cut", "cut", "restart"]


def befall(fleet: Fleet, random: Random, *, forgets: bool) -> None:
    """Let something happen to one process, to its connection, or to the store."""
    alive = [process for process in fleet.processes if process.is_alive]
    what = random.choice(
        ["kill", "freeze", "suspend", "join", "leave", "end session", "cut", "cut", "restart"]
    )
    if what == "join" or not alive:
        fleet.join(changing_demand(random), pooled=random.random() < 0.3)
        return
    process = random.choice(alive)
    if what == "kill":
        process.kill()
    elif what == "leave":
        process.leave()
    elif what == "end session":
        process.lose_connection()
    elif what == "cut":
        process.cut(random.choice([0.5, 2, 3, 5]), ends_session=random.random() < 0.5)
    elif what == "restart":
        restart(fleet, random.choice([0.05, 0.5, 2, 4]), random.choice([0.3, 0.6]) if forgets else 0.0)
    else:
        process.sleep(random.choice([0.1, 0.5, 1, 2, 4]), machine=what == "suspend")


def run_at_random(seed: int, seconds: float) -> Fleet:
    """Run a fleet to which something happens about each second."""
    random = Random(seed * 7919)  # noqa: S311 - a schedule
    fleet = Fleet(
        seed,
        network=Network(0.0005, random.choice([0.005, 0.03, 0.1])),
        jitter=random.choice([(0.0005, 0.002), (0.005, 0.08), (0.0, 0.1)]),
        lost_answers=random.choice([0, 0, 0.02, 0.1]),
        connect_most=random.choice([0.002, 0.05, 0.3]),
    )
    for _ in range(random.choice([1, 2, 3, 5])):
        fleet.join(changing_demand(random), pooled=random.random() < 0.3)
    forgets = random.random() < 0.3
    at = 1.0
    while at < seconds:
        fleet.run(at)
        befall(fleet, random, forgets=forgets)
        at += random.expovariate(0.8)
    fleet.run(seconds)
    return fleet
