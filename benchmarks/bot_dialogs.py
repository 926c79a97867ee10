"""Dialogs that wait: what is in memory of one, and what it costs to load it and go along its answers.

The store is an SQLite file; nothing is sent.
"""

import gc
import tempfile
import time
import tracemalloc
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, cast
from zoneinfo import ZoneInfo

from attrs import define, field

from healthmsg.bot import Dialog, RegisteredDialog, Router, Texts
from healthmsg.bot.clock import SystemClock
from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.engine import DialogEngine
from healthmsg.bot.dialogs.replay import advance, run_of
from healthmsg.bot.dialogs.run import Tools, Wanted
from healthmsg.bot.scope import Scope, Services
from healthmsg.bot.store.records import StepRecord
from healthmsg.bot.store.store import BotStore
from healthmsg.events import MessageCreated
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import Message, SentMessage

ME: Final = "bot"
USER: Final = "0b44928a-7734-5904-8def-8752524a231e"
ANSWER: Final = "Sinds gisteren, vooral bij het lopen"
AT_ONCE: Final = 100


class NoOutbox:
    """Sends nothing."""

    async def send(self, key: str, chat: ChatAddress, content: Content, **_: bool) -> SentMessage:  # noqa: ARG002 - as the real one
        """Return the message that would have been sent."""
        return SentMessage(key)


def intake_of(questions: int) -> RegisteredDialog[Any]:
    """Return a dialog with so many questions, and one that stays open."""
    router = Router()

    @router.dialog(name="intake")
    async def intake(d: Dialog) -> None:
        answers = [await d.text(f"Vraag {number}: wat is er aan de hand?") for number in range(questions + 1)]
        await d.say(" ".join(answers))

    return intake


@define(eq=False)
class World:
    """An engine on a store, and users."""

    store: BotStore
    engine: DialogEngine
    _stack: AsyncExitStack
    _services: Services = field(init=False)
    _messages: int = 0

    def __attrs_post_init__(self) -> None:
        nothing = cast("Any", None)
        self._services = Services(nothing, nothing, self.store, SystemClock(), ME, self.engine)

    @classmethod
    async def of(cls, questions: int, *, keep: int) -> Self:
        """Return one with a dialog of so many questions, which keeps that many dialogs in memory."""
        stack = AsyncExitStack()
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = await stack.enter_async_context(BotStore.open(Path(folder) / "bot.db"))
        await store.inbox.hold()
        await store.inbox.start(ME, "https://api.example/v1", datetime.now(UTC))
        outbox = cast("Any", NoOutbox())
        engine = DialogEngine(store, outbox, SystemClock(), dialogs=[intake_of(questions)], me=ME, keep=keep)
        return cls(store, engine, stack)

    async def close(self) -> None:
        """Close the store."""
        await self._stack.aclose()

    def _scope(self, chat: ChatAddress) -> Scope:
        self._messages += 1
        message = Message(f"m{self._messages}", body=ANSWER, user_id=USER)
        event = MessageCreated.of(chat, message, me=ME, received_at=datetime.now(UTC))
        return Scope(event, self._services)

    async def start(self, chats: Iterable[ChatAddress]) -> None:
        """Start a dialog in each of these chats."""
        effects: list[Any] = []
        for chat in chats:
            scope = self._scope(chat)
            await self.engine.start(scope, "intake", chat, USER)
            effects += scope.effects
        await self.store.commit(*effects)

    async def answer(self, chat: ChatAddress) -> None:
        """Answer the question that is open in a chat."""
        scope = self._scope(chat)
        if not await self.engine.handle(scope):
            raise RuntimeError("no dialog waits here")
        await self.store.commit(*scope.effects)


def chats(first: int, count: int) -> list[ChatAddress]:
    """Return chats, with ids as long as the service's."""
    return [
        ChatAddress(ChatKind.CONVERSATION, f"0b44928a-7734-5904-8def-{number:012d}")
        for number in range(first, first + count)
    ]


async def memory_of_one(count: int, *, is_kept: bool) -> float:
    """Return the bytes that are in memory of a dialog that waits for an answer."""
    world = await World.of(1, keep=2 * count if is_kept else 0)
    try:
        for start in range(0, count, AT_ONCE):  # what grows once: caches, the tables of dictionaries
            await world.start(chats(start, AT_ONCE))
        gc.collect()
        tracemalloc.start()
        await world.start(
            chats(count, AT_ONCE)
        )  # of the last transaction, something stays until the next one
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for start in range(count + AT_ONCE, 2 * count, AT_ONCE):
            await world.start(chats(start, AT_ONCE))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    finally:
        await world.close()
    return grown / (count - AT_ONCE)


async def cost_of_loading(answers: int, times: int) -> tuple[float, float]:
    """Return the µs of CPU to replay a dialog of which the steps are there, and to read them as well."""
    world = await World.of(answers, keep=1)
    chat = chats(0, 1)[0]
    try:
        await world.start([chat])
        for _ in range(answers):
            await world.answer(chat)
        record = await world.store.dialog(chat.text, USER)
        if record is None:
            raise RuntimeError("the dialog has ended")
        code = intake_of(answers)
        tools = Tools(
            world.store,
            cast("Any", NoOutbox()),
            SystemClock(),
            Texts.dutch(),
            ZoneInfo("Europe/Amsterdam"),
        )
        rows: list[list[Any]] = [
            [one.dialog, one.number, one.kind, one.key, one.value, one.event]
            for one in await world.store.steps(record.id)
        ]

        def replay(steps: Iterable[StepRecord]) -> None:
            run = run_of(tools, code, record, steps)
            if not isinstance(advance(run), Wanted):
                raise RuntimeError("the dialog does not wait")  # noqa: TRY004 - it says where it stands
            run.close()

        replay(StepRecord(*row) for row in rows)
        gc.collect()
        began = time.process_time()
        for _ in range(times):
            replay([StepRecord(*row) for row in rows])
        replayed = time.process_time() - began
        began = time.process_time()
        for _ in range(times):
            replay(await world.store.steps(record.id))
        read = time.process_time() - began
    finally:
        await world.close()
    return replayed / times * 1e6, read / times * 1e6
