"""Uploading files, over the sandbox."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from attrs import frozen

from healthmsg import Client, InvalidInputError, Message, UploadFile
from healthmsg.errors import EmptyMessageError, InvalidFileError, UploadFileError
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, Sandbox
from healthmsg.sandbox.faults import Execute

LARGE = bytes(range(256)) * 12_000
NAMES = {
    "uitslag é.pdf": "uitslag é.pdf",
    "e\u0301.txt": "e\u0301.txt",
    "検査結果.png": "検査結果.png",
    "👩‍⚕️.jpg": "👩‍⚕️.jpg",
    "it's 100% & <b>; x=y.txt": "it's 100% & <b>; x=y.txt",
    # What would end the name is escaped, as browsers do.
    'the "x" ray.pdf': "the %22x%22 ray.pdf",
    "..\\..\\C:\\evil.pdf": "evil.pdf",
    "../../evil.pdf": "evil.pdf",
    'a"\r\nX-Evil: 1\r\n\r\nb.pdf': "a%22X-Evil: 1b.pdf",
}


def the_message(sandbox: Sandbox, chat: Chat) -> Message:
    (message,) = sandbox.messages(chat.address)
    return message


def contents(sandbox: Sandbox, message: Message) -> list[bytes]:
    return [sandbox.file_content(file.id) for file in message.attachments]


async def test_several_files_and_a_text_are_one_message(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    path, other = tmp_path / "röntgen foto.png", tmp_path / "map" / "leeg"
    other.parent.mkdir()
    path.write_bytes(LARGE)
    other.write_bytes(b"\0")

    sent = await chat.upload(
        path, str(other), UploadFile(path, "kopie.txt", "text/x-odd"), body="Bijlagen — é 🙏\r\n--regel 2"
    )

    message = the_message(sandbox, chat)
    assert (message.id, message.body) == (sent.id, "Bijlagen — é 🙏\r\n--regel 2")
    assert [(file.name, file.size, file.mime_type) for file in message.attachments] == [
        ("röntgen foto.png", len(LARGE), "image/png"),
        ("leeg", 1, "application/octet-stream"),
        ("kopie.txt", len(LARGE), "text/x-odd"),
    ]
    assert contents(sandbox, message) == [LARGE, b"\0", LARGE]


@pytest.mark.parametrize(("name", "arrives"), NAMES.items(), ids=ascii)
async def test_a_name_arrives_as_people_write_it_and_ends_nothing(
    chat: Chat, sandbox: Sandbox, name: str, arrives: str
) -> None:
    await chat.upload(UploadFile(b"x", name), UploadFile(b"y", "next"))

    message = the_message(sandbox, chat)
    assert [file.name for file in message.attachments] == [arrives, "next"]
    assert contents(sandbox, message) == [b"x", b"y"]
    assert message.body == ""


@pytest.mark.parametrize("size", [1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1])
@pytest.mark.parametrize("from_path", [False, True])
async def test_a_file_of_any_size_arrives_whole(
    *, chat: Chat, sandbox: Sandbox, tmp_path: Path, size: int, from_path: bool
) -> None:
    content = (LARGE * 2)[:size]
    path = tmp_path / "a.bin"
    path.write_bytes(content)

    await chat.upload(path if from_path else UploadFile(content, "a.bin"))

    assert contents(sandbox, the_message(sandbox, chat)) == [content]


async def test_all_bad_files_are_named_at_once_and_nothing_is_sent(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    good, empty = tmp_path / "good.txt", tmp_path / "empty.txt"
    good.write_bytes(b"x")
    empty.touch()
    wrong: Any = 7

    with pytest.raises(InvalidFileError) as caught:
        await chat.upload(
            good, tmp_path / "missing.txt", empty, tmp_path, UploadFile(b"", "leeg.pdf"), wrong, "bad\0name"
        )

    assert [(Path(name).name, reason) for name, reason in caught.value.problems] == [
        ("missing.txt", "No such file or directory"),
        ("empty.txt", "it is empty"),
        (tmp_path.name, "it is a folder"),
        ("leeg.pdf", "it is empty"),
        (
            "file 6",
            "it must be a path or an open binary file, or bytes or an async iterable in an UploadFile",
        ),
        ("bad\0name", "no file has a null character in its name"),
    ]
    for name, _ in caught.value.problems:
        assert name in str(caught.value)
    assert not sandbox.calls


@pytest.mark.parametrize(
    "file", [b"bytes alone", UploadFile(b"x"), UploadFile(b"x", "a\ud800"), UploadFile(b"x", "..")]
)
async def test_bytes_without_a_usable_name_are_refused(chat: Chat, sandbox: Sandbox, file: Any) -> None:
    with pytest.raises(InvalidFileError):
        await chat.upload(file)

    assert not sandbox.calls


async def test_a_list_where_files_are_meant_is_refused(chat: Chat, sandbox: Sandbox) -> None:
    files: Any = [UploadFile(b"x", "a")]

    with pytest.raises(InvalidInputError):
        await chat.upload(files)
    with pytest.raises(EmptyMessageError):
        await chat.upload()
    assert not sandbox.calls


async def test_twelve_uploads_at_once_do_not_mix(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    chats = [client.conversations(sandbox.add_conversation()) for _ in range(12)]
    paths = [tmp_path / f"{number}.bin" for number in range(12)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (300_000 + number))

    await asyncio.gather(*(chat.upload(path) for chat, path in zip(chats, paths, strict=True)))

    for number, chat in enumerate(chats):
        message = the_message(sandbox, chat)
        assert [file.name for file in message.attachments] == [f"{number}.bin"]
        assert contents(sandbox, message) == [paths[number].read_bytes()]


@pytest.mark.parametrize("from_path", [False, True])
async def test_an_upload_after_a_429_sends_the_whole_content_again(
    *, chat: Chat, sandbox: Sandbox, tmp_path: Path, from_path: bool
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(LARGE)
    for _ in range(2):
        sandbox.faults.add(kind=AnswerStatus(429, headers={"Retry-After": "0"}), method="POST")

    await chat.upload(path if from_path else UploadFile(LARGE, "a.bin"), body="Bijlage")

    assert [call.status for call in sandbox.calls] == [429, 429, 201]
    message = the_message(sandbox, chat)
    assert message.body == "Bijlage"
    assert contents(sandbox, message) == [LARGE]


@frozen
class Changes:
    """Changes a file, and then refuses the call as one too many."""

    path: Path
    how: str

    async def answer(self, _: web.BaseRequest, execute: Execute) -> web.Response:  # noqa: ARG002 - Fault
        if self.how == "gone":
            self.path.unlink()
        elif self.how == "same size and time":
            before = self.path.stat()
            self.path.write_bytes(LARGE[::-1])
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        else:
            self.path.write_bytes(LARGE[:-1] if self.how == "shorter" else LARGE + b"x")
        return web.Response(status=429, headers={"Retry-After": "0"})


@pytest.mark.parametrize("how", ["shorter", "longer", "gone", "same size and time"])
async def test_a_file_that_changes_between_look_and_sending_is_not_delivered(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(LARGE)
    sandbox.faults.add(kind=Changes(path, how), method="POST")

    with pytest.raises(UploadFileError) as caught:
        await chat.upload(path)

    assert str(path) not in str(caught.value)
    assert sandbox.messages(chat.address) == ()


async def test_a_cancelled_upload_delivers_nothing_and_leaks_nothing(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    upload = asyncio.create_task(chat.upload(path))
    while not sandbox.calls:  # noqa: ASYNC110 - the sandbox has no event for it
        await asyncio.sleep(0.001)

    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    await chat.send("Daarna")
    assert [message.body for message in sandbox.messages(chat.address)] == ["Daarna"]
