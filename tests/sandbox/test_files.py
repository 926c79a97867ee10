"""Files: uploaded, downloaded whole and by parts, and chats as a PDF."""

import asyncio
import gc
import hashlib
import re
import shutil
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, FormData, payload
from yarl import URL

from healthmsg.sandbox import Sandbox, SandboxFile
from healthmsg.sandbox.content import Stored
from tests.caller import Answer, Caller, first_call
from tests.sandbox.helpers import CONTENT, Linked, linked


def form(*files: tuple[str, bytes, str], message: str | None = "Bijlagen") -> FormData:
    built = FormData(default_to_multipart=True, quote_fields=False)
    if message is not None:
        built.add_field("message", message)
    for name, content, mime_type in files:
        built.add_field("files", BytesIO(content), filename=name, content_type=mime_type)
    return built


async def test_files_come_back_as_they_were_sent(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    large = bytes(range(256)) * 12_000
    sent = await call(
        "POST",
        f"conversations/{chat}/attachments",
        data=form(("uitslag é.pdf", b"%PDF", "application/pdf"), ("scan.png", large, "image/png")),
    )
    assert sent.status == 201
    (message,) = sandbox.messages(f"conversations/{chat}")
    assert (message.id, message.body) == (sent.document["id"], "Bijlagen")
    described = [(file.name, file.size, file.mime_type) for file in message.attachments]
    assert described == [("uitslag é.pdf", 4, "application/pdf"), ("scan.png", len(large), "image/png")]
    assert sandbox.file_content(message.attachments[1].id) == large


async def test_a_message_text_is_not_needed(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    path = f"conversations/{chat}/attachments"
    assert (await call("POST", path, data=form(("a", b"x", "text/plain"), message=None))).status == 201


@pytest.mark.parametrize(
    "sent",
    [
        {"data": form()},
        {"data": form(("empty.pdf", b"", "application/pdf"))},
        {"data": form(("a", b"x", "text/plain"), message="x" * 70_000)},
        {"data": {"message": "no files"}},
        {"json": {"message": "no files"}},
        {"data": b"broken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"data": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
async def test_a_form_that_cannot_be_is_refused(call: Caller, sandbox: Sandbox, sent: dict[str, Any]) -> None:
    chat = sandbox.add_conversation()
    answer = await call("POST", f"conversations/{chat}/attachments", **sent)
    assert (answer.status, answer.document["error"]) == (400, "bad_request")
    assert sandbox.messages(f"conversations/{chat}") == ()


async def test_an_upload_that_breaks_off_leaves_nothing(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    host, port = sandbox.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /v1/conversations/{chat}/attachments HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {call.token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 100000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nhalf'.encode()
    )
    await writer.drain()
    await first_call(sandbox)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.01)
    assert sandbox.messages(f"conversations/{chat}") == ()
    assert sandbox.calls[-1].status is None


async def test_a_download_needs_the_cookie_of_its_link_and_no_token(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    await call(
        "POST",
        f"conversations/{chat}/attachments",
        data=form(("uitslag é.pdf", b"%PDF-1.7", "application/pdf")),
    )
    attachment = sandbox.messages(f"conversations/{chat}")[0].attachments[0].id
    path = f"conversations/{chat}/attachments/{attachment}?headers=false"
    link, other_link = await call("GET", path), await call("GET", path)
    assert (link.status, link.headers["Location"]) == (302, link.document["link"])
    url = link.document["link"]
    assert url.startswith(f"{sandbox.url}/files/")
    assert not url.startswith(sandbox.environment.api_url)
    (cookie,) = (f"{name}={value}" for name, value in link.cookies.items())
    (wrong,) = (f"{name}={value}" for name, value in other_link.cookies.items())
    assert (await call("GET", url)).status == 403
    assert (await call("GET", url, headers={"Cookie": wrong})).status == 403
    file = await call("GET", url, headers={"Cookie": f"a=b; {cookie}"})
    assert (file.status, file.body) == (200, b"%PDF-1.7")
    assert file.headers["Content-Type"] == "application/pdf"
    assert file.headers["Content-Length"] == "8"
    assert file.headers["Content-Disposition"] == "attachment; filename*=UTF-8''uitslag%20%C3%A9.pdf"
    assert not sandbox.calls[-1].has_authorization
    assert sandbox.calls[-1].template == "files/{key}"


async def test_the_sample_data_has_a_file_that_can_be_fetched(call: Caller, sandbox: Sandbox) -> None:
    chat, message = next(
        (chat, message) for chat in sandbox.store.chats.values() for message in chat.messages if message.files
    )
    link = await call("GET", f"{chat.address}/attachments/{message.files[0].id}")
    (cookie,) = (f"{name}={value}" for name, value in link.cookies.items())
    file = await call("GET", link.document["link"], headers={"Cookie": cookie})
    assert file.body.startswith(b"\x89PNG")


async def test_an_attachment_of_another_chat_is_not_found(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    assert (await call("GET", f"conversations/{chat}/attachments/none")).status == 404


MEGABYTE = 1024 * 1024


async def refused(file: Linked, **headers: str) -> Mapping[str, str]:
    answer = await file(**headers)
    assert answer.status == 416
    return answer.headers


# --- whole and by parts


async def test_an_attachment_comes_from_the_other_side_and_under_any_name(sandbox: Sandbox) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"
    names = ["../../etc/passwd", "CON", "\u202egpj.exe", "a\r\nb", ".", ""]
    files = [SandboxFile(name, b"x", announced_size=7) for name in names]
    ids = [sandbox.say(None, chat, files=[file]).attachments[0].id for file in files]
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


def test_two_threads_can_read_the_same_file_on_the_disk_at_once() -> None:
    stored, most = Stored(), 64 * 1024
    for number in range(8):
        stored.append(bytes([number]) * MEGABYTE)
    assert stored.is_on_disk
    starts = [MEGABYTE * (step * 3 % 8) for step in range(400)]
    with ThreadPoolExecutor(4) as threads:
        pieces = threads.map(lambda start: stored.read(start, most), starts)
        assert all(
            piece == bytes([start // MEGABYTE]) * most for start, piece in zip(starts, pieces, strict=True)
        )
    stored.close()


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


async def fetch(call: Caller, link: Answer) -> Answer:
    cookie = "; ".join(f"{name}={value}" for name, value in link.cookies.items())
    return await call("GET", link.document["link"], headers={"Cookie": cookie})


def check_table(pdf: bytes) -> None:
    """Every object begins where the table says, and every stream is as long as it says."""
    start = int(re.findall(rb"startxref\n(\d+)\n%%EOF\n$", pdf)[0])
    assert pdf[start:].startswith(b"xref\n0 ")
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n ", pdf[start:]), start=1):
        assert pdf[int(offset) :].startswith(b"%d 0 obj\n" % number)
    for stream in re.finditer(rb"/Length (\d+) >>\nstream\n", pdf):
        assert pdf[stream.end() + int(stream[1]) :].startswith(b"\nendstream\nendobj\n")


async def test_a_pdf_comes_over_a_link_and_holds_the_messages(call: Caller, sandbox: Sandbox) -> None:
    body = "Zoë (bed 7) zegt: \\o/ 🙂\n€ 5\x07 " + "lang " * 60
    chat = sandbox.add_group_chat(
        "Wijkteam \u2013 Noord", messages=[body, *(f"bericht {n}" for n in range(200))]
    )
    link = await call("GET", f"groupchats/{chat}/pdf?headers=false")
    assert (link.status, link.headers["Location"]) == (302, link.document["link"])
    assert (await call("GET", link.document["link"])).status == 403
    file = await fetch(call, link)
    assert (file.status, file.headers["Content-Type"]) == (200, "application/pdf")
    assert "chat.pdf" in file.headers["Content-Disposition"]
    assert file.body.startswith(b"%PDF-1.")
    check_table(file.body)
    assert b"Zo\xeb \\(bed 7\\) zegt: \\\\o/ ?" in file.body
    assert b"(\x80 5? lang" in file.body
    assert b"(Wijkteam \x96 Noord)" in file.body
    assert file.body.index(b"(bericht 0)") < file.body.index(b"(bericht 199)")
    assert file.body.count(b"/Type /Page /Parent") > 5


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed")
async def test_another_program_reads_it(call: Caller, sandbox: Sandbox, tmp_path: Path) -> None:
    chat = sandbox.add_conversation(messages=[f"bericht {n} ({n}) à la Zoë" for n in range(150)])
    file = await fetch(call, await call("GET", f"conversations/{chat}/pdf"))
    path = tmp_path / "chat.pdf"
    path.write_bytes(file.body)
    done = subprocess.run(  # noqa: ASYNC221, S603 - a short one, with our own file
        ["pdftotext", "-layout", str(path), "-"],  # noqa: S607 - whichever is installed
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    assert [line.strip("\f") for line in done.stdout.split("\n") if "bericht" in line] == [
        f"bericht {n} ({n}) à la Zoë" for n in range(150)
    ]


async def test_the_dates_choose_the_messages(session: ClientSession) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with Sandbox(now=lambda: moment) as sandbox:
        call = Caller(sandbox, session)
        chat = f"conversations/{sandbox.add_conversation()}"
        for hour in range(4):
            await call("POST", f"{chat}/messages", json={"body": f"uur {hour}"})
            moment += timedelta(hours=1)
        for query, hours in (
            ("", [0, 1, 2, 3]),
            ("start_date=2026-01-02T04:04:05Z%2B00:00", [1, 2, 3]),
            ("end_date=2026-01-02T05:04:05Z%2B00:00", [0, 1, 2]),
            ("start_date=2026-01-02T04:04:05Z&end_date=2026-01-02T05:04:05", [1, 2]),
            ("start_date=2026-01-02T06:04:05%2B02:00&end_date=2026-01-02T05:04:05-01:00", [1, 2, 3]),
            ("start_date=2026-01-03", []),
            ("start_date=0001-01-01T00:00:00%2B23:59&end_date=9999-12-31T23:59:59-23:59", [0, 1, 2, 3]),
        ):
            file = await fetch(call, await call("GET", f"{chat}/pdf?{query}"))
            assert [hour for hour in range(4) if b"(uur %d)" % hour in file.body] == hours, query
            check_table(file.body)


@pytest.mark.parametrize(
    "query",
    [
        "start_date=",
        "start_date=gisteren",
        "end_date=2026-13-01",
        "start_date=2026-01-02T03:04:05Z+00:00",
        "start_date=2026-01-02T03:04:05%2B99:00",
        "end_date=%00",
        "end_date=%ff",
        "start_date=2026-01-03&end_date=2026-01-02",
    ],
)
async def test_a_date_that_cannot_be_is_refused(call: Caller, sandbox: Sandbox, query: str) -> None:
    chat = sandbox.add_conversation()
    assert (await call("GET", f"conversations/{chat}/pdf?{query}")).status == 400


async def test_who_is_not_in_a_chat_gets_no_pdf_of_it(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    call.token = sandbox.issue_token(sandbox.add_user("Bea", "Bos"))
    assert (await call("GET", f"conversations/{chat}/pdf")).status == 404
