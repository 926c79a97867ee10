"""Who was mentioned: each once, and whole."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from aiohttp import web

from healthmsg import Client, ForbiddenError, Member, Message, User
from healthmsg.errors import InternalServerError, StatusError
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat
from tests.foreign_host import ForeignHost

ANN = User("ann", first_name="Ann", last_name="de Wit")
BEA = User("bea", first_name="Bea", last_name="Bos")
CAS = Member("cas", first_name="Cas", last_name="Smit")


@pytest.fixture
async def host() -> AsyncIterator[ForeignHost]:
    async with ForeignHost() as host:
        for user in (ANN, BEA, CAS):
            name = f'"first_name": "{user.first_name}", "last_name": "{user.last_name}"'
            host.answer(f"/users/{user.id}", f'{{"id": "{user.id}", {name}}}'.encode())
        everybody = b'[{"id": "ann"}, {"id": "cas", "first_name": "Cas", "last_name": "Smit", "owner": null}]'
        host.answer("/groupchats/g1/members", everybody)
        yield host


@pytest.fixture
async def client(host: ForeignHost) -> AsyncIterator[Client]:
    async with host.client() as client:
        yield client


@pytest.fixture
def chat(client: Client) -> Chat:
    return client.conversations("c1")


@pytest.fixture
def group(client: Client) -> GroupChat:
    return client.groupchats("g1")


def asked(host: ForeignHost) -> list[str]:
    return sorted(seen.path for seen in host.seen)


# --- from what


@pytest.mark.parametrize(
    "given",
    [
        lambda mentions: Message("m1", mentions=tuple(mentions)),
        tuple,
        list,
        iter,
        lambda mentions: {user.id: user for user in mentions}.values(),
    ],
)
async def test_a_message_or_any_collection_of_its_mentions_will_do(
    chat: Chat, host: ForeignHost, given: Callable[[Iterable[User]], Any]
) -> None:
    assert await chat.complete_mentions(given([User("bea"), ANN])) == (BEA, ANN)
    assert asked(host) == ["/users/bea"]


@pytest.mark.parametrize("no_users", [(), Message("m1")])
async def test_no_mentions_are_no_users_and_nothing_is_sent(
    chat: Chat, group: GroupChat, host: ForeignHost, no_users: Any
) -> None:
    assert await chat.complete_mentions(no_users) == await group.complete_mentions(no_users) == ()
    assert host.seen == []


# --- who


async def test_who_is_known_whole_is_not_read(chat: Chat, host: ForeignHost) -> None:
    assert await chat.complete_mentions([ANN, CAS]) == (ANN, CAS)
    assert host.seen == []


@pytest.mark.parametrize(
    "known", [User("bea", first_name="Bea"), User("bea", last_name="Bos"), User("bea", email="b@b.nl")]
)
async def test_who_is_known_in_part_is_read(chat: Chat, known: User) -> None:
    assert await chat.complete_mentions([known]) == (BEA,)


@pytest.mark.parametrize(
    "mentions", [[ANN, BEA, ANN], [User("ann"), BEA, ANN], [ANN, User("bea"), BEA, User("ann")]]
)
async def test_each_is_given_once_and_not_read_if_whole_anywhere(
    chat: Chat, host: ForeignHost, mentions: list[User]
) -> None:
    assert await chat.complete_mentions(mentions) == (ANN, BEA)
    assert host.seen == []


async def test_who_is_named_twice_by_id_alone_is_read_once(chat: Chat, host: ForeignHost) -> None:
    assert await chat.complete_mentions([User("bea"), User("bea")]) == (BEA,)
    assert asked(host) == ["/users/bea"]


async def test_who_cannot_be_found_is_given_by_id_alone(chat: Chat, host: ForeignHost) -> None:
    gone = User("gone", first_name="G")

    assert await chat.complete_mentions([gone, User("bea")]) == (gone, BEA)
    assert asked(host) == ["/users/bea", "/users/gone"]


# --- in the text


UUID = "0F2f4a53-7f3c-4d6e-9a10-5f0a4c1f7a01"


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ("[mention=ann] en [mention=bea]", ["ann", "bea"]),
        ("[Mention=ann][mention=ANN]", ["ann"]),
        (f"Dag [mention={UUID}]!", [UUID]),
        ("Allen: [mention=@all]", ["@all"]),
        ("[mention=@all] [mention=bea] [mention=@all]", ["@all", "bea"]),
        ("[mention=@ALL] [mention=] [mention=a b] [mention=a/b] [mention= ann] @ann [mention=ann", []),
        (None, []),
    ],
)
def test_the_text_tells_who_is_mentioned(body: str | None, ids: list[str]) -> None:
    assert [user.id for user in Message("m1", body).mentioned] == ids


def test_users_that_the_service_lists_come_first_and_whole() -> None:
    message = Message("m1", "[mention=cas] [mention=ANN]", mentions=(BEA, ANN))

    assert message.mentioned == (BEA, ANN, User("cas"))


def test_what_a_user_says_of_the_own_mention_is_found_in_a_text() -> None:
    text = f"{ANN.mention} {CAS.mention} {User('@all').mention}"

    assert text == "[mention=ann] [mention=cas] [mention=@all]"
    assert [user.id for user in Message("m1", text).mentioned] == ["ann", "cas", "@all"]


async def test_users_that_the_text_mentions_are_completed(group: GroupChat, host: ForeignHost) -> None:
    message = Message("m1", "[mention=bea] [mention=@all]", mentions=(User("ann"),))

    assert await group.complete_mentions(message, exclude=["cas"]) == (ANN, BEA)
    assert asked(host) == ["/groupchats/g1/members", "/users/ann", "/users/bea"]


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_who_is_in_the_text_alone_and_cannot_be_read_is_left_out(
    chat: Chat, host: ForeignHost, status: int
) -> None:
    host.answer("/users/x", status=status)

    assert await chat.complete_mentions(Message("m1", "[mention=x] [mention=bea]")) == (BEA,)


# --- everybody


@pytest.mark.parametrize("everybody", ["@all", "@ALL", "@All"])
async def test_all_stands_for_every_member_each_whole_and_once(
    group: GroupChat, host: ForeignHost, everybody: str
) -> None:
    mentions = [BEA, User(everybody), CAS, User("@all")]

    found = await group.complete_mentions(mentions)

    assert found == (BEA, CAS, ANN)
    assert asked(host) == ["/groupchats/g1/members", "/users/ann"]


async def test_all_stands_for_no_user_in_a_conversation(chat: Chat, host: ForeignHost) -> None:
    assert await chat.complete_mentions([User("@all"), ANN]) == (ANN,)
    assert host.seen == []


@pytest.mark.parametrize("not_everybody", ["all", "@al", "@all "])
async def test_only_all_is_all(group: GroupChat, host: ForeignHost, not_everybody: str) -> None:
    assert await group.complete_mentions([User(not_everybody)]) == (User(not_everybody),)
    assert "/groupchats/g1/members" not in asked(host)


@pytest.mark.parametrize("left_out", [["ann"], (ANN,), {User("ann")}, iter(["ann", "x"])])
async def test_who_is_excluded_is_neither_given_nor_read(
    group: GroupChat, host: ForeignHost, left_out: Any
) -> None:
    assert await group.complete_mentions([User("ann"), User("@all")], exclude=left_out) == (CAS,)
    assert asked(host) == ["/groupchats/g1/members"]


# --- at once


@pytest.mark.usefixtures("nothing_is_left_behind")
async def test_those_who_must_be_read_are_read_at_the_same_time(chat: Chat, host: ForeignHost) -> None:
    both = asyncio.Barrier(2)

    async def answer_both(request: web.BaseRequest) -> web.Response:
        await both.wait()
        return web.Response(body=f'{{"id": "{request.path[-1]}"}}'.encode())

    host.otherwise = answer_both

    async with asyncio.timeout(5):
        found = await chat.complete_mentions([User("x"), ANN, User("y")])

    assert [user.id for user in found] == ["x", "ann", "y"]


@pytest.mark.usefixtures("nothing_is_left_behind")
@pytest.mark.parametrize(("status", "error"), [(403, ForbiddenError), (500, InternalServerError)])
@pytest.mark.parametrize("failing", ["/users/x", "/users/y"])
async def test_another_failure_is_raised_and_ends_the_other_reading(
    chat: Chat, host: ForeignHost, failing: str, status: int, error: type[StatusError]
) -> None:
    both, disconnected = asyncio.Barrier(2), asyncio.Event()

    async def fail_one(request: web.BaseRequest) -> web.Response:
        await both.wait()
        if request.path == failing:
            return web.Response(status=status)
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(0.001)
        disconnected.set()
        return web.Response(status=404)

    host.otherwise = fail_one

    async with asyncio.timeout(5):
        with pytest.raises(error) as caught:
            await chat.complete_mentions([User("x"), User("y")])
        await disconnected.wait()

    assert caught.value.__context__ is None


async def test_members_that_cannot_be_read_are_an_error(group: GroupChat, host: ForeignHost) -> None:
    host.answer("/groupchats/g1/members", status=404)

    with pytest.raises(StatusError):
        await group.complete_mentions([User("@all")])
