"""What is known of people: whether they are verified, and whether they are co-workers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from healthmsg import Client, ForbiddenError, IdentityProvider, NotFoundError, User, Verification
from healthmsg.errors import InvalidIdError, InvalidResponseError, StatusError
from tests.foreign_host import ForeignHost


@pytest.fixture
async def client(host: ForeignHost) -> AsyncIterator[Client]:
    async with host.client() as client:
        yield client


# --- verified


@pytest.mark.parametrize(
    ("answer", "provider", "verified"),
    [
        (b'{"user": [{"name": "DigiD"}]}', "DigiD", True),
        (b'{"user": [{"name": "UZI"}, {"name": "DigiD"}]}', "DigiD", True),
        (b'{"user": [{"name": "DigiD"}]}', "UZI", False),
        (b'{"user": [{"name": "DigiD"}]}', "digid", False),
        (b'{"user": [{}]}', "DigiD", False),
        (b'{"user": []}', "DigiD", False),
        (b"{}", "DigiD", False),
        (b'{"company": [{"name": "DigiD"}]}', "DigiD", False),
    ],
)
async def test_a_user_is_verified_with_what_the_service_names(
    *, client: Client, host: ForeignHost, answer: bytes, provider: str, verified: bool
) -> None:
    host.answer("/users/u1/verifications", answer)

    assert await client.users.is_verified("u1", provider) is verified
    assert await client.users.is_verified(User("u1"), IdentityProvider("p1", provider)) is verified


async def test_verifications_come_without_their_wrapping(client: Client, host: ForeignHost) -> None:
    host.answer("/users/u1/verifications", b'{"user": [{"name": "DigiD", "level": 3}]}')

    (found,) = await client.users.verifications("u1")

    assert found == Verification("DigiD")
    assert found.extra == {"level": 3}


async def test_providers_come_as_they_are(client: Client, host: ForeignHost) -> None:
    host.answer("/users/u1/providers", b'[{"provider_id": "p1", "name": "UZI"}, {"provider_id": "p2"}]')

    assert await client.users.providers("u1") == (IdentityProvider("p1", "UZI"), IdentityProvider("p2"))


async def test_a_user_whose_verifications_cannot_be_read_is_no_unverified_one(
    client: Client, host: ForeignHost
) -> None:
    with pytest.raises(NotFoundError):
        await client.users.is_verified("u1", "DigiD")
    host.answer("/users/u1/verifications", b"[]")
    with pytest.raises(InvalidResponseError):
        await client.users.is_verified("u1", "DigiD")


# --- co-workers


@pytest.mark.parametrize(
    ("mine", "theirs", "coworker"),
    [
        ('"k1"', '"k1"', True),
        ('"k1"', '"k2"', False),
        ('"k1"', "null", False),
        ("null", '"k1"', False),
        ("null", "null", False),
        ('""', '""', False),
    ],
)
async def test_a_coworker_has_the_same_company(
    *, client: Client, host: ForeignHost, mine: str, theirs: str, coworker: bool
) -> None:
    host.answer("/me", f'{{"id": "me", "company_id": {mine}}}'.encode())
    host.answer("/users/u1", f'{{"id": "u1", "company_id": {theirs}}}'.encode())

    assert await client.users.is_coworker("u1") is coworker
    assert await client.users.is_coworker(User("u1", company_id="k1")) is coworker


async def test_both_are_read_at_the_same_time(client: Client, host: ForeignHost) -> None:
    both = asyncio.Barrier(2)

    async def answer_both(_: web.BaseRequest) -> web.Response:
        await both.wait()
        return web.Response(body=b'{"id": "x", "company_id": "k1"}')

    host.otherwise = answer_both

    async with asyncio.timeout(5):
        assert await client.users.is_coworker("u1")


@pytest.mark.usefixtures("nothing_is_left_behind")
@pytest.mark.parametrize(
    ("failing", "status", "error"), [("/me", 403, ForbiddenError), ("/users/u1", 404, NotFoundError)]
)
async def test_who_cannot_be_read_is_an_error_and_no_stranger(
    client: Client, host: ForeignHost, failing: str, status: int, error: type[StatusError]
) -> None:
    host.answer("/me", b'{"id": "x", "company_id": "k1"}')
    host.answer("/users/u1", b'{"id": "x", "company_id": "k1"}')
    host.answer(failing, status=status)

    with pytest.raises(error) as caught:
        await client.users.is_coworker("u1")

    assert caught.value.__context__ is None


# --- a handle


async def test_a_chat_with_a_person_is_one_call_away(client: Client, host: ForeignHost) -> None:
    host.answer("/conversations/u1/messages", b'{"id": "m1"}', status=201)

    for user in ("u1", User("u1", first_name="Zoë")):
        chat = client.users(user).conversation()
        assert chat == client.conversations("u1")
    assert not host.seen
    assert (await chat.send("Hallo")).id == "m1"


async def test_a_handle_of_a_user_reads_the_user(client: Client, host: ForeignHost) -> None:
    host.answer("/users/u1", b'{"id": "u1", "first_name": "Zo\xc3\xab"}')

    assert (await client.users("u1").get()).first_name == "Zoë"


async def test_handles_of_users_are_equal_by_id_and_who_asks(client: Client) -> None:
    other = client.with_token("another-token")

    assert client.users("u1") == client.users(User("u1"))
    assert hash(client.users("u1")) == hash(client.users(User("u1")))
    assert len({client.users("u1"), client.users("u2"), other.users("u1")}) == 3
    assert client.users("u1") != "u1"
    assert repr(client.users(User("u1", first_name="Zoë"))) == "<UserHandle 'u1'>"


@pytest.mark.parametrize("wrong", [None, 7, "", "..", ["u1"]])
async def test_a_handle_of_what_is_no_user_is_refused(client: Client, wrong: Any) -> None:
    with pytest.raises(InvalidIdError):
        client.users(wrong)


async def test_a_user_given_for_a_chat_says_how_to_get_the_chat(client: Client) -> None:
    wrong: Any = User("u1")

    with pytest.raises(InvalidIdError, match=r"client\.users\(user\)\.conversation\(\)"):
        client.conversations(wrong)
