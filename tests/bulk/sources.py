"""Messages to send, and what the tests of this folder share."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from healthmsg import Outgoing, SendResult
from healthmsg.sandbox import Sandbox


def chats(sandbox: Sandbox, count: int) -> list[str]:
    return [f"conversations/{sandbox.add_conversation()}" for _ in range(count)]


def posts(sandbox: Sandbox) -> int:
    return sum(call.method == "POST" for call in sandbox.calls)


def bodies(sandbox: Sandbox, chat: str) -> list[str | None]:
    return [message.body for message in sandbox.messages(chat)]


async def read_into(seen: list[SendResult], sending: AsyncIterable[SendResult]) -> None:
    async for result in sending:
        seen.append(result)  # noqa: PERF401 - it may raise on the way


class Source:
    """Messages, and how many of them have been read."""

    def __init__(self, addresses: Iterable[str], *, count: int, fails_at: int | None = None) -> None:
        self.read = 0
        self.is_closed = False
        self._addresses = itertools.cycle(addresses)
        self._count = count
        self._fails_at = fails_at

    def __iter__(self) -> Iterator[Outgoing]:
        try:
            for number in range(self._count):
                if number == self._fails_at:
                    raise LookupError("no more patients")
                self.read += 1
                yield Outgoing(next(self._addresses), f"bericht {number}", key=str(number))
        finally:
            self.is_closed = True


class AsyncSource(Source):
    async def __aiter__(self) -> AsyncIterator[Outgoing]:
        try:
            for message in super().__iter__():
                await asyncio.sleep(0)
                yield message
        finally:
            self.is_closed = True

    __iter__ = None  # type: ignore[assignment]
