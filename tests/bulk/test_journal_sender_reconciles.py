"""What becomes of messages that may have been delivered, with a journal."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from healthmsg import Client, DeliveryUnknownError, JournalError, Outcome, Outgoing
from healthmsg.bulk import runner
from healthmsg.bulk.journal import Entry, State, open_journal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.errors import EarlierRunError
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Delay, Fault, Sandbox
from tests.bulk.journal_runs import fresh_client, lose, outcomes, sent, states
from tests.bulk.sources import bodies, chats, posts
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def left_in_doubt(sandbox: Sandbox, file: Path | str, fault: Fault, *messages: Outgoing) -> None:
    """Leave the first of these in the journal, of which it is not known whether it was delivered."""
    async with fresh_client(sandbox) as client:
        before = posts(sandbox)
        lose(sandbox, fault)
        sandbox.faults.add(kind=Delay(60), method="GET", path_contains="/messages")
        async with client.send_many(messages, journal=file):
            await until(lambda: posts(sandbox) > before and sandbox.calls[-1].method == "GET")
    sandbox.faults.clear()


# --- in the same run


@pytest.mark.parametrize("fault", [CutAfter(), AnswerStatus(500, after=True)])
async def test_what_was_delivered_is_found_and_not_sent_again(
    client: Client, sandbox: Sandbox, target: str, fault: Fault
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, fault)

    first, second = await sent(client, [Outgoing(chat, "Hallo")] * 2, journal=target)

    assert [message.id for message in sandbox.messages(chat)] == [first.message_id, second.message_id]
    assert (first.error, first.attempts) == (None, 1)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [CutBefore(), AnswerStatus(500)])
async def test_what_is_proven_absent_is_sent_again_before_the_next_of_its_chat(
    client: Client, sandbox: Sandbox, file: Path, fault: Fault
) -> None:
    lost, other = chats(sandbox, 2)
    lose(sandbox, fault, lost)

    results = await sent(
        client, [Outgoing(lost, "1"), Outgoing(lost, "2"), Outgoing(other, "x")], journal=file
    )

    assert [(result.outcome, result.attempts) for result in results] == [
        (Outcome.DELIVERED, 2),
        (Outcome.DELIVERED, 1),
        (Outcome.DELIVERED, 1),
    ]
    assert bodies(sandbox, lost) == ["1", "2"]


@pytest.mark.slow
async def test_the_first_message_of_all_waits_for_one_that_proves_the_search(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    lost, other = chats(sandbox, 2)
    lose(sandbox, CutBefore(), lost)
    lose(sandbox, Delay(0.5), other)

    results = await sent(client, [Outgoing(lost, "1"), Outgoing(other, "x")], journal=file, settle=0)

    assert outcomes(results) == [Outcome.DELIVERED] * 2
    assert bodies(sandbox, lost) == ["1"]


@pytest.mark.slow
async def test_when_nothing_proves_the_search_it_stays_unknown_for_ever(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, CutBefore())
    messages = [Outgoing(chat, "1"), Outgoing(chat, "2")]

    first, second = await sent(client, messages, journal=file)
    assert (first.outcome, second.outcome) == (Outcome.UNKNOWN, Outcome.DELIVERED)
    assert isinstance(first.error, DeliveryUnknownError)

    for options in ({}, {"retry_failed": True}):
        again, _ = await sent(client, messages, journal=file, **options)
        assert again.outcome is Outcome.UNKNOWN
        assert isinstance(again.error, EarlierRunError)
    assert bodies(sandbox, chat) == ["2"]


@pytest.mark.slow
async def test_several_that_nothing_proves_are_all_left_unknown(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    addresses = chats(sandbox, 3)
    lose(sandbox, CutBefore(), times=3)

    results = await sent(client, [Outgoing(to, "x") for to in addresses], journal=file)

    assert outcomes(results) == [Outcome.UNKNOWN] * 3


async def test_what_is_to_be_reported_is_not_looked_for(client: Client, sandbox: Sandbox, file: Path) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, CutAfter())

    first, second = await sent(
        client, [Outgoing(chat, "1"), Outgoing(chat, "2")], journal=file, on_unknown="report"
    )

    assert (first.outcome, second.outcome) == (Outcome.UNKNOWN, Outcome.DELIVERED)
    assert not [call for call in sandbox.calls if call.method == "GET" and call.template != "me"]


@pytest.mark.slow
async def test_what_never_arrives_is_not_sent_for_ever(client: Client, sandbox: Sandbox, file: Path) -> None:
    lost, other = chats(sandbox, 2)
    lose(sandbox, CutBefore(), lost, times=None)

    given_up, _ = await sent(client, [Outgoing(lost, "1"), Outgoing(other, "x")], journal=file, settle=0)

    assert (given_up.outcome, given_up.attempts) == (Outcome.NOT_SENT, 6)


async def test_a_chat_that_cannot_be_read_back_leaves_it_unknown_and_the_next_goes_on(
    sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, CutAfter())
    sandbox.faults.add(kind=AnswerStatus(500), method="GET", path_contains="/messages", times=None)
    async with fresh_client(sandbox) as client:
        results = await sent(client, [Outgoing(chat, "1"), Outgoing(chat, "2")], journal=file)

    assert outcomes(results) == [Outcome.UNKNOWN, Outcome.DELIVERED]


async def test_an_error_that_was_not_foreseen_ends_the_run_and_is_not_passed_over(
    client: Client, sandbox: Sandbox, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise LookupError("a bug")

    (chat,) = chats(sandbox, 1)
    monkeypatch.setattr(SqlJournal, "finish", fails)
    with pytest.raises(LookupError, match="a bug"):
        await sent(client, [Outgoing(chat, "1", key="k")], journal=file)
    monkeypatch.undo()

    (result,) = await sent(client, [Outgoing(chat, "1", key="k")], journal=file)
    assert result.outcome is Outcome.DELIVERED
    assert bodies(sandbox, chat) == ["1"]


# --- in the next run


async def test_what_an_earlier_run_left_in_doubt_is_found_and_reported_once(
    sandbox: Sandbox, target: str
) -> None:
    (chat,) = chats(sandbox, 1)
    messages = [Outgoing(chat, "1", key="a"), Outgoing(chat, "2", key="b")]
    await left_in_doubt(sandbox, target, CutAfter(), *messages)

    async with fresh_client(sandbox) as client:
        results = await sent(client, messages, journal=target)

    assert [(result.index, result.key, result.outcome) for result in results] == [
        (0, "a", Outcome.DELIVERED),
        (1, "b", Outcome.DELIVERED),
    ]
    assert bodies(sandbox, chat) == ["1", "2"]


async def test_what_is_found_before_its_message_is_read_is_reported_once_and_with_its_index(
    sandbox: Sandbox, file: Path
) -> None:
    chat, other = chats(sandbox, 2)
    lost = Outgoing(chat, "1", key="a")
    await left_in_doubt(sandbox, file, CutAfter(), lost)

    async def after_it_is_found() -> Any:
        yield Outgoing(other, "x", key="x")
        while (await states(file))["a"] is not State.DELIVERED:
            pass
        yield lost

    async with fresh_client(sandbox) as client:
        results = await client.send_many(after_it_is_found(), journal=file).all()

    assert sorted((result.index, result.key) for result in results) == [(0, "x"), (1, "a")]
    assert outcomes(results) == [Outcome.DELIVERED] * 2


async def test_what_an_earlier_run_left_in_doubt_is_reported_by_a_run_that_was_not_given_it(
    sandbox: Sandbox, file: Path
) -> None:
    chat, other = chats(sandbox, 2)
    await left_in_doubt(sandbox, file, CutAfter(), Outgoing(chat, "1", key="a"))

    async with fresh_client(sandbox) as client:
        results = await sent(client, [Outgoing(other, "x", key="x")], journal=file)

    assert [(result.index, result.key) for result in results] == [(0, "x"), (None, "a")]


@pytest.mark.slow
async def test_what_was_left_in_doubt_and_is_absent_is_sent_only_by_a_run_that_is_given_it(
    sandbox: Sandbox, file: Path
) -> None:
    chat, other = chats(sandbox, 2)
    lost = Outgoing(chat, "1", key="a")
    await left_in_doubt(sandbox, file, CutBefore(), lost)

    async with fresh_client(sandbox) as client:
        (result,) = await sent(client, [Outgoing(other, "x", key="x")], journal=file)
        assert result.key == "x"
        assert await states(file) == {"a": State.PARKED, "x": State.DELIVERED}
        assert bodies(sandbox, chat) == []

        (result,) = await sent(client, [lost], journal=file)
        assert (result.outcome, result.attempts) == (Outcome.DELIVERED, 2)
    assert bodies(sandbox, chat) == ["1"]


@pytest.mark.slow
async def test_an_equal_text_that_was_there_before_is_not_taken_for_the_one_in_doubt(
    sandbox: Sandbox, file: Path
) -> None:
    chat, other = chats(sandbox, 2)
    async with fresh_client(sandbox) as client:
        await sent(client, [Outgoing(chat, "Hallo"), Outgoing(other, "x")], journal=file)
    await left_in_doubt(sandbox, file, CutBefore(), *[Outgoing(chat, "Hallo")] * 2)

    async with fresh_client(sandbox) as client:
        results = await sent(client, [Outgoing(chat, "Hallo")] * 2, journal=file)

    assert [result.message_id for result in results] == [message.id for message in sandbox.messages(chat)]
    assert bodies(sandbox, chat) == ["Hallo"] * 2


async def test_a_message_in_doubt_to_a_user_is_looked_for_in_the_conversation_that_was_started(
    sandbox: Sandbox, file: Path
) -> None:
    message = Outgoing(f"users/{sandbox.add_user('An', 'Visser')}", "1")
    async with fresh_client(sandbox) as client:
        lose(sandbox, CutAfter())
        sandbox.faults.add(kind=Delay(60), method="GET", path_contains="/messages")
        async with client.send_many([message], journal=file):
            await until(lambda: sandbox.calls and sandbox.calls[-1].template == "conversations/{id}/messages")
            await until(lambda: sandbox.calls[-1].method == "GET")
    sandbox.faults.clear()

    async with fresh_client(sandbox) as client:
        (result,) = await sent(client, [message], journal=file)

    assert result.outcome is Outcome.DELIVERED
    assert [call.template for call in sandbox.calls if call.method == "POST"] == [
        "conversations",
        "conversations/{id}/messages",
    ]


# --- beside others


async def died_holding(database: str, *entries: Entry) -> None:
    """Let a worker claim messages and lose its connection, for a second."""
    async with open_journal(database, lease=timedelta(seconds=1)) as dead:
        await dead.enter(entries)
        await dead.claim(len(entries))
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
        await connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("is_given_them", [True, False])
async def test_what_a_worker_that_died_holds_is_waited_for(
    client: Client, sandbox: Sandbox, database: str, is_given_them: bool
) -> None:
    chat, other = chats(sandbox, 2)
    await died_holding(database, Entry("a", chat, "1"), Entry("b", other, "2"))
    messages = [Outgoing(chat, "1", key="a"), Outgoing(other, "2", key="b")] if is_given_them else None

    results = await sent(client, messages, journal=database)

    assert outcomes(results) == [Outcome.DELIVERED] * 2
    assert (bodies(sandbox, chat), bodies(sandbox, other)) == (["1"], ["2"])


@pytest.mark.slow
async def test_what_is_deleted_from_the_journal_meanwhile_is_not_waited_for_in_vain(
    client: Client, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chat,) = chats(sandbox, 1)
    monkeypatch.setattr(runner, "_POLL_INTERVAL", 0.05)
    async with open_journal(database) as other:
        await other.start_run()  # as a sender does: what one who is none has claimed is anybody's
        await other.enter([Entry("a", chat, "1")])
        await other.claim(1)
        async with client.send_many([Outgoing(chat, "1", key="a")], journal=database) as run:
            await until(lambda: run._runner.is_open and run._runner.intake._has_all)  # type: ignore[attr-defined]
            await other.do(lambda c: c.exec_driver_sql("DELETE FROM healthmsg_messages"))
            with pytest.raises(JournalError, match="deleted"):
                _ = [result async for result in run]
