"""Sending many messages, over the sandbox and in fake time."""

import asyncio
from typing import Any

import pytest

from healthmsg import (
    Client,
    DeliveryUnknownError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    Outcome,
    Outgoing,
    SendResult,
    UploadFile,
)
from healthmsg.errors import (
    AmbiguousAuxIdError,
    ClientClosedError,
    EmptyMessageError,
    InvalidFileError,
    InvalidIdError,
    PreconditionFailedError,
)
from healthmsg.models import ConversationInfo
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Delay, Fault, Sandbox
from tests.bulk.sources import AsyncSource, Source, bodies, chats, posts, read_into

# What waits for ever fails, after three real seconds.
pytestmark = [
    pytest.mark.looptime(idle_step=0.1, idle_timeout=3),
    pytest.mark.usefixtures("ticking_clock", "nothing_is_left_behind"),
]


# --- every message once


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_three_hundred_messages_go_out_once_each_within_the_limit(
    client: Client, sandbox: Sandbox, kind: type[Source]
) -> None:
    addresses = chats(sandbox, 300)
    started = asyncio.get_running_loop().time()

    results = [result async for result in client.send_many(kind(addresses, count=300))]

    took = asyncio.get_running_loop().time() - started
    assert {result.outcome for result in results} == {Outcome.DELIVERED}
    assert sorted(int(result.key or "") for result in results) == list(range(300))
    stored = [sandbox.messages(address) for address in addresses]
    assert [[message.body for message in messages] for messages in stored] == [
        [f"bericht {number}"] for number in range(300)
    ]
    assert {result.message_id for result in results} == {messages[0].id for messages in stored}
    assert sandbox.rejected == 0
    assert posts(sandbox) == 300
    assert sandbox.most_calls_in_any_second() <= 30
    assert 9 < took < 11.5


async def test_one_chat_gets_its_messages_in_order_while_others_go_on(
    client: Client, sandbox: Sandbox
) -> None:
    slow, *others = chats(sandbox, 4)
    sandbox.faults.add(kind=Delay(20), path_contains=slow)
    messages = [Outgoing(slow, f"{number}") for number in range(5)]
    messages += [Outgoing(other, "x") for other in others]

    results = [result async for result in client.send_many(messages)]

    assert [result.to for result in results] == [*others, *[slow] * 5]
    assert bodies(sandbox, slow) == ["0", "1", "2", "3", "4"]


async def test_one_chat_by_handle_and_by_address_is_one_chat(client: Client, sandbox: Sandbox) -> None:
    chat_id = sandbox.add_conversation()
    sandbox.faults.add(kind=Delay(20))
    to: list[Chat | str] = [client.conversations(chat_id), f"conversations/{chat_id}"]
    messages = [Outgoing(one, str(one)) for one in to]
    results = [result async for result in client.send_many(messages)]

    assert [result.to for result in results] == to
    assert bodies(sandbox, f"conversations/{chat_id}") == [str(one) for one in to]


async def test_a_failure_in_a_chat_does_not_hold_up_the_next_message_there(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)

    results = [result async for result in client.send_many([Outgoing(chat, ""), Outgoing(chat, "x")])]

    assert [result.outcome for result in results] == [Outcome.NOT_SENT, Outcome.DELIVERED]


async def test_no_messages_are_no_results(client: Client) -> None:
    assert [result async for result in client.send_many([])] == []


async def test_the_repr_shows_neither_body_nor_auxiliary_id() -> None:
    error = InvalidIdError("x")
    shown = repr(Outgoing("aux/conversations/s3cret", "s3cret", ("s3cret",), key="s3cret")) + repr(
        SendResult("s3cret", "aux/conversations/s3cret", Outcome.NOT_SENT, error=error)
    )

    assert "s3cret" not in shown
    assert "NOT_SENT" in shown


async def test_a_chat_of_another_user_is_not_written_in_by_this_one(client: Client, sandbox: Sandbox) -> None:
    (address,) = chats(sandbox, 1)
    chat_id = address.partition("/")[2]
    bea = client.with_token(sandbox.issue_token(sandbox.add_user("Bea", "Bos")))
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as other:
        handles = [bea.conversations(chat_id), other.conversations(chat_id), client.conversations(chat_id)]

        results = [result async for result in client.send_many([Outgoing(chat, "x") for chat in handles])]

    outcomes = {id(result.to): (result.outcome, type(result.error)) for result in results}
    refused = (Outcome.NOT_SENT, InvalidInputError)
    assert [outcomes[id(chat)] for chat in handles] == [refused, refused, (Outcome.DELIVERED, type(None))]
    assert posts(sandbox) == 1


# --- what goes wrong for one


@pytest.mark.parametrize(
    ("outgoing", "error"),
    [
        (Outgoing("", "x"), InvalidIdError),
        (Outgoing("c1", "x"), InvalidIdError),
        (Outgoing("conversations/", "x"), InvalidIdError),
        (Outgoing("conversations/..", "x"), InvalidIdError),
        (Outgoing(None, "x"), InvalidIdError),  # type: ignore[arg-type]
        (Outgoing(["conversations/c1"], "x"), InvalidIdError),  # type: ignore[arg-type]
        (Outgoing({"id": "c1"}, "x"), InvalidIdError),  # type: ignore[arg-type]
        (Outgoing(ConversationInfo("c1"), "x"), InvalidIdError),  # type: ignore[arg-type]
        (Outgoing("aux/conversations/José", "x"), AmbiguousAuxIdError),
        (Outgoing("{chat}", ""), EmptyMessageError),
        (Outgoing("{chat}", "  "), EmptyMessageError),
        (Outgoing("{chat}", None), InvalidInputError),  # type: ignore[arg-type]
        (Outgoing("{chat}", "\ud800"), InvalidInputError),
        (Outgoing("{chat}", "x", ["/nowhere/a.pdf"]), InvalidFileError),
        (Outgoing("{chat}", "x", "/nowhere/a.pdf"), InvalidFileError),
        (Outgoing("{chat}", "x", None), InvalidFileError),  # type: ignore[arg-type]
        (Outgoing("conversations/n0body", "x"), NotFoundError),
        (Outgoing("{closed}", "x"), PreconditionFailedError),
        (Outgoing("{forbidden}", "x"), ForbiddenError),
    ],
)
async def test_a_message_that_cannot_be_sent_is_reported_and_the_others_go_on(
    client: Client, sandbox: Sandbox, outgoing: Outgoing, error: type[Exception]
) -> None:
    places = dict(zip(("{chat}", "{closed}", "{forbidden}"), chats(sandbox, 3), strict=True))
    sandbox.close_chat(places["{closed}"])
    sandbox.faults.add(kind=AnswerStatus(403), path_contains=places["{forbidden}"])
    given = places.get(outgoing.to, outgoing.to) if isinstance(outgoing.to, str) else outgoing.to
    bad = Outgoing(given, outgoing.body, outgoing.files, key="bad")
    others = chats(sandbox, 4)
    messages = [Outgoing(other, "x", key=other) for other in others]

    results = [result async for result in client.send_many([*messages[:2], bad, bad, *messages[2:]])]

    by_key = {result.key: result for result in results}
    assert len(results) == 6
    assert by_key["bad"].outcome is (
        Outcome.NOT_SENT if given != places["{forbidden}"] else Outcome.DELIVERED
    )
    failed = next(result for result in results if result.error)
    assert failed.outcome is Outcome.NOT_SENT
    assert type(failed.error) is error
    assert failed.message_id is None
    assert all(by_key[other].outcome is Outcome.DELIVERED for other in others)


@pytest.mark.parametrize(("fault", "arrived"), [(CutAfter(), 1), (CutBefore(), 0), (AnswerStatus(500), 0)])
async def test_what_may_have_arrived_is_unknown_and_not_sent_again_when_it_is_to_be_reported(
    client: Client, sandbox: Sandbox, fault: Fault, arrived: int
) -> None:
    lost, *others = chats(sandbox, 3)
    sandbox.faults.add(kind=fault, path_contains=lost)

    messages = (Outgoing(to, "x") for to in (lost, *others))
    results = await client.send_many(messages, on_unknown="report").all()

    (unknown,) = [result for result in results if result.outcome is Outcome.UNKNOWN]
    assert unknown.to == lost
    assert isinstance(unknown.error, DeliveryUnknownError)
    assert len(sandbox.messages(lost)) == arrived
    assert posts(sandbox) == 3


@pytest.mark.looptime(False)
async def test_files_go_along(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    file = UploadFile(b"%PDF", "a.pdf")

    (result,) = [result async for result in client.send_many([Outgoing(chat, "", [file])])]

    (message,) = sandbox.messages(chat)
    assert message.id == result.message_id
    assert sandbox.file_content(message.attachments[0].id) == b"%PDF"


# --- what goes wrong for all


@pytest.mark.parametrize("wrong", [None, "conversations/c1", ("conversations/c1", "x")])
async def test_what_is_no_message_ends_it_after_the_earlier_results(
    client: Client, sandbox: Sandbox, wrong: Any
) -> None:
    addresses = chats(sandbox, 3)
    seen: list[SendResult] = []
    sending = client.send_many([*(Outgoing(to, "x") for to in addresses), wrong, Outgoing(addresses[0], "y")])

    with pytest.raises(InvalidInputError, match="Outgoing"):
        await read_into(seen, sending)

    assert [result.outcome for result in seen] == [Outcome.DELIVERED] * 3
    assert posts(sandbox) == 3


async def test_what_cannot_be_iterated_is_an_error_for_the_consumer(client: Client) -> None:
    wrong: Any = 7
    with pytest.raises(TypeError):
        _ = [result async for result in client.send_many(wrong)]


@pytest.mark.parametrize("options", [{}, {"retry_failed": True, "messages": ()}])
async def test_what_needs_a_journal_says_so(client: Client, options: Any) -> None:
    with pytest.raises(InvalidInputError, match="journal"):
        client.send_many(**options)


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_an_iterable_that_raises_does_so_after_the_earlier_results(
    client: Client, sandbox: Sandbox, kind: type[Source]
) -> None:
    seen: list[SendResult] = []
    async with client.send_many(kind(chats(sandbox, 5), count=9, fails_at=4)) as sending:
        with pytest.raises(LookupError, match="no more patients"):
            await read_into(seen, sending)

    assert [result.outcome for result in seen] == [Outcome.DELIVERED] * 4


async def test_a_closed_client_sends_nothing(client: Client, sandbox: Sandbox) -> None:
    await client.close()

    with pytest.raises(ClientClosedError):
        async for _ in client.send_many(Source(chats(sandbox, 1), count=1)):
            pass
    assert not sandbox.calls
