"""Assigning an auxiliary id: it is looked up before it could be taken away from another user."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
from aiohttp import web
from attrs import frozen

from healthmsg import (
    Client,
    ForbiddenError,
    GroupChat,
    GroupInvite,
    HealthmsgError,
    InvalidInputError,
    User,
    exact_aux_id,
    fold_aux_id,
)
from healthmsg.errors import (
    AmbiguousAuxIdError,
    AuxIdTakenError,
    ConnectionLostError,
    InternalServerError,
    InvalidResponseError,
    PreconditionFailedError,
)
from healthmsg.sandbox import Sandbox
from tests.foreign_host import ForeignHost

ANN: Final[dict[str, Any]] = {"email": "ann@example.org", "first_name": "Ann", "last_name": "de Wit"}
TAKEN = b'{"id": "u9"}'


def invited(aux_id: str | None) -> GroupInvite:
    return GroupInvite(**ANN, invite_type="private_user", aux_id=aux_id)


@frozen
class Assignment:
    """A call that assigns an auxiliary id, where it looks first, and who would have it."""

    looks_at: str
    holder: str
    call: Callable[[Client, str], Awaitable[object]]
    creates: str


ASSIGNMENTS = {
    "invite": Assignment(
        "/aux/users/",
        "a user",
        lambda client, aux_id: client.users.invite("private", **ANN, aux_id=aux_id),
        "/users/invite/private",
    ),
    "group chat": Assignment(
        "/aux/users/",
        "a user",
        lambda client, aux_id: client.groupchats.create(subject="Overleg", invite_users=[invited(aux_id)]),
        "/groupchats",
    ),
    "aux group chat": Assignment(
        "/aux/groupchats/",
        "a group chat",
        lambda client, aux_id: client.auxiliary.groupchats.create(aux_id=aux_id, subject="Overleg"),
        "/aux/groupchats",
    ),
    "invite into an aux group chat": Assignment(
        "/aux/users/",
        "a user",
        lambda client, aux_id: client.auxiliary.groupchats.create(
            aux_id="kamer 7", subject="Overleg", invite_users=[invited(aux_id)]
        ),
        "/aux/groupchats",
    ),
    "invite into an aux group chat that shares": Assignment(
        "/aux/users/",
        "a user",
        lambda client, aux_id: client.auxiliary.groupchats.create(
            aux_id="kamer 7", subject="Overleg", invite_users=[invited(aux_id)], if_taken="share"
        ),
        "/aux/groupchats",
    ),
}
every_assignment = pytest.mark.parametrize("assignment", ASSIGNMENTS.values(), ids=ASSIGNMENTS)


@pytest.fixture
async def host() -> AsyncIterator[ForeignHost]:
    async with ForeignHost() as host:
        for path in ("/users/invite/private", "/groupchats", "/aux/groupchats"):
            host.answer(path, b'{"id": "n1"}', status=201)
        yield host


@pytest.fixture
async def client(host: ForeignHost) -> AsyncIterator[Client]:
    async with host.client() as client:
        yield client


def posts(host: ForeignHost) -> list[str]:
    return [seen.path for seen in host.seen if seen.method == "POST"]


# --- free


@every_assignment
async def test_an_id_that_is_free_is_looked_up_and_assigned(
    client: Client, host: ForeignHost, assignment: Assignment
) -> None:
    await assignment.call(client, "bed 3/e")

    *looked, created = host.seen
    assert (created.method, created.path) == ("POST", assignment.creates)
    assert {seen.method for seen in looked} == {"GET"}
    assert f"{assignment.looks_at}bed%203%2Fe" in [seen.path for seen in looked]
    assert b'"aux_id":"bed 3/e"' in created.body


@every_assignment
async def test_an_id_with_a_diacritic_is_assigned_as_it_is_said_to_be_meant(
    client: Client, host: ForeignHost, assignment: Assignment
) -> None:
    with pytest.raises(AmbiguousAuxIdError):
        await assignment.call(client, "José")
    assert host.seen == []

    await assignment.call(client, exact_aux_id("José"))
    await assignment.call(client, fold_aux_id("José"))

    paths = [seen.path for seen in host.seen]
    assert paths.count(f"{assignment.looks_at}Jos%C3%A9") == paths.count(f"{assignment.looks_at}Jose") == 1
    exact, folded = (seen.body for seen in host.seen if seen.method == "POST")
    assert '"aux_id":"José"'.encode() in exact
    assert b'"aux_id":"Jose"' in folded


async def test_who_was_invited_is_given_by_id_whatever_else_was_answered(
    client: Client, host: ForeignHost
) -> None:
    host.answer("/users/invite/contact", b'{"id": "u7", "first_name": 7, "avatar": {}}', status=201)

    assert await client.users.invite("contact", **ANN) == User("u7")


async def test_of_two_who_are_given_one_id_at_the_same_moment_only_one_gets_it(sandbox: Sandbox) -> None:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        view = client.with_token(sandbox.issue_token())
        made = await asyncio.gather(
            client.users.invite("private", **ANN, aux_id="p 1"),
            view.users.invite("private", **(ANN | {"email": "b@b.nl"}), aux_id="p 1"),
            client.auxiliary.groupchats.create(aux_id="p 1", subject="Een"),
            view.auxiliary.groupchats.create(aux_id="p 1", subject="Twee"),
            return_exceptions=True,
        )

        assert [type(one) for one in made] == [User, AuxIdTakenError, GroupChat, AuxIdTakenError]
        assert isinstance(made[0], User)
        assert (await client.auxiliary.users.get("p 1")).id == made[0].id


@pytest.mark.parametrize("into_aux", [False, True])
async def test_nothing_is_looked_up_for_invitations_without_an_id(
    *, client: Client, host: ForeignHost, into_aux: bool
) -> None:
    chats: Any = client.auxiliary.groupchats if into_aux else client.groupchats
    own = {"aux_id": "kamer 7", "if_taken": "share"} if into_aux else {}

    await chats.create(subject="Overleg", invite_users=[invited(None), invited(None)], **own)

    assert [seen.method for seen in host.seen] == ["POST"]


# --- taken


@every_assignment
async def test_an_id_that_is_taken_is_not_assigned(
    client: Client, host: ForeignHost, assignment: Assignment
) -> None:
    host.answer(f"{assignment.looks_at}c4nary", TAKEN)

    with pytest.raises(AuxIdTakenError) as caught:
        await assignment.call(client, "c4nary")

    assert caught.value.holder == assignment.holder
    assert "c4nary" not in f"{caught.value}{caught.value!r}"
    assert caught.value.__context__ is None
    assert posts(host) == []


async def test_an_id_moves_unseen_when_that_is_asked_for(client: Client, host: ForeignHost) -> None:
    host.answer("/aux/users/p1", TAKEN)

    await client.users.invite("private", **ANN, aux_id="p1", if_taken="move")

    assert [(seen.method, seen.path) for seen in host.seen] == [("POST", "/users/invite/private")]


async def test_two_group_chats_share_an_id_unseen_when_that_is_asked_for(
    client: Client, host: ForeignHost
) -> None:
    host.answer("/aux/groupchats/p1", TAKEN)

    await client.auxiliary.groupchats.create(aux_id="p1", subject="Overleg", if_taken="share")

    assert [(seen.method, seen.path) for seen in host.seen] == [("POST", "/aux/groupchats")]


@pytest.mark.usefixtures("nothing_is_left_behind")
@pytest.mark.parametrize("taken", ["p1", "p2", "p3"])
async def test_one_taken_id_among_several_is_enough(client: Client, host: ForeignHost, taken: str) -> None:
    host.answer(f"/aux/users/{taken}", TAKEN)

    with pytest.raises(AuxIdTakenError):
        await client.groupchats.create(subject="x", invite_users=map(invited, ["p1", None, "p2", "p3"]))

    assert posts(host) == []


async def test_two_invitations_with_one_id_are_refused(client: Client, host: ForeignHost) -> None:
    both: dict[str, Any] = {"subject": "Overleg", "invite_users": [invited("c4nary"), invited("c4nary")]}
    for attempt in (
        client.groupchats.create(**both),
        client.auxiliary.groupchats.create(aux_id="p1", **both),
        client.auxiliary.groupchats.create(aux_id="p1", if_taken="share", **both),
    ):
        with pytest.raises(InvalidInputError, match="two invitations") as caught:
            await attempt
        assert "c4nary" not in str(caught.value)

    assert host.seen == []


async def test_several_ids_are_looked_up_at_the_same_time(client: Client, host: ForeignHost) -> None:
    both = asyncio.Barrier(2)

    async def answer_both(_: web.BaseRequest) -> web.Response:
        await both.wait()
        return web.Response(status=404)

    host.otherwise = answer_both

    async with asyncio.timeout(5):
        await client.groupchats.create(subject="Overleg", invite_users=[invited("p1"), invited("p2")])

    assert [seen.method for seen in host.seen] == ["GET", "GET", "POST"]


# --- not known


@every_assignment
@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (403, b"", ForbiddenError),
        (412, b"", PreconditionFailedError),
        (500, b"", InternalServerError),
        (200, b"<html>", InvalidResponseError),
        (200, b"[]", InvalidResponseError),
    ],
)
async def test_an_id_whose_owner_is_unknown_is_not_assigned(
    *,
    client: Client,
    host: ForeignHost,
    assignment: Assignment,
    status: int,
    answer: bytes,
    error: type[HealthmsgError],
) -> None:
    host.answer(f"{assignment.looks_at}p1", answer, status=status)

    with pytest.raises(error):
        await assignment.call(client, "p1")

    assert posts(host) == []


@every_assignment
async def test_a_lookup_whose_connection_breaks_assigns_nothing_and_is_no_unknown_delivery(
    client: Client, host: ForeignHost, assignment: Assignment
) -> None:
    async def break_off(request: web.BaseRequest) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    host.handle(f"{assignment.looks_at}p1", break_off)

    with pytest.raises(ConnectionLostError):
        await assignment.call(client, "p1")

    assert posts(host) == []


# --- over the sandbox, where ids move silently


async def test_a_patients_id_stays_until_it_is_moved_knowingly(sandbox: Sandbox) -> None:
    first = sandbox.add_user("Bea", "Bos", aux_id="patient 7/b")
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        with pytest.raises(AuxIdTakenError):
            await client.users.invite("private", **ANN, aux_id="patient 7/b")
        with pytest.raises(AuxIdTakenError):
            await client.groupchats.create(subject="Overleg", invite_users=[invited("patient 7/b")])
        assert (await client.auxiliary.users.get("patient 7/b")).id == first

        moved = await client.users.invite("private", **ANN, aux_id="patient 7/b", if_taken="move")

        assert (await client.auxiliary.users.get("patient 7/b")).id == moved.id != first
