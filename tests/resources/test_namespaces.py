"""The four chat namespaces, over the sandbox."""

import asyncio
from typing import Any
from urllib.parse import unquote

import pytest

from healthmsg import (
    Client,
    ConversationInfo,
    GroupChatInfo,
    InvalidInputError,
    NotFoundError,
    User,
    exact_aux_id,
    fold_aux_id,
)
from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError
from healthmsg.ids import ChatKind
from healthmsg.sandbox import Sandbox

# The waits for the limit cost nothing.
pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("ticking_clock")]

ALL_KINDS = pytest.mark.parametrize("kind", ChatKind, ids=lambda kind: kind.value)
AUX_KINDS = pytest.mark.parametrize(
    "kind", [kind for kind in ChatKind if kind.is_auxiliary], ids=lambda kind: kind.value
)
AUX_IDS = {
    "patient 7": "patient%207",
    "ward 3/e": "ward%203%2Fe",
    "/": "%2F",
    "../../me": "..%2F..%2Fme",
    "...": "...",
    "100% 't Hart": "100%25%20't%20Hart",
    "%2F": "%252F",
    "bed?x=1#raam": "bed%3Fx%3D1%23raam",
    "a+b&c;d": "a%2Bb%26c%3Bd",
    "a\nb\x00\x7f": "a%0Ab%00%7F",
    "東京": "%E6%9D%B1%E4%BA%AC",
    "пациент": "%D0%BF%D0%B0%D1%86%D0%B8%D0%B5%D0%BD%D1%82",
    "👩": "%F0%9F%91%A9",
    "straße": "stra%C3%9Fe",
    "~-_.!*()": "~-_.!*()",
}


def namespace(client: Client, kind: ChatKind) -> Any:
    return {
        ChatKind.CONVERSATION: client.conversations,
        ChatKind.GROUP_CHAT: client.groupchats,
        ChatKind.AUX_CONVERSATION: client.auxiliary.conversations,
        ChatKind.AUX_GROUP_CHAT: client.auxiliary.groupchats,
    }[kind]


def add_chat(sandbox: Sandbox, kind: ChatKind, aux_id: str | None = None) -> str:
    if kind.is_group:
        return sandbox.add_group_chat("Overleg", aux_id=aux_id)
    return sandbox.add_conversation(aux_id=aux_id)


def ids_in_store(sandbox: Sandbox, kind: ChatKind) -> list[str]:
    main_user = sandbox.store.people[sandbox.user_id]
    return [chat.id for chat in sandbox.store.chats_of(main_user, kind)]


# --- lists


@ALL_KINDS
async def test_a_list_streams_all_chats_of_its_kind_over_several_pages(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    for number in range(4):
        add_chat(sandbox, kind, f"extra {number}" if kind.is_auxiliary else None)
    expected = ids_in_store(sandbox, kind)

    chats = [chat async for chat in namespace(client, kind).list(page_size=3)]

    assert [chat.id for chat in chats] == expected
    assert {type(chat) for chat in chats} == {GroupChatInfo if kind.is_group else ConversationInfo}
    assert {call.path for call in sandbox.calls} == {f"/v1/{kind.value}"}
    assert [call.query for call in sandbox.calls][:2] == ["page=0&amount=3", "page=1&amount=3"]
    assert len(sandbox.calls) == -(-len(expected) // 3) + 1


async def test_a_limit_asks_for_no_more_than_that(client: Client, sandbox: Sandbox) -> None:
    lists = (client.conversations.list(limit=2), client.me.contacts(limit=2), client.company.users(limit=2))
    chat = client.conversations(ids_in_store(sandbox, ChatKind.CONVERSATION)[0])

    for pager in (*lists, chat.messages(limit=2)):
        assert len(await pager.all()) == 2
    assert {call.query for call in sandbox.calls} == {"page=0&amount=2"}


@ALL_KINDS
async def test_every_chat_of_an_auxiliary_list_says_under_which_id(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    add_chat(sandbox, kind)

    chats = [chat async for chat in namespace(client, kind).list()]

    assert all(chat.aux_id for chat in chats) == kind.is_auxiliary


async def test_the_next_page_is_fetched_while_the_consumer_works_and_never_more(
    client: Client, sandbox: Sandbox
) -> None:
    async with client.conversations.list(page_size=2) as pager:
        async for _ in pager:
            await asyncio.sleep(10)
            assert len(sandbox.calls) == 2
            break


@pytest.mark.parametrize("page_size", [0, -1, True, 2.0, "20", None])
async def test_a_page_size_that_is_none_is_refused(client: Client, sandbox: Sandbox, page_size: Any) -> None:
    with pytest.raises(InvalidInputError, match="page_size"):
        client.conversations.list(page_size=page_size)

    assert not sandbox.calls


# --- one chat


@ALL_KINDS
async def test_a_chat_is_read_by_its_id_by_its_model_and_by_its_handle(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    chat_id = add_chat(sandbox, kind, "kamer 7/b")
    given = "kamer 7/b" if kind.is_auxiliary else chat_id
    chats = namespace(client, kind)

    info = await chats.get(given)

    assert (info.id, info.aux_id) == (chat_id, "kamer 7/b")
    assert await chats.get(info) == await chats(given).get() == await chats(info).get() == info
    assert len({call.path for call in sandbox.calls}) == 1


@ALL_KINDS
async def test_a_chat_that_is_not_there_is_not_found(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    with pytest.raises(NotFoundError) as caught:
        await namespace(client, kind).get("n0body")

    assert caught.value.call == f"GET {kind.template}"
    assert "n0body" not in str(caught.value)


async def test_a_group_chat_is_no_conversation(client: Client, sandbox: Sandbox) -> None:
    with pytest.raises(NotFoundError):
        await client.conversations.get(sandbox.add_group_chat("Overleg"))


async def test_a_handle_that_does_not_fit_on_the_path_of_another_kind(client: Client) -> None:
    assert client.conversations("c1") != client.groupchats("c1")
    assert client.conversations("c1") != client.auxiliary.conversations("c1")


# --- what is refused


@ALL_KINDS
async def test_what_cannot_be_a_chat_of_this_kind_is_refused_before_anything_is_sent(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    chats = namespace(client, kind)
    another_kind = (ConversationInfo if kind.is_group else GroupChatInfo)("c1", aux_id="c1")
    wrong: Any
    for wrong in (None, 7, b"c1", "", ".", "..", "\ud800", ["c1"], User("u1"), another_kind):
        with pytest.raises(InvalidIdError) as caught:
            chats(wrong)
        with pytest.raises(InvalidIdError):
            await chats.get(wrong)
        assert caught.value.__context__ is None

    assert not sandbox.calls


@AUX_KINDS
async def test_a_chat_without_auxiliary_id_has_no_auxiliary_address(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    info = (GroupChatInfo if kind.is_group else ConversationInfo)("c1")

    with pytest.raises(InvalidIdError, match="no auxiliary id"):
        namespace(client, kind)(info)


@pytest.mark.parametrize("wrong", [None, 7, "", ".", "..", ConversationInfo("c1")])
async def test_what_is_no_user_is_refused_before_anything_is_sent(
    client: Client, sandbox: Sandbox, wrong: Any
) -> None:
    with pytest.raises(InvalidIdError):
        await client.users.get(wrong)

    assert not sandbox.calls


async def test_a_user_is_read_by_id_and_by_model(client: Client, sandbox: Sandbox) -> None:
    user = await client.users.get(sandbox.add_user("Bea", "Bos"))

    assert (user.first_name, user.last_name) == ("Bea", "Bos")
    assert await client.users.get(user) == user


# --- auxiliary ids


@AUX_KINDS
async def test_an_auxiliary_id_arrives_as_one_raw_segment(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    for aux_id, segment in AUX_IDS.items():
        chat_id = add_chat(sandbox, kind, aux_id)
        sandbox.reset_calls()

        assert (await namespace(client, kind).get(aux_id)).id == chat_id
        await namespace(client, kind)(aux_id).send("Hallo")

        got, sent = sandbox.calls
        assert got.path == f"/v1/{kind.value}/{segment}"
        assert sent.path == f"/v1/{kind.value}/{segment}/messages"
        assert unquote(segment) == aux_id
        assert (got.query, sent.query) == ("", "")


@AUX_KINDS
@pytest.mark.parametrize("aux_id", ["José", "Zoë 7", "Łódź", "Ångström", "søren", "Bērziņš"])
async def test_a_diacritic_is_refused_until_it_is_said_what_is_meant(
    client: Client, sandbox: Sandbox, kind: ChatKind, aux_id: str
) -> None:
    exact, folded = add_chat(sandbox, kind, aux_id), add_chat(sandbox, kind, fold_aux_id(aux_id))
    chats = namespace(client, kind)

    with pytest.raises(AmbiguousAuxIdError, match=r"fold_aux_id.*exact_aux_id") as caught:
        chats(aux_id)
    assert aux_id not in str(caught.value)
    assert not sandbox.calls

    assert (await chats.get(exact_aux_id(aux_id))).id == exact
    assert (await chats.get(fold_aux_id(aux_id))).id == folded
    assert fold_aux_id(aux_id).isascii()


@AUX_KINDS
async def test_the_auxiliary_id_in_a_model_is_taken_exactly(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    chat_id = add_chat(sandbox, kind, "Zoë / 7")
    (info,) = [chat async for chat in namespace(client, kind).list() if chat.id == chat_id]

    assert (await namespace(client, kind)(info).get()).id == chat_id
    assert sandbox.calls[-1].path == f"/v1/{kind.value}/Zo%C3%AB%20%2F%207"


async def test_an_own_id_of_the_service_may_have_a_diacritic(client: Client, sandbox: Sandbox) -> None:
    with pytest.raises(NotFoundError):
        await client.conversations.get("é")

    assert sandbox.calls[-1].path == "/v1/conversations/%C3%A9"
