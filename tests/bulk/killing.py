"""Killing a program while it sends to a sandbox that fails too, and finding out what has become of it all."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from attrs import define, field, frozen

from healthmsg import Message
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Habits, Sandbox
from tests.bulk import killed_sender
from tests.bulk.killed_sender import CHATS, EQUAL, IN_EACH, address, key, text

ROOT: Final = Path(__file__).parents[2]
MESSAGES: Final = CHATS * IN_EACH
SETTLE: Final = 0.5
BEFORE: Final = ("Goedemorgen", EQUAL)
"""What every chat has held before."""
LONGEST: Final = 120.0
"""Seconds that a sender may take."""
LONGEST_DELAY: Final = 0.005
"""Seconds from a commit to the kill, at most: the answer and the journal's next commit are in there."""


@frozen
class Aftermath:
    """What was found at the end. All but `kills` and `seconds` is to be none."""

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
    failed_senders: tuple[str, ...] = ()
    """What senders wrote that were not killed and did not end with 0."""
    seconds: float = field(default=0.0, eq=False)


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

    def kill(self) -> None:
        if self.process.returncode is None:
            self.is_killed = True
            self.process.kill()

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
        if not await sender.ended_well():
            stderr = sender.stderr_file.read_text(encoding="utf-8")
            self.failed.append(f"{sender.process.returncode}: {stderr}")

    def end(self) -> None:
        for sender in self.senders:
            sender.kill()

    def aftermath(self, started: float) -> Aftermath:
        kept = self.sandbox.habits.rewrite_text
        there = {address(chat): self.sandbox.messages(address(chat))[len(BEFORE) :] for chat in range(CHATS)}
        bodies = {chat: [message.body or "" for message in messages] for chat, messages in there.items()}
        pairs = [
            (bodies[address(chat)], [kept(text(chat, number)) for number in range(IN_EACH)])
            for chat in range(CHATS)
        ]
        results = [result for sender in self.senders for result in sender.reported()]
        last = {result.key: result for result in results}
        unknown = sum(result.outcome == "UNKNOWN" for result in last.values())
        missing = sum((Counter(wanted) - Counter(found)).total() for found, wanted in pairs)
        return Aftermath(
            kills=sum(sender.is_killed for sender in self.senders),
            lost=max(0, missing - unknown),
            unknown=unknown,
            twice=sum((Counter(found) - Counter(wanted)).total() for found, wanted in pairs),
            out_of_order=sum(found != wanted and sorted(found) == sorted(wanted) for found, wanted in pairs),
            untrue=len(untrue(results, there, kept)),
            unreported=MESSAGES - len(last),
            failed_senders=tuple(self.failed),
            seconds=time.perf_counter() - started,
        )


def untrue(
    results: Sequence[Result], there: Mapping[str, Sequence[Message]], kept: Callable[[str], str] = str
) -> list[Result]:
    """Return the results that say something else than what is in the chats."""
    wanted = {
        key(chat, number): (address(chat), kept(text(chat, number)))
        for chat in range(CHATS)
        for number in range(IN_EACH)
    }
    by_id = {message.id: (chat, message.body) for chat, messages in there.items() for message in messages}
    last = {result.key: result for result in results}
    reported = Counter(result.message_id for result in last.values())
    copies = Counter(by_id.values())
    not_missing = Counter(wanted[result.key] for result in last.values() if result.outcome != "NOT_SENT")

    def is_true(result: Result) -> bool:
        if result.outcome == "DELIVERED":
            is_there = by_id.get(result.message_id or "") == wanted[result.key]
            return is_there and reported[result.message_id] == 1
        # A later start may have sent it after all. Of equal messages it is enough that one is missing.
        is_missing = copies[wanted[result.key]] <= not_missing[wanted[result.key]]
        return result.outcome == "UNKNOWN" or last[result.key] != result or is_missing

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
            killing.end()


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
