"""What one's own messages, as the gateway brings them, prove of a reply without an answer."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from healthmsg import DeliveryUnknownError, Message, SentMessage
from healthmsg.events import MessageCreated
from healthmsg.ids import ChatAddress
from healthmsg.models import VerificationPayload
from healthmsg.sandbox import CutAfter, CutBefore, Delay, Fault, Sandbox
from tests.bot.outbox.runs import Run, bodies, chat_in, other_side, running, text
from tests.bulk.journal_runs import lose
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")
LONG = 600.0
"""A `settle` that no test waits for."""


def echo(run: Run, chat: ChatAddress, message: Message, *, own: bool = True, caught_up: bool = False) -> None:
    """Bring a message as the gateway would, just now."""
    if message.sender_id is None:
        message = evolve(message, user_id="me")
    me = message.sender_id if own else "the bot"
    assert me is not None
    moment = run.client._api.deliveries.clock.moment()
    run.outbox.heard(MessageCreated.of(chat, message, me=me, received_at=moment, caught_up=caught_up))


async def in_doubt(
    run: Run, sandbox: Sandbox, chat: ChatAddress, fault: Fault
) -> "asyncio.Future[SentMessage]":
    """Send a reply that is in doubt and cannot be read back."""
    lose(sandbox, fault, chat.id)
    sandbox.faults.add(kind=Delay(60), method="GET", path_contains="/messages", times=None)
    sending = asyncio.ensure_future(run.outbox.send("e/1", chat, text("Hallo")))
    await until(lambda: len(run.outbox._doubts))
    return sending


async def test_the_echo_settles_a_reply_in_doubt_at_once(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, target, settle=LONG) as run:
        sending = await in_doubt(run, sandbox, chat, CutAfter())
        (message,) = sandbox.messages(chat)
        echo(run, chat, message)
        async with asyncio.timeout(5):
            sent = await sending

    assert sent.id == message.id


async def test_an_echo_that_came_before_the_call_was_lost_counts_too(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, str(file), settle=LONG) as run:
        sandbox.on_message = lambda _: echo(run, chat, sandbox.messages(chat)[0])
        lose(sandbox, CutAfter(), chat.id)
        sandbox.faults.add(kind=Delay(60), method="GET", path_contains="/messages", times=None)
        async with asyncio.timeout(5):
            sent = await run.outbox.send("e/1", chat, text("Hallo"))

    assert [sent.id] == [message.id for message in sandbox.messages(chat)]


@pytest.mark.parametrize(
    ("what", "is_own", "caught_up"),
    [
        (lambda _: Message("m1", "Iets anders"), True, False),
        (lambda _: Message("m1", "Hallo"), False, False),
        (lambda _: Message("m1", "Hallo"), True, True),
        (lambda sent: Message(sent.id, "Hallo"), True, False),
    ],
    ids=["another text", "another's", "read later from a list", "another reply's"],
)
async def test_what_is_no_proof_settles_nothing(
    sandbox: Sandbox, file: Path, what: Callable[[SentMessage], Message], is_own: bool, caught_up: bool
) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, str(file), settle=LONG) as run:
        earlier = await run.outbox.send("e/0", chat, text("Hallo"))
        sending = await in_doubt(run, sandbox, chat, CutBefore())
        echo(run, chat, what(earlier), own=is_own, caught_up=caught_up)
        echo(run, chat_in(sandbox), Message("m2", "Hallo"))
        await asyncio.wait([sending], timeout=0.5)
        assert not sending.done()
        sending.cancel()


async def test_two_messages_that_may_be_it_prove_nothing(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, str(file), settle=LONG) as run:

        def two_echoes(_: str) -> None:
            for one in ("m1", "m2"):
                echo(run, chat, Message(one, "Hallo"))

        sandbox.on_message = two_echoes
        sending = await in_doubt(run, sandbox, chat, CutAfter())
        await asyncio.wait([sending], timeout=0.5)
        assert not sending.done()
        sending.cancel()


async def test_an_echo_proves_nothing_while_an_equal_message_of_the_chat_is_unknown(
    sandbox: Sandbox, file: Path
) -> None:
    chat = chat_in(sandbox)
    lose(sandbox, CutBefore())
    async with running(sandbox, str(file)) as run:
        with pytest.raises(DeliveryUnknownError):
            await run.outbox.send("e/0", chat, text("Hallo"))

    async with running(sandbox, str(file), settle=LONG) as run:
        sending = await in_doubt(run, sandbox, chat, CutBefore())
        echo(run, chat, Message("m1", "Hallo"))  # of which of the two?
        await asyncio.wait([sending], timeout=0.5)
        assert not sending.done()
        sending.cancel()


async def test_the_echo_of_a_request_for_verification_settles_it(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    sandbox.faults.add(kind=CutAfter(), method="POST", path_contains="/verification")

    async with running(sandbox, str(file), settle=LONG) as run:
        user = await other_side(run, chat)
        (provider, *_) = await run.client.users.providers(user)
        sending = asyncio.ensure_future(run.outbox.request_verification("e/1", chat, user, provider))
        await until(lambda: len(run.outbox._doubts))
        (message,) = sandbox.messages(chat)
        assert isinstance(message.payload, VerificationPayload)
        echo(run, chat, Message("m1", ""))
        echo(run, chat, message)
        async with asyncio.timeout(5):
            assert (await sending).id == message.id

    assert len(bodies(sandbox, chat)) == 1
