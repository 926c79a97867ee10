"""A stream of events while the service, the store or the program that reads it is in trouble."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from healthmsg import (
    Client,
    Event,
    ForbiddenError,
    InvalidInputError,
    JournalError,
    ReauthorizationRequiredError,
    Retries,
)
from healthmsg.gateway.inbox.sql import SqlInbox
from healthmsg.gateway.stream import Events
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.gateway.test_stream import SETTLE, client_of, drain, live, texts
from tests.waiting import until


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.gateway.backoff.Backoff.next_wait", lambda *_, **__: 0.02)


async def take(events: Events, count: int) -> list[Event]:
    """Return the next events, of which the last one is not done by that."""
    taken: list[Event] = []
    async with asyncio.timeout(20):
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=None, sample_data=False) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with client_of(sandbox) as client:
        yield client


async def test_a_token_that_a_list_refuses_ends_the_loop_with_that_error(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.faults.add(kind=AnswerStatus(401), path_contains="/conversations", times=None)
    async with client.events(settle=SETTLE) as events:
        with pytest.raises(ReauthorizationRequiredError):
            await take(events, 1)


async def test_a_store_that_fails_when_a_chat_is_read_ends_the_loop_with_that_error(
    sandbox: Sandbox, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.add_conversation()

    async def load(self: object, keys: object) -> None:
        raise JournalError("it failed")

    monkeypatch.setattr(SqlInbox, "load", load)
    async with client.events(store=tmp_path / "inbox.db", settle=SETTLE) as events:
        with pytest.raises(JournalError, match="it failed"):
            await take(events, 1)


async def test_a_service_that_is_away_at_the_start_is_waited_for(sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    sandbox.faults.add(kind=AnswerStatus(503), template="me", times=3)
    token = sandbox.issue_token()
    async with (
        Client(token, environment=sandbox.environment, retries=Retries.none()) as client,
        client.events(settle=SETTLE) as events,
    ):
        await live(events)
        sandbox.say(None, chat, "one")
        assert texts(await take(events, 1)) == ["one"]


async def test_a_service_that_refuses_the_user_at_the_start_ends_the_loop(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.faults.add(kind=AnswerStatus(403), template="me", times=None)
    async with client.events(settle=SETTLE) as events:
        with pytest.raises(ForbiddenError):
            await take(events, 1)


@pytest.mark.parametrize("stored", [True, False])
async def test_a_loop_that_is_cancelled_and_begun_again_gets_every_event(
    sandbox: Sandbox, client: Client, tmp_path: Path, stored: bool
) -> None:
    chat = sandbox.add_conversation()
    handled: list[Event] = []
    async with client.events(store=tmp_path / "inbox.db" if stored else None, settle=SETTLE) as events:
        await live(events)

        async def handle() -> None:
            async for event in events:
                handled.append(event)

        for number in range(60):
            sandbox.say(None, chat, str(number))
            handling = asyncio.create_task(handle())
            await asyncio.sleep(number % 7 / 1000)
            handling.cancel()
            await asyncio.wait([handling])
        sandbox.say(None, chat, "60")
        handled += await drain(events, 1)

    assert texts(handled) == [str(number) for number in range(61)]


async def test_two_loops_at_once_are_refused(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    async with client.events(settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")
        sandbox.say(None, chat, "two")
        async with asyncio.timeout(5):
            async for event in events:
                assert texts([event]) == ["one"]
                with pytest.raises(InvalidInputError, match="one loop"):
                    await take(events, 1)
                with pytest.raises(InvalidInputError, match="one loop"):
                    async for _ in events.batches():
                        pass
                break
        assert texts(await take(events, 2)) == ["one", "two"]


async def test_who_types_keeps_no_message_waiting(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    async with client.events(settle=SETTLE) as events:
        await live(events)
        for _ in range(20):
            sandbox.type(None, chat)
        sandbox.say(None, chat, "one")
        await until(lambda: events.stats().frames >= 21)
        assert texts(await take(events, 3)) == ["one"]


async def test_a_batch_has_one_event_at_least(client: Client) -> None:
    async with client.events(settle=SETTLE) as events:
        with pytest.raises(InvalidInputError, match="most"):
            async for _ in events.batches(0):
                pass


async def test_a_close_that_is_cancelled_leaves_nothing_behind(sandbox: Sandbox, client: Client) -> None:
    async with client.events(settle=SETTLE) as events:
        await live(events)
        sandbox.gateway.ignore_close()
        before = asyncio.all_tasks()
        closing = asyncio.create_task(events.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.wait([closing])
        work = [task for task in before if "_go_on" in repr(task) and "Events" in repr(task)]
        assert work
        async with asyncio.timeout(2):
            await asyncio.wait(work)
