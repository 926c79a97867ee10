"""Attachments that are read piece by piece or whole, without a file."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from healthmsg import (
    Attachment,
    CallError,
    Client,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from healthmsg.errors import ClientUsageError, ConnectionLostError, DownloadError, InvalidIdError
from healthmsg.ids import ChatKind
from healthmsg.resources.chat import BaseChat, Chat
from healthmsg.sandbox import AnswerStatus, CutBody, Sandbox
from tests.foreign_host import CONTENT, GIVEN, ForeignHost, links, upload

MIB = 1024 * 1024


async def everything(chat: BaseChat, attachment: Attachment | str) -> bytes:
    return b"".join([chunk async for chunk in chat.download_stream(attachment)])


# --- piece by piece


@pytest.mark.parametrize("kind", ChatKind, ids=lambda kind: kind.value)
async def test_an_attachment_arrives_whole_for_every_kind_of_chat(
    client: Client, sandbox: Sandbox, kind: ChatKind
) -> None:
    new = (
        sandbox.add_group_chat("x", aux_id="k 7") if kind.is_group else sandbox.add_conversation(aux_id="k 7")
    )
    chats: Any = client.auxiliary if kind.is_auxiliary else client
    chats = chats.groupchats if kind.is_group else chats.conversations
    chat = chats("k 7" if kind.is_auxiliary else new)
    attachment = await upload(chat)

    assert await everything(chat, attachment) == await everything(chat, attachment.id) == CONTENT
    assert await chat.download_bytes(attachment) == await chat.download_bytes(attachment.id) == CONTENT


@pytest.mark.usefixtures("nothing_is_left_behind")
async def test_nothing_is_sent_before_it_is_iterated(chat: Chat, sandbox: Sandbox) -> None:
    async with chat.download_stream("a1"):
        pass
    await chat.download_stream("a1").close()

    assert sandbox.calls == []


async def test_a_stream_is_iterated_once(chat: Chat, sandbox: Sandbox) -> None:
    attachment = await upload(chat)
    broken, closed, left = (chat.download_stream(attachment) for _ in range(3))
    sandbox.faults.add(kind=CutBody(), path_contains="/files/")
    with pytest.raises(CallError):
        _ = [piece async for piece in broken]
    await closed.close()
    async with left:
        async for _ in left:
            break

    for stream in (broken, closed, left):
        with pytest.raises(ClientUsageError, match="ask for a new one"):
            _ = [piece async for piece in stream]


async def test_a_stream_that_another_task_reads_cannot_be_closed(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost
) -> None:
    reading = asyncio.Event()

    async def never_ending(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        reading.set()
        await asyncio.Event().wait()
        return answer

    links(sandbox, foreign.handle("/x", never_ending))
    stream = chat.download_stream("a1")

    async def read() -> None:
        async for _ in stream:
            pass

    reader = asyncio.create_task(read())
    await reading.wait()
    with pytest.raises(ClientUsageError, match="another task"):
        await stream.close()
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader


async def test_pieces_come_before_the_file_is_complete(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost
) -> None:
    go_on = asyncio.Event()

    async def half_and_half(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        await go_on.wait()
        await answer.write(b"rest")
        return answer

    links(sandbox, foreign.handle("/x", half_and_half))
    received = []

    async with asyncio.timeout(5):
        async for chunk in chat.download_stream("a1"):
            received.append(chunk)
            go_on.set()

    assert received == [b"half", b"rest"]


def endless(gone: asyncio.Event) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Answer with a body that never ends; `gone` is set when it is not read any more."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(bytes(64 * 1024))
        finally:
            gone.set()

    return answering


@pytest.mark.usefixtures("nothing_is_left_behind")
@pytest.mark.parametrize("how", ["break", "close", "raise"])
async def test_leaving_early_gives_the_connection_back(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, how: str
) -> None:
    gone = asyncio.Event()

    links(sandbox, foreign.handle("/x", endless(gone)))
    stream = chat.download_stream("a1")

    async with asyncio.timeout(5):
        if how == "break":
            async with stream:
                async for _ in stream:
                    break
        elif how == "close":
            async for _ in stream:
                break
            await stream.close()
        else:
            with suppress(LookupError):
                async with stream:
                    async for _ in stream:
                        raise LookupError
        await gone.wait()

    await chat.send("Daarna")


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 0])
async def test_another_size_than_announced_is_an_error(chat: Chat, size: int) -> None:
    attachment = Attachment((await upload(chat)).id, "x.pdf", size)
    received = bytearray()

    async def receive() -> None:
        async for chunk in chat.download_stream(attachment):
            received.extend(chunk)

    with pytest.raises(DownloadError, match="size"):
        await receive()

    assert not received
    with pytest.raises(DownloadError, match="size"):
        await chat.download_bytes(attachment)


@pytest.mark.parametrize(
    ("fault", "strikes", "error"),
    [
        (AnswerStatus(404), "/attachments/", NotFoundError),
        (AnswerStatus(200, b"{}"), "/attachments/", DownloadError),
        (AnswerStatus(403, b"s3cret"), "/files/", ForbiddenError),
        (CutBody(), "/files/", ConnectionLostError),
    ],
)
async def test_what_is_wrong_shows_while_it_is_read(
    chat: Chat, sandbox: Sandbox, fault: Any, strikes: str, error: type[CallError]
) -> None:
    attachment = await upload(chat)
    sandbox.faults.add(kind=fault, path_contains=strikes, method="GET", times=2)
    stream = chat.download_stream(attachment)

    with pytest.raises(error) as caught:
        async for _ in stream:
            pass
    with pytest.raises(error):
        await chat.download_bytes(attachment)

    assert "s3cret" not in str(caught.value)


async def test_two_streams_at_once_do_not_mix(chat: Chat) -> None:
    other = bytes(reversed(CONTENT))
    one, two = await upload(chat), await upload(chat, content=other)

    assert list(await asyncio.gather(everything(chat, one), everything(chat, two))) == [CONTENT, other]


# --- whole


@pytest.mark.parametrize("short", [0, 1])
async def test_an_attachment_of_at_most_so_many_bytes_is_read(chat: Chat, short: int) -> None:
    attachment = await upload(chat)

    if short:
        with pytest.raises(DownloadError, match="max_bytes"):
            await chat.download_bytes(attachment, max_bytes=len(CONTENT) - short)
    else:
        assert await chat.download_bytes(attachment, max_bytes=len(CONTENT)) == CONTENT


async def test_ten_mebibytes_are_read_and_no_more_unless_it_is_asked_for(chat: Chat) -> None:
    just, more = bytes(10 * MIB), bytes(10 * MIB + 1)
    fits, does_not = await upload(chat, content=just), await upload(chat, content=more)

    assert await chat.download_bytes(fits) == just
    with pytest.raises(DownloadError, match="max_bytes"):
        await chat.download_bytes(does_not)
    assert await chat.download_bytes(does_not, max_bytes=11 * MIB) == more


@pytest.mark.usefixtures("nothing_is_left_behind")
async def test_a_file_that_is_too_large_is_not_read_to_its_end(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost
) -> None:
    gone = asyncio.Event()

    links(sandbox, foreign.handle("/x", endless(gone)))

    async with asyncio.timeout(5):
        with pytest.raises(DownloadError, match="max_bytes"):
            await chat.download_bytes(GIVEN.id, max_bytes=MIB)
        await gone.wait()


# --- what is refused


@pytest.mark.parametrize("wrong", [None, 7, "", ".", "..", b"a1", "\ud800", Attachment("")])
async def test_what_is_no_attachment_is_refused_at_once(chat: Chat, sandbox: Sandbox, wrong: Any) -> None:
    with pytest.raises(InvalidIdError):
        chat.download_stream(wrong)
    with pytest.raises(InvalidIdError):
        await chat.download_bytes(wrong)

    assert sandbox.calls == []


@pytest.mark.parametrize("wrong", [None, -1, 1.5, "10", True])
async def test_a_largest_size_that_is_none_is_refused(chat: Chat, sandbox: Sandbox, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_bytes"):
        await chat.download_bytes("a1", max_bytes=wrong)

    assert sandbox.calls == []
