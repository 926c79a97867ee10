"""A run whose journal is deleted, moved or replaced, and what the next one makes of that."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from healthmsg import Client, JournalError, Outcome, Outgoing, SendResult
from healthmsg.bulk.journal import open_journal
from healthmsg.errors import JournalGoneError, JournalIncompleteError
from healthmsg.sandbox import Sandbox
from tests.bulk.journal_runs import fresh_client, outcomes, sent
from tests.bulk.sources import bodies, chats, posts

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left_behind"),
    pytest.mark.skipif(os.name != "posix", reason="elsewhere, open files stay where they are"),
    pytest.mark.slow,
]


def replace_by_its_copy(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed.db"))


@pytest.mark.parametrize("disturb", [Path.unlink, rename, replace_by_its_copy])
async def test_a_run_whose_journal_is_gone_ends_and_calls_nothing_fine_that_is_not_noted(
    client: Client, sandbox: Sandbox, file: Path, disturb: Callable[[Path], None]
) -> None:
    messages = [Outgoing(to, "Hallo") for to in chats(sandbox, 300)]
    results = list[SendResult]()
    calls: list[int] = []

    async def go() -> None:
        async with client.send_many(messages, journal=file) as run:
            async for result in run:
                results.append(result)
                if len(results) == 60:
                    disturb(file)
                    calls.append(posts(sandbox))

    with pytest.raises(JournalGoneError, match="nothing was sent after that"):
        await go()

    # What was under way at that moment may have arrived, and nothing else.
    assert posts(sandbox) <= calls[0] + 128
    assert posts(sandbox) < 300
    assert max(len(bodies(sandbox, str(message.to))) for message in messages) == 1
    assert all(result.outcome is Outcome.DELIVERED for result in results)
    assert all(isinstance(result.error, JournalError | None) for result in results)
    fine = [result for result in results if result.error is None]
    assert 60 <= len(fine) <= len(results)
    if disturb is rename:
        # All that is called fine is in the file, wherever it is.
        async with open_journal(file.with_name("renamed.db"), is_reading=True) as journal:
            noted = {row.message_id async for row in journal.rows()}
        assert {result.message_id for result in fine} <= noted


async def test_nothing_goes_twice_when_the_wal_file_was_left_behind(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    addresses = chats(sandbox, 16)
    messages = [Outgoing(to, f"{number}") for number in range(5) for to in addresses]
    moved = file.with_name("moved.db")
    async with client.send_many(messages, journal=file) as run:
        async for _ in run:
            if posts(sandbox) >= 40:
                # As after a kill at this moment. More goes out after it.
                shutil.copy2(file, moved)
                break
    sent_before = posts(sandbox)
    assert 40 <= sent_before < 80

    async with fresh_client(sandbox) as other:
        with pytest.raises(JournalIncompleteError, match="accept_missing_wal=1"):
            await sent(other, messages, journal=moved)
        with pytest.raises(JournalIncompleteError, match="accept_missing_wal=1"):
            await other.preview_many(messages, journal=moved).report()
        assert posts(sandbox) == sent_before
        results = await sent(other, messages, journal=f"{moved}?accept_missing_wal=1")

    assert set(outcomes(results)) == {Outcome.DELIVERED}
    for to in addresses:
        assert bodies(sandbox, to) == [f"{number}" for number in range(5)]
