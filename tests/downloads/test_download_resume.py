"""Downloads that break off and go on."""

import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from healthmsg import Attachment, CallRecord, Client, NotFoundError, RateLimit, Retries
from healthmsg.errors import ConnectionLostError, DownloadError
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, CutBody, Delay, Sandbox, SandboxFile, StallBody
from tests.foreign_host import ForeignHost, links, paths_below

pytestmark = [
    pytest.mark.looptime(idle_step=0.1, idle_timeout=3),
    pytest.mark.usefixtures("ticking_clock", "nothing_is_left_behind"),
]
# More than what is read ahead, so that a cut does not lose what came before it.
SIZE = 12_000_000
CONTENT = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]


@pytest.fixture
def tries() -> list[CallRecord]:
    return []


@pytest.fixture
async def client(sandbox: Sandbox, tries: list[CallRecord]) -> AsyncIterator[Client]:
    async with Client(
        sandbox.issue_token(),
        environment=sandbox.environment,
        rate_limit=RateLimit(calls=1000),
        on_call=tries.append,
    ) as client:
        yield client


@pytest.fixture
def attachment(chat: Chat, sandbox: Sandbox) -> Attachment:
    return attachment_of(chat, sandbox)


def attachment_of(chat: Chat, sandbox: Sandbox, content: bytes | int = SIZE) -> Attachment:
    sent = sandbox.say(None, f"conversations/{chat.id}", files=[SandboxFile("scan.png", content)])
    size = content if isinstance(content, int) else len(content)
    return Attachment(sent.attachments[0].id, "scan.png", size)


def cut(sandbox: Sandbox, *after: int) -> None:
    """Cut the transfers to come, each after so many bytes."""
    for size in after:
        sandbox.faults.add(kind=CutBody(size), template="files/{key}")


def files(sandbox: Sandbox) -> list[int | None]:
    """Return what the fetches of the file were answered."""
    return [record.status for record in sandbox.calls if record.template == "files/{key}"]


async def streamed(chat: Chat, attachment: Attachment | str) -> bytes:
    return b"".join([chunk async for chunk in chat.download_stream(attachment)])


async def downloaded(chat: Chat, attachment: Attachment | str, folder: Path) -> bytes:
    path = await chat.download(attachment, to=folder)
    assert paths_below(folder) == [path.name]
    return path.read_bytes()


async def whole(chat: Chat, attachment: Attachment | str, _: Path) -> bytes:
    return await chat.download_bytes(attachment, max_bytes=2 * SIZE)


async def stream(chat: Chat, attachment: Attachment | str, _: Path) -> bytes:
    return await streamed(chat, attachment)


every_way = pytest.mark.parametrize("fetch", [downloaded, stream, whole])
Fetch = Callable[[Chat, Attachment | str, Path], Any]


# --- where the service gives parts


@every_way
@pytest.mark.parametrize("cuts", [[5_000_000], [4_000_000, 3_000_000, 1, 0, 2_000_000]])
async def test_it_goes_on_from_where_it_broke_off(
    *,
    chat: Chat,
    sandbox: Sandbox,
    attachment: Attachment,
    tmp_path: Path,
    fetch: Fetch,
    cuts: tuple[int, ...],
) -> None:
    cut(sandbox, *cuts)
    assert await fetch(chat, attachment, tmp_path) == CONTENT
    assert files(sandbox) == [200] + [206] * len(cuts)


async def test_a_transfer_that_stands_still_is_gone_on_with(
    chat: Chat, sandbox: Sandbox, attachment: Attachment, tmp_path: Path
) -> None:
    sandbox.faults.add(kind=StallBody(5_000_000), template="files/{key}")
    assert await downloaded(chat, attachment, tmp_path) == CONTENT
    assert files(sandbox) == [200, 206]


async def test_each_time_the_service_is_asked_for_a_link(
    chat: Chat, sandbox: Sandbox, attachment: Attachment, tmp_path: Path
) -> None:
    cut(sandbox, 5_000_000)
    await chat.download(attachment, to=tmp_path)
    paths = [record.path for record in sandbox.calls if record.template == "files/{key}"]
    assert len(set(paths)) == 2


async def test_it_gives_up_when_nothing_comes_any_more(
    chat: Chat, sandbox: Sandbox, attachment: Attachment, tmp_path: Path
) -> None:
    cut(sandbox, 5_000_000)
    sandbox.faults.add(kind=CutBody(0), template="files/{key}", times=None)
    with pytest.raises(ConnectionLostError) as caught:
        await chat.download(attachment, to=tmp_path)
    assert caught.value.attempts == Retries().attempts
    assert paths_below(tmp_path) == []
    assert len(files(sandbox)) == Retries().attempts


@every_way
async def test_without_retries_it_ends_there(
    *, client: Client, chat: Chat, sandbox: Sandbox, attachment: Attachment, tmp_path: Path, fetch: Fetch
) -> None:
    cut(sandbox, 5_000_000)
    once = client.with_options(retries=Retries.none()).conversations(chat.id)
    with pytest.raises(ConnectionLostError):
        await fetch(once, attachment, tmp_path)
    assert files(sandbox) == [200]
    assert paths_below(tmp_path) == []


async def test_what_fails_on_going_on_leaves_nothing(
    chat: Chat, sandbox: Sandbox, attachment: Attachment, tmp_path: Path
) -> None:
    cut(sandbox, 5_000_000)
    sandbox.faults.add(kind=Delay(0), path_contains="/attachments/")
    sandbox.faults.add(kind=AnswerStatus(404), path_contains="/attachments/")
    with pytest.raises(NotFoundError):
        await chat.download(attachment, to=tmp_path)
    assert paths_below(tmp_path) == []


async def test_progress_goes_on_from_where_it_broke_off(
    chat: Chat, sandbox: Sandbox, attachment: Attachment, tmp_path: Path
) -> None:
    reported: list[tuple[int, int | None]] = []
    cut(sandbox, 5_000_000)
    await chat.download(attachment, to=tmp_path, progress=lambda *standing: reported.append(standing))
    assert reported[0] == (0, SIZE)
    assert reported[-1] == (SIZE, SIZE)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


# --- where the file has become another one


@pytest.mark.parametrize("fetch", [downloaded, whole])
async def test_a_file_that_has_changed_is_fetched_from_the_start(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, fetch: Fetch
) -> None:
    attachment = attachment_of(chat, sandbox)
    changed = CONTENT[::-1]
    sandbox.faults.add(kind=ChangeAndCut(sandbox, attachment.id, changed), template="files/{key}")
    assert await fetch(chat, attachment, tmp_path) == changed
    assert files(sandbox) == [200, 200]


class ChangeAndCut:
    """Cuts a transfer, and changes the file meanwhile."""

    def __init__(self, sandbox: Sandbox, attachment_id: str, content: bytes) -> None:
        self._change = partial(sandbox.replace_file, attachment_id, content)

    async def answer(self, request: web.BaseRequest, execute: Any) -> web.Response | None:
        answer = await CutBody(5_000_000).answer(request, execute)
        self._change()
        return answer


async def test_a_stream_of_a_file_that_has_changed_ends_with_an_error(chat: Chat, sandbox: Sandbox) -> None:
    attachment = attachment_of(chat, sandbox)
    fault = ChangeAndCut(sandbox, attachment.id, CONTENT[::-1])
    sandbox.faults.add(kind=fault, template="files/{key}")
    received = bytearray()

    async def receive() -> None:
        async for chunk in chat.download_stream(attachment):
            received.extend(chunk)

    with pytest.raises(DownloadError, match="was changed meanwhile"):
        await receive()
    assert 0 < len(received) <= 5_000_000
    assert CONTENT.startswith(bytes(received))


# --- where the service gives no parts, or the wrong ones


@pytest.mark.parametrize("fetch", [downloaded, whole])
async def test_without_parts_it_starts_over(tmp_path: Path, fetch: Fetch) -> None:
    async with Sandbox(ranges=False) as sandbox:
        attachment, chat, client = await _in(sandbox)
        async with client:
            cut(sandbox, 5_000_000, 7_000_000)
            assert await fetch(chat, attachment, tmp_path) == CONTENT
            assert files(sandbox) == [200, 200, 200]


@pytest.mark.parametrize("fetch", [downloaded, whole])
@pytest.mark.parametrize("tag", [None, '"v{}"'])
async def test_what_breaks_at_the_same_place_each_time_is_given_up(
    *, client: Client, chat: Chat, sandbox: Sandbox, tmp_path: Path, fetch: Fetch, tag: str | None
) -> None:
    fetches = 0

    async def half(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal fetches
        fetches += 1
        assert fetches < 20
        headers = {} if tag is None else {"Accept-Ranges": "bytes", "ETag": tag.format(fetches)}
        answer = web.StreamResponse(headers=headers)
        answer.content_length = SIZE
        await answer.prepare(request)
        await answer.write(CONTENT[:6_000_000])
        assert request.transport is not None
        request.transport.close()
        return answer

    twice = client.with_options(retries=Retries(attempts=2)).conversations(chat.id)
    async with ForeignHost() as foreign:
        links(sandbox, foreign.handle("/x", half), times=None)
        with pytest.raises(ConnectionLostError) as caught:
            await fetch(twice, Attachment("a1", "x.png", SIZE), tmp_path)
    assert caught.value.attempts == 2
    # The end of what was written before a cut may be lost: one of them may be a little longer than another.
    assert 2 <= fetches < 8
    assert paths_below(tmp_path) == []


async def test_without_parts_a_stream_breaks_off(tmp_path: Path) -> None:
    async with Sandbox(ranges=False) as sandbox:
        attachment, chat, client = await _in(sandbox)
        async with client:
            cut(sandbox, 5_000_000)
            with pytest.raises(ConnectionLostError):
                await streamed(chat, attachment)
            assert files(sandbox) == [200]


async def _in(sandbox: Sandbox) -> tuple[Attachment, Chat, Client]:
    limit = RateLimit(calls=1000)
    client = Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limit)
    chat = client.conversations(sandbox.add_conversation())
    return attachment_of(chat, sandbox), chat, client


ETAG = {"ETag": '"v1"', "Accept-Ranges": "bytes"}


class Parts:
    """Gives half of a file, and then what it was ordered to."""

    def __init__(
        self, status: int = 206, part: str = "", headers: dict[str, str] = ETAG, then: bytes = CONTENT
    ) -> None:
        self.status = status
        self.part = part
        self.headers = headers
        self.then = then
        self.asked: list[str | None] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if len(self.asked) == 1:
            half = web.StreamResponse(headers=self.headers)
            half.content_length = SIZE
            await half.prepare(request)
            await half.write(CONTENT[:6_000_000])
            assert request.transport is not None
            request.transport.close()
            return half
        if wanted is None:
            return web.Response(body=CONTENT, headers=self.headers)
        start = int(re.sub(r"\D", "", wanted))
        part = self.part.format(start=start, last=SIZE - 1)
        return web.Response(
            status=self.status,
            body=self.then[start:] if self.status == 206 else self.then,
            headers={**self.headers, "Content-Range": part} if part else self.headers,
        )


WRONG = [
    Parts(part="bytes 0-{last}/12000000"),
    Parts(part="bytes {start}-{last}/12000001"),
    Parts(part="bytes {start}-{last}/*"),
    Parts(part="lines {start}-{last}/12000000"),
    Parts(),
    Parts(status=416),
]


def again(parts: Parts) -> Parts:
    return Parts(parts.status, parts.part, parts.headers, parts.then)


@pytest.mark.parametrize("parts", WRONG)
async def test_a_wrong_part_is_not_believed(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, parts: Parts
) -> None:
    parts = again(parts)
    async with ForeignHost() as foreign:
        links(sandbox, foreign.handle("/x", parts), times=None)
        path = await chat.download(Attachment("a1", "x.png", SIZE), to=tmp_path)
        assert path.read_bytes() == CONTENT
        assert [wanted is None for wanted in parts.asked] == [True, False, True]


@pytest.mark.parametrize("parts", WRONG)
async def test_a_stream_ends_with_an_error_at_a_wrong_part(
    chat: Chat, sandbox: Sandbox, parts: Parts
) -> None:
    parts = again(parts)
    async with ForeignHost() as foreign:
        links(sandbox, foreign.handle("/x", parts), times=None)
        with pytest.raises(DownloadError):
            await streamed(chat, Attachment("a1", "x.png", SIZE))


@every_way
async def test_who_gives_the_same_whole_instead_of_the_part_is_read_on(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, fetch: Fetch
) -> None:
    parts = Parts(status=200)
    async with ForeignHost() as foreign:
        links(sandbox, foreign.handle("/x", parts), times=None)
        assert await fetch(chat, Attachment("a1", "x.png", SIZE), tmp_path) == CONTENT


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept-Ranges": "bytes"},
        {"Accept-Ranges": "bytes", "ETag": 'W/"v1"'},
        {"Accept-Ranges": "none", "ETag": '"v1"'},
        {"ETag": '"v1"'},
    ],
)
async def test_no_part_is_asked_for_that_could_be_of_another_file(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, headers: dict[str, str]
) -> None:
    parts = Parts(headers=headers)
    async with ForeignHost() as foreign:
        links(sandbox, foreign.handle("/x", parts), times=None)
        path = await chat.download(Attachment("a1", "x.png", SIZE), to=tmp_path)
        assert path.read_bytes() == CONTENT
        assert parts.asked == [None, None]


async def test_a_part_that_was_not_asked_for_is_refused(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    async with ForeignHost() as foreign:
        links(sandbox, foreign.answer("/x", CONTENT[:100], status=206))
        with pytest.raises(DownloadError, match="not asked for"):
            await chat.download(Attachment("a1", "x.png"), to=tmp_path)
    assert paths_below(tmp_path) == []


async def test_files_are_asked_for_as_they_are(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    async with ForeignHost() as foreign:
        links(sandbox, foreign.answer("/x", b"abc"))
        await chat.download(Attachment("a1", "x.png", 3), to=tmp_path)
        assert foreign.seen[0].headers["Accept-Encoding"] == "identity"


async def test_more_than_was_announced_is_not_received(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(bytes(64 * 1024))

    async with ForeignHost() as foreign:
        links(sandbox, foreign.handle("/x", endless))
        with pytest.raises(DownloadError, match="size"):
            await chat.download(Attachment("a1", "x.png", 1_000_000), to=tmp_path)
    assert paths_below(tmp_path) == []
