"""A stream of events while the service, the store or the program that reads it is in trouble."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from healthmsg import Client, ForbiddenError, JournalError, ReauthorizationRequiredError, Retries
from healthmsg.gateway.inbox.sql import SqlInbox
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.gateway.test_stream import SETTLE, client_of, live, take, texts


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.gateway.backoff.Backoff.next_wait", lambda *_, **__: 0.02)


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
