"""Uploads and downloads."""

import asyncio
from io import BytesIO
from typing import Any

import pytest
from aiohttp import FormData

from healthmsg.sandbox import Sandbox
from tests.caller import Caller, first_call


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
