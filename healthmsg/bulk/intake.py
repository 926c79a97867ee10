"""Taking a run's messages into its journal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from attrs import define, field, frozen

from healthmsg.bulk.entries import checked
from healthmsg.bulk.journal import Entry, Given, Journal, Standing, State
from healthmsg.bulk.messages import Messages, Outgoing, SendResult
from healthmsg.bulk.sender import check_outgoing
from healthmsg.errors import EarlierRunError, InvalidInputError
from healthmsg.many import each
from healthmsg.models import Outcome
from healthmsg.resources.api import Api
from healthmsg.tasks import start

# Few enough that checking them does not keep the event loop from others.
_AT_ONCE: Final = 200
_OUTCOMES: Final = {
    State.DELIVERED: Outcome.DELIVERED,
    State.NOT_SENT: Outcome.NOT_SENT,
    State.UNKNOWN: Outcome.UNKNOWN,
}
_KEY_TAKEN: Final = (
    "the key of this message was given to an earlier one of this run: each needs a key of its own"
)
Tell = Callable[[SendResult], Awaitable[None]]
_Number = tuple[int, Outgoing]


@frozen
class _Entered:
    index: int
    message: Outgoing
    entry: Entry


@define
class Intake:
    """Reads messages ahead of their sending, and tells the results of those of which there is one already."""

    _api: Api
    _journal: Journal
    _given: Given
    _tell: Tell
    _has_entered: Callable[[], None]
    """Called when there may be something more to send."""
    _retry_failed: bool = field(kw_only=True)
    _failure: Exception | None = field(default=None, init=False)

    async def take(self, messages: Messages) -> None:
        """Enter them all; what reading them raises is raised after all before it have been entered."""
        queue: asyncio.Queue[_Number | None] = asyncio.Queue(_AT_ONCE)
        reading = start(self._read(messages, queue))
        try:
            while batch := await _next_batch(queue):
                await self._enter(batch)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if self._failure is not None:
            raise self._failure

    async def _read(self, messages: Messages, queue: "asyncio.Queue[_Number | None]") -> None:
        try:
            async with aclosing(each(messages)) as items:
                index = 0
                async for item in items:
                    await queue.put((index, check_outgoing(item)))
                    index += 1
        except Exception as error:  # noqa: BLE001 - raised again when what came before is entered
            self._failure = error
        await queue.put(None)

    async def _enter(self, batch: Sequence[_Number]) -> None:
        entered = [one for number in batch if (one := await self._checked(*number)) is not None]
        entries = [one.entry for one in entered]
        standings = await self._journal.enter(entries, retry_failed=self._retry_failed)
        for one, standing in zip(entered, standings, strict=True):
            if standing.problem is not None:
                self._given.take(standing.key)
                await self._refuse(one.index, one.message, standing.problem)
            elif standing.is_final and self._given.is_awaited(standing.key):
                await self._tell(result_of(standing, self._given.take(standing.key)))
        self._has_entered()

    async def _checked(self, index: int, message: Outgoing) -> _Entered | None:
        problem: Exception
        try:
            content = await checked(message, self._api)
        except Exception as error:  # noqa: BLE001 - reported: nothing was sent
            problem = error
        else:
            key = message.key
            if key is None:
                key = self._given.key(content.to, content.body, content.files, content.question)
            if self._given.accept(key, index):
                return _Entered(index, message, content.entry(key))
            problem = InvalidInputError(_KEY_TAKEN)
        await self._refuse(index, message, problem)
        return None

    async def _refuse(self, index: int, message: Outgoing, problem: Exception) -> None:
        result = SendResult(message.key, message.to, Outcome.NOT_SENT, error=problem, index=index)
        await self._tell(result)


def result_of(standing: Standing, index: int | None) -> SendResult:
    """Tell what became of a message earlier, or elsewhere."""
    assert standing.state is not None  # noqa: S101 - for mypy: it is in the journal
    outcome = _OUTCOMES[standing.state]
    error = None
    if outcome is not Outcome.DELIVERED:
        error = EarlierRunError(standing.error or "An earlier run noted no reason.")
    return SendResult(
        standing.key, standing.chat, outcome, standing.message_id, error, standing.attempts, index
    )


async def _next_batch(queue: "asyncio.Queue[_Number | None]") -> list[_Number]:
    """Take all that is there, but at least one; none at the end."""
    batch: list[_Number] = []
    while not batch or (len(batch) < _AT_ONCE and not queue.empty()):
        item = await queue.get()
        if item is None:
            queue.put_nowait(None)  # to be found again
            break
        batch.append(item)
    return batch
