"""A stream of events over real sockets: every event, in order, none missing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from healthmsg import (
    Client,
    ConfigurationError,
    ConversationStarted,
    Event,
    GroupChatClosed,
    GroupChatCreated,
    GroupChatRemoved,
    MembersAdded,
    MembersRemoved,
    MessageCreated,
    MessageDeleted,
    MessageLiked,
    PresenceChanged,
    QuestionAnswered,
    ReauthorizationRequiredError,
    TypingStarted,
    TypingStopped,
    VerificationAccepted,
)
from healthmsg.environment import Environment
from healthmsg.errors import InvalidInputError, JournalMismatchError
from healthmsg.gateway.stream import Events, EventsState
from healthmsg.models import Option
from healthmsg.sandbox import Forbidden, Sandbox
from tests.waiting import until

# Seconds. A list of the sandbox does not lag.
SETTLE = 0.05


@asynccontextmanager
async def client_of(sandbox: Sandbox, user: str | None = None) -> AsyncIterator[Client]:
    async with Client(sandbox.issue_token(user), environment=sandbox.environment) as client:
        yield client


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.gateway.connection.Backoff.next_wait", lambda *_, **__: 0.02)


async def live(events: Events) -> None:
    await until(lambda: events.state is EventsState.LIVE)


async def drain(events: Events, count: int) -> list[Event]:
    """Return the next events, see that there are no more, and note that all of them are done."""
    taken: list[Event] = []
    seconds = 20 if count else 0.3
    try:
        async with asyncio.timeout(seconds) as waiting:
            async for event in events:
                taken.append(event)
                if len(taken) >= count:
                    waiting.reschedule(asyncio.get_running_loop().time() + 0.3)
    except TimeoutError:
        pass
    return taken


def texts(events: list[Event]) -> list[str | None]:
    return [event.message.body for event in events if isinstance(event, MessageCreated)]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=None, sample_data=False) as sandbox:
        yield sandbox


async def test_nothing_from_before_the_first_start_comes() -> None:
    ago = timedelta(minutes=1)
    now = lambda: datetime.now(UTC) - ago  # noqa: E731 - the time changes
    async with Sandbox(rate_limit=None, sample_data=False, now=now) as sandbox:
        chat = sandbox.add_conversation(messages=["before"])
        ago = timedelta()
        async with client_of(sandbox) as client, client.events(settle=SETTLE) as events:
            await live(events)
            sandbox.say(None, chat, "after")

            assert texts(await drain(events, 1)) == ["after"]


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with client_of(sandbox) as client:
        yield client


async def test_messages_come_as_they_are_sent(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    async with client.events(settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")
        await client.conversations(chat).send("two")

        first, second = await drain(events, 2)

    assert isinstance(first, MessageCreated)
    assert isinstance(second, MessageCreated)
    assert (first.message.body, first.is_own, first.chat.text) == ("one", False, f"conversations/{chat}")
    assert (second.message.body, second.is_own) == ("two", True)


async def test_what_was_sent_while_the_connection_was_lost_comes_in_order(
    sandbox: Sandbox, client: Client
) -> None:
    chat = sandbox.add_conversation()
    async with client.events(settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "0")
        assert texts(await drain(events, 1)) == ["0"]
        sandbox.gateway.refuse(503, times=1)
        sandbox.gateway.drop()
        for number in range(1, 60):
            sandbox.say(None, chat, str(number))
        await until(sandbox.gateway.connected)
        sandbox.say(None, chat, "60")

        caught_up = await drain(events, 60)

        assert texts(caught_up) == [str(number) for number in range(1, 61)]
        assert caught_up[0].caught_up
        assert events.stats().missed >= 59
        assert client.stats().events == events.stats()
    assert client.stats().events is None


async def test_with_a_store_what_was_sent_meanwhile_comes_at_the_next_start(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = sandbox.add_conversation()
    store = tmp_path / "inbox.db"
    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")
        assert texts(await drain(events, 1)) == ["one"]
    for number in range(30):
        sandbox.say(None, chat, str(number))
    new = sandbox.add_conversation(messages=["first", "second"])

    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        found = await drain(events, 33)

    of_chat = [event for event in found if isinstance(event, MessageCreated) and event.chat.id == chat]
    assert texts(list(of_chat)) == [str(number) for number in range(30)]
    of_new = [event for event in found if getattr(event, "chat", None) and event not in of_chat]
    assert isinstance(of_new[0], ConversationStarted)
    assert of_new[0].chat.id == new
    assert texts(of_new) == ["first", "second"]


async def test_an_event_whose_handling_fails_comes_again(sandbox: Sandbox, tmp_path: Path) -> None:
    chat = sandbox.add_conversation()
    store = tmp_path / "inbox.db"

    async def handle() -> list[int]:
        attempts = []
        async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
            async for event in events:
                attempts.append(event.attempt)
                if event.attempt < 3:
                    raise ZeroDivisionError
                if len(attempts) == 2:
                    return attempts
        return attempts

    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")
        sandbox.say(None, chat, "two")
        await until(lambda: events.stats().frames >= 2)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await handle()
    with pytest.raises(ZeroDivisionError):
        await handle()  # the first one is done, the second one fails


async def test_what_a_process_had_in_hand_when_it_died_comes_before_what_was_sent_after_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = sandbox.add_conversation()
    store = tmp_path / "inbox.db"
    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")
        sandbox.say(None, chat, "two")
        async for _ in events:
            break
        events._running.clear()  # a process that is killed does not release it
    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        taken = await drain(events, 2)
    assert texts(taken) == ["one", "two"]
    assert [event.attempt for event in taken] == [2, 1]


async def test_what_a_loop_was_about_to_get_when_it_was_cancelled_comes_to_the_next_one(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = sandbox.add_conversation()
    store = tmp_path / "inbox.db"
    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")
        sandbox.say(None, chat, "two")
        await until(lambda: events.stats().frames >= 2)
        await events._written.wait()
        getting = asyncio.ensure_future(anext(aiter(events)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        getting.cancel()
        await asyncio.wait([getting])
        assert getting.cancelled()
        taken = await drain(events, 2)
    assert texts(taken) == ["one", "two"]
    assert [event.attempt for event in taken] == [1, 1]


async def test_an_event_whose_loop_was_left_comes_again_in_the_next_one(
    sandbox: Sandbox, client: Client
) -> None:
    chat = sandbox.add_conversation()
    async with client.events(settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")
        sandbox.say(None, chat, "two")
        async for event in events:
            assert event.attempt == 1
            break

        found = await drain(events, 2)

    assert texts(found) == ["one", "two"]
    assert [event.attempt for event in found] == [2, 1]


async def test_no_text_stays_in_the_store_when_its_event_is_done(sandbox: Sandbox, tmp_path: Path) -> None:
    chat = sandbox.add_conversation()
    store = tmp_path / "inbox.db"
    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "Mijnheer Geheim komt")
        await drain(events, 1)

    assert store.stat().st_mode & 0o777 == 0o600
    for file in tmp_path.iterdir():  # noqa: ASYNC240 - small files
        assert b"Geheim" not in file.read_bytes()


async def test_a_store_belongs_to_one_account(sandbox: Sandbox, tmp_path: Path) -> None:
    chat = sandbox.add_conversation()
    store = tmp_path / "inbox.db"
    async with client_of(sandbox) as client, client.events(store=store, settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "of no concern to Piet")
        await until(lambda: events.stats().frames)
    other = sandbox.add_colleague("Piet", "Pol")
    async with client_of(sandbox, other) as client, client.events(store=store, settle=SETTLE) as events:
        with pytest.raises(JournalMismatchError):
            await drain(events, 1)


async def test_only_the_kinds_that_are_asked_for_come(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    async with client.events(kinds=[MessageDeleted], settle=SETTLE) as events:
        await live(events)
        message = sandbox.say(None, chat, "one")
        sandbox.delete_message(message.id)

        (event,) = await drain(events, 1)

    assert isinstance(event, MessageDeleted)
    assert event.message_id == message.id


async def test_changes_of_group_chats_come(sandbox: Sandbox, client: Client) -> None:
    async with client.events(settle=SETTLE) as events:
        await live(events)
        other = sandbox.add_colleague("Piet", "Pol")
        group = await client.groupchats.create(subject="Overleg")
        await group.add_members([other])
        await group.remove_members([other])
        await group.close(send_email=False)

        found = await drain(events, 4)

    kinds = [type(event) for event in found]
    assert kinds == [GroupChatCreated, MembersAdded, MembersRemoved, GroupChatClosed]


async def test_changes_of_group_chats_are_caught_up_on(sandbox: Sandbox, tmp_path: Path) -> None:
    store = tmp_path / "inbox.db"
    other, third = sandbox.add_colleague("Piet", "Pol"), sandbox.add_colleague("Mia", "Mol")
    group = sandbox.add_group_chat("Overleg", members=[other])
    removed = sandbox.add_group_chat("Weg", members=[other])
    async with client_of(sandbox) as client:
        async with client.events(store=store, settle=SETTLE) as events:
            await live(events)
        await client.groupchats(group).add_members([third])
        await client.groupchats(group).remove_members([other])
        await client.groupchats(group).close(send_email=False)
        await client.groupchats(removed).remove(send_email=False)
        async with client.events(store=store, settle=SETTLE) as events:
            found = await drain(events, 4)

    kinds = {type(event): event for event in found}
    assert set(kinds) == {MembersAdded, MembersRemoved, GroupChatClosed, GroupChatRemoved}
    added, gone = kinds[MembersAdded], kinds[MembersRemoved]
    assert isinstance(added, MembersAdded)
    assert isinstance(gone, MembersRemoved)
    assert [user.id for user in added.users] == [third]
    assert [user.id for user in gone.users] == [other]


async def test_a_group_message_without_its_text_is_completed(sandbox: Sandbox, client: Client) -> None:
    other = sandbox.add_colleague("Piet", "Pol")
    group = sandbox.add_group_chat("Overleg", members=[other])
    async with client.events(subscribe="none", settle=SETTLE) as events:
        await live(events)
        sandbox.say(other, group, "Kom even")

        (event,) = await drain(events, 1)

    assert isinstance(event, MessageCreated)
    assert event.message.body == "Kom even"
    assert event.message.created_at is not None


@pytest.mark.parametrize("subscribe", ["all", "active"])
async def test_a_group_that_is_subscribed_to_has_its_texts_pushed(
    sandbox: Sandbox, client: Client, subscribe: str
) -> None:
    other = sandbox.add_colleague("Piet", "Pol")
    group = sandbox.add_group_chat("Overleg", members=[other])
    async with client.events(subscribe=subscribe, settle=SETTLE) as events:  # type: ignore[arg-type]
        await live(events)
        sandbox.say(other, group, "one")
        assert texts(await drain(events, 1)) == ["one"]
        await live(events)
        sandbox.say(other, group, "two")
        (event,) = await drain(events, 1)

    assert isinstance(event, MessageCreated)
    assert (event.message.body, event.message.created_at) == ("two", None)


async def test_answers_and_verifications_that_were_missed_are_found(sandbox: Sandbox, tmp_path: Path) -> None:
    store = tmp_path / "inbox.db"
    chat = sandbox.add_conversation()
    async with client_of(sandbox) as client:
        async with client.events(store=store, settle=SETTLE) as events:
            await live(events)
            question = await client.conversations(chat).ask("Komt u?", options=[Option("Ja"), Option("Nee")])
            await drain(events, 1)
            sandbox.gateway.drop()  # so that the question is read in the list
            await until(lambda: events.stats().connects >= 2)
            await live(events)
            assert await drain(events, 0) == []
        sandbox.answer(None, question.id, "ja")
        async with client.events(store=store, settle=SETTLE) as events:
            (event,) = await drain(events, 1)

    assert isinstance(event, QuestionAnswered)
    assert (event.message_id, event.options, event.caught_up) == (question.id, ("ja",), True)


async def test_answers_and_verifications_come_as_they_are_given(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    async with client.events(settle=SETTLE) as events:
        await live(events)
        handle = client.conversations(chat)
        question = await handle.ask("Komt u?", options=[Option("Ja"), Option("Nee")])
        sandbox.answer(None, question.id, "nee")
        user = (await handle.get()).user
        assert user is not None
        providers = await client.users.providers(user)
        request = await handle.request_verification(user_id=user, provider_id=providers[0])
        sandbox.verify(None, request.id)
        found = await drain(events, 4)

    by_kind = {type(event): event for event in found}
    answer, verified = by_kind[QuestionAnswered], by_kind[VerificationAccepted]
    assert isinstance(answer, QuestionAnswered)
    assert isinstance(verified, VerificationAccepted)
    assert (answer.message_id, answer.options) == (question.id, ("nee",))
    assert verified.message_id == request.id


async def test_likes_typing_and_presence_come_while_connected(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    async with client.events(settle=SETTLE) as events:
        await live(events)
        message = await client.conversations(chat).send("Dag")
        sandbox.like(message.id)
        sandbox.type(None, chat)
        sandbox.type(None, chat, stopped=True)
        found = await drain(events, 4)

    assert {type(event) for event in found} == {MessageCreated, MessageLiked, TypingStarted, TypingStopped}


async def test_typing_and_presence_reach_the_other_side(sandbox: Sandbox, client: Client) -> None:
    other = sandbox.add_user("An", "Visser")
    chat = sandbox.add_conversation(user=other)
    async with (
        client_of(sandbox, other) as patient,
        patient.events(settle=SETTLE) as seen,
        client.events(settle=SETTLE) as events,
    ):
        await live(seen)
        await live(events)
        assert await client.presence("busy")
        async with client.conversations(chat).typing():
            pass
        found = await drain(seen, 3)

    assert [type(event).__name__ for event in found] == [
        one.__name__ for one in (PresenceChanged, TypingStarted, TypingStopped)
    ]


async def test_typing_needs_an_open_stream_and_an_id(sandbox: Sandbox, client: Client) -> None:
    with pytest.raises(ConfigurationError, match="events"):
        async with client.conversations("c1").typing():
            pass
    with pytest.raises(ConfigurationError, match="auxiliary"):
        async with client.auxiliary.conversations("p1").typing():
            pass
    with pytest.raises(ConfigurationError, match="events"):
        await client.presence("online")
    with pytest.raises(InvalidInputError):
        await client.presence("asleep")  # type: ignore[arg-type]


async def test_a_second_stream_of_one_user_is_refused(client: Client) -> None:
    async with client.events(settle=SETTLE) as events:
        await live(events)
        with pytest.raises(ConfigurationError, match="open already"):
            async with client.events():
                pass


async def test_an_environment_without_a_gateway_is_refused() -> None:
    async with Client("t", environment=Environment.kpn()) as client:
        with pytest.raises(ConfigurationError, match="gateway_url"):
            client.events()


async def test_a_revoked_token_ends_the_stream(sandbox: Sandbox) -> None:
    token = sandbox.issue_token()
    async with Client(token, environment=sandbox.environment) as client:
        async with client.events(settle=SETTLE) as events:
            await live(events)
            sandbox.revoke_token(token)
            sandbox.gateway.drop()
            with pytest.raises(ReauthorizationRequiredError):
                await drain(events, 1)
        assert events.state is EventsState.CLOSED


async def test_a_list_that_a_user_may_not_have_holds_nothing_up(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    sandbox.faults.add(kind=Forbidden(), method="GET", template="groupchats", times=None)
    async with client.events(settle=SETTLE) as events:
        await live(events)
        sandbox.say(None, chat, "one")

        assert texts(await drain(events, 1)) == ["one"]


async def test_frames_that_come_twice_are_one_event(sandbox: Sandbox, client: Client) -> None:
    chat = sandbox.add_conversation()
    sandbox.gateway.duplicate(1.0)
    async with client.events(settle=SETTLE) as events:
        await live(events)
        for number in range(5):
            sandbox.say(None, chat, str(number))
        found = await drain(events, 5)

    assert texts(found) == ["0", "1", "2", "3", "4"]


async def test_it_closes_while_the_gateway_floods_and_answers_no_close(
    sandbox: Sandbox, client: Client
) -> None:
    async with client.events(settle=SETTLE) as events:
        await live(events)
        sandbox.gateway.ignore_close()
        sandbox.gateway.flood()
        async with asyncio.timeout(5):
            await events.close()


async def test_a_handler_that_takes_long_loses_nothing_and_keeps_the_connection(
    sandbox: Sandbox, client: Client
) -> None:
    chats = [sandbox.add_conversation() for _ in range(3)]
    async with client.events(settle=SETTLE) as events:
        await live(events)
        for number in range(1000):
            for chat in chats:
                sandbox.say(None, chat, str(number))
            await asyncio.sleep(0)
        found = await drain(events, 3000)
        assert events.stats().connects == 1

    for chat in chats:
        of_chat = [event for event in found if isinstance(event, MessageCreated) and event.chat.id == chat]
        assert texts(list(of_chat)) == [str(number) for number in range(1000)]


async def test_the_client_s_close_ends_the_stream(sandbox: Sandbox) -> None:
    async with client_of(sandbox) as client:
        events = client.events(settle=SETTLE)
        await events.__aenter__()
        await live(events)
    await events.close()
    assert sandbox.gateway.connected() == 0
