"""What a client hears of, and what it can do: subscriptions, messages, typing, presence, errors."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientSession

from healthmsg.sandbox import Habits, Sandbox
from tests.caller import Caller
from tests.sandbox.gateway.wire import Frame, Wire, signed_in
from tests.sandbox.helpers import Talk


def names(frames: list[Frame]) -> list[str]:
    return [name for name, _ in frames]


async def test_a_sent_message_comes_to_its_sender_and_to_the_other_side_and_to_no_one_else(
    session: ClientSession, talk: Talk, sandbox: Sandbox
) -> None:
    stranger = sandbox.add_user("Cor", "Cox")
    async with AsyncExitStack() as until_the_end:
        mine, again, theirs, others = [
            await until_the_end.enter_async_context(signed_in(session, sandbox, user))
            for user in (None, None, talk.patient, stranger)
        ]
        sent = await talk.call("POST", f"{talk.path}/messages", json={"body": "Dag"})
        frame = (
            "conversation_new_message",
            {
                "conversation_id": talk.path.partition("/")[2],
                "message_id": sent.document["id"],
                "user_id": sandbox.user_id,
                "body": "Dag",
                "attachments": [],
                "mentions": [],
            },
        )
        for wire in (mine, again, theirs):
            assert await wire.next() == frame
        assert await others.settled() == []


async def test_each_side_hears_the_other_sides_id_of_a_new_conversation(
    session: ClientSession, call: Caller, sandbox: Sandbox
) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    async with signed_in(session, sandbox) as mine, signed_in(session, sandbox, patient) as theirs:
        chat = (await call("POST", "conversations", json={"user_id": patient})).document["id"]
        assert await mine.next() == ("new_conversation", {"conversation_id": chat, "user_id": patient})
        data = {"conversation_id": chat, "user_id": sandbox.user_id}
        assert await theirs.next() == ("new_conversation", data)


async def test_what_happened_while_a_client_was_away_is_not_sent_again(
    session: ClientSession, sandbox: Sandbox
) -> None:
    sandbox.add_conversation(messages=["Dag"])
    async with signed_in(session, sandbox) as wire:
        assert await wire.settled() == []


# --- groups


@pytest.mark.looptime
async def test_a_groups_messages_come_without_the_key_body_and_late_until_it_is_subscribed_to(
    session: ClientSession,
) -> None:
    loop = asyncio.get_running_loop()
    async with Sandbox(habits=Habits(textless_lag=timedelta(seconds=3))) as sandbox:
        group, patient = sandbox.add_group_chat("MDO"), f"conversations/{sandbox.add_conversation()}"
        call = Caller(sandbox, session)
        async with signed_in(session, sandbox) as wire:
            started = loop.time()
            sent = await call("POST", f"groupchats/{group}/messages", json={"body": "Een"})
            await call("POST", f"{patient}/messages", json={"body": "Twee"})
            assert (await wire.next())[1]["body"] == "Twee"
            assert loop.time() - started < 1
            assert await wire.next() == (
                "groupchat_new_message",
                {
                    "groupchat_id": group,
                    "message_id": sent.document["id"],
                    "user_id": sandbox.user_id,
                    "attachments": [],
                    "mentions": [],
                },
            )
            assert 3 <= loop.time() - started < 4

            await wire.send("groupchat_subscribe", groupchat_id=group)
            assert await wire.next() == ("groupchat_subscribed", {"groupchat_id": group})
            started = loop.time()
            await call("POST", f"groupchats/{group}/messages", json={"body": "Drie"})
            name, data = await wire.next()
            assert (name, data["body"]) == ("groupchat_new_message", "Drie")
            assert loop.time() - started < 1

            await wire.send("groupchat_unsubscribe", groupchat_id=group)
            assert await wire.next() == ("groupchat_unsubscribed", {"groupchat_id": group})
            await call("POST", f"groupchats/{group}/messages", json={"body": "Vier"})
            assert "body" not in (await wire.next())[1]


async def test_a_groups_messages_can_come_whole_without_a_subscription(session: ClientSession) -> None:
    async with Sandbox(habits=Habits(needs_subscription=False)) as sandbox:
        group = sandbox.add_group_chat("MDO")
        async with signed_in(session, sandbox) as wire:
            await wire.send("groupchat_new_message", groupchat_id=group, body="Dag")
            assert (await wire.next())[1]["body"] == "Dag"


async def test_a_subscription_is_of_one_connection(session: ClientSession, sandbox: Sandbox) -> None:
    group = sandbox.add_group_chat("MDO")
    async with signed_in(session, sandbox) as one, signed_in(session, sandbox) as other:
        await one.send("groupchat_subscribe", groupchat_id=group)
        await one.next()
        await one.send("groupchat_new_message", groupchat_id=group, body="Dag")
        assert (await one.next())[1]["body"] == "Dag"
        assert "body" not in (await other.next())[1]


@pytest.mark.parametrize("event", ["groupchat_subscribe", "groupchat_new_message", "typing"])
async def test_errors_of_groups_name_the_group_in_their_data(
    session: ClientSession, sandbox: Sandbox, event: str
) -> None:
    closed, not_mine = sandbox.add_group_chat("MDO"), sandbox.add_group_chat("Team")
    sandbox.close_chat(f"groupchats/{closed}")
    stranger = sandbox.add_user("Cor", "Cox")
    async with signed_in(session, sandbox) as mine, signed_in(session, sandbox, stranger) as theirs:
        for wire, group, code, error in (
            (mine, closed, 304, "groupchat_is_closed"),
            (mine, "none", 404, "groupchat_not_found"),
            (theirs, not_mine, 404, "groupchat_not_found"),
        ):
            await wire.send(event, groupchat_id=group, body="Dag")
            name, data = await wire.next()
            assert (name, data["code"], data["error"], data["groupchat_id"]) == ("error", code, error, group)
        await mine.send("groupchat_subscribe", groupchat_id=not_mine)
        assert names([await mine.next()]) == ["groupchat_subscribed"]


async def test_one_who_is_removed_hears_of_that_and_of_nothing_more(
    session: ClientSession, call: Caller, sandbox: Sandbox
) -> None:
    joost = sandbox.add_colleague("Joost", "Bos")
    group = sandbox.add_group_chat("MDO", members=[joost])
    path = f"groupchats/{group}"
    async with signed_in(session, sandbox, joost) as theirs:
        await theirs.send("groupchat_subscribe", groupchat_id=group)
        await call("DELETE", f"{path}/members", json={"members": [joost]})
        await call("POST", f"{path}/messages", json={"body": "Zonder Joost"})
        await call("PUT", f"{path}/members", json={"members": [joost]})
        await call("POST", f"{path}/messages", json={"body": "Met Joost"})
        frames = await theirs.take(5)
    assert names(frames) == [
        "groupchat_subscribed",
        "groupchat_members_removed",
        "new_groupchat",
        "groupchat_members_added",
        "groupchat_new_message",
    ]
    assert [user["id"] for user in frames[1][1]["users"]] == [joost]
    assert frames[1][1]["user_id"] == sandbox.user_id
    assert "body" not in frames[4][1]


# --- sent by clients


@pytest.mark.parametrize("by_user_id", [False, True])
async def test_messages_and_typing_reach_the_other_side_by_the_chats_id_and_by_its_user_id(
    session: ClientSession, talk: Talk, sandbox: Sandbox, by_user_id: bool
) -> None:
    chat = talk.path.partition("/")[2]
    named = talk.patient if by_user_id else chat
    async with signed_in(session, sandbox) as mine, signed_in(session, sandbox, talk.patient) as theirs:
        for event in ("typing", "stop_typing"):
            await mine.send(event, conversation_id=named)
        await mine.send("conversation_new_message", conversation_id=named, body="Dag")
        typing, stopped, message = await theirs.take(3)
        data = {"conversation_id": chat, "user_id": sandbox.user_id}
        assert (typing, stopped) == (("typing", data), ("stop_typing", data))
        assert message[1]["conversation_id"] == chat
        assert await mine.next() == message
    (stored,) = sandbox.messages(talk.path)
    assert (stored.id, stored.body) == (message[1]["message_id"], "Dag")


async def test_a_message_to_a_user_id_starts_the_conversation(
    session: ClientSession, sandbox: Sandbox
) -> None:
    patient = sandbox.add_user("Bea", "Bos")
    async with signed_in(session, sandbox) as wire:
        await wire.send("typing", conversation_id=patient)
        await wire.send("conversation_new_message", conversation_id=patient, body="Dag")
        (_, error), *rest = await wire.take(3)
    assert (error["code"], error["conversation_id"]) == (404, patient)
    assert names(rest) == ["new_conversation", "conversation_new_message"]


async def test_a_closed_conversation_takes_no_messages(session: ClientSession, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    sandbox.close_chat(f"conversations/{chat}")
    async with signed_in(session, sandbox) as wire:
        await wire.send("conversation_new_message", conversation_id=chat, body="Dag")
        data = (await wire.next())[1]
    assert (data["code"], data["error"]) == (304, "conversation_is_closed")
    assert sandbox.messages(f"conversations/{chat}") == ()


async def test_presence_reaches_those_who_know_the_person(session: ClientSession, sandbox: Sandbox) -> None:
    patient, stranger = sandbox.add_user("Bea", "Bos"), sandbox.add_user("Cor", "Cox")
    sandbox.add_conversation(user=patient)
    async with AsyncExitStack() as until_the_end:
        mine, theirs, others = [
            await until_the_end.enter_async_context(signed_in(session, sandbox, user))
            for user in (None, patient, stranger)
        ]
        await theirs.send("presence_update", status="busy")
        assert await mine.next() == ("presence_update", {"user_id": patient, "status": "busy"})
        assert await theirs.settled() == []
        assert await others.settled() == []
    assert sandbox.store.people[patient].presence == "busy"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("unknown", {}),
        ("handshake", {"token": "again"}),
        ("presence_update", {"status": "asleep"}),
        ("typing", {}),
        ("typing", {"conversation_id": "c", "groupchat_id": "g"}),
        ("groupchat_subscribe", {"groupchat_id": 7}),
        ("conversation_new_message", {"conversation_id": "c"}),
    ],
)
async def test_what_cannot_be_understood_is_answered_with_an_error_and_the_connection_goes_on(
    session: ClientSession, sandbox: Sandbox, event: str, data: dict[str, Any]
) -> None:
    async with signed_in(session, sandbox) as wire:
        await wire.send(event, **data)
        assert (await wire.next())[1]["code"] == 400
        for text in ("no JSON", "7", '{"event":7,"data":{}}'):
            await wire.socket.send_str(text)
            assert (await wire.next())[1]["code"] == 400
        await wire.socket.send_bytes(b"{}")
        assert (await wire.next())[1]["code"] == 400
        assert await wire.settled() == []


async def test_a_token_for_reading_cannot_write(session: ClientSession, talk: Talk, sandbox: Sandbox) -> None:
    token = sandbox.issue_token(scopes=["read"])
    group = sandbox.add_group_chat("MDO")
    async with session.ws_connect(str(sandbox.environment.gateway_url)) as socket:
        wire = Wire(socket)
        await wire.shake_hands(token)
        await wire.send("groupchat_subscribe", groupchat_id=group)
        assert names([await wire.next()]) == ["groupchat_subscribed"]
        await wire.send("conversation_new_message", conversation_id=talk.patient, body="Dag")
        assert (await wire.next())[1]["error"] == "insufficient_scope"
    assert sandbox.messages(talk.path) == ()


@pytest.mark.parametrize("is_strict", [False, True])
async def test_a_blank_text_is_refused_by_a_strict_sandbox_only(
    session: ClientSession, talk: Talk, sandbox: Sandbox, is_strict: bool
) -> None:
    async with signed_in(session, sandbox) as wire:
        await wire.send("conversation_new_message", conversation_id=talk.patient, body="")
        assert names([await wire.next()]) == ["error" if is_strict else "conversation_new_message"]
