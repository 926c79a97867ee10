"""A sandbox in a process of its own, with patients who write to a bot and wait for its replies.

It takes one line of JSON after the other from its standard input, and answers each with one.
"""

import asyncio
import json
import random
import sys
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from attrs import define, field

from healthmsg import Environment
from healthmsg.sandbox import Habits, Sandbox
from healthmsg.sandbox.state import environment_at

BEFORE: Final = ("Goedemorgen", "Tot morgen")
QUESTION: Final = "Wanneer is mijn afspraak?"
OTHER: Final = "Bedankt"
WINDOW: Final = 400


@define(eq=False)
class Service:
    """The sandbox and its patients."""

    sandbox: Sandbox
    asked: dict[str, deque[float]] = field(factory=lambda: defaultdict(deque))
    """When a patient asked what is not answered yet, by chat."""
    talking: list[str] = field(factory=list)
    """The chats that are asked in; only there replies are looked for."""
    took: list[float] = field(factory=list)
    replies: int = 0
    came: asyncio.Event = field(factory=asyncio.Event)

    def heard(self, message_id: str) -> None:
        """Note a message; of the bot's own, that it has come."""
        now = time.perf_counter()
        for chat in self.talking:
            said = self.sandbox.store.chats[chat].messages[-1]
            if said.id == message_id and said.sender.id == self.sandbox.user_id:
                self.replies += 1
                self.came.set()
                if asked := self.asked[chat]:
                    self.took.append((now - asked.popleft()) * 1000)
                return

    async def does(self, what: str, given: dict[str, Any]) -> object:
        """Do what was asked for."""
        if what == "chats":
            chats = [self.sandbox.add_conversation(messages=BEFORE) for _ in range(given["count"])]
            return [f"conversations/{chat}" for chat in chats]
        if what == "say":
            for chat in given["chats"]:
                self.sandbox.say(None, chat, given["text"])
            return None
        self.talking = [chat.removeprefix("conversations/") for chat in given["chats"]]
        if what == "flood":
            return await self._flood(given["chats"], given["count"])
        return await self._talk(given["chats"], given["count"], given["seconds"])

    async def _flood(self, chats: list[str], count: int) -> float:
        """Ask so many questions, as fast as they are answered; return the seconds that it took."""
        before, began = self.replies, time.perf_counter()
        for number in range(count):
            while number - (self.replies - before) >= WINDOW:
                await self._next()
            self.sandbox.say(None, chats[number % len(chats)], QUESTION)
            if number % 20 == 0:
                await asyncio.sleep(0)
        while self.replies - before < count:
            await self._next()
        return time.perf_counter() - began

    async def _next(self) -> None:
        self.came.clear()
        await self.came.wait()

    async def _talk(self, chats: list[str], count: int, seconds: float) -> list[float]:
        """Ask questions at random moments; return how long each waited for its reply, in milliseconds."""
        self.took = []
        draw = random.Random(17)

        async def ask(number: int) -> None:
            await asyncio.sleep(draw.uniform(0, seconds))
            chat = chats[number % len(chats)]
            self.asked[chat.removeprefix("conversations/")].append(time.perf_counter())
            self.sandbox.say(None, chat, QUESTION)

        await asyncio.gather(*map(ask, range(count)))
        deadline = time.perf_counter() + 30
        while len(self.took) < count and time.perf_counter() < deadline:  # noqa: ASYNC110 - a benchmark may look
            await asyncio.sleep(0.05)
        return self.took


async def _serve(*, limited: bool) -> None:
    habits = Habits(textless_lag=timedelta())
    options = {} if limited else {"rate_limit": None}
    sandbox = Sandbox(sample_data=False, habits=habits, **options)  # type: ignore[arg-type] # one option
    service = Service(sandbox)
    sandbox.on_message = service.heard
    async with sandbox:
        print(json.dumps([sandbox.url, sandbox.issue_token(lifetime=timedelta(days=1))]), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            what, given = json.loads(line)
            print(json.dumps(await service.does(what, given)), flush=True)


@define(eq=False)
class OtherProcess:
    """Such a service, seen from the benchmark."""

    environment: Environment
    token: str = field(repr=False)
    _process: asyncio.subprocess.Process

    async def ask(self, what: str, **given: object) -> Any:
        """Have it do something, and return what comes of it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - for mypy
        stdin.write(json.dumps([what, given]).encode() + b"\n")
        return json.loads(await stdout.readline())


@asynccontextmanager
async def service_beside(*, limited: bool) -> AsyncIterator[OtherProcess]:
    """Run a service in another process; `limited` to 30 calls a second."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, *(["--limited"] if limited else [])),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - for mypy
        url, token = json.loads(await process.stdout.readline())
        yield OtherProcess(environment_at(url), token, process)
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(_serve(limited="--limited" in sys.argv))
