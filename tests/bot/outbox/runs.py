"""An outbox on a database of its own, and what has become of its replies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from attrs import define, field
from sqlalchemy import Connection

from healthmsg import Client, Question, Retries
from healthmsg.bot.content import Content
from healthmsg.bot.outbox import Outbox
from healthmsg.bulk.journal.changes import Change, Changes
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.database.base import Database
from healthmsg.database.opening import open_database
from healthmsg.database.target import Target
from healthmsg.database.writer import Writer
from healthmsg.ids import ChatAddress
from healthmsg.models import Option
from healthmsg.sandbox import Sandbox

LEASE = timedelta(seconds=60)
SHORT_LEASE = timedelta(seconds=2)
"""Of a process that will die: another one waits for its end."""


@define(eq=False)
class Store:
    """A database with its writer, as a bot has them, and a count of its transactions."""

    database: Database
    writer: Writer[Change]
    journal: SqlJournal
    transactions: int = 0
    on_commit: Callable[[], object] = field(default=lambda: None)

    @classmethod
    async def open(cls, target: str, lease: timedelta = LEASE) -> "Store":
        database = await open_database(Target.parse(target), lease, is_reading=False)
        changes = Changes.of(lease if database.is_shared else None)
        writer = Writer(database, changes, 60.0)
        store = cls(database, writer, SqlJournal(database, writer, changes))
        run = database.run

        async def counted(work: Callable[[Connection], Any], **options: Any) -> Any:
            result = await run(work, **options)
            store.transactions += 1
            store.on_commit()
            return result

        database.run = counted  # type: ignore[method-assign]
        return store

    async def close(self) -> None:
        await self.journal.close()
        await self.writer.close()

    async def crash(self) -> None:
        """End without a word: nothing more is written."""
        self.writer._task.cancel()
        await asyncio.wait([self.writer._task])


@define(eq=False)
class Run:
    client: Client
    store: Store
    outbox: Outbox


@asynccontextmanager
async def running(sandbox: Sandbox, target: str, settle: float = 0.1, **options: Any) -> AsyncIterator[Run]:
    """Open an outbox with a client that knows nothing, as a new process has them."""
    sandbox.rate_limit = None
    async with Client(
        sandbox.issue_token(),
        environment=sandbox.environment,
        **{"retries": Retries.none(), **options},
    ) as client:
        store = await Store.open(target)
        outbox = Outbox.of(client, store.journal, settle=settle)
        try:
            await outbox.start(sandbox.user_id)
            yield Run(client, store, outbox)
        finally:
            await outbox.close()
            await store.close()


def chat_in(sandbox: Sandbox, *messages: str) -> ChatAddress:
    return ChatAddress.parse(f"conversations/{sandbox.add_conversation(messages=messages)}")


async def other_side(run: Run, chat: ChatAddress) -> str:
    """Return the id of the patient in a conversation."""
    info = await run.client.conversations(chat.id).get()
    assert info.user is not None
    return info.user.id


def bodies(sandbox: Sandbox, chat: ChatAddress) -> list[str | None]:
    return [message.body for message in sandbox.messages(chat)]


def text(body: str) -> Content:
    return Content(body)


def question(body: str) -> Content:
    return Content(body, Question([Option("Ja"), Option("Nee")]), label="visit")


def sizes(outbox: Outbox) -> Mapping[str, int]:
    """Return the sizes of all that an outbox keeps."""
    parts = (outbox, outbox._sender, outbox._calls, outbox._pool, outbox._echoes, outbox._doubts)
    kept = {name: value for part in parts for name, value in _fields(part)}
    return {name: len(value) for name, value in kept.items() if isinstance(value, dict | set | list)}


def _fields(part: object) -> list[tuple[str, object]]:
    names = [*getattr(part, "__dict__", {}), *getattr(type(part), "__slots__", ())]
    return [(f"{type(part).__name__}.{name}", getattr(part, name, None)) for name in names]
