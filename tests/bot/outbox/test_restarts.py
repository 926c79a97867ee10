"""What becomes of replies when the process dies, wherever it was."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from healthmsg import Client, DeliveryUnknownError, HealthmsgError, Retries, UploadFile
from healthmsg.bot.content import Content
from healthmsg.bot.outbox import Outbox
from healthmsg.bulk.journal import State
from healthmsg.ids import ChatAddress
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Delay, Sandbox
from tests.bot.outbox.runs import SHORT_LEASE, Run, Store, bodies, chat_in, running, text
from tests.bulk.journal_runs import lose
from tests.bulk.sources import posts
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


@asynccontextmanager
async def dying(sandbox: Sandbox, target: str, settle: float = 0.1) -> AsyncIterator[Run]:
    """Open an outbox, and let its process die at the end: nothing is written or sent any more."""
    sandbox.rate_limit = None
    async with Client(
        sandbox.issue_token(), environment=sandbox.environment, retries=Retries.none()
    ) as client:
        store = await Store.open(target, SHORT_LEASE)
        outbox = Outbox.of(client, store.journal, settle=settle)
        try:
            await outbox.start(sandbox.user_id)
            yield Run(client, store, outbox)
        finally:
            await store.crash()
            for task in outbox._pool.in_flight:
                task.cancel()
            await outbox.close()


async def killed_when(run: Run, sandbox: Sandbox, chat: ChatAddress, content: Content, calls: int) -> None:
    """Ask for a reply, and stand still when so many calls have arrived."""
    asked = asyncio.ensure_future(run.outbox.send("e/1", chat, content))
    await until(lambda: posts(sandbox) >= calls)
    asked.cancel()


async def test_what_was_delivered_before_the_process_died_is_found(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, Delay(60, after=True))

    async with dying(sandbox, target) as run:
        await killed_when(run, sandbox, chat, text("Hallo"), 1)
        await until(lambda: sandbox.messages(chat))
    async with running(sandbox, target) as run:
        sent = await run.outbox.send("e/1", chat, text("Hallo"))

    assert [message.id for message in sandbox.messages(chat)] == [sent.id]


async def test_what_was_in_doubt_is_looked_for_before_a_handler_asks(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, Delay(60, after=True))

    async with dying(sandbox, str(file)) as run:
        await killed_when(run, sandbox, chat, text("Hallo"), 1)
        await until(lambda: sandbox.messages(chat))
    async with running(sandbox, str(file)) as run:
        await until(lambda: not run.outbox.open)
        sandbox.faults.add(kind=CutBefore(), times=None)  # no call is needed any more
        sent = await run.outbox.send("e/1", chat, text("Hallo"))

    assert [message.id for message in sandbox.messages(chat)] == [sent.id]


async def test_what_was_lost_when_the_process_died_is_sent_when_it_is_asked_for(
    sandbox: Sandbox, target: str
) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)

    async with dying(sandbox, target) as run:
        await run.outbox.send("e/0", other, text("Getuige"))
        lose(sandbox, Delay(60), chat.id)
        await killed_when(run, sandbox, chat, text("Hallo"), 2)
    sandbox.faults.clear()
    async with running(sandbox, target) as run:
        sent = await run.outbox.send("e/1", chat, text("Hallo"))

    assert [message.id for message in sandbox.messages(chat)] == [sent.id]


async def test_what_was_lost_and_is_not_asked_for_again_is_not_sent(sandbox: Sandbox, file: Path) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)

    async with dying(sandbox, str(file)) as run:
        await run.outbox.send("e/0", other, text("Getuige"))
        lose(sandbox, Delay(60), chat.id)
        await killed_when(run, sandbox, chat, text("Hallo"), 2)
    sandbox.faults.clear()
    async with running(sandbox, str(file)) as run:
        await run.outbox.send("e/2", chat, text("Iets anders"))
        row = await run.store.journal.message("e/1")

    assert bodies(sandbox, chat) == ["Iets anders"]
    assert row is not None
    assert row.state is State.PARKED


async def test_bytes_that_were_not_sent_come_again_with_the_handler_even_if_they_differ(
    sandbox: Sandbox, target: str
) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)
    contents = [Content("Uw brief", files=[UploadFile(b"van %d uur" % n, "b.txt")]) for n in range(2)]

    async with dying(sandbox, target) as run:
        await run.outbox.send("e/0", other, text("Getuige"))
        lose_uploads(sandbox)
        await killed_when(run, sandbox, chat, contents[0], 2)
    sandbox.faults.clear()
    async with running(sandbox, target) as run:
        first = await run.outbox.send("e/1", chat, contents[1])
        assert await run.outbox.send("e/1", chat, contents[0]) == first

    (message,) = sandbox.messages(chat)
    assert sandbox.file_content(message.attachments[0].id) == b"van 1 uur"


def lose_uploads(sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=Delay(60), method="POST", path_contains="/attachments", times=1)


async def test_a_file_at_a_path_is_found_there_again(sandbox: Sandbox, target: str, tmp_path: Path) -> None:
    chat, other, path = chat_in(sandbox), chat_in(sandbox), tmp_path / "brief.txt"
    path.write_bytes(b"Beste")
    content = Content("Uw brief", files=[path])

    async with dying(sandbox, target) as run:
        await run.outbox.send("e/0", other, text("Getuige"))
        lose_uploads(sandbox)
        await killed_when(run, sandbox, chat, content, 2)
    sandbox.faults.clear()
    async with running(sandbox, target) as run:
        await run.outbox.send("e/1", chat, content)

    (message,) = sandbox.messages(chat)
    assert sandbox.file_content(message.attachments[0].id) == b"Beste"


async def test_the_first_text_stands_that_was_entered_before_the_process_died(
    sandbox: Sandbox, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)

    async with dying(sandbox, target) as run:
        await run.outbox.send("e/0", other, text("Getuige"))
        lose(sandbox, Delay(60), chat.id)
        await killed_when(run, sandbox, chat, text("om 9 uur"), 2)
    sandbox.faults.clear()
    async with running(sandbox, target) as run:
        await run.outbox.send("e/1", chat, text("om 10 uur"))

    assert bodies(sandbox, chat) == ["om 9 uur"]
    assert "the first one stands" in caplog.text


async def test_without_a_witness_what_was_in_doubt_stays_unknown_and_the_chat_goes_on(
    sandbox: Sandbox, target: str
) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, Delay(60))

    async with dying(sandbox, target) as run:
        await killed_when(run, sandbox, chat, text("Hallo"), 1)
    sandbox.faults.clear()
    async with running(sandbox, target) as run:
        with pytest.raises(DeliveryUnknownError):
            await run.outbox.send("e/1", chat, text("Hallo"))
        await run.outbox.send("e/2", chat, text("Verder"))
        assert [row.key for row in await run.outbox.unknown()] == ["e/1"]

    assert bodies(sandbox, chat) == ["Verder"]


# --- killed between any two steps


async def handle(outbox: Outbox, chat: ChatAddress, event: int, unknown: set[str]) -> None:
    """Do what a handler does: two replies, in order. What is unknown stays so."""
    for number in range(2):
        key = f"{chat.id}/{event}/{number}"
        try:
            await outbox.send(key, chat, text(body_of(event, number)))
        except DeliveryUnknownError:
            unknown.add(key)
        else:
            assert key not in unknown


def body_of(event: int, number: int) -> str:
    return f"Gebeurtenis {event}, antwoord {number} van de twee"


async def live(run: Run, chats: dict[ChatAddress, int], events: int, unknown: set[str]) -> None:
    """Handle the events that are left of each chat, in order, and note how far it is."""

    async def of_chat(chat: ChatAddress) -> None:
        while chats[chat] < events:
            await handle(run.outbox, chat, chats[chat], unknown)
            chats[chat] += 1

    await asyncio.gather(*map(of_chat, chats))


async def one_life(
    sandbox: Sandbox, target: str, steps: int, work: "tuple[dict[ChatAddress, int], int, set[str]]"
) -> bool:
    """Go on until so many steps have been made; return whether everything is done."""
    left, is_dead = steps, asyncio.Event()

    def step(_: object = None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            is_dead.set()

    async with dying(sandbox, target) as run:
        sandbox.on_message, run.store.on_commit = step, step
        living = asyncio.ensure_future(live(run, *work))
        dead = asyncio.ensure_future(is_dead.wait())
        await asyncio.wait([living, dead], return_when=asyncio.FIRST_COMPLETED)
        sandbox.on_message = None
        dead.cancel()
        if living.done():
            living.result()
            return True
        await run.store.crash()
        living.cancel()
        with suppress(asyncio.CancelledError, HealthmsgError):
            await living
    return False


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(one, marks=pytest.mark.thorough) for one in (1, 2))])
async def test_killed_at_random_each_reply_is_sent_once_or_reported_unknown(
    sandbox: Sandbox, target: str, seed: int
) -> None:
    draw, events = Random(seed), 4  # noqa: S311 - moments are no secrets
    chats, unknown = {chat_in(sandbox): 0 for _ in range(3)}, set[str]()
    async with running(sandbox, target) as run:  # a witness
        await run.outbox.send("witness", chat_in(sandbox), text("Getuige"))
    for kind, probability in (
        (CutAfter(), 0.1),
        (CutBefore(), 0.1),
        (AnswerStatus(500, after=True), 0.05),
        (AnswerStatus(503), 0.05),
        (Delay(0.05, after=True), 0.2),
    ):
        sandbox.faults.add(kind=kind, method="POST", probability=probability, seed=seed, times=None)

    for _ in range(12):
        if await one_life(sandbox, target, draw.randint(3, 12), (chats, events, unknown)):
            break
    sandbox.faults.clear()
    assert await one_life(sandbox, target, 10_000, (chats, events, unknown))
    async with running(sandbox, target) as run:
        assert {row.key for row in await run.outbox.unknown()} == unknown

    for chat in chats:
        wanted = [(f"{chat.id}/{event}/{n}", body_of(event, n)) for event in range(events) for n in range(2)]
        found = bodies(sandbox, chat)
        assert max(Counter(found).values()) == 1
        assert {body for key, body in wanted if key not in unknown} <= set(found)
        assert found == [body for _, body in wanted if body in found]
