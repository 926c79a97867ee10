"""Whatever is sent: it is the caller's mistake, and nothing that is kept spoils what is read later."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Any

import pytest

from healthmsg.sandbox import Sandbox
from tests.caller import Caller


# The limit would refuse most of what follows.
@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=None, sample_data=False) as sandbox:
        yield sandbox


HOSTILE: list[object] = [
    *(None, True, 0, -1, 1.5, 2**63, 2**64, 10**30, 1e308),
    *("", " ", "x", "\0", "🙂é", "../..", "a/b", "2026", "x" * 5000),
    *([], {}, [None], [[]], [{}], ["x"], ["\0"], {"": ""}),
]
INVITE = {
    "email": "zoe@example.com",
    "phone_number": "+31 6 1234",
    "first_name": "Zoë",
    "last_name": "Mulder",
    "invite_text": "Welkom",
    "send_email": False,
    "aux_id": "bed 7",
}
GROUP = {
    "subject": "MDO",
    "members": ["USER"],
    "invite_users": [INVITE | {"invite_type": "contact", "create_conversation": True}],
    "settings": {"allow_contacts": True, "auto_close_after": 3},
    "send_email": True,
    "aux_id": "mdo",
    "aux_members": True,
}
QUESTION = {
    "multi_answer": True,
    "style": "vertical",
    "users": ["USER"],
    "options": [{"name": "yes", "label": "Ja", "style": "green"}],
}
CALLS: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "conversations", {"user_id": "USER"}, 201),
    ("POST", "company/import", {"send_email": True, "users": [INVITE | {"username": "zoe"}]}, 201),
    ("POST", "users/invite/coworker", INVITE, 201),
    ("POST", "users/invite/contact", INVITE, 201),
    ("POST", "users/invite/private", INVITE, 201),
    ("POST", "groupchats", GROUP, 201),
    ("POST", "aux/groupchats", GROUP, 201),
    ("POST", "CHAT/messages", {"body": "Hallo @all", "question": QUESTION}, 201),
    ("POST", "CHAT/verification", {"user_id": "USER", "provider_id": "x"}, 412),
    ("PUT", "CHAT", {"subject": "Nieuw"}, 200),
    ("PUT", "CHAT/settings", {"auto_expire_after": 5, "hybrid_messaging": True}, 200),
    ("PUT", "CHAT/members", {"members": ["USER"], "aux_members": False}, 200),
    ("DELETE", "CHAT/members", {"members": ["USER"], "aux_members": False}, 200),
    ("PUT", "CHAT/owner", {"user_id": "USER"}, 200),
    ("PUT", "CHAT/admins", {"admins": ["USER"]}, 200),
    ("DELETE", "CHAT/admins", {"admins": ["USER"]}, 200),
    ("DELETE", "CHAT", {"send_email": False, "remove": False}, 200),
]


def spoiled(document: Any) -> Iterator[Any]:
    """Return copies of a document, each with a hostile value at one place."""
    yield from HOSTILE
    if isinstance(document, dict):
        for name, value in document.items():
            for bad in spoiled(value):
                yield document | {name: bad}
    elif isinstance(document, list):
        for bad in spoiled(document[0]):
            yield [bad]


def with_ids(document: Any, user_id: str) -> Any:
    return json.loads(json.dumps(document).replace("USER", user_id))


async def read_everything(call: Caller) -> None:
    """Read all lists and chats, also as files."""
    sandbox = call.sandbox
    paths = ["conversations", "groupchats", "aux/groupchats", "me/contacts", "company/users"]
    chats = [chat.address for chat in sandbox.store.chats.values() if chat.messages]
    paths += [f"{chat}/{below}" for chat in chats for below in ("messages", "pdf")]
    for path in paths:
        assert (await call("GET", f"{path}?amount=100")).status in {200, 302}, path
    secret = {"x-sandbox-secret": sandbox.client_secret}
    for path in ("log", "report"):
        assert (await call("GET", f"/sandbox/{path}", headers=secret)).status == 200


@pytest.mark.parametrize(("method", "path", "body", "status"), CALLS)
async def test_no_json_breaks_it(
    call: Caller, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    sandbox = call.sandbox
    user_id = sandbox.add_colleague("Ada", "Admin")

    async def send(document: Any) -> int:
        chat = sandbox.add_group_chat("Team", members=[user_id])
        url = path.replace("CHAT", f"groupchats/{chat}")
        return (await call(method, url, json=with_ids(document, user_id))).status

    assert await send(body) == status
    for document in spoiled(body):
        assert await send(document) in {200, 201, 204, 400, 404, 412}, document
    await read_everything(call)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"body": "\\ud800"}',
        b'{"body": "\xed\xa0\x80"}',
        b'{"body": NaN}',
        b'{"body": 1e400}',
        b'{"body": "x", "question": ' + b"[" * 100_000,
        b"[" * 1000 + b"]" * 1000,
        b'{"body": "x", "question": {"options": [{"name": "a", "label": "b", "x": '
        + b"[" * 500
        + b"]" * 500
        + b"}]}}",
    ],
)
async def test_no_bytes_for_json_break_it(call: Caller, sandbox: Sandbox, body: bytes) -> None:
    chat = sandbox.add_conversation()
    headers = {"Content-Type": "application/json"}
    answer = await call("POST", f"conversations/{chat}/messages", data=body, headers=headers)
    assert answer.status in {201, 400}
    await read_everything(call)


def request_head(call: Caller, start: bytes, *headers: bytes, body: bytes = b"{}") -> bytes:
    token = f"Authorization: Bearer {call.token}".encode()
    fixed = (token, b"Host: localhost", b"Connection: close", b"Content-Length: %d" % len(body))
    return b"\r\n".join((start + b" HTTP/1.1", *headers, *fixed, b"", body))


async def exchange(sandbox: Sandbox, request: bytes) -> int:
    host, port = sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


@pytest.mark.parametrize(
    "target",
    [
        *("me?page=%ff", "me/contacts?page=%ff", "conversations?amount=%ED%A0%80", "users/%ED%A0%80"),
        *("users/%", "users/%zz", "users/%00", "users/..", "users//x", "groupchats/%2F/members", "", "/"),
        *("conversations/x/pdf?start_date=%ED%A0%80", "aux/users/" + "x" * 5000),
    ],
)
async def test_no_path_breaks_it(call: Caller, sandbox: Sandbox, target: str) -> None:
    for method in (b"GET", b"PUT", b"PATCH"):
        status = await exchange(sandbox, request_head(call, method + f" /v1/{target}".encode()))
        assert status in {200, 400, 404, 405}


@pytest.mark.parametrize(
    ("start", "header"),
    [
        (b"GET /v1/me", b"Content-Type: \xff"),
        (b"POST /v1/conversations", b"Content-Type: \xff"),
        (b"POST /v1/conversations", b"Content-Type: application/json; charset=nothing"),
        (b"GET /sandbox/log", b"x-sandbox-secret: \xff"),
        (b"GET /files/x", b"Cookie: download=\xff"),
        (b"POST /oauth/token", b"Content-Type: application/x-www-form-urlencoded; charset=nothing"),
        (b"POST /oauth/token", b"Content-Type: application/x-www-form-urlencoded; charset=utf-16"),
        (b"POST /oauth/authorize", b"Content-Type: application/x-www-form-urlencoded"),
    ],
)
async def test_no_header_breaks_it(call: Caller, sandbox: Sandbox, start: bytes, header: bytes) -> None:
    for body in (b"client_id=\xff&client_secret=%ff", b"client_secret=%ED%A0%80"):
        assert await exchange(sandbox, request_head(call, start, header, body=body)) in {
            200,
            400,
            401,
            403,
            404,
        }
    await read_everything(call)


async def test_a_cookie_that_is_no_utf8_opens_nothing(call: Caller, sandbox: Sandbox) -> None:
    link = await call("GET", f"conversations/{sandbox.add_conversation()}/pdf")
    path = link.document["link"].removeprefix(sandbox.url).encode()
    assert await exchange(sandbox, request_head(call, b"GET " + path, b"Cookie: download=\xff")) == 403


async def test_a_form_for_a_token_that_is_too_large_is_refused(call: Caller) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await call("POST", "/oauth/token", data=BytesIO(b"x" * 1_100_000), headers=headers)
    assert (answer.status, answer.document["error"]) == (413, "too_large")


DISPOSITION = b'Content-Disposition: form-data; name="NAME"; filename="a.pdf"'


@pytest.mark.parametrize(
    "part",
    [
        b'Content-Disposition: form-data; name="NAME"; filename="\xff.pdf"',
        b"Content-Disposition: form-data; name=\"NAME\"; filename*=nothing''%ff",
        b"Content-Disposition: ;;;",
        b'Content-Disposition: form-data; name="\xff"; filename="a"',
        b"X: y",
        DISPOSITION + b"\r\nContent-Type: \xff/\xff",
        DISPOSITION + b"\r\nContent-Type: a\x01b",
        DISPOSITION + b"\r\nContent-Type: multipart/mixed; boundary=c",
        DISPOSITION + b"\r\nContent-Type: multipart/mixed",
        DISPOSITION + b"\r\nX: " + b"y" * 20_000,
    ],
)
async def test_no_part_of_a_form_breaks_it(call: Caller, sandbox: Sandbox, part: bytes) -> None:
    chat = f"groupchats/{sandbox.add_group_chat('Team')}"
    for below, name in (("attachments", b"files"), ("avatar", b"avatar")):
        body = b"--b\r\n" + part.replace(b"NAME", name) + b"\r\n\r\nx\r\n--b--\r\n"
        start = f"POST /v1/{chat}/{below}".encode()
        kind = b"Content-Type: multipart/form-data; boundary=b"
        assert await exchange(sandbox, request_head(call, start, kind, body=body)) == 400
    assert sandbox.messages(chat) == ()
    await read_everything(call)
