"""Downloads that go wrong: nothing of them is left."""

import asyncio
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from healthmsg import (
    Attachment,
    CallTimeoutError,
    Client,
    ForbiddenError,
    HealthmsgError,
    NotFoundError,
    Timeout,
)
from healthmsg.downloads.links import _acceptable, _cookie_header
from healthmsg.errors import ConnectionLostError, DownloadError, InternalServerError
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, CutBody, Sandbox
from tests.foreign_host import CONTENT, GIVEN, ForeignHost, links, paths_below, upload


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1, 0])
async def test_another_size_than_announced_is_an_error(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path, size: int
) -> None:
    links(sandbox, foreign.answer("/x", CONTENT))

    with pytest.raises(DownloadError, match="size"):
        await chat.download(Attachment("a1", "x.pdf", size), to=tmp_path)

    assert paths_below(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (AnswerStatus(403, b"s3cret"), ForbiddenError),
        (AnswerStatus(404), NotFoundError),
        (AnswerStatus(500), InternalServerError),
        (AnswerStatus(204), DownloadError),
        (AnswerStatus(302), DownloadError),
        (CutBody(), ConnectionLostError),
        (CutBefore(), ConnectionLostError),
        (CutAfter(), ConnectionLostError),
    ],
)
@pytest.mark.parametrize("strikes", ["/files/", "/attachments/"])
async def test_what_fails_on_the_way_leaves_nothing(
    *, chat: Chat, sandbox: Sandbox, tmp_path: Path, fault: Any, error: type[HealthmsgError], strikes: str
) -> None:
    attachment = await upload(chat)
    sandbox.faults.add(kind=fault, path_contains=strikes, method="GET")

    with pytest.raises(error) as caught:
        await chat.download(attachment, to=tmp_path)

    assert "s3cret" not in str(caught.value)
    assert re.match(
        r"GET conversations/{id}/attachments/{attachment_id}( \(the file\))?: ", str(caught.value)
    )
    assert paths_below(tmp_path) == []


async def test_a_full_disk_is_said_and_leaves_nothing(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    attachment = await upload(chat)
    monkeypatch.setattr(Path, "replace", refuse)

    with pytest.raises(OSError, match="No space"):
        await chat.download(attachment, to=tmp_path, overwrite=True)

    assert paths_below(tmp_path) == []


async def stuck(request: web.BaseRequest) -> web.StreamResponse:
    """Return half of the file, and then nothing."""
    answer = web.StreamResponse()
    answer.content_length = len(CONTENT)
    await answer.prepare(request)
    await answer.write(CONTENT[: len(CONTENT) // 2])
    await asyncio.Event().wait()
    return answer


def _arrived(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


async def test_a_cancelled_download_leaves_nothing(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    links(sandbox, foreign.handle("/x", stuck))
    download = asyncio.create_task(chat.download(GIVEN, to=tmp_path))
    while not _arrived(tmp_path):  # noqa: ASYNC110 - the disk has no event for it
        await asyncio.sleep(0.001)

    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download

    assert paths_below(tmp_path) == []


@pytest.mark.parametrize("slow", ["open", "link"])
async def test_a_download_that_is_cancelled_while_the_disk_is_slow_leaves_nothing(
    *,
    chat: Chat,
    sandbox: Sandbox,
    foreign: ForeignHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slow: str,
) -> None:
    links(sandbox, foreign.answer("/x", CONTENT))
    reached, go_on = threading.Event(), threading.Event()
    original = getattr(os, slow)

    def slowly(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith(".part"):
            reached.set()
            go_on.wait(5)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, slow, slowly)
    download = asyncio.create_task(chat.download(GIVEN, to=tmp_path))
    await asyncio.to_thread(reached.wait, 5)

    download.cancel()
    await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await download

    assert paths_below(tmp_path) == (["uitslag.pdf"] if slow == "link" else [])


async def test_a_file_that_ends_with_the_connection_is_taken_only_when_its_size_is_known(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    async def raw(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CONTENT)
        request.transport.close()
        raise ConnectionResetError

    links(sandbox, foreign.handle("/x", raw), times=None)
    with pytest.raises(DownloadError, match="where the file ends"):
        await chat.download(GIVEN.id, to=tmp_path)
    assert paths_below(tmp_path) == []
    assert (await chat.download(GIVEN, to=tmp_path)).read_bytes() == CONTENT


async def test_an_encoding_that_cannot_be_undone_is_refused(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    links(sandbox, foreign.answer("/x", CONTENT, headers={"Content-Encoding": "x-unknown"}))
    with pytest.raises(DownloadError, match="encoding"):
        await chat.download(GIVEN, to=tmp_path)
    assert paths_below(tmp_path) == []


@pytest.mark.usefixtures("nothing_is_left_behind")
async def test_what_comes_instead_of_a_file_is_not_read_for_ever(
    client: Client, chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    async def trickle(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(status=404)
        await answer.prepare(request)
        while True:
            await answer.write(b"x")
            await asyncio.sleep(0.01)

    async def flood(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(status=404)
        await answer.prepare(request)
        while True:
            await answer.write(bytes(64 * 1024))

    slow = client.with_options(timeout=Timeout(total=0.2)).conversations(chat.id)
    for handler, error in ((trickle, CallTimeoutError), (flood, NotFoundError)):
        links(sandbox, foreign.handle("/x", handler))
        async with asyncio.timeout(5):
            with pytest.raises(error):
                await slow.download(GIVEN, to=tmp_path)
    assert paths_below(tmp_path) == []


def test_a_secure_link_does_not_lead_to_one_that_is_not() -> None:
    secure, local = "https://api.example/v1/x", "http://127.0.0.1:8000/x"
    assert _acceptable("GET x", "/y", base=secure) == "https://api.example/y"
    assert _acceptable("GET x", "/y", base=local) == "http://127.0.0.1:8000/y"
    assert _acceptable("GET x", secure, base=local) == secure
    with pytest.raises(DownloadError):
        _acceptable("GET x", local, base=secure)


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("https://api.example/a b/é?x=ü y#z", "https://api.example/a%20b/%C3%A9?x=%C3%BC%20y"),
        ("https://api.example/a%20b%2Fc?x=%C3%BC", "https://api.example/a%20b%2Fc?x=%C3%BC"),
        ("https://api.example/?sig=a+b/c==&x=1,2;3", "https://api.example/?sig=a+b/c==&x=1,2;3"),
        ("//files.example/x", "https://files.example/x"),
    ],
)
def test_a_link_is_made_such_that_it_can_be_sent(link: str, url: str) -> None:
    assert _acceptable("GET x", link, base="https://api.example/v1/y") == url


@pytest.mark.parametrize(
    "link",
    [
        "https://api.example@evil.example/",
        "https://api.example\\@evil.example/",
        "https://evil.example\\.api.example/",
        "https://[::1/",
        "https://\u00e9vil.example/",
        "file:///etc/passwd",
        "ftp://api.example/x",
        "javascript:alert(1)",
    ],
)
def test_a_link_by_which_readers_could_mean_different_hosts_is_refused(link: str) -> None:
    with pytest.raises(DownloadError):
        _acceptable("GET x", link, base="https://api.example/v1/y")


def test_a_cookie_goes_on_as_it_came() -> None:
    given = (
        'download=a:b"c{d}; Path=/; HttpOnly',
        "k=v==",
        "no pair",
        "bad=\x00",
        "u=\u00e9",
        "download=last",
    )
    assert _cookie_header(given) == "download=last; k=v=="
    assert _cookie_header(()) is None
