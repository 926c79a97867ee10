"""Files of any size, by parts, from another host; and transfers that go wrong."""

import asyncio
import gc
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Mapping

import pytest
from aiohttp import ClientPayloadError, ClientSession, FormData, payload
from attrs import frozen
from yarl import URL

from healthmsg.sandbox import CutBody, RedirectLoop, RedirectTo, Sandbox, SlowBody, StallBody
from healthmsg.sandbox.remote import RemoteSandbox
from tests.caller import Answer, Caller

CONTENT = bytes(range(256)) * 40
MEGABYTE = 1024 * 1024


@frozen
class Linked:
    """A file behind a link, which has been asked for."""

    call: Caller
    id: str
    url: str
    cookie: str

    async def __call__(self, method: str = "GET", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call(method, self.url, headers={"Cookie": self.cookie, **named})


async def linked(call: Caller, content: bytes | int = CONTENT, name: str = "scan.png") -> Linked:
    chat = call.sandbox.add_conversation()
    file_id = call.sandbox.add_attachment(f"conversations/{chat}", name, content)
    link = await call("GET", f"conversations/{chat}/attachments/{file_id}")
    cookie = "; ".join(f"{name}={value}" for name, value in link.cookies.items())
    return Linked(call, file_id, link.document["link"], cookie)


async def refused(file: Linked, **headers: str) -> Mapping[str, str]:
    answer = await file(**headers)
    assert answer.status == 416
    return answer.headers


# --- whole and by parts


async def test_an_attachment_comes_from_the_other_side_and_under_any_name(sandbox: Sandbox) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"
    names = ["../../etc/passwd", "CON", "\u202egpj.exe", "a\r\nb", ".", ""]
    ids = [sandbox.add_attachment(chat, name, b"x", announced_size=7) for name in names]
    messages = sandbox.messages(chat)
    assert [message.attachments[0].name for message in messages] == names
    assert [message.attachments[0].id for message in messages] == ids
    assert {message.attachments[0].size for message in messages} == {7}
    assert sandbox.user_id not in {message.user.id for message in messages if message.user}


async def test_a_file_says_how_it_can_be_asked_for(call: Caller) -> None:
    file = await linked(call)
    for method, body in (("GET", CONTENT), ("HEAD", b"")):
        answer = await file(method)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["ETag"].startswith('"')
        assert answer.headers["Last-Modified"].endswith(" GMT")


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-9", slice(5, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=10000-99999999", slice(10000, None)),
        ("bytes=-99999999", slice(None)),
    ],
)
async def test_a_part_is_given(call: Caller, wanted: str, part: slice) -> None:
    answer = await (await linked(call))(Range=wanted)
    start, end, _ = part.indices(len(CONTENT))
    assert (answer.status, answer.body) == (206, CONTENT[part])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=99999-99999999"])
async def test_a_part_beyond_the_end_is_refused_and_the_connection_goes_on(call: Caller, wanted: str) -> None:
    file = await linked(call)
    assert (await refused(file, Range=wanted))["Content-Range"] == f"bytes */{len(CONTENT)}"
    assert (await file()).body == CONTENT


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=", "lines=1-2", "bytes=b-a", "5", "bytes=9-5"])
async def test_what_cannot_be_understood_gets_the_whole(call: Caller, wanted: str) -> None:
    answer = await (await linked(call))(Range=wanted)
    assert (answer.status, answer.body) == (200, CONTENT)


async def test_a_part_is_given_only_while_the_file_is_the_same(call: Caller, sandbox: Sandbox) -> None:
    file = await linked(call)
    headers = (await file("HEAD")).headers
    for same in (headers["ETag"], headers["Last-Modified"]):
        assert (await file(Range="bytes=5-", If_Range=same)).status == 206
    assert (await file(Range="bytes=5-", If_Range='"another"')).status == 200

    sandbox.replace_file(file.id, b"something else")
    answer = await file(Range="bytes=5-", If_Range=headers["ETag"])
    assert (answer.status, answer.body) == (200, b"something else")


async def test_parts_can_be_switched_off(session: ClientSession) -> None:
    async with Sandbox(ranges=False) as sandbox:
        answer = await (await linked(Caller(sandbox, session)))(Range="bytes=5-9")
    assert (answer.status, answer.body) == (200, CONTENT)
    assert not {"Accept-Ranges", "ETag", "Last-Modified"} & set(answer.headers)


# --- large ones


async def test_a_large_file_is_made_up_while_it_is_read(call: Caller, sandbox: Sandbox) -> None:
    size = 48 * MEGABYTE
    file = await linked(call, size)
    digest = hashlib.sha256()
    tracemalloc.start()
    try:
        async with call.session.get(file.url, headers={"Cookie": file.cookie}) as answer:
            assert answer.content_length == size
            async for chunk in answer.content.iter_chunked(MEGABYTE):
                digest.update(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert digest.hexdigest() == await sandbox.file_digest(file.id)
    assert peak < 12 * MEGABYTE
    part = await file(Range=f"bytes={size - 300}-")
    assert part.body == bytes((size - 300 + number) % 251 for number in range(300))


async def test_a_large_upload_lies_on_the_disk(call: Caller, sandbox: Sandbox) -> None:
    pieces = [bytes([number]) * MEGABYTE for number in range(48)]

    async def content() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    form = FormData(default_to_multipart=True)
    form.add_field("files", payload.AsyncIterablePayload(content()), filename="a.bin")
    chat = sandbox.add_conversation()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert (await call("POST", f"conversations/{chat}/attachments", data=form)).status == 201
        gc.collect()  # connections are in circles, with their buffers
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 12 * MEGABYTE
    [message] = sandbox.messages(f"conversations/{chat}")
    assert message.attachments[0].size == 48 * MEGABYTE
    expected = hashlib.sha256(b"".join(pieces)).hexdigest()
    assert await sandbox.file_digest(message.attachments[0].id) == expected
    assert sandbox.file_content(message.attachments[0].id)[-MEGABYTE:] == pieces[-1]


# --- another host


async def test_files_can_have_a_host_of_their_own(session: ClientSession) -> None:
    async with Sandbox(foreign_downloads=True) as sandbox:
        call = Caller(sandbox, session)
        file = await linked(call)
        assert URL(file.url).origin() != URL(sandbox.url).origin()
        assert (await file()).body == CONTENT
        assert [record.host for record in sandbox.calls] == [
            URL(sandbox.url).authority,
            URL(file.url).authority,
        ]

        path = URL(file.url).path
        assert (await call("GET", path, headers={"Cookie": file.cookie})).status == 404
        elsewhere = str(URL(file.url).with_path("/v1/me"))
        assert (await call("GET", elsewhere, headers={"Authorization": f"Bearer {call.token}"})).status == 404


async def test_another_process_can_add_files(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    remote = RemoteSandbox(sandbox.url, sandbox.client_id, sandbox.client_secret)
    file_id = await remote.add_attachment(chat, "scan.png", 1000)
    assert len(sandbox.file_content(file_id)) == 1000


# --- what goes wrong


@pytest.mark.parametrize("after", [0, 1, 5000, len(CONTENT) - 1])
async def test_a_file_is_cut_where_it_is_said(call: Caller, sandbox: Sandbox, after: int) -> None:
    file = await linked(call)
    sandbox.faults.add(kind=CutBody(after), template="files/{key}")
    received = bytearray()

    async def receive() -> None:
        async with call.session.get(file.url, headers={"Cookie": file.cookie}) as answer:
            async for chunk, _ in answer.content.iter_chunks():
                received.extend(chunk)

    with pytest.raises(ClientPayloadError):
        await receive()
    assert received == CONTENT[: len(received)]
    assert len(received) <= after
    assert (await file()).body == CONTENT


async def test_a_transfer_can_stand_still(call: Caller, sandbox: Sandbox) -> None:
    file = await linked(call)
    sandbox.faults.add(kind=StallBody(5000), template="files/{key}")
    async with call.session.get(file.url, headers={"Cookie": file.cookie}) as answer:
        assert await answer.content.readexactly(5000) == CONTENT[:5000]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.readany(), 0.05)
        answer.close()


@pytest.mark.looptime
async def test_a_transfer_can_be_slow(call: Caller, sandbox: Sandbox) -> None:
    file = await linked(call)
    sandbox.faults.add(kind=SlowBody(1024), template="files/{key}")
    started = asyncio.get_running_loop().time()
    assert (await file()).body == CONTENT
    assert 9.9 < asyncio.get_running_loop().time() - started < 11


@pytest.mark.parametrize("link", ["file:///etc/passwd", "http://evil.example/a b", "/files/x", ""])
async def test_a_link_can_lead_anywhere(call: Caller, sandbox: Sandbox, link: str) -> None:
    sandbox.faults.add(kind=RedirectTo(link), template="conversations/{id}/attachments/{attachment_id}")
    answer = await call("GET", "conversations/c1/attachments/a1")
    assert (answer.status, answer.document, answer.headers["Location"]) == (302, {"link": link}, link)
    assert answer.cookies == {"download": "made-up"}


async def test_redirects_can_be_without_end(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=RedirectLoop(), method="GET", path_contains="/attachments/")
    link = (await linked(call)).url
    for turn in range(1, 10):
        assert link == f"{sandbox.url}/files/loop/{turn}"
        answer = await call("GET", link)
        assert answer.status == 302
        link = answer.headers["Location"]
