"""The store of a bot, for the commands that read it, or change it while no bot has it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from importlib import import_module
from typing import Protocol, cast

from healthmsg.bot.dialogs.orders import TAKE_BACK, order_of
from healthmsg.bot.store.effects import Effect, PutTimer
from healthmsg.bot.store.records import DialogRecord, ParkedEvent, StepRecord
from healthmsg.bulk import JournalMessage, JournalReview
from healthmsg.cli.files import JournalLocation, require_journal_packages
from healthmsg.cli.problems import RefusedError
from healthmsg.errors import ConfigurationError, JournalInUseError


class StoreReader(Protocol):
    """What a bot's store has for a person."""

    @property
    def identity(self) -> str:
        """What tells it from other stores."""

    async def parked(self) -> list[ParkedEvent]:
        """Return what is left to a person."""

    async def dialogs(self) -> list[DialogRecord]:
        """Return all dialogs that have not ended."""

    async def steps(self, dialog: str) -> list[StepRecord]:
        """Return the steps of a dialog, by number."""


class InboxHold(Protocol):
    """The inbox of a store that several processes could want."""

    async def hold_at_once(self) -> bool:
        """Return whether this process alone has it; False: another one has it."""


class StoreWriter(StoreReader, Protocol):
    """A store that is to be changed."""

    @property
    def inbox(self) -> InboxHold:
        """Its inbox."""

    async def commit(self, *effects: Effect) -> None:
        """Write all of it, or nothing."""

    async def unpark(self, sequence: int | None = None) -> int:
        """Have a parked event wait again, or with `None` all of them; return how many."""

    async def dialog_of(self, dialog: str) -> DialogRecord | None:
        """Return the dialog with this id, if it has not ended."""


def find_store(target: str) -> JournalLocation:
    """Return where a store is.

    Raises:
        RefusedError: there is none.
    """
    require_journal_packages()
    try:
        location = JournalLocation.parse(target)
    except ConfigurationError as error:
        problem = str(error)
    else:
        if location.may_exist:
            return location
        problem = "there is no such store"
    raise RefusedError(f"STORE: {problem}")


def open_store(location: JournalLocation) -> AbstractAsyncContextManager[StoreReader]:
    """Return a context manager that opens a store for reading, beside a bot that has it."""
    return cast(
        "AbstractAsyncContextManager[StoreReader]",
        import_module("healthmsg.bot.store.store").BotStore.open(location.target, is_reading=True),
    )


def open_to_change(location: JournalLocation) -> AbstractAsyncContextManager[StoreWriter]:
    """Return a context manager that opens a store to change it.

    Raises:
        JournalInUseError: on entering: a bot has the file.
    """
    return cast(
        "AbstractAsyncContextManager[StoreWriter]",
        import_module("healthmsg.bot.store.store").BotStore.open(location.target),
    )


async def unknown_replies(location: JournalLocation) -> Sequence[JournalMessage]:
    """Return the replies of which it is not known whether they arrived."""
    async with aclosing(JournalReview(location.target).unknown()) as found:
        return [row async for row in found]


async def take_up(location: JournalLocation, sequence: int | None) -> int:
    """Take a parked event up again, or with `None` all of them; return how many there were.

    Raises:
        JournalInUseError: a bot has the store.
    """
    async with open_to_change(location) as store:
        await _hold(store)
        return await store.unpark(sequence)


async def order_dialog(location: JournalLocation, kind: str, dialog: str) -> bool:
    """Have the next bot that starts do this to a dialog. Return whether there is such a dialog.

    Raises:
        JournalInUseError: a bot has the store.
    """
    async with open_to_change(location) as store:
        await _hold(store)
        record = await store.dialog_of(dialog)
        if record is None or (kind == TAKE_BACK and record.state != "held"):
            return False
        await store.commit(PutTimer(order_of(kind, record, datetime.now(UTC))))
        return True


async def _hold(store: StoreWriter) -> None:
    # Of a file, opening has found that out.
    if not await store.inbox.hold_at_once():
        raise JournalInUseError("A bot has this store.")
