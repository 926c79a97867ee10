"""How the sandbox keeps and tells messages, where that is not known of the service."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession

from healthmsg import Client
from healthmsg.sandbox import Habits, Sandbox, SandboxFile
from tests.caller import Caller

MOMENT = datetime(2026, 11, 23, 12, 34, 56, 789_012, tzinfo=UTC)


@pytest.mark.parametrize(
    ("habits", "stamp"),
    [
        (Habits(), "2026-11-23T12:34:56Z"),
        (Habits(rounds=True), "2026-11-23T12:34:57Z"),
        (Habits(resolution=timedelta(microseconds=1)), "2026-11-23T12:34:56.789012Z"),
        (Habits(resolution=timedelta(milliseconds=1)), "2026-11-23T12:34:56.789000Z"),
        (Habits(resolution=timedelta(minutes=1)), "2026-11-23T12:34:00Z"),
        (Habits(clock_ahead=timedelta(seconds=20)), "2026-11-23T12:35:16Z"),
        (Habits(utc_offset=timedelta(hours=1)), "2026-11-23T13:34:56"),
    ],
)
def test_a_moment_is_stamped_as_the_habits_say(habits: Habits, stamp: str) -> None:
    assert habits.stamp(MOMENT) == stamp


async def test_stamps_are_whole_seconds_by_default(client: Client, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation(messages=["Hallo"])
    (message,) = await client.conversations(chat).messages().first_page()
    assert message.created_at is not None
    assert message.created_at.microsecond == 0


async def listed(sandbox: Sandbox, chat: str) -> list[str | None]:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        return [message.body async for message in client.conversations(chat).messages()]


@pytest.mark.parametrize(
    ("habits", "bodies"),
    [
        (Habits(), ["c", "b", "a"]),
        (Habits(order="oldest first"), ["a", "b", "c"]),
        (Habits(listing_lag=timedelta(seconds=10)), []),
        (Habits(rewrite_text=str.upper), ["C", "B", "A"]),
    ],
)
async def test_messages_are_listed_as_the_habits_say(habits: Habits, bodies: list[str]) -> None:
    async with Sandbox(habits=habits) as sandbox:
        assert await listed(sandbox, sandbox.add_conversation(messages=["a", "b", "c"])) == bodies


async def test_a_list_without_order_has_all_messages() -> None:
    async with Sandbox(habits=Habits(order="none")) as sandbox:
        chat = sandbox.add_conversation(messages="abcdefgh")
        found = await listed(sandbox, chat)
    assert found != sorted(found, key=str)
    assert sorted(found, key=str) == list("abcdefgh")


async def test_a_pinned_message_is_listed_first(sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation(messages=["a", "b", "c"])
    sandbox.pin(sandbox.messages(f"conversations/{chat}")[0].id)
    assert await listed(sandbox, chat) == ["a", "c", "b"]
    with pytest.raises(KeyError):
        sandbox.pin("none such")


async def test_files_are_stored_under_another_name_and_shown_with_another_size() -> None:
    async with Sandbox(
        habits=Habits(rewrite_file_name=str.upper, rewrite_file_size=lambda size: size // 2)
    ) as sandbox:
        chat = sandbox.add_conversation()
        sandbox.say(None, chat, files=[SandboxFile("a.png", b"1234")])
        ((attachment,),) = [message.attachments for message in sandbox.messages(f"conversations/{chat}")]
    assert (attachment.name, attachment.size) == ("A.PNG", 2)


@pytest.mark.parametrize("sends_date", [True, False])
async def test_an_answer_may_have_no_date(session: ClientSession, sends_date: bool) -> None:
    async with Sandbox(habits=Habits(sends_date=sends_date)) as sandbox:
        answer = await Caller(sandbox, session)("GET", "me")
    assert bool(answer.headers["Date"]) is sends_date


async def listed_chats(call: Caller) -> dict[str, str]:
    chats = (await call("GET", "conversations")).document
    return {chat["id"]: chat["updated_at"] for chat in chats}


@pytest.mark.looptime
async def test_lists_of_chats_lag_and_a_chat_itself_does_not(session: ClientSession) -> None:
    loop = asyncio.get_running_loop()

    def now() -> datetime:
        return MOMENT + timedelta(seconds=loop.time())

    habits = Habits(chats_lag=timedelta(seconds=10))
    async with Sandbox(now=now, habits=habits, sample_data=False) as sandbox:
        call = Caller(sandbox, session)
        chat = sandbox.add_conversation()
        assert await listed_chats(call) == {}
        await asyncio.sleep(10)
        (first,) = (await listed_chats(call)).values()
        await call("POST", f"conversations/{chat}/messages", json={"body": "Dag"})
        assert await listed_chats(call) == {chat: first}
        shown = (await call("GET", f"conversations/{chat}")).document["updated_at"]
        assert shown > first
        await asyncio.sleep(11)
        assert await listed_chats(call) == {chat: shown}


@pytest.mark.looptime
async def test_a_share_of_the_chats_does_not_show_when_it_was_written_in(session: ClientSession) -> None:
    loop = asyncio.get_running_loop()

    def now() -> datetime:
        return MOMENT + timedelta(seconds=loop.time())

    async with Sandbox(now=now, habits=Habits(wrong_hints=0.2), sample_data=False) as sandbox:
        call = Caller(sandbox, session)
        chats = [sandbox.add_conversation() for _ in range(100)]
        await asyncio.sleep(5)
        for chat in chats:
            person = sandbox.store.people[sandbox.user_id]
            sandbox.store.post(sandbox.store.chats[chat], person, "Dag")
        before = Habits().stamp(MOMENT + timedelta(seconds=5))
        pages = [(await call("GET", f"conversations?amount=50&page={page}")).document for page in (0, 1)]
    wrong = [chat for page in pages for chat in page if chat["updated_at"] < before]
    assert 10 < len(wrong) < 30
