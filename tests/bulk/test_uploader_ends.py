"""Uploading many files that is left early, cancelled, interrupted, or ends with the client."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, Outcome, RateLimit, UploadFile, UploadMany, UploadResult
from healthmsg.errors import SendingStoppedError
from healthmsg.sandbox import AnswerStatus, Delay, Sandbox
from tests.bulk.sources import chats, posts
from tests.bulk.uploads import PDF, Halting, deaf_service, open_files, upload_threads
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")
LARGE = 64 * 1024 * 1024


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "healthmsg"]


def pdf(number: int = 1) -> UploadFile:
    return UploadFile(PDF + str(number).encode(), f"{number}.pdf")


async def rest_of(run: UploadMany) -> dict[object, UploadResult]:
    async with asyncio.timeout(5):
        return {result.to: result async for result in run}


# --- leaving


@pytest.mark.parametrize("closes", ["the run", "the client"])
async def test_leaving_begins_nothing_cuts_off_what_is_being_sent_and_waits_for_what_was_sent(
    client: Client, sandbox: Sandbox, closes: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent, being_sent, not_read = chats(sandbox, 3)
    sandbox.faults.add(kind=Delay(0.5), path_contains=sent)
    halting = Halting()
    read = 0

    def uploads() -> Iterator[Any]:
        nonlocal read
        for item in ((sent, pdf()), (being_sent, halting.file), (not_read, pdf()), (not_read, pdf())):
            read += 1
            yield item

    run = client.upload_many(uploads(), concurrency=2)
    async with run:
        await halting.is_half_read.wait()
        await until(lambda: posts(sandbox) >= 2)
        if closes == "the client":
            await client.close()

    results = await rest_of(run)
    assert {chat: result.outcome for chat, result in results.items()} == {
        sent: Outcome.DELIVERED,
        being_sent: Outcome.UNKNOWN,
    }
    assert isinstance(results[being_sent].error, SendingStoppedError)
    assert len(sandbox.messages(sent)) == 1
    assert sandbox.messages(being_sent) == ()
    assert sandbox.messages(not_read) == ()
    assert read == 3
    assert halting.is_closed
    assert logged(caplog) == ["2 uploads have been handled whose results have not been read"]


async def test_what_still_waits_for_its_turn_is_not_sent(sandbox: Sandbox) -> None:
    addresses = chats(sandbox, 4)
    limit = RateLimit(1, 60)
    async with Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limit) as client:
        run = client.upload_many([(chat, pdf()) for chat in addresses])
        assert (await anext(aiter(run))).outcome is Outcome.DELIVERED
        await until(lambda: client.stats().queued == 3)

        await run.close()

        results = await rest_of(run)
    assert [result.outcome for result in results.values()] == [Outcome.NOT_SENT] * 3
    assert "it is not sent" in str(results[addresses[-1]].error)
    assert posts(sandbox) == 1


async def test_what_waits_for_a_connection_is_not_sent(sandbox: Sandbox) -> None:
    async with deaf_service() as deaf:
        limited = Client("t0ken", environment=deaf.environment, rate_limit=RateLimit(100, burst=100))
        pool = limited._parts.wire._connections.open()
        pool.connector._limit = 1  # type: ignore[union-attr] # one connection, which the first one has
        async with limited:
            big = UploadFile(bytes(LARGE), "groot.bin")
            run = limited.upload_many([("conversations/c1", big), ("conversations/c2", big)])
            async with run:
                await deaf.began.wait()
                await asyncio.sleep(0.2)
            results = await rest_of(run)

    assert results["conversations/c1"].outcome is Outcome.UNKNOWN
    assert results["conversations/c2"].outcome is Outcome.NOT_SENT


async def test_a_cut_off_upload_leaks_no_file_thread_or_connection(tmp_path: Path) -> None:
    path = tmp_path / "groot.bin"
    with path.open("wb") as file:
        file.truncate(LARGE)
    async with deaf_service() as deaf, Client("t0ken", environment=deaf.environment) as client:
        run = client.upload_many([(f"conversations/{number}", path) for number in range(4)])
        async with run:
            await deaf.began.wait()
            await until(lambda: upload_threads() and str(path) in open_files())

        results = await rest_of(run)

        await deaf.connections_are_gone()
        await until(lambda: not upload_threads())
    assert {result.outcome for result in results.values()} <= {Outcome.UNKNOWN, Outcome.NOT_SENT}
    assert 1 <= len(results) <= 4  # those that were taken from the list by then
    assert str(path) not in open_files()


async def test_a_loop_that_was_broken_out_of_ends_with_the_client(
    client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    (chat,) = chats(sandbox, 1)
    async for _ in client.upload_many(((chat, pdf()) for _ in range(1000)), concurrency=2):
        break

    await client.close()

    sent = posts(sandbox)
    assert sent <= 4
    await asyncio.sleep(0.2)
    assert posts(sandbox) == sent
    (warning,) = logged(caplog)
    assert "uploads have been handled whose results have not been read" in warning


async def test_a_run_that_was_never_iterated_is_not_passed_over_in_silence(
    client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    client.upload_many([("conversations/c1", pdf())])
    await client.close()

    assert logged(caplog) == ["an upload_many was closed without being iterated: it has sent nothing"]
    assert not sandbox.calls


async def test_what_fails_while_it_is_waited_for_says_so(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    is_complete = asyncio.Event()

    class SlowFailure(AnswerStatus):
        async def answer(self, request: Any, execute: Any) -> Any:
            await request.read()
            is_complete.set()
            await asyncio.sleep(0.3)
            return await super().answer(request, execute)

    sandbox.faults.add(kind=SlowFailure(403))
    async with client.upload_many([(chat, pdf())]) as run:
        await is_complete.wait()

    (result,) = (await rest_of(run)).values()
    assert result.outcome is Outcome.NOT_SENT
    assert getattr(result.error, "status", None) == 403


# --- cancelling


async def test_a_cancelled_consumer_leaves_cleanly(client: Client, sandbox: Sandbox) -> None:
    one, other = chats(sandbox, 2)
    halting = Halting()
    run = client.upload_many([(one, pdf()), (other, halting.file)])
    seen: list[UploadResult] = []

    async def consume() -> None:
        async with run:
            async for result in run:
                seen.append(result)  # noqa: PERF401 - it is cancelled on the way

    consumer = asyncio.create_task(consume())
    await halting.is_half_read.wait()
    await until(lambda: seen)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer

    assert [(result.to, result.outcome) for result in seen] == [(one, Outcome.DELIVERED)]
    assert [result.outcome for result in (await rest_of(run)).values()] == [Outcome.UNKNOWN]
    assert halting.is_closed


async def test_cancelling_all_ends_it(client: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    halting = Halting()
    waiting = asyncio.create_task(client.upload_many([(chat, halting.file)]).all())
    await halting.is_half_read.wait()

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert halting.is_closed
    assert sandbox.messages(chat) == ()


# --- Ctrl-C

INTERRUPTED = """
import asyncio, sys
from healthmsg import Client, Environment, UploadFile

def show(result):
    print(result.to, result.outcome.value, flush=True)

async def pieces():
    yield b"x" * 10
    print("half", flush=True)
    await asyncio.sleep(3600)
    yield b"x" * 10

async def main(url, token, first, second, third):
    uploads = [(first, UploadFile(b"%PDF", "a.pdf")), (second, UploadFile(pieces(), "b.pdf", size=20)),
               (third, UploadFile(b"%PDF", "c.pdf"))]
    async with Client(token, environment=Environment("sandbox", url)) as client:
        run = client.upload_many(uploads, concurrency=2)
        try:
            async with run:
                async for result in run:
                    show(result)
        finally:
            async for result in run:
                show(result)

try:
    asyncio.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
async def test_ctrl_c_ends_it_cleanly_and_every_outcome_is_known(sandbox: Sandbox) -> None:
    addresses = chats(sandbox, 3)
    sandbox.faults.add(kind=Delay(1.5), path_contains=addresses[0])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", INTERRUPTED),
        *(sandbox.environment.api_url, sandbox.issue_token(), *addresses),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"half\n"
        await until(lambda: posts(sandbox) >= 2)
        process.send_signal(signal.SIGINT)
        output, problems = await process.communicate()

    # The first had been sent, and its answer was waited for; the third was never begun.
    assert output.decode().splitlines() == [
        f"{addresses[1]} unknown",
        f"{addresses[0]} delivered",
        "interrupted",
    ]
    assert [line for line in problems.decode().splitlines() if "uploads have been handled" not in line] == []
    assert [len(sandbox.messages(chat)) for chat in addresses] == [1, 0, 0]
