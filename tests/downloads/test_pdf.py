"""A chat as a PDF."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from healthmsg import Client, ForbiddenError, InvalidInputError
from healthmsg.errors import DownloadError
from healthmsg.ids import ChatKind
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.foreign_host import ForeignHost, paths_below

MOMENT = datetime(2026, 3, 29, 12, 30, 15, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
async def host() -> AsyncIterator[ForeignHost]:
    async with ForeignHost() as host:
        host.answer("/conversations/c1/pdf", b'{"link": "/the-file"}')
        host.answer("/the-file", b"%PDF-1.4")
        yield host


async def query_for(host: ForeignHost, folder: Path, **period: Any) -> dict[str, list[str]]:
    """Return what is asked for a PDF of that time."""
    async with host.client() as client:
        await client.conversations("c1").download_pdf(to=folder, **period)
    return parse_qs(urlsplit(host.seen[0].path).query, strict_parsing=True)


# --- over the sandbox


@pytest.mark.parametrize("kind", ChatKind, ids=lambda kind: kind.value)
async def test_a_chat_of_every_kind_is_written_as_a_pdf(
    client: Client, sandbox: Sandbox, tmp_path: Path, kind: ChatKind
) -> None:
    new = (
        sandbox.add_group_chat("x", aux_id="k 7") if kind.is_group else sandbox.add_conversation(aux_id="k 7")
    )
    chats: Any = client.auxiliary if kind.is_auxiliary else client
    chats = chats.groupchats if kind.is_group else chats.conversations
    chat = chats("k 7" if kind.is_auxiliary else new)
    await chat.send("Uw afspraak is bevestigd.")

    path = await chat.download_pdf(to=tmp_path)

    assert path == tmp_path / "chat.pdf"
    assert path.read_bytes().startswith(b"%PDF-")
    assert b"Uw afspraak is bevestigd." in path.read_bytes()
    assert paths_below(tmp_path) == ["chat.pdf"]


async def test_only_the_time_that_was_asked_for_is_in_it(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = client.conversations(sandbox.add_conversation(messages=["Nu"]))
    now = datetime.now(UTC)

    recent = await chat.download_pdf(
        to=tmp_path / "recent.pdf", start=now - timedelta(hours=1), end=now + 2 * SECOND
    )
    old = await chat.download_pdf(to=tmp_path / "old.pdf", end=now - timedelta(hours=1))
    future = await chat.download_pdf(to=tmp_path / "future.pdf", start=now + timedelta(hours=1))

    assert b"(Nu)" in recent.read_bytes()
    assert b"(Nu)" not in old.read_bytes() + future.read_bytes()


async def test_a_file_that_exists_is_left_alone_unless_it_is_to_be_replaced(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = client.conversations(sandbox.add_conversation())
    (tmp_path / "chat.pdf").write_text("mine")

    with pytest.raises(FileExistsError, match="overwrite=True"):
        await chat.download_pdf(to=str(tmp_path / "chat.pdf"))
    assert (tmp_path / "chat.pdf").read_text() == "mine"
    assert sandbox.calls == []

    assert await chat.download_pdf(to=tmp_path) == tmp_path / "chat (1).pdf"
    await chat.download_pdf(to=tmp_path, overwrite=True)
    assert (tmp_path / "chat.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.usefixtures("nothing_is_left_behind")
@pytest.mark.parametrize(
    ("fault", "error"), [(AnswerStatus(403), ForbiddenError), (AnswerStatus(200, b"{}"), DownloadError)]
)
async def test_a_pdf_that_is_not_given_leaves_nothing(
    client: Client, sandbox: Sandbox, tmp_path: Path, fault: Any, error: type[Exception]
) -> None:
    sandbox.faults.add(kind=fault, path_contains="/pdf")

    with pytest.raises(error):
        await client.conversations(sandbox.add_conversation()).download_pdf(to=tmp_path)

    assert paths_below(tmp_path) == []


async def test_two_at_once_do_not_mix_their_times(host: ForeignHost, tmp_path: Path) -> None:
    async with host.client() as client:
        chat = client.conversations("c1")
        await asyncio.gather(
            chat.download_pdf(to=tmp_path / "a", start=MOMENT),
            chat.download_pdf(to=tmp_path / "b", end=MOMENT + SECOND),
        )

    queries = sorted(urlsplit(seen.path).query for seen in host.seen if "/pdf" in seen.path)
    assert [sorted(parse_qs(query)) for query in queries] == [
        ["end_date", "headers"],
        ["headers", "start_date"],
    ]


# --- which time is asked for


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (MOMENT, "2026-03-29T12:30:15Z+00:00"),
        (MOMENT.replace(microsecond=999_999), "2026-03-29T12:30:15Z+00:00"),
        (MOMENT.astimezone(timezone(timedelta(hours=2))), "2026-03-29T12:30:15Z+00:00"),
        (MOMENT.astimezone(timezone(-timedelta(hours=9, minutes=30))), "2026-03-29T12:30:15Z+00:00"),
        (datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2025-12-31T23:30:00Z+00:00"),
        (datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00Z+00:00"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59Z+00:00"),
    ],
)
@pytest.mark.parametrize("which", ["start", "end"])
async def test_a_moment_is_written_in_utc_to_the_second_as_the_vendor_does(
    host: ForeignHost, tmp_path: Path, which: str, moment: datetime, written: str
) -> None:
    query = await query_for(host, tmp_path, **{which: moment})

    assert query == {f"{which}_date": [written], "headers": ["false"]}


async def test_a_time_may_be_a_single_moment(host: ForeignHost, tmp_path: Path) -> None:
    query = await query_for(host, tmp_path, start=MOMENT, end=MOMENT)

    assert query["start_date"] == query["end_date"] == ["2026-03-29T12:30:15Z+00:00"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (MOMENT, MOMENT - SECOND),
        (MOMENT.astimezone(timezone(timedelta(hours=-5))), MOMENT - SECOND),
        # The clock time is later, the moment is not.
        (MOMENT, (MOMENT - SECOND).astimezone(timezone(timedelta(hours=5)))),
    ],
)
async def test_an_end_before_the_start_is_refused(
    host: ForeignHost, tmp_path: Path, start: datetime, end: datetime
) -> None:
    with pytest.raises(InvalidInputError, match="end lies before start"):
        await query_for(host, tmp_path, start=start, end=end)

    assert host.seen == []
    assert paths_below(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(MOMENT.replace(tzinfo=None), MOMENT.date(), "2026-03-29T12:30:15Z", 1_774_787_415, True),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
)
@pytest.mark.parametrize("which", ["start", "end"])
async def test_what_is_no_moment_with_an_offset_is_refused(
    host: ForeignHost, tmp_path: Path, which: str, wrong: Any
) -> None:
    with pytest.raises(InvalidInputError, match=f"^{which} must be an aware datetime") as caught:
        await query_for(host, tmp_path, **{which: wrong})

    assert "2026" not in str(caught.value)
    assert host.seen == []
