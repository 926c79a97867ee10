"""Downloading attachments, over the sandbox and from a foreign host."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from foreign_host import CONTENT, COOKIES, GIVEN, ForeignHost, links, paths_below, upload

from healthmsg import (
    Attachment,
    Client,
    ConnectError,
    DownloadError,
    InvalidIdError,
    RateLimit,
    Retries,
)
from healthmsg.resources.chats import Chat
from healthmsg.sandbox import AnswerStatus, Sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with Client(
        sandbox.issue_token(),
        environment=sandbox.environment,
        rate_limit=RateLimit(calls=1000),
        retries=Retries.none(),
    ) as client:
        yield client


@pytest.fixture
def chat(client: Client, sandbox: Sandbox) -> Chat:
    return client.conversations(sandbox.add_conversation())


@pytest.fixture
async def foreign() -> AsyncIterator[ForeignHost]:
    async with ForeignHost() as host:
        yield host


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

    with pytest.raises(ConnectError):  # nobody speaks TLS there
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
