"""Whoever has the inbox is killed or frozen: no event is lost, and never do two processes have it."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from healthmsg.errors import InboxLostError, JournalError, JournalInUseError
from healthmsg.gateway.inbox import holding, open_inbox
from tests.gateway.inbox.inboxes import NOW, URL, message, of, opened

pytestmark = pytest.mark.slow


@contextmanager
def holder(target: object, role: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that opens the inbox."""
    command = [sys.executable, "-m", "tests.gateway.inbox.holder", str(target), role]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own script
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


async def test_an_event_in_work_when_the_process_is_killed_comes_again_as_the_second_attempt(
    target: str,
) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1), message(2)))
    for attempt in ("1", "2"):
        with holder(target, "dies") as process:
            assert line(process)[0] == "holds"
            assert line(process)[:3] == ["got", "message/m1", attempt]
            process.kill()
    async with opened(target) as inbox:
        assert [(event.id, event.attempt) for event in await inbox.next(9)] == [
            ("message/m1", 3),
            ("message/m2", 1),
        ]


async def test_a_second_process_with_the_same_file_is_refused(file: Path) -> None:
    with holder(file, "dies") as process:
        assert line(process)[0] == "holds"
        with pytest.raises(JournalInUseError):
            async with open_inbox(file):
                pass
        process.kill()
        process.wait()
        async with opened(file):
            pass


def test_another_process_takes_over_within_15_seconds_of_a_kill(database: str) -> None:
    with holder(database, "writes") as first:
        assert line(first)[0] == "holds"
        taken = line(first)
        with holder(database, "writes") as second:
            first.kill()
            killed_at = time.monotonic()
            assert line(second)[0] == "holds"
            assert time.monotonic() - killed_at < 15
            handed_out = [line(second) for _ in range(3)]

    assert taken[:3] == ["got", "message/m1001", "1"]
    assert [words[0] for words in handed_out] == ["got"] * 3
    assert len({words[1] for words in handed_out}) == 3


async def test_what_was_frozen_and_wakes_writes_nothing_and_hands_nothing_out(database: str) -> None:
    with holder(database, "writes") as first:
        assert line(first)[0] == "holds"
        assert line(first)[0] == "got"
        with holder(database, "dies") as second:
            first.send_signal(signal.SIGSTOP)
            frozen_at = time.monotonic()
            assert line(second)[0] == "holds"
            assert time.monotonic() - frozen_at < 15
            (_, _, _, got_at) = line(second)
            before = await rows(database)
            first.send_signal(signal.SIGCONT)
            while (words := line(first))[0] == "got":
                # It was on its way when the process was stopped.
                assert float(words[-1]) < float(got_at)
            assert words == ["failed", "InboxLostError"]
            assert await rows(database) == before


async def steal(database: str) -> None:
    """Let another process have taken the inbox over."""
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        await connection.execute("UPDATE healthmsg_holder SET holder = 'another'")
    finally:
        await connection.close()


async def test_what_was_frozen_after_its_commit_hands_nothing_out(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(database) as inbox:
        await inbox.apply(of(message(1)))
        hold = inbox._hold
        assert hold is not None
        require_now = hold.require_now

        async def frozen() -> None:
            await steal(database)
            hold._end = 0.0  # so long ago was the lease renewed
            await require_now()

        monkeypatch.setattr(hold, "require_now", frozen)
        with pytest.raises(InboxLostError, match="taken the inbox over"):
            await inbox.next(1)
        with pytest.raises(InboxLostError):
            await inbox.apply(of(message(2)))
        assert hold.lost.is_set()


async def test_that_the_inbox_was_lost_is_seen_without_a_call(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_RENEW_EVERY", 0.01)
    async with opened(database) as inbox:
        assert inbox._hold is not None
        await asyncio.sleep(0.1)
        assert not inbox._hold.lost.is_set()
        await steal(database)
        await inbox._hold.lost.wait()
        with pytest.raises(InboxLostError):
            await inbox.keys()


async def test_nothing_is_written_before_the_inbox_is_held(database: str) -> None:
    async with opened(database), open_inbox(database) as standby:
        with pytest.raises(JournalError, match=r"wait for `hold\(\)` first"):
            await standby.start("u-me", URL, NOW)


async def test_an_inbox_that_is_closed_is_free_at_once(database: str) -> None:
    async with asyncio.timeout(5):
        for _ in range(3):
            async with opened(database):
                pass


async def rows(database: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        found = await connection.fetch("SELECT * FROM healthmsg_inbox ORDER BY sequence")
        return [tuple(row) for row in found]
    finally:
        await connection.close()
