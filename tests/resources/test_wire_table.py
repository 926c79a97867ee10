"""Every method of the SDK, and exactly what it puts on the wire."""

import re
from collections.abc import AsyncIterator
from inspect import getmembers, isfunction
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from attrs import evolve

from healthmsg import Client, DeliveryUnknownError, Environment, Outcome, routes
from healthmsg.errors import InvalidIdError
from healthmsg.ids import ChatKind
from healthmsg.resources.auxiliary import AuxiliaryConversations, AuxiliaryGroupChats, AuxiliaryUsers
from healthmsg.resources.chat import BaseChat, Chat
from healthmsg.resources.company import Company
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.group_chat import GroupChat
from healthmsg.resources.groupchats import GroupChats
from healthmsg.resources.users import Me, Users
from healthmsg.routes import Route
from tests.foreign_host import ForeignHost
from tests.resources.wire_calls import table
from tests.resources.wire_rows import BASE, Id, Row, Sending, sent

# What JavaScript's encodeURIComponent makes of them.
IDS = (
    Id("a b", "a%20b"),
    Id("a/b?x=1", "a%2Fb%3Fx%3D1"),
    Id("../me", "..%2Fme"),
    Id("100%", "100%25"),
    Id("Ωмир 患者", "%CE%A9%D0%BC%D0%B8%D1%80%20%E6%82%A3%E8%80%85"),
    Id("{x}", "%7Bx%7D"),
    Id("%2F", "%252F"),
    Id("#frag", "%23frag"),
    Id("a+b&c=d;e", "a%2Bb%26c%3Dd%3Be"),
    Id("~!'()*", "~!'()*"),
)
PLAIN, OTHER = Id("i1", "i1"), Id("i2", "i2")
# One row is one call with each of the ids; the chat has another one.
TABLE = tuple(
    zip(*(table(given, chat) for given, chat in zip(IDS, IDS[1:] + IDS[:1], strict=True)), strict=True)
)
CLASSES: tuple[type, ...] = (
    *(Me, Company, Users, AuxiliaryUsers, Conversations, GroupChats),
    *(AuxiliaryConversations, AuxiliaryGroupChats, Chat, GroupChat),
)
ROUTES = {name: value for name, value in vars(routes).items() if isinstance(value, Route)}
UNUSABLE = ["", ".", "..", None, 7, b"c1", "\ud800"]
NOT_UNDERSTOOD = [b"", b"<html>", b"{}", b'"n1"', b'{"id": 7}', b'[{"id": 7}]']


def named(rows: tuple[Row, ...]) -> str:
    return f"{rows[0].method} {rows[0].sendings[-1].method} {rows[0].sendings[-1].target}".replace(
        IDS[0].segment, "ID"
    ).replace(IDS[1].segment, "CHAT")


every_row = pytest.mark.parametrize("rows", TABLE, ids=named)
CHANGES = [row for row in table(PLAIN, OTHER) if row.changes]
CREATES = [
    row
    for row in CHANGES
    if row.sendings[-1].method == "POST" and not row.sendings[-1].target.endswith("/avatar")
]


def one(row: Row) -> str:
    return named((row,))


def only_changes(host: ForeignHost) -> list[str]:
    return [seen.method for seen in host.seen if seen.method != "GET"]


@pytest.fixture
async def client(host: ForeignHost) -> AsyncIterator[Client]:
    async with host.client(BASE) as client:
        yield client


_numbers = count(1)


def answer_with(host: ForeignHost, row: Row) -> None:
    """Have a host answer as the row says."""
    by_target = {(sending.method, sending.target): sending for sending in row.sendings}

    async def answer(request: web.BaseRequest) -> web.Response:
        sending = by_target.get((request.method, request.raw_path))
        if sending is None:
            return web.Response(status=404)
        # Two messages do not have one id.
        body = sending.answer.replace(b'"n1"', b'"n%d"' % next(_numbers))
        return web.Response(status=sending.status, body=body)

    host.otherwise = answer


def evolved(row: Row, **answer: Any) -> Row:
    """Return a row whose last request is answered otherwise."""
    *before, last = row.sendings
    return evolve(row, sendings=(*before, evolve(last, **answer)))


def expected(sending: Sending) -> tuple[str, str, object]:
    return sending.method, sending.target, sending.body


# --- the table


@every_row
async def test_exactly_this_is_sent(
    client: Client, host: ForeignHost, tmp_path: Path, rows: tuple[Row, ...]
) -> None:
    for number, row in enumerate(rows):
        folder = tmp_path / str(number)
        folder.mkdir()
        answer_with(host, row)
        host.seen.clear()

        try:
            await row.call(client, folder)
        finally:
            # Two that are read at once may arrive in either order.
            assert sorted(map(sent, host.seen), key=str) == sorted(map(expected, row.sendings), key=str)
        assert {seen.headers["Authorization"] for seen in host.seen} == {"Bearer t0ken"}
        assert {seen.headers["Accept"] for seen in host.seen} <= {"application/json", "*/*"}


OVER_THE_GATEWAY = {"typing"}


def test_every_public_method_is_in_the_table() -> None:
    client = Client("t0ken", environment=Environment("here", "http://127.0.0.1:1"))
    public = {
        (kind.__name__, name)
        for kind in CLASSES
        for name, _ in getmembers(kind, isfunction)
        if not name.startswith("_") and name not in OVER_THE_GATEWAY
    }

    assert len(public) > 55
    assert {(type(rows[0].at(client)).__name__, rows[0].method) for rows in TABLE} == public


def test_every_method_of_a_chat_is_in_the_table_for_each_kind() -> None:
    client = Client("t0ken", environment=Environment("here", "http://127.0.0.1:1"))
    handles = [(rows[0].at(client), rows[0].method) for rows in TABLE]
    tested = {(chat.address.kind, method) for chat, method in handles if isinstance(chat, BaseChat)}

    assert tested == {
        (kind, name)
        for kind in ChatKind
        for name, _ in getmembers(GroupChat if kind.is_group else Chat, isfunction)
        if not name.startswith("_") and name not in OVER_THE_GATEWAY
    }


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        pytest.param(route, kind, id=f"{name}-{kind.name if kind else ''}")
        for name, route in ROUTES.items()
        for kind in route.kinds or (None,)
    ],
)
def test_every_endpoint_is_in_the_table(route: Route, kind: ChatKind | None) -> None:
    chat = f"{kind.value}/{PLAIN.raw}" if kind else ""
    path = re.sub(r"{\w+}", PLAIN.raw, re.sub(r"{(group_)?chat}", chat, route.template))
    reached = {(sending.method, sending.target) for row in table(PLAIN, PLAIN) for sending in row.sendings}

    assert (route.method, f"{BASE}/{path}") in {(method, target.split("?")[0]) for method, target in reached}


# --- ids that cannot be one


def rows_that_take(what: str, wrong: object) -> list[Row]:
    """Return the rows that have an id of the chat, or any other id, with one that cannot be right."""
    is_chat = what == "chat"
    right = table(PLAIN, PLAIN)
    another = table(PLAIN, OTHER) if is_chat else table(OTHER, PLAIN)
    with_wrong = table(PLAIN, Id(wrong)) if is_chat else table(Id(wrong), PLAIN)
    taking = [
        wrong_row
        for row, other_row, wrong_row in zip(right, another, with_wrong, strict=True)
        if row.sendings != other_row.sendings
    ]
    # None is no id there, and allowed.
    return [row for row in taking if not (row.method == "invite" and row.kwargs["aux_id"] is None)]


@pytest.mark.parametrize("wrong", UNUSABLE)
@pytest.mark.parametrize(("what", "least"), [("chat", 100), ("other", 70)])
async def test_an_id_that_cannot_be_one_is_refused_everywhere_and_nothing_is_sent(
    *, client: Client, host: ForeignHost, tmp_path: Path, what: str, least: int, wrong: object
) -> None:
    rows = rows_that_take(what, wrong)
    assert len(rows) >= least

    for row in rows:
        with pytest.raises(InvalidIdError) as caught:
            await row.call(client, tmp_path)
        assert caught.value.__context__ is None

    assert host.seen == []


# --- what may have taken effect


@pytest.mark.parametrize("row", CHANGES, ids=one)
async def test_a_change_whose_connection_breaks_is_unknown_and_made_once(
    client: Client, host: ForeignHost, tmp_path: Path, row: Row
) -> None:
    answer_with(host, row)
    answer = host.otherwise

    async def break_off(request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "GET" and request.transport is not None:
            request.transport.abort()
        return await answer(request)

    host.otherwise = break_off

    with pytest.raises(DeliveryUnknownError) as caught:
        await row.call(client, tmp_path)

    assert caught.value.outcome is Outcome.UNKNOWN
    assert only_changes(host) == [row.sendings[-1].method]


@pytest.mark.parametrize("status", [302, 500, 503])
@pytest.mark.parametrize("row", CHANGES, ids=one)
async def test_a_change_that_is_answered_with_a_failure_is_unknown_and_made_once(
    client: Client, host: ForeignHost, tmp_path: Path, row: Row, status: int
) -> None:
    answer_with(host, evolved(row, status=status))

    with pytest.raises(DeliveryUnknownError) as caught:
        await row.call(client, tmp_path)

    assert caught.value.status == status
    assert only_changes(host) == [row.sendings[-1].method]


@pytest.mark.parametrize("row", CREATES, ids=one)
async def test_a_creation_whose_answer_cannot_be_understood_is_unknown_and_made_once(
    client: Client, host: ForeignHost, tmp_path: Path, row: Row
) -> None:
    says_nothing_of_whom = row.sendings[-1].target.endswith("/import")
    for answer in NOT_UNDERSTOOD[says_nothing_of_whom:]:
        host.seen.clear()
        answer_with(host, evolved(row, status=201, answer=answer))

        with pytest.raises(DeliveryUnknownError) as caught:
            await row.call(client, tmp_path)

        assert caught.value.status == 201
        assert only_changes(host) == ["POST"]


@pytest.mark.parametrize("row", [row for row in CREATES if row.method in {"start", "create"}], ids=one)
@pytest.mark.parametrize("chat_id", ["", ".", ".."])
async def test_a_chat_that_is_created_under_an_id_that_cannot_be_one_is_unknown(
    client: Client, host: ForeignHost, tmp_path: Path, row: Row, chat_id: str
) -> None:
    answer_with(host, evolved(row, status=201, answer=f'{{"id": "{chat_id}"}}'.encode()))

    with pytest.raises(DeliveryUnknownError):
        await row.call(client, tmp_path)


@pytest.mark.parametrize("row", [row for row in CHANGES if row not in CREATES], ids=one)
async def test_what_a_change_is_answered_beside_its_status_does_not_matter(
    client: Client, host: ForeignHost, tmp_path: Path, row: Row
) -> None:
    for status, answer in ((200, b""), (204, b""), (202, b"<html>"), (200, b"[7]"), (304, b"")):
        answer_with(host, evolved(row, status=status, answer=answer))
        assert await row.call(client, tmp_path) is None
