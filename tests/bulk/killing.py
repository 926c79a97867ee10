"""Killing a program while it sends to a sandbox that fails too, and finding out what has become of it all."""

import asyncio
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from attrs import define, field, frozen

from healthmsg import Message
from healthmsg.bulk.runner import _LEASE_LOST
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Habits, Sandbox
from tests.bulk import killed_sender
from tests.bulk.killed_sender import CHATS, EQUAL, IN_EACH, address, key, text

ROOT: Final = Path(__file__).parents[2]
MESSAGES: Final = CHATS * IN_EACH
SETTLE: Final = 0.5
BEFORE: Final = ("Goedemorgen", EQUAL)
"""What every chat has held before."""
LONGEST: Final = 300.0
"""Seconds that a sender may take: twenty times what it needs where it has a processor for itself."""
MOST_RESTARTS: Final = 5
"""How often a sender is started in the place of one that has lost its lease."""
LONGEST_DELAY: Final = 0.005
"""Seconds from a commit to the kill, at most: the answer and the journal's next commit are in there."""


@frozen
class Aftermath:
    """What was found at the end. All but `kills`, `lost_leases` and `seconds` is to be none."""

    kills: int
    lost: int = 0
    twice: int = 0
    out_of_order: int = 0
    """Chats whose messages are all there, but in another order."""
    untrue: int = 0
    """Results that are not so."""
    unreported: int = 0
    unknown: int = 0
    """Messages of which it could not be found out whether they were delivered."""
    lost_leases: int = field(default=0, eq=False)
    """Senders that came too late to renew their lease, said so, and were started again, as README asks for.

    A machine that is busy for long does that; that it is not so otherwise, `test_lease.py` tells.
    """
    failed_senders: tuple[str, ...] = ()
    """What senders wrote that were not killed and did not end with 0."""
    seconds: float = field(default=0.0, eq=False)

    def figures(self) -> dict[str, int]:
        """Return what was found, in words."""
        return {
            "lost": self.lost,
            "twice": self.twice,
            "out of order": self.out_of_order,
            "untrue": self.untrue,
            "unreported": self.unreported,
            "unknown": self.unknown,
            "lost leases": self.lost_leases,
            "failed senders": len(self.failed_senders),
        }


@frozen
class Result:
    """What a sender has written about one message."""

    key: str
    outcome: str
    message_id: str | None


@define(eq=False)
class Sender:
    """A program that was started."""

    process: asyncio.subprocess.Process
    results: Path
    stderr_file: Path
    is_killed: bool = False
    successor: "Sender | None" = None
    """The one that was started in its place."""

    def kill(self) -> None:
        """Kill it, or the one that has its place now."""
        if self.successor is not None:
            self.successor.kill()
        elif self.process.returncode is None:
            self.is_killed = True
            self.process.kill()

    @property
    def has_last_word(self) -> bool:
        """Whether it ended by itself and well, and so has waited for what all the others did."""
        return self.process.returncode == 0

    @property
    def has_lost_lease(self) -> bool:
        """Whether it ended since others may send its messages."""
        last_line = self.stderr_file.read_text(encoding="utf-8").strip().rpartition("\n")[2]
        return last_line == f"healthmsg.errors.usage.JournalError: {_LEASE_LOST}"

    async def ended_well(self) -> bool:
        """Wait for its end, which must come by itself or be the kill; one that takes too long has failed."""
        try:
            async with asyncio.timeout(LONGEST):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            return False
        return self.is_killed or self.process.returncode == 0

    def reported(self) -> Iterator[Result]:
        # One that was killed early has written nothing, or half a line last.
        lines = (
            self.results.read_text(encoding="utf-8").splitlines(keepends=True)
            if self.results.exists()
            else []
        )
        return (Result(*json.loads(line)) for line in lines if line.endswith("\n"))


class Commits:
    """Counts the messages that a sandbox accepts, and does something at one of them, before its answer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.count = 0
        self._due: dict[int, Callable[[], object]] = {}
        sandbox.on_message = self._count

    def at(self, count: int, do: Callable[[], object]) -> None:
        self._due[count] = do

    def _count(self, _: str) -> None:
        self.count += 1
        if do := self._due.pop(self.count, None):
            do()


@asynccontextmanager
async def failing_sandbox(seed: int, habits: Habits, jumps: Sequence[timedelta]) -> AsyncIterator[Sandbox]:
    # An equal message of the last few seconds could be the one that is looked for, by another clock.
    ahead = timedelta(days=-1)
    async with Sandbox(
        rate_limit=None, sample_data=False, now=lambda: datetime.now(UTC) + ahead, habits=habits
    ) as sandbox:
        for chat in range(CHATS):
            sandbox.add_conversation(aux_id=address(chat).rpartition("/")[2], messages=BEFORE)
        ahead, left = timedelta(), [*jumps]

        def jump() -> None:
            nonlocal ahead
            ahead += left.pop() if left else timedelta()

        for number in range(len(jumps)):
            delay = Random(seed + number).uniform(2, 20)  # noqa: S311 - moments are no secrets
            asyncio.get_running_loop().call_later(delay, jump)
        for kind, probability in (
            (CutAfter(), 0.06),
            (AnswerStatus(500, after=True), 0.03),
            (AnswerStatus(503), 0.05),
            (CutBefore(), 0.03),
        ):
            sandbox.faults.add(kind=kind, method="POST", probability=probability, seed=seed, times=None)
        yield sandbox


@define
class Killing:
    """One journal, the senders that are started on it, and a sandbox."""

    sandbox: Sandbox
    journal: str
    folder: Path
    draw: Random
    commits: Commits = field(init=False)
    senders: list[Sender] = field(factory=list, init=False)
    failed: list[str] = field(factory=list, init=False)
    lost_leases: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.commits = Commits(self.sandbox)

    async def start(self) -> Sender:
        name = str(len(self.senders))
        results, stderr_file = self.folder / f"{name}.jsonl", self.folder / f"{name}.txt"
        with stderr_file.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", killed_sender.__name__),
                *(self.sandbox.environment.api_url, self.journal, str(SETTLE), str(results)),
                cwd=ROOT,
                env=os.environ | {"HEALTHMSG_TOKEN": self.sandbox.issue_token()},
                stderr=stderr,
            )
        self.senders.append(Sender(process, results, stderr_file))
        return self.senders[-1]

    def kill_within(self, sender: Sender, most: int) -> None:
        """Kill it at one of the next so many commits, or a moment later."""
        count = self.commits.count + self.draw.randint(1, most)
        delay = self.draw.choice((0.0, self.draw.uniform(0, LONGEST_DELAY)))
        loop = asyncio.get_running_loop()
        self.commits.at(count, (lambda: loop.call_later(delay, sender.kill)) if delay else sender.kill)

    async def wait_for(self, sender: Sender) -> None:
        """Wait for its end. Where it has lost its lease, start another and wait for that."""
        while not await sender.ended_well():
            if not sender.has_lost_lease or self.lost_leases == MOST_RESTARTS:
                stderr = sender.stderr_file.read_text(encoding="utf-8")
                self.failed.append(f"{sender.process.returncode}: {stderr}")
                return
            self.lost_leases += 1
            sender.successor = await self.start()
            sender = sender.successor

    async def end(self) -> None:
        for sender in self.senders:
            sender.kill()
            await sender.process.wait()

    def aftermath(self, started: float) -> Aftermath:
        kept = self.sandbox.habits.rewrite_text
        there = {address(chat): self.sandbox.messages(address(chat))[len(BEFORE) :] for chat in range(CHATS)}
        bodies = {chat: [message.body or "" for message in messages] for chat, messages in there.items()}
        pairs = [
            (bodies[address(chat)], [kept(text(chat, number)) for number in range(IN_EACH)])
            for chat in range(CHATS)
        ]
        results = [result for sender in self.senders for result in sender.reported()]
        unknown = unknown_at_last(self.senders)
        missing = [Counter(wanted) - Counter(found) for found, wanted in pairs]
        excused = [
            Counter(kept(text(chat, number)) for number in range(IN_EACH) if key(chat, number) in unknown)
            for chat in range(CHATS)
        ]
        return Aftermath(
            kills=sum(sender.is_killed for sender in self.senders),
            lost=sum((one - other).total() for one, other in zip(missing, excused, strict=True)),
            unknown=len(unknown),
            twice=sum((Counter(found) - Counter(wanted)).total() for found, wanted in pairs),
            out_of_order=sum(found != wanted and sorted(found) == sorted(wanted) for found, wanted in pairs),
            untrue=len(untrue(results, there, kept)),
            unreported=MESSAGES - len({result.key for result in results}),
            lost_leases=self.lost_leases,
            failed_senders=tuple(self.failed),
            seconds=time.perf_counter() - started,
        )


def unknown_at_last(senders: Sequence[Sender]) -> set[str]:
    """Return the keys of the messages that are unknown in the end.

    One that is killed, or loses its lease, does not know what others find out after it: what it called
    unknown is so only if none of those says more that came to their end.
    """
    last: dict[str, Result] = {}
    for sender in sorted(senders, key=lambda sender: sender.has_last_word):
        last.update((result.key, result) for result in sender.reported())
    return {result.key for result in last.values() if result.outcome == "UNKNOWN"}


def untrue(
    results: Sequence[Result], there: Mapping[str, Sequence[Message]], kept: Callable[[str], str] = str
) -> list[Result]:
    """Return the results that say something else than what is in the chats, whichever sender wrote them.

    Each is judged alone: another sender may know less, and call the same message unknown.
    """
    wanted = {
        key(chat, number): (address(chat), kept(text(chat, number)))
        for chat in range(CHATS)
        for number in range(IN_EACH)
    }
    by_id = {message.id: (chat, message.body) for chat, messages in there.items() for message in messages}
    copies = Counter(by_id.values())
    said_to_be = defaultdict[str | None, set[str]](set)
    for result in results:
        said_to_be[result.message_id].add(result.key)
    not_sent = {result.key for result in results if result.outcome == "NOT_SENT"}
    may_be_there = Counter(content for one, content in wanted.items() if one not in not_sent)

    def is_true(result: Result) -> bool:
        content = wanted[result.key]
        if result.outcome == "DELIVERED":
            is_there = by_id.get(result.message_id or "") == content
            return is_there and said_to_be[result.message_id] == {result.key}
        # No start sends again what was not sent. Of equal messages it is enough that one is missing.
        return result.outcome == "UNKNOWN" or copies[content] <= may_be_there[content]

    return [result for result in results if not is_true(result)]


@asynccontextmanager
async def prepared(
    journal: str, folder: Path, seed: int, habits: Habits | None = None, jumps: Sequence[timedelta] = ()
) -> AsyncIterator[Killing]:
    async with failing_sandbox(seed, habits or Habits(), jumps) as sandbox:
        killing = Killing(sandbox, journal, folder, Random(seed))  # noqa: S311 - moments are no secrets
        try:
            yield killing
        finally:
            await killing.end()


async def killed_again_and_again(
    journal: str,
    folder: Path,
    *,
    kills: int,
    seed: int,
    habits: Habits | None = None,
    jumps: Sequence[timedelta] = (),
) -> Aftermath:
    """Kill a sender so often, start it again each time, and at last let it end."""
    started = time.perf_counter()
    async with prepared(journal, folder, seed, habits, jumps) as killing:
        for left in range(kills, 0, -1):
            sender = await killing.start()
            killing.kill_within(sender, max(1, (MESSAGES - killing.commits.count) // (left + 1)))
            await killing.wait_for(sender)
        await killing.wait_for(await killing.start())
        return killing.aftermath(started)


async def one_of_several_killed(
    journal: str, folder: Path, *, workers: int, seed: int, habits: Habits | None = None
) -> Aftermath:
    """Let several senders share a journal, and kill one."""
    started = time.perf_counter()
    async with prepared(journal, folder, seed, habits) as killing:
        first, *others = [await killing.start() for _ in range(workers)]
        killing.kill_within(first, MESSAGES // 2)
        await asyncio.gather(*(killing.wait_for(sender) for sender in (first, *others)))
        return killing.aftermath(started)
