"""The intake: reads a run's messages, checks them, and enters them into the run's journal."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from healthmsg.aio import in_thread, start
from healthmsg.api import Api
from healthmsg.bulk.entries import check_message
from healthmsg.bulk.journal import (
    Entry,
    EntryStatus,
    InputIndex,
    JournalFile,
    State,
    fingerprint_of,
    key_in,
    likeness_of,
    salt_of,
)
from healthmsg.bulk.journal.base import Claim
from healthmsg.bulk.journal.memory import MemoryJournal
from healthmsg.bulk.models import (
    Messages,
    OtherText,
    Outgoing,
    Recipient,
    SendResult,
    check_outgoing,
)
from healthmsg.bulk.upload import HeldFiles
from healthmsg.errors import (
    EarlierRunError,
    InvalidFileError,
    InvalidInputError,
    JournalError,
    OtherTextError,
)
from healthmsg.files import FileSnapshots, UploadFile
from healthmsg.models import Outcome
from healthmsg.resources.chat import BaseChat
from healthmsg.task_pool import Places, each
from healthmsg.validation import check_files

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

# Few enough that checking them does not block the event loop for long.
_AT_ONCE: Final = 200
_LOOKED_UP_AT_ONCE: Final = 500
# No run has this number.
_NEW: Final = -1
_OUTCOMES: Final = {
    State.DELIVERED: Outcome.DELIVERED,
    State.NOT_SENT: Outcome.NOT_SENT,
    State.UNKNOWN: Outcome.UNKNOWN,
}
_PERHAPS_SENT: Final = (State.DELIVERED, State.SENDING, State.UNKNOWN)
_REPLACEABLE: Final = (State.PARKED, State.NOT_SENT, State.SENDING, State.UNKNOWN)
_KEY_TAKEN: Final = (
    "the key of this message was given to an earlier one of this run: each needs a key of its own"
)
_OTHER: Final = (
    "This recipient already got, or may have got, another message from this journal, which this run was not"
    " given"
)
_SKIPPED: Final = f'{_OTHER}. Nothing was sent; other_text="send" (--send-again) sends this one too.'
_DELETED: Final = "Messages of this run were deleted from the journal while it went on."
Report = Callable[[SendResult], Awaitable[None]]


@define(eq=False)
class Input:
    """A message as it was read, with snapshots of its files. `Checker` fills in the rest."""

    index: int
    message: Outgoing
    files: Sequence[UploadFile]
    entry: Entry | None = None
    """The journal entry; `None` if the message cannot be sent."""
    problem: Exception | None = None
    """Why it cannot be sent."""
    known: EntryStatus | None = None
    """Its status in the journal, if its files are gone but an earlier run may have sent it."""


# --- reading


async def batches(messages: Messages, *, for_journal: bool) -> AsyncGenerator[list[Input], None]:
    """Read messages ahead, and yield them in batches. An error in reading is raised after the last batch.

    The files of each message are recorded before the next message is requested. For a journal all are hashed,
    since a later run may send them.
    """
    queue: asyncio.Queue[Input | None] = asyncio.Queue(_AT_ONCE)
    take = FileSnapshots(digest_all=for_journal)

    failures = list[Exception]()

    async def read() -> None:
        try:
            async with aclosing(each(messages)) as items:
                index = 0
                async for item in items:
                    message = check_outgoing(item)
                    await queue.put(Input(index, message, await snapshot_files(message, take)))
                    index += 1
        except Exception as error:  # noqa: BLE001 - raised again when what came before is sent
            failures.append(error)
        await queue.put(None)

    reading = start(read())
    try:
        is_last = False
        while not is_last:
            batch, is_last = await _next_batch(queue)
            if batch:
                yield batch
        if failures:
            raise failures[0]
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _next_batch(queue: "asyncio.Queue[Input | None]") -> tuple[list[Input], bool]:
    """Wait for one message and return all that are ready, and whether they are the last."""
    batch: list[Input] = []
    while not batch or (len(batch) < _AT_ONCE and not queue.empty()):
        item = await queue.get()
        if item is None:
            return batch, True
        batch.append(item)
    return batch, False


async def snapshot_files(message: Outgoing, take: FileSnapshots) -> tuple[UploadFile, ...]:
    """Record what the files of a message hold now."""
    try:
        files = check_files(message.files)
    except InvalidFileError:
        return ()  # which `check_message` refuses
    return await in_thread(take.take, files) if files else ()


# --- checking


@define(eq=False)
class Checker:
    """Checks messages, and derives a key for each that has none."""

    _api: Api | None
    """`None`: no call is made, and nothing is known of the user."""
    _index: InputIndex
    _journal: "SqlJournal | None"
    _for_journal: bool = True
    _campaign: str | None = None
    """The campaign that they are entered into, if it is one."""

    @property
    def salt(self) -> bytes:
        """The journal's salt, from which keys are derived."""
        return b"" if self._journal is None else self._journal.salt

    async def check(self, batch: Sequence[Input]) -> None:
        """Set the entry or the problem of each message. One with a repeated key gets both."""
        unkeyed = list[Input]()
        for one in batch:
            try:
                one.entry = await check_message(
                    one.message, self._api, one.files, for_journal=self._for_journal
                )
            except Exception as problem:  # noqa: BLE001 - reported: nothing was sent
                # Keys are accepted in the order of the messages.
                self._add_keys(unkeyed)
                unkeyed = []
                one.problem = problem
                if isinstance(problem, InvalidFileError):
                    one.known = await self._known(one)
            else:
                unkeyed.append(one)
        self._add_keys(unkeyed)

    def _add_keys(self, inputs: Sequence[Input]) -> None:
        entries = [(one, one.entry) for one in inputs if one.entry is not None]
        salt = self.salt if self._campaign is None else salt_of(self.salt, self._campaign)
        keys = self._index.add(
            [
                (one.index, self._own_key(one), likeness_of(*_content_of(entry), salt=salt))
                for one, entry in entries
            ]
        )
        for (one, entry), key in zip(entries, keys, strict=True):
            fingerprint = fingerprint_of(*_content_of(entry), salt=self.salt)
            one.entry = evolve(entry, key=key or "", fingerprint=fingerprint)
            if key is None:
                one.problem = InvalidInputError(_KEY_TAKEN)

    async def _known(self, one: Input) -> EntryStatus | None:
        """Return its status if an earlier run delivered it, or may have."""
        key = self._own_key(one)
        if self._journal is None or key is None:
            return None
        found = await self._journal.statuses([key])
        known = next((status for status in found if status.state in _PERHAPS_SENT), None)
        if known is None or self._index.add([(one.index, known.key, b"")]) == [None]:
            return None
        return known

    def _own_key(self, one: Input) -> str | None:
        """Return the key that it was given, as it is in the journal."""
        key = one.message.key
        return key if key is None or self._campaign is None else key_in(self._campaign, key)


def _content_of(entry: Entry) -> tuple[str, str, Sequence[JournalFile], Mapping[str, object] | None]:
    return entry.chat, entry.body, entry.files, entry.question


# --- other texts


@frozen
class OtherTexts:
    """What the journal holds for the recipients of some messages, besides these messages."""

    with_other_text: frozenset[str] = field(repr=False)
    """Keys of the messages whose recipient got, or may have got, another text."""
    superseded: tuple[str, ...] = field(repr=False)
    """Keys of earlier undelivered messages that these replace."""


async def compare(
    entries: Sequence[Entry], statuses: Mapping[str, EntryStatus], journal: "SqlJournal", index: InputIndex
) -> OtherTexts:
    """Compare messages of a run with the messages of earlier runs to the same recipients.

    Messages that this run was given as well do not count, nor do those that an earlier run was given together
    with the message.
    """
    by_run: dict[int, list[Entry]] = {}
    for entry in entries:
        status = statuses.get(entry.key)
        run = None if status is None else status.run
        by_run.setdefault(_NEW if run is None else run, []).append(entry)
    with_other_text, superseded = set[str](), dict[str, None]()
    for run, alike in by_run.items():
        others = await _other_messages(journal, index, {entry.chat for entry in alike}, besides=run)
        for entry in alike:
            for other in others.get(entry.chat, ()):
                if other.state in _PERHAPS_SENT:
                    with_other_text.add(entry.key)
                if other.state in _REPLACEABLE:
                    superseded[other.key] = None
    return OtherTexts(frozenset(with_other_text), tuple(superseded))


async def _other_messages(
    journal: "SqlJournal", index: InputIndex, chats: Collection[str], *, besides: int
) -> dict[str, list[EntryStatus]]:
    """Return the earlier messages that this run was not given, by chat."""
    earlier = await journal.earlier(chats, besides=besides)
    known = index.known_among([one.key for one in earlier]) if earlier else ()
    others: dict[str, list[EntryStatus]] = {}
    for one in earlier:
        if one.key not in known:
            others.setdefault(one.chat, []).append(one)
    return others


def _would_be_sent(status: EntryStatus | None, *, retry_failed: bool) -> bool:
    """Return whether a message is new to the journal, or is sent again by a run that is given it."""
    if status is None or status.is_new or status.state is State.PARKED:
        return True
    return retry_failed and status.state is State.NOT_SENT


def other_text_error() -> OtherTextError:
    """Return the error with which a preview reports another text."""
    return OtherTextError(f'{_OTHER}. With other_text="send" this one is sent too, with "skip" it is not.')


# --- the intake


@define
class Intake:
    """Enters a run's messages into its journal, and knows which of them have no result yet.

    Apart from `take`, the methods here are those for a journal in memory.
    """

    failure: Exception | None = field(default=None, init=False)
    """The error that reading the messages raised."""
    other_texts: int = field(default=0, init=False)
    """How many messages are for recipients who got another text."""

    async def take(self, messages: Messages) -> None:
        """Read and enter all messages, or those before reading fails."""
        raise NotImplementedError

    def expect(self, claims: Sequence[Claim]) -> None:
        """Prepare for the results of these messages."""

    def index_of(self, claim: Claim) -> int | None:
        """Return its number among the messages of this run; `None` if it is not one of them."""
        return claim.index

    def is_pending(self, claim: Claim) -> bool:  # noqa: ARG002 - of interest where a journal is shared
        """Return whether it is a message of this run without a result."""
        return True

    def mark_pending(self, claim: Claim) -> None:
        """Note that its result does not count, and another will come."""

    def release(self, claim: Claim) -> None:
        """Release what is held for it: its result is known."""

    def hold_back(self, result: SendResult | None) -> SendResult | None:
        """Return a result to report now, or keep it if this run may still read its message."""
        return result

    def held_back(self) -> Sequence[SendResult]:
        """Return the results that were kept, once all messages are read."""
        return ()

    async def has_open_elsewhere(self) -> bool:
        """Report what other workers did with this run's messages; return whether they still have some."""
        return False


@define
class MemoryIntake(Intake):
    """Reads a message when a place is free, so that no more are held than there are places."""

    _journal: MemoryJournal
    _places: Places
    _has_entered: Callable[[], object]
    _files: HeldFiles = field(factory=HeldFiles, init=False)

    async def take(self, messages: Messages) -> None:
        """See `Intake`."""
        index = 0
        try:
            async with aclosing(each(messages)) as items:
                async for item in items:
                    await self._places.acquire()
                    message = await self._with_files(check_outgoing(item))
                    self._journal.enter(index, _address_in(message.to), message)
                    self._has_entered()
                    index += 1
        except Exception as error:  # noqa: BLE001 - raised again when what came before is sent
            self.failure: Exception | None = error

    async def _with_files(self, message: Outgoing) -> Outgoing:
        """Return the message with snapshots of its files."""
        try:
            files = check_files(message.files)
        except InvalidFileError:
            return message  # refused when it is sent
        return evolve(message, files=await self._files.take(files)) if files else message

    def release(self, claim: Claim) -> None:
        """See `Intake`."""
        if claim.message is not None and isinstance(claim.message.files, tuple):  # else no snapshots
            self._files.release(claim.message.files)


def _address_in(to: Recipient) -> str:
    """Return the address as text in its one form; "" if it is no address."""
    if isinstance(to, BaseChat):
        return to.address.text
    return to if isinstance(to, str) else ""  # it will not be sent; it may not even be hashable


@define
class JournalIntake(Intake):
    """Reads messages ahead of the sending, and reports those that have a result already.

    Without messages, the run continues with what its journal holds.
    """

    _api: Api
    _journal: "SqlJournal"
    _index: InputIndex
    _report: Report
    _has_entered: Callable[[], object]
    """Called when there may be more to send."""
    _retry_failed: bool = field(kw_only=True)
    _other_text: OtherText = field(kw_only=True)
    _on_other_texts: Callable[[], object] = field(kw_only=True)
    """Called with the first message to a recipient who got another text."""
    _resumes: bool = field(kw_only=True)
    """Whether it was given no messages."""
    _early: dict[str | None, SendResult] = field(factory=dict, init=False)
    """Results of messages that an earlier run left in doubt, and that this run may still read."""
    _has_all: bool = field(default=False, init=False)

    async def take(self, messages: Messages) -> None:
        """See `Intake`."""
        checker = Checker(self._api, self._index, self._journal)
        async with aclosing(batches(messages, for_journal=True)) as reading:
            while True:
                try:
                    batch = await anext(reading)
                except StopAsyncIteration:
                    break
                except Exception as error:  # noqa: BLE001 - raised again when what came before is sent
                    self.failure: Exception | None = error
                    return
                await checker.check(batch)
                await self._enter(batch)
        await self._journal.mark_all_read()

    async def _enter(self, batch: Sequence[Input]) -> None:
        entered = list[tuple[int, Entry]]()
        for one in batch:
            if one.known is not None:
                if one.known.is_final:
                    await self._report_known(one.known, one.message.label)
            elif one.problem is not None:
                to = one.message.to if one.entry is None else one.entry.chat
                await self._refuse(one.index, one.message.key, to, one.problem, one.message.label)
            elif one.entry is not None:
                entered.append((one.index, one.entry))
        entered, superseded = await self._without_others(entered)
        entries = [entry for _, entry in entered]
        same = self._api.aliases.known_groups(entry.chat for entry in entries)
        statuses = await self._journal.enter(
            entries, same_chats=same, retry_failed=self._retry_failed, superseded=superseded
        )
        for (index, entry), status in zip(entered, statuses, strict=True):
            if status.problem is not None:
                self._index.report(status.key)
                await self._refuse(index, entry.key, entry.chat, status.problem, entry.label)
            elif status.is_final and self._index.is_pending(status.key):
                await self._report_known(status, entry.label)
        self._has_entered()

    async def _without_others(
        self, entered: list[tuple[int, Entry]]
    ) -> tuple[list[tuple[int, Entry]], Sequence[str]]:
        """Apply `other_text`; return what is left to enter, and the keys of the messages it replaces."""
        if not entered or not self._journal.has_earlier:
            return entered, ()
        await self._journal.learn_same(self._api.aliases.known_groups(entry.chat for _, entry in entered))
        known = await self._journal.statuses([entry.key for _, entry in entered])
        statuses = {status.key: status for status in known}
        found = await compare([entry for _, entry in entered], statuses, self._journal, self._index)
        with_other_text = {
            key
            for key in found.with_other_text
            if _would_be_sent(statuses.get(key), retry_failed=self._retry_failed)
        }
        if with_other_text and not self.other_texts:
            self._on_other_texts()
        self.other_texts: int = self.other_texts + len(with_other_text)
        if self._other_text == "send":
            return entered, found.superseded
        for index, entry in entered:
            if entry.key in with_other_text:
                self._index.report(entry.key)
                await self._refuse(index, entry.key, entry.chat, OtherTextError(_SKIPPED), entry.label)
        return [one for one in entered if one[1].key not in with_other_text], found.superseded

    async def _report_known(self, status: EntryStatus, label: str | None) -> None:
        await self._report(result_of(status, self._index.report(status.key), label))

    async def _refuse(
        self, index: int, key: str | None, to: Recipient, problem: Exception, label: str | None
    ) -> None:
        await self._report(SendResult(key, to, Outcome.NOT_SENT, error=problem, index=index, label=label))

    def expect(self, claims: Sequence[Claim]) -> None:
        """See `Intake`."""
        self._index.prefetch(claim.key for claim in claims)

    def index_of(self, claim: Claim) -> int | None:
        """See `Intake`."""
        return self._index.report(claim.key)

    def is_pending(self, claim: Claim) -> bool:
        """See `Intake`."""
        return self._index.is_pending(claim.key)

    def mark_pending(self, claim: Claim) -> None:
        """See `Intake`."""
        self._index.mark_pending(claim.key)

    def hold_back(self, result: SendResult | None) -> SendResult | None:
        """See `Intake`."""
        if result is None or result.index is not None or self._has_all or self._resumes:
            return result
        self._early[result.key] = result
        return None

    def held_back(self) -> Sequence[SendResult]:
        """See `Intake`. Other results were reported when their messages were entered."""
        self._has_all = True
        early, self._early = self._early, {}
        return [result for key, result in early.items() if key is None or not self._index.knows(key)]

    async def has_open_elsewhere(self) -> bool:
        """See `Intake`."""
        if self._resumes:
            return self._journal.lease is not None and await self._journal.has_open()
        after, are_some_open = "", False
        while page := self._index.pending_after(after, _LOOKED_UP_AT_ONCE):
            statuses = {one.key: one for one in await self._journal.statuses([key for _, key in page])}
            for _, key in page:
                status = statuses.get(key)
                if status is None:
                    raise JournalError(_DELETED)
                if status.state is State.PARKED:  # by one that was not given it
                    await self._journal.unpark([key])
                if status.state is State.PARKED or not status.is_final:
                    are_some_open = True
                else:
                    await self._report_known(status, status.label)
            after = page[-1][1]
        return are_some_open


def result_of(status: EntryStatus, index: int | None, label: str | None) -> SendResult:
    """Return the result of a message that an earlier run or another worker has handled."""
    assert status.state is not None  # noqa: S101 - for mypy: it is in the journal
    outcome = _OUTCOMES[status.state]
    error = None
    if outcome is not Outcome.DELIVERED:
        error = EarlierRunError(status.error or "An earlier run noted no reason.")
    return SendResult(
        status.key, status.chat, outcome, status.message_id, error, status.attempts, index, label
    )
