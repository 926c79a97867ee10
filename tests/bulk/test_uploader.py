"""Uploading many files at once, over the sandbox."""

import asyncio
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import (
    Client,
    DeliveryUnknownError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    Outcome,
    Outgoing,
    Upload,
    UploadFile,
    UploadResult,
)
from healthmsg.errors import (
    AmbiguousAuxIdError,
    ClientClosedError,
    EmptyMessageError,
    InvalidFileError,
    InvalidIdError,
)
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Fault, Sandbox
from tests.at_once import AtOnce
from tests.bulk.sources import chats, posts
from tests.bulk.uploads import PDF
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


def pdf(number: int) -> UploadFile:
    return UploadFile(PDF + str(number).encode(), f"{number}.pdf")


def stored(sandbox: Sandbox, chat: str) -> list[list[bytes]]:
    return [
        [sandbox.file_content(file.id) for file in message.attachments] for message in sandbox.messages(chat)
    ]


async def upload_all(client: Client, uploads: Any, **options: Any) -> list[UploadResult]:
    return [result async for result in client.upload_many(uploads, **options)]


# --- every upload once


@pytest.mark.slow
async def test_every_upload_arrives_once_and_is_one_call(client: Client, sandbox: Sandbox) -> None:
    addresses = chats(sandbox, 40)

    results = await upload_all(client, [(chat, [pdf(number)]) for number, chat in enumerate(addresses)])

    assert {result.outcome for result in results} == {Outcome.DELIVERED}
    assert sorted(str(result.to) for result in results) == sorted(addresses)
    for number, chat in enumerate(addresses):
        assert stored(sandbox, chat) == [[PDF + str(number).encode()]]
    by_chat = {result.to: result.message_id for result in results}
    assert by_chat == {chat: sandbox.messages(chat)[0].id for chat in addresses}
    assert posts(sandbox) == 40
    assert sandbox.rejected == 0
    assert sandbox.most_calls_in_any_second() <= 30


async def test_a_file_several_files_and_a_text_are_each_one_message(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    one, two, three, four = chats(sandbox, 4)
    path = tmp_path / "uitslag.pdf"
    path.write_bytes(PDF)
    chat = client.conversations(three.partition("/")[2])

    def uploads() -> Iterator[Any]:
        yield one, path
        yield two, str(path)
        yield chat, (pdf(1), pdf(2))
        yield Upload(four, [pdf(3)], "Uw uitslag")

    results = await upload_all(client, uploads())

    assert all(result.outcome is Outcome.DELIVERED for result in results)
    assert [stored(sandbox, address) for address in (one, two, three, four)] == [
        [[PDF]],
        [[PDF]],
        [[PDF + b"1", PDF + b"2"]],
        [[PDF + b"3"]],
    ]
    assert sandbox.messages(four)[0].body == "Uw uitslag"
    assert {id(result.to) for result in results} == {id(one), id(two), id(chat), id(four)}


async def test_all_gives_all_results(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)

    results = await client.upload_many([(chat, pdf(number)) for number in range(10)]).all()

    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 10
    assert len(sandbox.messages(chat)) == 10


async def test_no_uploads_are_no_results(client: Client) -> None:
    assert await upload_all(client, []) == []


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_never_more_are_made_at_once_than_was_asked_for(
    client: Client, sandbox: Sandbox, concurrency: int
) -> None:
    (chat,) = chats(sandbox, 1)
    counting = AtOnce(0.3)
    sandbox.faults.add(kind=counting, times=None)

    results = await upload_all(client, [(chat, pdf(number)) for number in range(10)], concurrency=concurrency)

    assert len(results) == 10
    assert counting.most == concurrency


async def test_results_come_as_they_are_complete(client: Client, sandbox: Sandbox) -> None:
    slow, *others = chats(sandbox, 4)
    sandbox.faults.add(kind=AtOnce(0.5), path_contains=slow)

    results = await upload_all(client, [(chat, pdf(1)) for chat in (slow, *others)])

    assert results[-1].to == slow


async def test_results_that_are_not_read_hold_up_the_work(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    read = 0

    async def uploads() -> AsyncIterator[Any]:
        nonlocal read
        for number in itertools.count():
            read += 1
            yield chat, pdf(number)

    async with client.upload_many(uploads(), concurrency=3) as run:
        await until(lambda: posts(sandbox) >= 3)
        await asyncio.sleep(0.1)
        assert (read, posts(sandbox)) == (4, 3)
        assert (await anext(aiter(run))).outcome is Outcome.DELIVERED
        await until(lambda: posts(sandbox) >= 4)

    assert read == 5


@pytest.mark.parametrize("kind", ["uploads", "messages"])
async def test_nothing_is_kept_of_what_is_done(client: Client, sandbox: Sandbox, kind: str) -> None:
    (chat,) = chats(sandbox, 1)
    run: Any
    if kind == "uploads":
        run = client.upload_many([(chat, pdf(1)), (chat, pdf(2))])
    else:
        run = client.send_many([Outgoing(chat, "x"), Outgoing(chat, "y")])
    assert run in client._parts.shared._runs

    assert len([result async for result in run]) == 2

    assert client._parts.shared._runs == set()
    calls = run._calls if kind == "uploads" else run._runner._calls
    assert (run._pool.in_flight, calls.requests) == ({}, {})
    if kind == "messages":
        assert run._runner.journal.left_over() == []


# --- what goes wrong for one


@pytest.mark.parametrize(
    ("chat", "files", "error"),
    [
        ("", pdf(1), InvalidIdError),
        ("nobody", pdf(1), InvalidIdError),
        (None, pdf(1), InvalidIdError),
        ("aux/conversations/José", pdf(1), AmbiguousAuxIdError),
        ("conversations/n0body", pdf(1), NotFoundError),
        ("{forbidden}", pdf(1), ForbiddenError),
        ("{chat}", [], EmptyMessageError),
        ("{chat}", "/nowhere/a.pdf", InvalidFileError),
        ("{chat}", [pdf(1), "/nowhere/a.pdf"], InvalidFileError),
        ("{chat}", UploadFile(b"", "leeg.pdf"), InvalidFileError),
        ("{chat}", b"%PDF", InvalidFileError),
        ("{chat}", None, InvalidFileError),
        ("{chat}", 7, InvalidFileError),
    ],
)
async def test_an_upload_that_cannot_be_made_is_reported_and_the_others_go_on(
    client: Client, sandbox: Sandbox, chat: Any, files: Any, error: type[Exception]
) -> None:
    places = dict(zip(("{chat}", "{forbidden}"), chats(sandbox, 2), strict=True))
    sandbox.faults.add(kind=AnswerStatus(403), path_contains=places["{forbidden}"])
    bad = (places.get(chat, chat), files)
    others = [(address, pdf(1)) for address in chats(sandbox, 4)]

    results = await upload_all(client, [*others[:2], bad, *others[2:]])

    (failed,) = [result for result in results if result.error is not None]
    assert (failed.to, failed.files) == bad
    assert failed.outcome is Outcome.NOT_SENT
    assert type(failed.error) is error
    assert failed.message_id is None
    assert [result.outcome for result in results if result is not failed] == [Outcome.DELIVERED] * 4
    assert stored(sandbox, places["{chat}"]) == []


async def test_a_text_that_is_none_is_reported(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)

    (result,) = await upload_all(client, [Upload(chat, pdf(1), None)])  # type: ignore[arg-type]

    assert result.outcome is Outcome.NOT_SENT
    assert isinstance(result.error, InvalidInputError)


async def test_a_chat_of_another_user_or_client_is_refused(client: Client, sandbox: Sandbox) -> None:
    (address,) = chats(sandbox, 1)
    chat_id = address.partition("/")[2]
    bea = client.with_token(sandbox.issue_token(sandbox.add_user("Bea", "Bos")))
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as other:
        handles: list[Chat] = [chats.conversations(chat_id) for chats in (bea, other, client)]

        results = await upload_all(client, [(chat, pdf(1)) for chat in handles])

    outcomes = {id(result.to): (result.outcome, type(result.error)) for result in results}
    refused = (Outcome.NOT_SENT, InvalidInputError)
    assert [outcomes[id(chat)] for chat in handles] == [refused, refused, (Outcome.DELIVERED, type(None))]
    assert "a run of that one" in str(results[0].error or results[1].error)
    assert posts(sandbox) == 1


@pytest.mark.parametrize(("fault", "arrived"), [(CutAfter(), 1), (CutBefore(), 0), (AnswerStatus(500), 0)])
async def test_what_may_have_arrived_is_unknown_and_not_sent_again(
    client: Client, sandbox: Sandbox, fault: Fault, arrived: int
) -> None:
    lost, *others = chats(sandbox, 3)
    sandbox.faults.add(kind=fault, path_contains=lost)

    results = await upload_all(client, ((to, pdf(1)) for to in (lost, *others)))

    (unknown,) = [result for result in results if result.outcome is Outcome.UNKNOWN]
    assert unknown.to == lost
    assert isinstance(unknown.error, DeliveryUnknownError)
    assert len(sandbox.messages(lost)) == arrived
    assert posts(sandbox) == 3


async def test_what_the_limit_refused_is_sent_again(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    sandbox.faults.add(kind=AnswerStatus(429, headers={"Retry-After": "0"}))

    (result,) = await upload_all(client, [(chat, pdf(1))])

    assert result.outcome is Outcome.DELIVERED
    assert stored(sandbox, chat) == [[PDF + b"1"]]


async def test_the_repr_shows_neither_auxiliary_id_nor_file_nor_text() -> None:
    shown = repr(Upload("aux/conversations/s3cret", ["s3cret"], "s3cret")) + repr(
        UploadResult("aux/conversations/s3cret", "s3cret", Outcome.NOT_SENT, error=InvalidIdError("x"))
    )

    assert "s3cret" not in shown
    assert "NOT_SENT" in shown


async def test_no_log_tells_which_chat_or_file_it_is(
    client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    (chat,) = chats(sandbox, 1)

    def uploads() -> Iterator[Any]:
        yield Upload(chat, UploadFile(PDF, "s3cret.pdf"), "s3cret")
        yield Upload("conversations/s3cret", UploadFile(PDF, "s3cret.pdf"), "s3cret")
        raise LookupError("s3cret")

    run = client.upload_many(uploads())
    results = aiter(run)
    errors = [(await anext(results)).error for _ in range(2)]  # in no order
    assert errors.count(None) == 1
    await run.close()
    await client.close()

    ours = " ".join(record.getMessage() for record in caplog.records if record.name == "healthmsg")
    assert "reading the uploads to make failed with LookupError" in ours
    assert "s3cret" not in ours
    assert chat.partition("/")[2] not in ours


# --- what goes wrong for all


@pytest.mark.parametrize("wrong", [None, "conversations/c1", ("c", "f", "m"), ["conversations/c1", "a.pdf"]])
async def test_what_is_no_upload_ends_it_after_the_earlier_results(
    client: Client, sandbox: Sandbox, wrong: Any
) -> None:
    (chat,) = chats(sandbox, 1)
    seen: list[UploadResult] = []

    async def read() -> None:
        async for result in client.upload_many([(chat, pdf(1)), (chat, pdf(2)), wrong, (chat, pdf(3))]):
            seen.append(result)  # noqa: PERF401 - it raises on the way

    with pytest.raises(InvalidInputError, match="upload_many takes pairs"):
        await read()

    assert [result.outcome for result in seen] == [Outcome.DELIVERED] * 2
    assert posts(sandbox) == 2


async def test_an_iterable_that_raises_does_so_after_the_earlier_results(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    seen: list[UploadResult] = []

    def uploads() -> Iterator[Any]:
        yield from ((chat, pdf(number)) for number in range(3))
        raise LookupError("no more patients")

    async with client.upload_many(uploads()) as run:
        with pytest.raises(LookupError, match="no more patients"):
            await read_into(seen, run)

    assert [result.outcome for result in seen] == [Outcome.DELIVERED] * 3


async def read_into(seen: list[UploadResult], run: Any) -> None:
    async for result in run:
        seen.append(result)  # noqa: PERF401 - it may raise on the way


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "8", None])
async def test_a_concurrency_that_cannot_be_one_is_refused(client: Client, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="concurrency"):
        client.upload_many([], concurrency=wrong)


async def test_progress_that_cannot_be_called_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInputError, match="progress"):
        client.upload_many([], progress=7)  # type: ignore[arg-type]


async def test_a_closed_client_uploads_nothing(client: Client, sandbox: Sandbox) -> None:
    await client.close()

    with pytest.raises(ClientClosedError):
        await upload_all(client, [("conversations/c1", pdf(1))])
    assert not sandbox.calls


# --- progress


async def test_progress_adds_up_all_uploads(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    (chat,) = chats(sandbox, 1)
    path = tmp_path / "foto.png"
    path.write_bytes(b"x" * 3_000_000)
    reported: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        reported.append((done, total))

    await upload_all(client, [(chat, [path, pdf(1)]), (chat, path), (chat, "/nowhere")], progress=progress)

    whole = 2 * 3_000_000 + len(PDF) + 1
    assert reported[-1] == (whole, whole)
    assert all(done <= (total or 0) for done, total in reported)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


async def test_progress_that_raises_harms_no_upload(
    client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    (chat,) = chats(sandbox, 1)

    def progress(done: int, total: int | None) -> None:
        raise LookupError("s3cret")

    results = await upload_all(client, [(chat, pdf(1)), (chat, pdf(2))], progress=progress)

    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 2
    assert "progress raised LookupError" in caplog.text
    assert "s3cret" not in caplog.text


# --- any number of them


@pytest.mark.slow
async def test_ten_thousand_uploads_take_no_more_memory_than_a_hundred(client: Client) -> None:
    peaks = {}
    tracemalloc.start()
    try:
        for count in (100, 10_000):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            handled = 0
            async for result in client.upload_many(("conversations/c1", []) for _ in range(count)):
                assert result.outcome is Outcome.NOT_SENT
                handled += 1
            assert handled == count
            peaks[count] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

    assert peaks[10_000] < peaks[100] + 200_000
