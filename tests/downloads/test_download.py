"""Downloading attachments, over the sandbox and from a foreign host."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Attachment, ConnectError, ReauthorizationRequiredError
from healthmsg.downloads.links import is_below
from healthmsg.errors import DownloadError, InvalidIdError
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.foreign_host import CONTENT, COOKIES, GIVEN, ForeignHost, links, paths_below, upload


@pytest.fixture
async def third() -> AsyncIterator[ForeignHost]:
    async with ForeignHost() as host:
        yield host


# --- where the file comes from


async def test_a_file_comes_back_as_it_was_sent(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    attachment = await upload(chat)

    path = await chat.download(attachment, to=tmp_path / "copy.pdf")
    by_id = await chat.download(attachment.id, to=str(tmp_path / "by id.pdf"))

    assert path.read_bytes() == by_id.read_bytes() == CONTENT
    assert paths_below(tmp_path) == ["by id.pdf", "copy.pdf"]
    assert [call.query for call in sandbox.calls if call.template and "attachment_id" in call.template] == [
        "headers=false"
    ] * 2


async def test_an_own_origin_gets_the_cookie(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    await chat.download(await upload(chat), to=tmp_path)

    file = sandbox.calls[-1]
    assert (file.template, file.has_cookie, file.status) == ("files/{key}", True, 200)


async def test_a_foreign_host_gets_the_cookie_and_never_the_token(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    links(
        sandbox, foreign.answer("/x y/é", CONTENT).replace(" ", "%20").replace("é", "%C3%A9") + "?sig=a%2Fb"
    )

    path = await chat.download(GIVEN, to=tmp_path)

    (seen,) = foreign.seen
    assert path.read_bytes() == CONTENT
    assert seen.path == "/x%20y/%C3%A9?sig=a%2Fb"
    assert "Authorization" not in seen.headers
    assert seen.headers["Cookie"] == "download=k3y"


async def test_a_cookie_goes_no_further_than_where_the_link_leads(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, third: ForeignHost, tmp_path: Path
) -> None:
    back = foreign.answer("/end", CONTENT)
    onwards = third.answer("/x", status=307, headers={"Location": back})
    here = foreign.answer("/here", status=302, headers={"Location": onwards})
    links(sandbox, foreign.answer("/first", status=301, headers={"Location": here}))

    await chat.download(GIVEN, to=tmp_path)

    assert [(seen.path, seen.headers.get("Cookie")) for seen in [*foreign.seen, *third.seen]] == [
        ("/first", "download=k3y"),
        ("/here", "download=k3y"),
        ("/end", None),
        ("/x", None),
    ]
    assert not any("Authorization" in seen.headers for seen in [*foreign.seen, *third.seen])


async def test_a_redirect_back_to_the_own_origin_works(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    own = f"{sandbox.url}/files/own"
    links(sandbox, foreign.answer("/x", status=302, headers={"Location": own}))
    sandbox.faults.add(kind=AnswerStatus(200, CONTENT), path_contains="/files/own")

    path = await chat.download(GIVEN, to=tmp_path)

    assert path.read_bytes() == CONTENT
    assert not sandbox.calls[-1].has_cookie


async def test_another_port_is_another_origin_and_its_cookies_are_not_taken_along(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    sets = {"Location": f"{foreign.url}/y", "Set-Cookie": "planted=1"}
    links(sandbox, foreign.answer("/x", status=302, headers=sets))
    foreign.answer("/y", CONTENT)

    await chat.download(GIVEN, to=tmp_path)
    await chat.send("Daarna")

    assert foreign.seen[-1].headers["Cookie"] == "download=k3y"
    assert not sandbox.calls[-1].has_cookie


API = "https://api.example/hospital/v1"


@pytest.mark.parametrize(
    ("path", "is_so"),
    [
        ("/hospital/v1/files/1", True),
        ("/hospital/v1/a%2Fb?next=/../..", True),
        ("/hospital/v1/..a/.b/c..", True),
        ("/hospital/v1", False),
        ("/hospital/v12/files/1", False),
        ("/hospital/V1/files/1", False),
        ("/hospital/files/1", False),
        ("/other/hospital/v1/files/1", False),
        ("/hospital/v1/../x", False),
        ("/hospital/v1/./../x", False),
        ("/hospital/v1/%2e%2E/x", False),
        ("/hospital/v1/%252e%252e/x", False),
        ("/hospital/v1/..%2Fx", False),
        ("/hospital/v1/..\\x", False),
        ("/hospital/v1/a%5C..%5Cx", False),
        ("/hospital/v1/..;a=1/x", False),
        ("/hospital/v1/..%00/x", False),
        (":8443/hospital/v1/files/1", False),
        (".evil.example/hospital/v1/files/1", False),
    ],
)
def test_below_the_api_is_what_every_server_takes_for_it(path: str, *, is_so: bool) -> None:
    assert is_below(f"https://api.example{path}", API) is is_so
    assert is_below(f"https://api.example{path}", "https://api.example/hospital/v1/") is is_so


async def linked(foreign: ForeignHost, links_to: str, folder: Path) -> dict[str, str | None]:
    """Download over a link from an API at /v1; return which paths got which token."""
    foreign.answer("/v1/conversations/c1/attachments/a1", status=302, headers={"Location": links_to})
    async with foreign.client("/v1") as client:
        path = await client.conversations("c1").download("a1", to=folder / "file")
    assert path.read_bytes() == CONTENT
    return {seen.path: seen.headers.get("Authorization") for seen in foreign.seen[1:]}


async def test_below_the_api_the_token_goes_along(foreign: ForeignHost, tmp_path: Path) -> None:
    onwards = foreign.answer("/v1/files/1", status=302, headers={"Location": "/v1/files/2"})
    foreign.answer("/v1/files/2", CONTENT)

    got = await linked(foreign, onwards, tmp_path)

    assert got == {"/v1/files/1": "Bearer t0ken", "/v1/files/2": "Bearer t0ken"}


async def test_another_application_on_the_apis_host_gets_no_token(
    foreign: ForeignHost, tmp_path: Path
) -> None:
    there = foreign.answer("/v1/files/1", status=302, headers={"Location": "/other/1"})
    foreign.answer("/other/1", status=302, headers={"Location": "/v1/files/2"})
    foreign.answer("/v1/files/2", CONTENT)

    got = await linked(foreign, there, tmp_path)

    # Nor does the API, after that application has had its say.
    assert got == {"/v1/files/1": "Bearer t0ken", "/other/1": None, "/v1/files/2": None}


async def test_after_another_host_the_api_gets_no_token(
    foreign: ForeignHost, third: ForeignHost, tmp_path: Path
) -> None:
    back = foreign.answer("/v1/me", CONTENT)
    away = third.answer("/x", status=302, headers={"Location": back})

    assert await linked(foreign, away, tmp_path) == {"/v1/me": None}
    assert [seen.headers.get("Authorization") for seen in third.seen] == [None]


async def test_a_file_that_wants_a_sign_in_of_its_own_does_not_end_the_users(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    links(sandbox, foreign.answer("/x", status=401))

    with pytest.raises(DownloadError, match="sign-in of its own") as caught:
        await chat.download(GIVEN, to=tmp_path)

    assert not isinstance(caught.value, ReauthorizationRequiredError)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("link", ["/files/own", "../files/own", "//{host}/files/own"])
async def test_a_relative_link_is_meant_from_the_service(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, link: str
) -> None:
    links(sandbox, link.replace("{host}", sandbox.url.removeprefix("http://")))
    sandbox.faults.add(kind=AnswerStatus(200, CONTENT), path_contains="/files/own")

    assert (await chat.download(GIVEN, to=tmp_path)).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [200, 302])
async def test_a_link_in_the_body_alone_is_enough(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path, status: int
) -> None:
    body = f'{{"link": "{foreign.answer("/x", CONTENT)}"}}'.encode()
    sandbox.faults.add(kind=AnswerStatus(status, body, COOKIES), path_contains="/attachments/")

    assert (await chat.download(GIVEN, to=tmp_path)).read_bytes() == CONTENT
    assert foreign.seen[0].headers["Cookie"] == "download=k3y"


async def test_a_scheme_in_capitals_is_the_same_scheme(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    links(sandbox, foreign.answer("/x", CONTENT).replace("http", "HTTPS"))

    with pytest.raises(ConnectError):  # there is no TLS there
        await chat.download(GIVEN, to=tmp_path)

    assert len(sandbox.calls) == 1


@pytest.mark.parametrize(
    "link",
    [
        "http://files.example/x",
        "http://169.254.169.254/latest",
        "http://127.0.0.1.example/x",
        "http://user:pw@127.0.0.1/x",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "ftp://127.0.0.1/x",
        "data:,x",
        "javascript:x",
        "https://",
        "https://a b/",
        "https://[::1/x",
        "https://files.example:99999/x",
    ],
)
async def test_a_link_that_is_not_secure_is_not_followed(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path, link: str
) -> None:
    for links_there in (link, foreign.answer("/x", status=302, headers={"Location": link})):
        links(sandbox, links_there)
        with pytest.raises(DownloadError) as caught:
            await chat.download(GIVEN, to=tmp_path)
        assert link not in str(caught.value)
        assert caught.value.__context__ is None
    assert paths_below(tmp_path) == []


@pytest.mark.parametrize("body", [b"", b"{}", b'{"link": 7}', b'{"link": ""}', b"[]", b"<html>"])
async def test_an_answer_without_a_link_is_an_error(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, body: bytes
) -> None:
    sandbox.faults.add(kind=AnswerStatus(200, body), path_contains="/attachments/")

    with pytest.raises(DownloadError, match="no link"):
        await chat.download(GIVEN, to=tmp_path)


@pytest.mark.parametrize("redirects", [5, 6])
async def test_five_redirects_are_followed_and_no_more(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path, redirects: int
) -> None:
    for number in range(redirects):
        foreign.answer(f"/{number}", status=302, headers={"Location": f"/{number + 1}"})
    foreign.answer(f"/{redirects}", CONTENT)
    links(sandbox, f"{foreign.url}/0")

    if redirects == 5:
        assert (await chat.download(GIVEN, to=tmp_path)).read_bytes() == CONTENT
    else:
        with pytest.raises(DownloadError, match="redirect"):
            await chat.download(GIVEN, to=tmp_path)
        assert paths_below(tmp_path) == []
    assert len(foreign.seen) == 6


# --- where it goes


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("uitslag é.pdf", "uitslag é.pdf"),
        ("../../.bashrc", "bashrc"),
        ("C:\\Windows\\evil.exe", "evil.exe"),
        ("CON.txt", "_CON.txt"),
        ('a<b>:"|?*.pdf', "a_b______.pdf"),
        ("é" * 300 + ".pdf", "é" * 98 + ".pdf"),
        ("..", "attachment"),
        (None, "attachment"),
    ],
)
async def test_into_a_folder_goes_a_safe_name(
    *, chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path, name: str | None, written: str
) -> None:
    links(sandbox, foreign.answer("/x", CONTENT))
    folder = tmp_path / "folder"
    folder.mkdir()

    path = await chat.download(Attachment("a1", name), to=folder)

    assert path == folder / written
    assert paths_below(folder) == [written]
    assert paths_below(tmp_path) == ["folder"]


async def test_a_name_of_the_callers_own_may_be_as_long_as_the_disk_allows(
    chat: Chat, tmp_path: Path
) -> None:
    attachment = await upload(chat)

    path = await chat.download(attachment, to=tmp_path / ("x" * 255))

    assert path.read_bytes() == CONTENT


async def test_a_target_that_exists_is_left_alone_and_nothing_is_sent(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    attachment = await upload(chat)
    (tmp_path / "uitslag.pdf").write_text("mine")
    sandbox.reset_calls()

    with pytest.raises(FileExistsError, match="overwrite=True"):
        await chat.download(attachment, to=tmp_path / "uitslag.pdf")

    assert (tmp_path / "uitslag.pdf").read_text() == "mine"
    assert not sandbox.calls
    await chat.download(attachment, to=tmp_path, overwrite=True)
    assert (tmp_path / "uitslag.pdf").read_bytes() == CONTENT
    assert paths_below(tmp_path) == ["uitslag.pdf"]


async def test_a_failed_download_does_not_touch_what_it_was_to_replace(
    chat: Chat, sandbox: Sandbox, foreign: ForeignHost, tmp_path: Path
) -> None:
    (tmp_path / "uitslag.pdf").write_text("mine")
    links(sandbox, foreign.answer("/x", CONTENT[:-1]))

    with pytest.raises(DownloadError):
        await chat.download(GIVEN, to=tmp_path, overwrite=True)

    assert (tmp_path / "uitslag.pdf").read_text() == "mine"
    assert paths_below(tmp_path) == ["uitslag.pdf"]


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_folder_that_is_missing_is_named_and_nothing_is_sent(
    *, chat: Chat, sandbox: Sandbox, tmp_path: Path, overwrite: bool
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await chat.download("a1", to=tmp_path / "missing" / "x.pdf", overwrite=overwrite)

    assert str(tmp_path / "missing") in str(caught.value)
    assert ".part" not in str(caught.value)
    assert not sandbox.calls


@pytest.mark.parametrize("wrong", [None, 7, "", ".", ".."])
async def test_what_is_no_attachment_is_refused(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, wrong: Any
) -> None:
    with pytest.raises(InvalidIdError):
        await chat.download(wrong, to=tmp_path)

    assert not sandbox.calls
    assert paths_below(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
async def test_of_two_downloads_to_one_target_each_is_whole(
    *, chat: Chat, tmp_path: Path, overwrite: bool
) -> None:
    other = bytes(reversed(CONTENT))
    one, two = await upload(chat), await upload(chat, content=other)
    target = tmp_path / "copy.pdf"

    results = await asyncio.gather(
        *(chat.download(file, to=target, overwrite=overwrite) for file in (one, two)), return_exceptions=True
    )

    assert target.read_bytes() in {CONTENT, other}
    assert paths_below(tmp_path) == ["copy.pdf"]
    assert sum(result == target for result in results) == (2 if overwrite else 1)
    assert all(result == target or isinstance(result, FileExistsError) for result in results)


async def test_a_disk_without_hard_links_is_written_to_all_the_same(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    attachment = await upload(chat)

    assert (await chat.download(attachment, to=tmp_path)).read_bytes() == CONTENT
    assert paths_below(tmp_path) == ["uitslag.pdf"]
