"""Taking a run's messages into its journal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from attrs import define, field, frozen

from healthmsg.aio import start
from healthmsg.api import Api
from healthmsg.bulk.entries import Content, checked, take_files, taker
from healthmsg.bulk.journal import Entry, Given, Journal, Standing, State
from healthmsg.bulk.messages import Messages, Outgoing, Recipient, SendResult
from healthmsg.bulk.other_texts import OtherText, compare, error_of_skipped, would_be_sent
from healthmsg.bulk.sender import check_outgoing
from healthmsg.errors import EarlierRunError, InvalidFileError, InvalidInputError
from healthmsg.files import UploadFile
from healthmsg.models import Outcome
from healthmsg.task_pool import each

# Few enough that checking them does not keep the event loop from others.
_AT_ONCE: Final = 200
_OUTCOMES: Final = {
    State.DELIVERED: Outcome.DELIVERED,
    State.NOT_SENT: Outcome.NOT_SENT,
    State.UNKNOWN: Outcome.UNKNOWN,
}
_PERHAPS_SENT: Final = (State.DELIVERED, State.UNKNOWN, State.SENDING)
_KEY_TAKEN: Final = (
    "the key of this message was given to an earlier one of this run: each needs a key of its own"
)
Tell = Callable[[SendResult], Awaitable[None]]
_Number = tuple[int, Outgoing, Sequence[UploadFile]]
"""A message's number in the input, the message, and its files as they were when it was taken."""


@frozen
class _Checked:
    index: int
    key: str | None
    """Its own, if it was given one."""
    content: Content
    likeness: bytes


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
    _other_text: OtherText = field(kw_only=True)
    _count_other_texts: Callable[[int], None] = field(kw_only=True)
    """Called with how many messages there are to recipients who got another one."""
    failure: Exception | None = field(default=None, init=False)
    """What reading the messages has raised."""

    async def take(self, messages: Messages) -> None:
        """Enter them all, or all before reading them fails."""
        queue: asyncio.Queue[_Number | None] = asyncio.Queue(_AT_ONCE)
        reading = start(self._read(messages, queue))
        try:
            while batch := await _next_batch(queue):
                await self._enter(batch)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if self.failure is None:
            await self._journal.note_all_read()

    async def _read(self, messages: Messages, queue: "asyncio.Queue[_Number | None]") -> None:
        try:
            take = taker(for_journal=True)
            async with aclosing(each(messages)) as items:
                index = 0
                async for item in items:
                    message = check_outgoing(item)
                    await queue.put((index, message, await take_files(message, take)))
                    index += 1
        except Exception as error:  # noqa: BLE001 - raised again when what came before is sent
            self.failure = error
        await queue.put(None)

    async def _enter(self, batch: Sequence[_Number]) -> None:
        entered, waiting = list[tuple[int, Entry]](), list[_Checked]()
        for index, message, files in batch:
            try:
                content = await checked(message, self._api, files)
            except Exception as problem:  # noqa: BLE001 - reported: nothing was sent
                # Keys are accepted in the order of the messages.
                entered += await self._accepted(waiting)
                waiting = []
                await self._not_entered(index, message, problem)
            else:
                likeness = content.likeness(self._journal.salt)
                waiting.append(_Checked(index, message.key, content, likeness))
        entered += await self._accepted(waiting)
        entered, superseded = await self._without_others(entered)
        entries = [entry for _, entry in entered]
        same = self._api.aliases.known_groups(entry.chat for entry in entries)
        standings = await self._journal.enter(
            entries, same_chats=same, retry_failed=self._retry_failed, superseded=superseded
        )
        for (index, entry), standing in zip(entered, standings, strict=True):
            if standing.problem is not None:
                self._given.take(standing.key)
                await self._refuse(index, entry.key, entry.chat, standing.problem, entry.label)
            elif standing.is_final and self._given.is_awaited(standing.key):
                await self._tell(result_of(standing, self._given.take(standing.key), entry.label))
        self._has_entered()

    async def _without_others(
        self, entered: list[tuple[int, Entry]]
    ) -> tuple[list[tuple[int, Entry]], Sequence[str]]:
        """Leave those out whose recipients got another text, as was asked for; return the replaced, too."""
        if not entered or not self._journal.has_earlier:
            return entered, ()
        await self._journal.learn_same(self._api.aliases.known_groups(entry.chat for _, entry in entered))
        known = await self._journal.standings([entry.key for _, entry in entered])
        standings = {standing.key: standing for standing in known}
        found = await compare([entry for _, entry in entered], standings, self._journal, self._given)
        to_written = {
            key
            for key in found.to_written
            if would_be_sent(standings.get(key), retry_failed=self._retry_failed)
        }
        if to_written:
            self._count_other_texts(len(to_written))
        if self._other_text == "send":
            return entered, found.superseded
        for index, entry in entered:
            if entry.key in to_written:
                self._given.take(entry.key)
                await self._refuse(index, entry.key, entry.chat, error_of_skipped(), entry.label)
        return [one for one in entered if one[1].key not in to_written], found.superseded

    async def _accepted(self, found: Sequence[_Checked]) -> list[tuple[int, Entry]]:
        """Give each its key; one whose key was given before is refused."""
        keys = self._given.accept([(one.index, one.key, one.likeness) for one in found])
        accepted = list[tuple[int, Entry]]()
        for one, key in zip(found, keys, strict=True):
            if key is None:
                problem = InvalidInputError(_KEY_TAKEN)
                await self._refuse(one.index, one.key, one.content.to, problem, one.content.label)
            else:
                fingerprint = one.content.fingerprint(self._journal.salt)
                accepted.append((one.index, one.content.entry(key, fingerprint)))
        return accepted

    async def _not_entered(self, index: int, message: Outgoing, problem: Exception) -> None:
        if not (isinstance(problem, InvalidFileError) and await self._is_known(index, message)):
            await self._refuse(index, message.key, message.to, problem, message.label)

    async def _is_known(self, index: int, message: Outgoing) -> bool:
        """Tell whether this was, or may have been, delivered by an earlier run: its files may be gone."""
        found = await self._journal.standings([message.key]) if message.key is not None else []
        known = next((one for one in found if one.state in _PERHAPS_SENT), None)
        if known is None or self._given.accept([(index, known.key, b"")]) == [None]:
            return False
        if known.is_final:
            await self._tell(result_of(known, self._given.take(known.key), message.label))
        return True

    async def _refuse(
        self, index: int, key: str | None, to: Recipient, problem: Exception, label: str | None
    ) -> None:
        await self._tell(SendResult(key, to, Outcome.NOT_SENT, error=problem, index=index, label=label))


def result_of(standing: Standing, index: int | None, label: str | None) -> SendResult:
    """Tell what became of a message earlier, or elsewhere."""
    assert standing.state is not None  # noqa: S101 - for mypy: it is in the journal
    outcome = _OUTCOMES[standing.state]
    error = None
    if outcome is not Outcome.DELIVERED:
        error = EarlierRunError(standing.error or "An earlier run noted no reason.")
    return SendResult(
        standing.key, standing.chat, outcome, standing.message_id, error, standing.attempts, index, label
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
