"""Killing a program while it handles events of a failing gateway, and finding out what has become of them."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final

import asyncpg
from attrs import define, evolve, field, frozen

from healthmsg.sandbox import Habits, Sandbox
from tests.gateway import killed_consumer
from tests.gateway.killed_consumer import Line, Way
from tests.waiting import until

ROOT: Final = Path(__file__).parents[2]
CONVERSATIONS: Final = 30
GROUP_CHATS: Final = 10
"""Their messages come without the text until the client has subscribed."""
IN_EACH: Final = 100
MESSAGES: Final = (CONVERSATIONS + GROUP_CHATS) * IN_EACH
BEFORE: Final = ("Goedemorgen", "Tot morgen")
"""What every chat has held before: it is not to be handled."""
LAG: Final = timedelta(seconds=2)
SETTLE: Final = 2.5
"""Seconds: a little more than the lists lag behind."""
LONGEST: Final = 120.0
"""Seconds that the last consumer may take until it has handled everything."""
PATIENCE: Final = 30.0
"""Seconds after the last line of the log after which nothing more is waited for."""
LONGEST_DELAY: Final = 0.006
"""Seconds from a line of the log to the kill, at most: the next commit and the next line are in there."""
POSTED_WITHIN: Final = 2.0
"""Seconds after a start in which its share of the messages is posted."""
BURSTS: Final = 8


@frozen
class Aftermath:
    """What was found at the end. All but `kills` and the figures below `failed` is to be none."""

    kills: int
    lost: int = 0
    """Messages that were not handled to their end."""
    twice: int = 0
    """How often an event was begun again though no process had died that had it in hand."""
    out_of_order: int = 0
    """Chats in which a message was begun before an older one."""
    strange: int = 0
    """Messages that were handled, and are none of those that were sent."""
    miscounted: int = 0
    """Attempts that were not counted, or that cannot have been."""
    failed: tuple[str, ...] = ()
    """What consumers wrote that were not killed and did not end well."""
    begun_again: int = field(default=0, eq=False)
    """How often an event was begun again, rightly or not."""
    in_handler: int = field(default=0, eq=False)
    """Kills between the beginning and the end of handling an event."""
    connects: int = field(default=0, eq=False)
    seconds: float = field(default=0.0, eq=False)


def aftermath(
    lines: Sequence[Line], sent: Mapping[str, tuple[str, int]], killed: AbstractSet[int], way: Way
) -> Aftermath:
    """Judge a log. `sent` are the ids of all messages' events, with their chats and their numbers in them."""
    begins: dict[str, list[Line]] = {}
    for line in lines:
        if line.what == "begin":
            begins.setdefault(line.event, []).append(line)
    ended = {line.event for line in lines if line.what == "end"}
    in_hand = {run: _in_hand(run, lines) for run in killed}
    chats: dict[str, list[int]] = {}
    for event in begins:  # in the order of the first ones
        if event in sent:
            chat, number = sent[event]
            chats.setdefault(chat, []).append(number)
    again = [line for one in begins.values() for line in one[:-1]]
    last = {line.run: line.what for line in lines}
    return Aftermath(
        kills=len(killed),
        lost=len(sent.keys() - ended),
        twice=sum(line.event not in in_hand.get(line.run, ()) for line in again),
        out_of_order=sum(numbers != sorted(numbers) for numbers in chats.values()),
        strange=sum(event.startswith("message/") and event not in sent for event in begins),
        miscounted=_miscounted(begins.values(), len(killed) * way.most_in_hand),
        begun_again=len(again),
        in_handler=sum(last.get(run) == "begin" for run in killed),
    )


def _in_hand(run: int, lines: Iterable[Line]) -> set[str]:
    """Return the events that a process may have had in hand when it died: the last one, or the last batch."""
    found: set[str] = set()
    is_batched = False
    for line in lines:
        if line.run != run:
            continue
        if line.what == "batch":
            is_batched = True
            found.clear()
        elif line.what == "begin":
            if not is_batched:
                found.clear()
            found.add(line.event)
    return found


def _miscounted(begins: Iterable[Sequence[Line]], most_unseen: int) -> int:
    """Count attempts that are wrong; so many at most were counted, and the process died before it began."""
    wrong = unseen = 0
    for some in begins:
        attempts = [line.attempt for line in some]
        wrong += sum(later <= earlier for earlier, later in pairwise(attempts))
        unseen += max(attempts[-1] - len(attempts), 0)
    return wrong + max(unseen - most_unseen, 0)


@define
class Log:
    """What all consumers of one store have written so far."""

    path: Path
    lines: list[Line] = field(factory=list)
    _size: int = 0

    def read(self) -> Sequence[Line]:
        if self.path.exists() and self.path.stat().st_size > self._size:
            with self.path.open("rb") as file:
                file.seek(self._size)
                text = file.read()
            text = text[: text.rfind(b"\n") + 1]  # a write can be seen before its end
            self._size += len(text)
            self.lines += map(Line.parse, text.decode().splitlines())
        return self.lines


@define(eq=False)
class Consumer:
    """A program that was started."""

    run: int
    process: asyncio.subprocess.Process
    stderr_file: Path
    is_killed: bool = False

    def kill(self) -> None:
        if self.process.returncode is None:
            self.is_killed = True
            self.process.kill()

    async def end(self) -> int:
        """Ask it to end, and return with what it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            return await self.process.wait()

    def stderr(self) -> str:
        return self.stderr_file.read_text(encoding="utf-8")


@define(eq=False)
class Killing:
    """One store, the consumers that are started on it one after another, and a sandbox."""

    sandbox: Sandbox
    store: str
    folder: Path
    way: Way = Way.ONE_BY_ONE
    seed: int = 0
    settle: float = SETTLE
    program: str = killed_consumer.__name__
    does: str = ""
    """What the program is to do; by itself, `way`."""
    in_each: int = IN_EACH
    """Messages that are sent in each chat."""
    log: Log = field(init=False)
    consumers: list[Consumer] = field(factory=list, init=False)
    sent: dict[str, tuple[str, int]] = field(factory=dict, init=False)
    failed: list[str] = field(factory=list, init=False)
    chats: list[str] = field(factory=list, init=False)
    _draw: Random = field(init=False)
    _to_send: list[str] = field(factory=list, init=False)
    """The chat of each message that is still to be sent."""
    _numbers: Counter[str] = field(factory=Counter, init=False)

    def __attrs_post_init__(self) -> None:
        self.log = Log(self.folder / "log")
        self._draw = Random(self.seed)  # noqa: S311 - moments are no secrets

    def add_chats(self, conversations: int | None = None) -> None:
        for _ in range(CONVERSATIONS if conversations is None else conversations):
            self._add(f"conversations/{self.sandbox.add_conversation(messages=BEFORE)}")
        for number in range(GROUP_CHATS if conversations is None else 0):
            members = [self.sandbox.add_user("Lid", str(number))]
            chat = self.sandbox.add_group_chat(f"Groep {number}", members=members, messages=BEFORE)
            self._add(f"groupchats/{chat}")
        self._draw.shuffle(self._to_send)

    def _add(self, address: str) -> None:
        self.chats.append(address)
        self._to_send += [address] * self.in_each

    def say(self, chat: str) -> str:
        """Send the next message of a chat, as the other side, and return the id of its event."""
        number = self._numbers[chat]
        self._numbers[chat] += 1
        message = self.sandbox.say(None, chat, f"Bericht {number}")
        self.sent[f"message/{message.id}"] = chat, number
        return f"message/{message.id}"

    async def send_share(self, lives: int) -> None:
        """Send one of so many shares of the messages, in bursts."""
        left = -(-len(self._to_send) // lives)
        moments = sorted(self._draw.uniform(0, POSTED_WITHIN) for _ in range(BURSTS))
        for number, (earlier, moment) in enumerate(pairwise([0.0, *moments])):
            await asyncio.sleep(moment - earlier)
            burst = -(-left // (BURSTS - number))
            left -= burst
            for _ in range(min(burst, len(self._to_send))):
                self.say(self._to_send.pop())

    async def start(self) -> Consumer:
        run = len(self.consumers)
        stderr_file = self.folder / f"{run}.txt"
        urls = self.sandbox.environment
        assert urls.gateway_url is not None
        with stderr_file.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.program, urls.api_url, urls.gateway_url),
                *(self.store, str(self.log.path), str(run), self.does or self.way.value, str(self.settle)),
                cwd=ROOT,
                env=os.environ | {"HEALTHMSG_TOKEN": self.sandbox.issue_token()},
                stderr=stderr,
            )
        self.consumers.append(Consumer(run, process, stderr_file))
        return self.consumers[-1]

    async def wait_until_ready(self, consumer: Consumer) -> None:
        await self._wait(consumer, lambda lines: Line(consumer.run, "ready") in lines[-200:], 30)

    async def kill_at_random(self, consumer: Consumer, most: int) -> None:
        """Kill it after one of the next so many events, or at any moment: also while it catches up."""
        await self.wait_until_ready(consumer)
        if self._draw.random() < 0.3:
            await asyncio.sleep(self._draw.uniform(0, 2 * self.settle))
        else:
            count = len(self.log.read()) + 2 * self._draw.randint(1, most)
            await self._wait(consumer, lambda lines: len(lines) >= count, 2 * self.settle)
            await asyncio.sleep(self._draw.uniform(0, LONGEST_DELAY))
        consumer.kill()
        await consumer.process.wait()
        if not consumer.is_killed:
            self._fail(consumer)
        await self._end_lease()

    async def _end_lease(self) -> None:
        """Let the 10 seconds be over at once for which the store is the dead process's."""
        if self.store.startswith("postgresql"):
            connection = await asyncpg.connect(self.store.replace("+asyncpg", ""))
            await connection.execute("UPDATE healthmsg_holder SET lease_until = 'epoch'")
            await connection.close()

    async def wait_for_all(self, consumer: Consumer, patience: float) -> None:
        """Wait until all that was sent has been handled, and what should not come has had time to come."""
        ended: set[str] = set()
        seen, last_at = 0, time.monotonic()

        def is_over(lines: Sequence[Line]) -> bool:
            nonlocal seen, last_at
            if len(lines) > seen:
                ended.update(line.event for line in lines[seen:] if line.what == "end")
                seen, last_at = len(lines), time.monotonic()
            return self.sent.keys() <= ended or time.monotonic() > last_at + patience

        await self._wait(consumer, is_over, LONGEST)
        await asyncio.sleep(2 * self.settle)
        if await consumer.end() != 0:
            self._fail(consumer)

    async def wait_for_event(self, consumer: Consumer, event: str, within: float = 20) -> None:
        """Wait until it has handled this event to its end."""

        def is_handled(lines: Sequence[Line]) -> bool:
            return any((line.run, line.what, line.event) == (consumer.run, "end", event) for line in lines)

        assert await self._wait(consumer, is_handled, within)

    async def _wait(
        self, consumer: Consumer, condition: Callable[[Sequence[Line]], bool], within: float
    ) -> bool:
        """Wait until the log says so, the process has ended, or it takes too long."""
        until = time.monotonic() + within
        while not condition(self.log.read()):
            if consumer.process.returncode is not None or time.monotonic() > until:
                return False
            await asyncio.sleep(0.001)
        return True

    def _fail(self, consumer: Consumer) -> None:
        self.failed.append(f"{consumer.process.returncode}: {consumer.stderr()}")

    async def end(self) -> None:
        for consumer in self.consumers:
            consumer.kill()
            await consumer.process.wait()


@asynccontextmanager
async def prepared(
    store: str,
    folder: Path,
    *,
    way: Way = Way.ONE_BY_ONE,
    seed: int = 0,
    dropped: float = 0.0,
    program: str = killed_consumer.__name__,
    does: str = "",
    conversations: int | None = None,
    in_each: int = IN_EACH,
) -> AsyncIterator[Killing]:
    """Make a sandbox with chats, or so many conversations, that have held something for a day."""
    ahead = timedelta(days=-1)
    habits = Habits(listing_lag=LAG)
    async with Sandbox(
        rate_limit=None, sample_data=False, now=lambda: datetime.now(UTC) + ahead, habits=habits
    ) as sandbox:
        killing = Killing(sandbox, store, folder, way, seed, program=program, does=does, in_each=in_each)
        killing.add_chats(conversations)
        ahead = timedelta()
        sandbox.gateway.drop_lines(dropped, within=20, seed=seed)
        sandbox.gateway.duplicate(0.03, seed=seed)
        try:
            yield killing
        finally:
            await killing.end()


async def killed_again_and_again(
    store: str,
    folder: Path,
    *,
    kills: int,
    seed: int,
    way: Way = Way.ONE_BY_ONE,
    dropped: float = 0.06,
    patience: float = PATIENCE,
) -> Aftermath:
    """Kill a consumer so often, start it again each time, and at last let it handle everything.

    `dropped` is the share of the connections that the service drops.
    """
    started = time.perf_counter()
    async with prepared(store, folder, way=way, seed=seed, dropped=dropped) as killing:
        async with asyncio.TaskGroup() as group:
            for left in range(kills, 0, -1):
                consumer = await killing.start()
                if left == kills:
                    await until(killing.sandbox.gateway.connected)  # what was sent before is old
                group.create_task(killing.send_share(left + 1))
                await killing.kill_at_random(consumer, MESSAGES // (kills + 1))
            last = await killing.start()
            await killing.send_share(1)
            await killing.wait_for_all(last, patience)
        killed = {consumer.run for consumer in killing.consumers if consumer.is_killed}
        return evolve(
            aftermath(killing.log.read(), killing.sent, killed, way),
            failed=tuple(killing.failed),
            connects=killing.sandbox.gateway.connects,
            seconds=time.perf_counter() - started,
        )
