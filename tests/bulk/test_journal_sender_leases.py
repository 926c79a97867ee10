"""A run on a journal that others use too, when the lease on its messages may have ended."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, Outcome, Outgoing
from healthmsg.bulk.journal import open_journal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.sandbox import AnswerStatus, Sandbox
from tests.bulk.journal_runs import outcomes, sent
from tests.bulk.sources import bodies, chats, posts
from tests.machine import Machine

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")
BEYOND_THE_LEASE = 3600.0


class Rival:
    """Another worker on the same journal, for which the lease of the first one has ended."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal

    async def take_over(self) -> None:
        """Deliver the message that the first worker has begun."""
        ended = "UPDATE healthmsg_messages SET lease_until = clock_timestamp() - INTERVAL '1 hour'"
        await self._journal.do(lambda connection: connection.exec_driver_sql(ended))
        for claim in await self._journal.claim_in_doubt():
            await self._journal.finish(claim, Outcome.DELIVERED, message_id="the rival's")


def when_begun(monkeypatch: pytest.MonkeyPatch, do: Callable[[], Awaitable[None]]) -> None:
    """Have something happen once, after a message was begun and before its call leaves."""
    begin, is_done = SqlJournal.begin, False

    async def begin_and_do(journal: SqlJournal, *values: Any) -> None:
        nonlocal is_done
        await begin(journal, *values)
        if not is_done:
            is_done = True
            await do()

    monkeypatch.setattr(SqlJournal, "begin", begin_and_do)


@pytest.mark.slow
async def test_what_the_machine_slept_over_is_begun_again_and_sent_once(
    client: Client, sandbox: Sandbox, database: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chats(sandbox, 2)

    async def sleep() -> None:
        machine.sleep(BEYOND_THE_LEASE)

    when_begun(monkeypatch, sleep)
    results = await sent(client, [Outgoing(first, "1"), Outgoing(second, "2")], journal=database)

    assert outcomes(results) == [Outcome.DELIVERED] * 2
    assert bodies(sandbox, first) + bodies(sandbox, second) == ["1", "2"]
    async with open_journal(database, is_reading=True) as journal:
        assert sorted([row.attempts async for row in journal.rows()]) == [2, 2]


@pytest.mark.slow
async def test_what_another_worker_took_over_meanwhile_is_not_sent(
    client: Client, sandbox: Sandbox, database: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chat,) = chats(sandbox, 1)
    async with open_journal(database) as journal:

        async def sleep() -> None:
            machine.sleep(BEYOND_THE_LEASE)
            await Rival(journal).take_over()

        when_begun(monkeypatch, sleep)
        (result,) = await sent(client, [Outgoing(chat, "1")], journal=database)

    assert posts(sandbox) == 0
    assert (result.outcome, result.message_id) == (Outcome.DELIVERED, "the rival's")


@pytest.mark.slow
@pytest.mark.parametrize("status", [201, 400])
async def test_of_a_message_that_was_taken_over_the_journal_tells_what_became(
    client: Client, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    (chat,) = chats(sandbox, 1)
    if status != 201:
        sandbox.faults.add(kind=AnswerStatus(status), method="POST")
    async with open_journal(database) as journal:
        when_begun(monkeypatch, Rival(journal).take_over)
        (result,) = await sent(client, [Outgoing(chat, "1", key="a")], journal=database)

    assert posts(sandbox) == 1
    assert (result.key, result.index) == ("a", 0)
    assert (result.outcome, result.message_id) == (Outcome.DELIVERED, "the rival's")


async def test_with_a_file_a_machine_that_sleeps_loses_nothing(
    client: Client, sandbox: Sandbox, file: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chat,) = chats(sandbox, 1)

    async def sleep() -> None:
        machine.sleep(BEYOND_THE_LEASE)

    when_begun(monkeypatch, sleep)
    results = await sent(client, [Outgoing(chat, "1")], journal=file)

    assert outcomes(results) == [Outcome.DELIVERED]
    assert results[0].attempts == 1
